"""Blocks: each against the plain form of its equation."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn

from tmrn_edu.blocks import (
    BasicBlock,
    Bottleneck,
    ChannelSpatialAttention,
    PairBlock,
    ResidualBlock,
    TinyBlock,
    convolve_pair,
    each_object,
    enlarge,
)

CLOSE = {"atol": 1e-5, "rtol": 1e-4}  # two orders of the same float32 sums


def objects_and_image(b=2, o=3, co=4, ci=5, h=6, w=8):
    return torch.randn(b, o, co, h, w), torch.randn(b, ci, h, w)


def one_by_one(module, objects, image, image_first=False):
    """The loop: every object concatenated with a copy of the image."""
    outputs = []
    for number in range(objects.shape[1]):
        pair = [image, objects[:, number]] if image_first else [objects[:, number], image]
        outputs.append(module(torch.cat(pair, dim=1)))
    return torch.stack(outputs, dim=1)


def test_each_object_equals_the_loop():
    objects, _ = objects_and_image()
    conv = nn.Conv2d(4, 7, 3, stride=2, padding=1)
    loop = torch.stack([conv(objects[:, number]) for number in range(3)], dim=1)
    torch.testing.assert_close(each_object(conv, objects), loop, **CLOSE)


@pytest.mark.parametrize("image_first", [False, True])
@pytest.mark.parametrize("stride, bias", [(1, True), (2, False)])
def test_convolve_pair_equals_the_concatenation(image_first, stride, bias):
    objects, image = objects_and_image()
    conv = nn.Conv2d(9, 7, 3, stride, padding=1, bias=bias)
    fast = convolve_pair(conv, objects, image, image_first)
    torch.testing.assert_close(fast, one_by_one(conv, objects, image, image_first), **CLOSE)


def test_convolve_pair_names_both_sides():
    objects, image = objects_and_image()
    with pytest.raises(ValueError, match=r"the convolution takes 8 channels, object and image bring 4 \+ 5"):
        convolve_pair(nn.Conv2d(8, 7, 1), objects, image)


def test_enlarge_keeps_the_mean_of_a_plane():
    """Aligned areas: enlarging a ramp twofold puts its samples at quarter cells, clamped at the rim."""
    ramp = repeat(torch.arange(4.0), "w -> 1 1 h w", h=3)
    row = enlarge(ramp, 2)[0, 0, 2]
    torch.testing.assert_close(row, torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]))


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_resnet_blocks(block):
    x = torch.randn(2, 16, 6, 8)
    out = 8 * block.expansion
    assert block(16, 8, 2, False)(x).shape == (2, out, 3, 4)
    same = block(out, 8, 1, True).eval()
    assert isinstance(same.downsample, nn.Identity)
    last = same.bn3 if block is Bottleneck else same.bn2
    nn.init.zeros_(last.weight)
    y = torch.randn(2, out, 6, 8)
    torch.testing.assert_close(same(y), torch.relu(y))  # nothing but the way around is left
    assert sum(".bias" in name and "conv" in name for name, _ in same.named_parameters()) == (
        3 if block is Bottleneck else 2
    )


def test_resnet_50_strides_on_the_3x3():
    assert [Bottleneck(16, 8, 2, False).get_submodule(name).stride for name in ("conv1", "conv2")] == [(1, 1), (2, 2)]


def test_residual_block_skips_the_unrectified_input():
    block = ResidualBlock(4, 7)
    x = torch.randn(2, 4, 6, 8)
    torch.testing.assert_close(block(x), block.skip(x) + block.conv2(F.relu(block.conv1(F.relu(x)))))
    assert isinstance(ResidualBlock(4, 4).skip, nn.Identity)


@pytest.mark.parametrize("image_first", [False, True])
def test_pair_block_equals_the_residual_block_of_the_concatenation(image_first):
    objects, image = objects_and_image()
    block = PairBlock(4, 5, 7, image_first)
    plain = ResidualBlock(9, 7)
    plain.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(objects, image), one_by_one(plain, objects, image, image_first), **CLOSE)


def test_tiny_block_pair_equals_the_block_of_the_concatenation():
    objects, image = objects_and_image()
    block = TinyBlock(9, 16)
    nn.init.normal_(block.norm1.weight)
    torch.testing.assert_close(block.pair(objects, image), one_by_one(block, objects, image), **CLOSE)


def test_pairs_must_change_the_number_of_channels():
    with pytest.raises(ValueError, match="a pair block must change the number of channels, 9 go in and out"):
        PairBlock(5, 4, 9)


def test_tiny_block_starts_near_its_skip():
    block = TinyBlock(16, 16)
    assert (block.norm2.weight == 0.2).all() and (block.norm1.weight == 1).all()
    x = torch.randn(2, 16, 6, 8)
    assert (block(x) - torch.relu(x)).std() < 0.3


def test_attention_by_hand():
    attention = ChannelSpatialAttention(channels=32, reduction=16)
    x = torch.randn(2, 32, 6, 8)
    mlp = attention.channel
    gate = torch.sigmoid(mlp(x.mean((2, 3))) + mlp(x.amax((2, 3))))
    y = x * rearrange(gate, "n c -> n c 1 1")
    pooled = torch.stack([y.amax(1), y.mean(1)], dim=1)  # max first
    torch.testing.assert_close(attention(x), y * torch.sigmoid(attention.spatial(pooled)), **CLOSE)
