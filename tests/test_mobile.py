"""The mobile networks' parts: MobileNetV2 in torchvision's naming, directions as features, shapes, limits of size."""

import pytest
import torch
from torch import nn

from tmrn_edu.blocks import TinyBlock
from tmrn_edu.folding import inference_copy
from tmrn_edu.mobile import COARSE, MobileDecoder, MobileEncoder, MobileNetV2, MobileValueEncoder
from tmrn_edu.networks import STCN
from tmrn_edu.segmenter import Segmenter


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(0)
    return MobileNetV2().eval()


def test_features_lie_at_four_strides(trunk):
    found = trunk(torch.rand(1, 3, 64, 96))
    assert [tuple(f.shape) for f in found] == [(1, 16, 32, 48), (1, 24, 16, 24), (1, 32, 8, 12), (1, 96, 4, 6)]


def test_names_and_sizes_are_torchvisions(trunk):
    """A few entries of torchvision's file, as looked up in it; and the number of weights to stride 16."""
    state = trunk.state_dict()
    expected = {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.2.conv.0.0.weight": (96, 16, 1, 1),
        "features.2.conv.1.1.running_var": (96,),
        "features.7.conv.2.weight": (64, 192, 1, 1),
        "features.13.conv.3.bias": (96,),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected
    assert sum(p.numel() for p in trunk.parameters()) == 542_528


def test_blocks_without_change_of_shape_add_their_input(trunk):
    """With its last normalisation at zero a block returns what it was given, if shapes agree, else zero."""
    for number, keeps in ((3, True), (4, False), (8, True)):
        block = trunk.features[number]
        channels = block.conv[0][0].in_channels
        x, last = torch.rand(1, channels, 6, 6), block.conv[-1]
        gain, shift = last.weight.clone(), last.bias.clone()
        with torch.no_grad():
            last.weight.zero_(), last.bias.zero_()
            y = block(x.clone())
            last.weight.copy_(gain), last.bias.copy_(shift)
        assert torch.equal(y, x) if keeps else not y.any()


def test_coarse_features_have_one_length():
    torch.manual_seed(0)
    encoder = MobileEncoder().eval()
    image = torch.rand(2, 3, 64, 64)
    *_, coarse = encoder(image)
    assert coarse.shape == (2, COARSE, 8, 8)
    fine, wide = coarse.split([32, 96], dim=1)
    torch.testing.assert_close(fine.norm(dim=1), torch.full((2, 8, 8), 8.0))
    assert (wide.norm(dim=1) <= 8.0 + 1e-4).all()  # enlarged between directions, so at most as long
    *_, stronger = encoder(4 * image)  # other directions, perhaps; no other lengths
    torch.testing.assert_close(stronger[:, :32].norm(dim=1), torch.full((2, 8, 8), 8.0))


def test_untrained_keys_fall_off_as_label_propagation_has_it():
    """(2 q.k - |k|^2 - |q|^2) / 8 of two cells is near (cosine - 1) / 0.02, up to what 64 of 128 directions can tell."""
    torch.manual_seed(0)
    projection = STCN.mobile().key_projection
    x = torch.randn(4000, COARSE, 1, 1)
    x = torch.cat([8 * nn.functional.normalize(part, dim=1) for part in x.split([32, 96], dim=1)], dim=1)
    with torch.no_grad():
        keys = projection(x)[:, :, 0, 0]
    similarity = -(keys[::2] - keys[1::2]).square().sum(1) / 8
    cosine = (x[::2] * x[1::2]).sum((1, 2, 3)) / 128
    assert 0.8 < similarity.mean() / ((cosine - 1) / 0.02).mean() < 1.25


def test_a_value_ends_in_the_mask_and_sees_both_masks():
    torch.manual_seed(0)
    encoder = MobileValueEncoder(value_channels=96, mask_channels=8)
    image, coarse, masks = torch.rand(1, 3, 32, 48), torch.rand(1, COARSE, 4, 6), torch.zeros(1, 2, 2, 32, 48)
    masks[:, 0, 0, 8:16, 16:20] = 1
    value = encoder(image, coarse, masks)
    assert value.shape == (1, 2, 96, 4, 6) and (value[:, 0, -8:, 1, 2] == 0.5).all() and not value[:, 1, -8:].any()
    masks[:, 0, 1, :8] = 1
    assert not torch.allclose(encoder(image, coarse, masks)[:, 0, :-8], value[:, 0, :-8])


def test_decoder_shapes_and_a_wide_view():
    torch.manual_seed(0)
    decoder = MobileDecoder(object_channels=96).eval()
    skips = torch.rand(1, 24, 32, 32), torch.rand(1, 16, 64, 64)
    objects = torch.rand(1, 2, 96, 16, 16).requires_grad_()
    decoded = decoder(objects, torch.rand(1, COARSE, 16, 16), skips)
    assert decoded.logits.shape == (1, 2, 128, 128)
    assert [tuple(x.shape[2:]) for x in decoded.pyramid] == [(80, 16, 16), (48, 32, 32), (24, 64, 64)]
    for block in decoder.modules():  # group normalisation sees everything: without it the reach of convolutions shows
        if isinstance(block, TinyBlock):
            block.norm1, block.norm2 = nn.Identity(), nn.Identity()
    decoder(objects, torch.rand(1, COARSE, 16, 16), skips).logits[0, 0, 64, 64].backward()
    rows = objects.grad[0, 0].abs().sum((0, 2)).nonzero()
    assert rows.max() - rows.min() >= 10  # cells of 8 pixels


def test_sizes_and_rules():
    network = STCN.mobile()
    assert sum(p.numel() for p in network.parameters()) <= 3_000_000
    assert (network.cell, network.stride, network.short_side, network.mask_channels) == (8, 16, 240, 8)
    assert network.rules.max_frames == 5 and STCN.tiny().rules.max_frames is None
    assert Segmenter(network).rules.max_frames == 5 and Segmenter(network, max_frames=3).rules.max_frames == 3


def test_the_trunk_is_folded_for_inference():
    torch.manual_seed(0)
    network = STCN.mobile().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5), nn.init.uniform_(module.running_var, 0.5, 2.0)
    ready = inference_copy(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    frames = torch.rand(1, 3, 32, 48)
    torch.testing.assert_close(ready.encode(frames).key, network.encode(frames).key, atol=1e-3, rtol=1e-3)
