"""Settings for the unit tests: one thread, the same random numbers in every test, figures without a window."""

import random
import signal

import hypothesis
import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("agg")  # not through MPLBACKEND: notebook kernels would inherit it
torch.set_num_threads(1)
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a job that a shell runs in the background ignores Ctrl-C; tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state, alone or in any order."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
