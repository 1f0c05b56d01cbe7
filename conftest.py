"""Settings for every run of pytest: the unit tests in tests/ and the notebooks in notebooks/.

They are set here, before torch is imported, because the kernels of the notebooks and the workers of pytest-xdist
inherit them.
"""

import os

# One thread: OpenMP threads spin while they wait for each other, so two test workers with two threads each are several
# times slower than with one; and sums in another order change the last digits that notebooks print.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TMRN_PROGRESS", "0")  # progress bars print speeds, which no stored output can match
