"""Decoders: sizes, the image's part shared by all objects, gradients."""

import pytest
import torch
import torch.nn.functional as F

from tmrn_edu.decoder import Decoder, TinyDecoder, UpBlock


def tiny_inputs(o=3):
    return torch.randn(2, o, 20, 5, 7), torch.randn(2, 12, 5, 7), (torch.randn(2, 16, 10, 14),)


def full_inputs(o=3):
    skips = torch.randn(2, 512, 6, 10), torch.randn(2, 256, 12, 20)
    return torch.randn(2, o, 20, 3, 5), torch.randn(2, 12, 3, 5), skips


CASES = [(TinyDecoder, tiny_inputs, (20, 28)), (Decoder, full_inputs, (48, 80))]


@pytest.mark.parametrize("build, inputs, size", CASES)
def test_decoder(build, inputs, size):
    decoder = build(value_channels=20, query_channels=12)
    readout, query_value, skips = inputs()
    logits = decoder(readout, query_value, skips)
    assert logits.shape == (2, 3, *size)
    logits.square().mean().backward()
    assert not [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("build, inputs, size", CASES)
def test_objects_do_not_see_each_other(build, inputs, size):
    decoder = build(value_channels=20, query_channels=12)
    readout, query_value, skips = inputs()
    with torch.no_grad():
        together = decoder(readout, query_value, skips)
        for number in range(3):
            alone = decoder(readout[:, number : number + 1], query_value, skips)
            torch.testing.assert_close(alone[:, 0], together[:, number], atol=1e-4, rtol=1e-4)


def test_published_decoder_has_the_published_size():
    assert sum(p.numel() for p in Decoder().parameters()) == 18_880_257


def test_up_block_by_hand():
    block = UpBlock(skip_channels=4, in_channels=6, out_channels=9)
    objects, skip = torch.randn(2, 3, 6, 3, 5), torch.randn(2, 4, 6, 10)
    wide = F.interpolate(objects[:, 1], size=(6, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        block(objects, skip)[:, 1], block.block(block.skip_conv(skip) + wide), atol=1e-5, rtol=1e-4
    )
