"""Decoders: sizes, the image's part shared by all objects, gradients."""

import pytest
import torch
import torch.nn.functional as F

from tmrn_edu.blocks import PairBlock
from tmrn_edu.decoder import Decoder, PairConvolution, TinyDecoder, UpBlock
from tmrn_edu.encoders import Fuser


def tiny_inputs(o=3):
    return torch.randn(2, o, 20, 5, 7), torch.randn(2, 12, 5, 7), (torch.randn(2, 16, 10, 14),)


def full_inputs(o=3):
    skips = torch.randn(2, 512, 6, 10), torch.randn(2, 256, 12, 20)
    return torch.randn(2, o, 20, 3, 5), torch.randn(2, 12, 3, 5), skips


CASES = [
    (lambda: TinyDecoder(20, 12), tiny_inputs, (20, 28)),
    (lambda: Decoder(PairBlock(20, 12, 512)), full_inputs, (48, 80)),
    (lambda: Decoder(PairConvolution(20, 12, 256), (256, 256, 256), 2, skip_block=True), full_inputs, (48, 80)),
    (lambda: Decoder(Fuser(20, 12, 512, image_first=True)), full_inputs, (48, 80)),
]


@pytest.mark.parametrize("build, inputs, size", CASES)
def test_decoder(build, inputs, size):
    decoder = build()
    readout, query_value, skips = inputs()
    logits = decoder(readout, query_value, skips).logits
    assert logits.shape == (2, 3, *size)
    logits.square().mean().backward()
    assert not [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("build, inputs, size", CASES)
def test_objects_do_not_see_each_other(build, inputs, size):
    decoder = build()
    readout, query_value, skips = inputs()
    with torch.no_grad():
        together = decoder(readout, query_value, skips).logits
        for number in range(3):
            alone = decoder(readout[:, number : number + 1], query_value, skips).logits
            torch.testing.assert_close(alone[:, 0], together[:, number], atol=1e-4, rtol=1e-4)


def test_published_decoder_has_the_published_size():
    assert sum(p.numel() for p in Decoder(PairBlock(512, 512, 512)).parameters()) == 18_880_257


def test_up_block_by_hand():
    block = UpBlock(skip_channels=4, in_channels=6, out_channels=9)
    objects, skip = torch.randn(2, 3, 6, 3, 5), torch.randn(2, 4, 6, 10)
    wide = F.interpolate(objects[:, 1], size=(6, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        block(objects, skip)[:, 1], block.block(block.skip_conv(skip) + wide), atol=1e-5, rtol=1e-4
    )
