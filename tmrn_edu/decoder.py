"""Decoders: what was read from the memory, with the query frame's own features -> one mask logit per object."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tmrn_edu.blocks import PairBlock, ResidualBlock, TinyBlock, conv3x3, each_object, enlarge


class UpBlock(nn.Module):
    """One step up: block(skip_conv(skip) + enlarged x), the skip's part once for all objects (STM, section 3.3)."""

    def __init__(self, skip_channels: int, in_channels: int, out_channels: int):
        super().__init__()
        self.skip_conv = conv3x3(skip_channels, in_channels)
        self.block = ResidualBlock(in_channels, out_channels)

    def forward(
        self, objects: Float[Tensor, "b o ci hi wi"], skip: Float[Tensor, "b cs h w"]
    ) -> Float[Tensor, "b o c h w"]:
        x = each_object(lambda x: enlarge(x, 2), objects) + rearrange(self.skip_conv(skip), "b c h w -> b 1 c h w")
        return each_object(self.block, x)


class Decoder(nn.Module):
    """Readout and query value at stride 16 -> logits at image size, by way of strides 8 and 4 (STCN, section 3.2).

    x = compress([readout, query value]) ;  x = up(x, f8) ;  x = up(x, f4)
    logits = conv(relu(x)) at stride 4, enlarged bilinearly by 4

    Shapes: readout `b o cv h w`, query value `b cq h w`, skips f8 and f4 -> `b o H W`, one logit per object, any real.
    """

    def __init__(self, value_channels: int = 512, query_channels: int = 512):
        super().__init__()
        self.compress = PairBlock(value_channels, query_channels, 512)
        self.up_16_8 = UpBlock(512, 512, 256)
        self.up_8_4 = UpBlock(256, 256, 256)
        self.pred = conv3x3(256, 1)

    def forward(
        self,
        readout: Float[Tensor, "b o cv h w"],
        query_value: Float[Tensor, "b cq h w"],
        skips: tuple[Float[Tensor, "b _ _ _"], ...],
    ) -> Float[Tensor, "b o H W"]:
        f8, f4 = skips
        x = self.compress(readout, query_value)
        x = self.up_8_4(self.up_16_8(x, f8), f4)
        logits = each_object(lambda x: enlarge(self.pred(torch.relu(x)), 4), x)
        return rearrange(logits, "b o 1 H W -> b o H W")


class TinyDecoder(nn.Module):
    """Readout and query value at stride 4 -> logits at image size, by way of stride 2. Source: ours.

        x = block([readout, query value]) ;  x = block([enlarged narrow(x), f2])
        logits = conv(x) at stride 2, enlarged bilinearly by 2

    `narrow` is a 1x1 convolution before the enlargement: stride 2 is where computing is dear, so it gets few channels.
    Shapes: readout `b o cv h w`, query value `b cq h w`, skip f2 -> `b o H W`, one logit per object, any real.
    """

    def __init__(self, value_channels: int = 64, query_channels: int = 64):
        super().__init__()
        self.compress = TinyBlock(value_channels + query_channels, 64)
        self.narrow = nn.Conv2d(64, 32, 1)
        self.up_4_2 = TinyBlock(32 + 16, 24)
        self.pred = conv3x3(24, 1)

    def forward(
        self,
        readout: Float[Tensor, "b o cv h w"],
        query_value: Float[Tensor, "b cq h w"],
        skips: tuple[Float[Tensor, "b _ _ _"], ...],
    ) -> Float[Tensor, "b o H W"]:
        (f2,) = skips
        x = each_object(lambda x: enlarge(self.narrow(x), 2), self.compress.pair(readout, query_value))
        logits = each_object(lambda x: enlarge(self.pred(x), 2), self.up_4_2.pair(x, f2))
        return rearrange(logits, "b o 1 H W -> b o H W")
