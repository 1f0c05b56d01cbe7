"""GSFM: its two filters by hand, its boundary branch, and that it is STCN otherwise."""

import pytest
import torch
from small_networks import as_batch, build, video
from torch import nn

from tmrn_edu.inference import roll_out
from tmrn_edu.masks import index_to_object_masks
from tmrn_edu.networks import GSFM, STCN
from tmrn_edu.networks.gsfm import SIGMA, BoundaryDecoder, SpectralFilter
from tmrn_edu.segmenter import Segmenter


@pytest.fixture(scope="module")
def gsfm():
    return build("GSFM")


def passing(keep):
    """A filter of one channel whose convolutions pass the spectrum on, real parts that are positive at least."""
    layer = SpectralFilter(1, keep)
    with torch.no_grad():
        for conv in (layer.conv1, layer.conv2):
            conv.weight.copy_(torch.eye(2).reshape(2, 2, 1, 1))
            conv.bias.zero_()
    return layer


# ------------------------------------------------------------------ the filters


@torch.no_grad()
def test_filters_keep_what_they_say():
    """The filter adds the frequencies it keeps: a constant picture and the fastest checkerboard are doubled or left."""
    constant = torch.full((1, 1, 64, 48), 0.5)
    checkers = 1 - 2 * ((torch.arange(64)[:, None] + torch.arange(48)) % 2).float()[None, None]
    for keep, slow, fast in (("low", 2.0, 1.0), ("high", 1.0, 2.0)):
        layer = passing(keep)
        torch.testing.assert_close(layer(constant), slow * constant, atol=1e-3, rtol=0)
        torch.testing.assert_close(layer(checkers), fast * checkers, atol=1e-3, rtol=0)


@pytest.mark.parametrize("height, width", [(5, 8), (6, 7), (1, 1)])
@pytest.mark.parametrize("keep", ["low", "high"])
def test_filter_by_hand(keep, height, width):
    layer, x = SpectralFilter(3, keep), torch.randn(2, 3, height, width)
    spectrum = torch.fft.fft2(x)
    for i in range(height):
        for j in range(width):
            gaussian = torch.tensor(-((i - height // 2) ** 2 + (j - width // 2) ** 2) / (2 * SIGMA**2)).exp()
            spectrum[..., i, j] *= gaussian if keep == "high" else 1 - gaussian
    parts = layer.conv2(torch.relu(layer.conv1(torch.cat([spectrum.real, spectrum.imag], dim=1))))
    expected = x + torch.fft.ifft2(torch.complex(parts[:, :3], parts[:, 3:])).real
    torch.testing.assert_close(layer(x), expected)
    assert layer.window(x).shape == (height, width) and 0 <= layer.window(x).min() <= layer.window(x).max() <= 1


def test_unknown_filter():
    with pytest.raises(ValueError, match="keep is 'middle', expected 'low' or 'high'"):
        SpectralFilter(3, "middle")


def test_half_precision():
    """The transforms stay in float32 whatever the weights' precision, also under autocast."""
    layer, x = SpectralFilter(6, "low"), torch.randn(2, 6, 5, 7)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x.bfloat16()).dtype == torch.float32
        torch.testing.assert_close(layer(x), expected, atol=0.1, rtol=0.05)
    for dtype in (torch.float16, torch.bfloat16):
        found = layer.to(dtype)(x.to(dtype))
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.05)
        layer.float()


# ------------------------------------------------------------------ the network


@torch.no_grad()
def test_key_query_value_and_value_see_the_filtered_feature(gsfm):
    frames = torch.rand(1, 3, 32, 48)
    features = gsfm.encode(frames)
    *finer, coarse = gsfm.key_encoder.trunk(gsfm.normalise(frames))
    torch.testing.assert_close(features.coarse, gsfm.key_encoder.low_pass(coarse))
    assert (features.coarse - coarse).abs().max() > 1e-3
    torch.testing.assert_close(features.key, gsfm.key_projection(features.coarse))
    torch.testing.assert_close(features.query_value, gsfm.query_projection(features.coarse))
    for ours, theirs in zip(features.skips, reversed(finer), strict=True):
        assert torch.equal(ours, theirs)
    assert features.key.shape == (1, 64, 2, 3) and [s.shape[1] for s in features.skips] == [512, 256]


def test_boundaries_serve_training_alone(gsfm):
    """In training the boundary comes beside the mask, at image size; both branches hear of each other."""
    decoder, objects = gsfm.decoder, 2
    assert isinstance(decoder, BoundaryDecoder)
    inputs = (torch.randn(1, objects, 512, 2, 3), torch.randn(1, 512, 2, 3))
    skips = (torch.randn(1, 512, 4, 6), torch.randn(1, 256, 8, 12))
    plain = decoder(*inputs, skips)
    decoder.train()
    try:
        trained = decoder(*inputs, skips)
        assert plain.boundary is None and trained.boundary.shape == (1, objects, 32, 48)
        torch.testing.assert_close(trained.logits, plain.logits)
        for tensor, branch in ((trained.boundary, decoder.fusion_1), (trained.logits, decoder.fusion_2)):
            (gradient,) = torch.autograd.grad(tensor.square().mean(), branch.weight, retain_graph=True)
            assert gradient.any()
    finally:
        decoder.eval()
    assert plain.scores.shape == (1, objects, 1, 8, 12) and plain.logits.shape == (1, objects, 32, 48)
    assert [x.shape[2:] for x in plain.pyramid] == [(512, 2, 3), (256, 4, 6), (256, 8, 12)]


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    network = GSFM()
    pictures, masks = video(2, (32, 48), 2)
    (result,) = roll_out(network, as_batch(pictures), index_to_object_masks(masks[0], (1, 2))[None])
    (result.logits.square().mean() + result.decoded.boundary.square().mean()).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def test_it_is_stcn_otherwise(gsfm):
    """Same sizes, similarity and steps; a bias in every convolution of the key encoder; a memory frame every 3."""
    assert isinstance(gsfm, STCN) and gsfm.similarity is STCN.similarity
    with torch.device("meta"):
        ours, theirs = GSFM(), STCN()
    assert all(conv.bias is not None for conv in ours.key_encoder.modules() if isinstance(conv, nn.Conv2d))
    assert (ours.key_channels, ours.value_channels, ours.top_k) == (64, 512, 50)
    assert {n for n, _ in ours.value_encoder.named_parameters()} == {
        n for n, _ in theirs.value_encoder.named_parameters()
    }
    pictures, masks = video(5, (32, 48), 1)
    segmenter = Segmenter(gsfm)
    for t in range(5):
        segmenter.step(pictures[t], masks[0] if t == 0 else None)
    assert [frame.index for frame in segmenter.groups[0].memory.frames] == [0, 3]
    assert segmenter.groups[0].previous is None and segmenter.sensory is None


def test_there_is_no_tiny_one():
    with pytest.raises(ValueError, match="GSFM has no tiny form, expected one of STM.tiny, STCN.tiny, XMem.tiny"):
        GSFM.tiny()
