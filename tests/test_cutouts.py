"""Cut-outs: alpha by hand, no background left, files, refusals."""

import numpy as np
import pytest
import torch
from PIL import Image

from tmrn_edu import cutout
from tmrn_edu.data.cutouts import write_cutout
from tmrn_edu.errors import InputError


@pytest.fixture
def frame():
    return torch.randint(1, 256, (3, 4, 3), dtype=torch.uint8, generator=torch.manual_seed(0))


@pytest.fixture
def probabilities():
    one = torch.tensor([[0.0, 0.1, 0.3, 0.5], [0.9, 1.0, 0.05, 0.0], [0.0, 0.0, 0.2, 0.0]])
    two = torch.zeros(3, 4)
    two[2] = torch.tensor([0.0, 1.0, 0.8, 0.05])
    return torch.stack([1 - one - two, one, two])


def test_alpha_is_soft_at_rims_and_certain_elsewhere(frame, probabilities):
    cut = cutout(frame, probabilities)
    assert cut.dtype == torch.uint8 and cut.shape == (3, 4, 4)
    assert cut[..., 3].tolist() == [[0, 0, 64, 128], [255, 255, 0, 0], [0, 255, 255, 0]]
    there = cut[..., 3] > 0
    assert torch.equal(cut[..., :3][there], frame[there]) and not cut[..., :3][~there].any()


def test_chosen_objects(frame, probabilities):
    assert cutout(frame, probabilities, [2])[..., 3].tolist() == [[0] * 4, [0] * 4, [0, 255, 223, 0]]
    assert torch.equal(cutout(frame, probabilities, [2, 1]), cutout(frame, probabilities))
    assert not cutout(frame.numpy(), probabilities, []).any()


def test_file(frame, probabilities, tmp_path):
    cut = cutout(frame, probabilities)
    write_cutout(tmp_path / "new" / "a.png", cut)
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.mode == "RGBA" and np.array_equal(np.array(image), cut.numpy())


def test_refusals(frame, probabilities, tmp_path):
    with pytest.raises(InputError, match=r"the frame is \(2, 4\), the probabilities are \(3, 4\)"):
        cutout(frame[:2], probabilities)
    with pytest.raises(InputError, match="object 3 of the probabilities was asked for, they hold 1 to 2"):
        cutout(frame, probabilities, [3])
    (tmp_path / "a.png").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        write_cutout(tmp_path / "a.png", cutout(frame, probabilities))
