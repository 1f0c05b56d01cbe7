"""Decoders: what was read from the memory, with the query frame's own features -> one mask logit per object."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tmrn_edu.blocks import ResidualBlock, TinyBlock, conv3x3, convolve_pair, each_object, enlarge


@dataclass(frozen=True)
class Decoded:
    """What a decoder returns."""

    logits: Float[Tensor, "b o H W"]  # one per object, for sigmoid and soft aggregation
    scores: Float[
        Tensor, "b o s hf wf"
    ]  # the last convolution, before enlargement; s = 1, or background and object (STM)
    pyramid: tuple[
        Float[Tensor, "b o _ _ _"], ...
    ]  # the objects' features, coarse to fine: XMem's sensory memory sees them
    boundary: Float[Tensor, "b o H W"] | None = None  # logits of the objects' boundaries (GSFM)


def object_logits(scores: Float[Tensor, "b o s hf wf"], factor: int) -> Float[Tensor, "b o H W"]:
    """Scores at a finer stride -> logits at image size, enlarged bilinearly by `factor`.

    One score per object is its logit. Of two, background and object, the difference is: sigmoid(s1 - s0) = softmax(s)[1], which
    is how STM's authors get a probability. Source: STM:model.py, STCN:model/network.py.
    """
    logits = scores[:, :, 0] if scores.shape[2] == 1 else scores[:, :, 1] - scores[:, :, 0]
    return enlarge(logits, factor)


class PairConvolution(nn.Module):
    """STM's way to join readout and query value: block(conv([objects, image])), the image's share once (STM, section 3.3)."""

    def __init__(self, object_channels: int, image_channels: int, out_channels: int):
        super().__init__()
        self.conv = conv3x3(object_channels + image_channels, out_channels)
        self.block = ResidualBlock(out_channels, out_channels)

    def forward(
        self, objects: Float[Tensor, "b o co h w"], image: Float[Tensor, "b ci h w"]
    ) -> Float[Tensor, "b o c h w"]:
        return each_object(self.block, convolve_pair(self.conv, objects, image))


class UpBlock(nn.Module):
    """One step up: block(skip + enlarged x), the skip's part once for all objects (STM, section 3.3).

    skip = conv(f), in STM with a residual block behind it (`skip_block`), in STCN and XMem without.
    """

    def __init__(self, skip_channels: int, in_channels: int, out_channels: int, skip_block: bool = False):
        super().__init__()
        self.skip_conv = conv3x3(skip_channels, in_channels)
        self.skip_block = ResidualBlock(in_channels, in_channels) if skip_block else nn.Identity()
        self.block = ResidualBlock(in_channels, out_channels)

    def forward(
        self, objects: Float[Tensor, "b o ci hi wi"], skip: Float[Tensor, "b cs h w"]
    ) -> Float[Tensor, "b o c h w"]:
        shared = rearrange(self.skip_block(self.skip_conv(skip)), "b c h w -> b 1 c h w")
        return each_object(self.block, each_object(lambda x: enlarge(x, 2), objects).add_(shared))


class Decoder(nn.Module):
    """What was read and what the frame shows, joined at stride 16 -> logits at image size, by way of strides 8 and 4.

        x = compress(objects, image) ;  x = up(x, f8) ;  x = up(x, f4)
        logits = conv(relu(x)) at stride 4, enlarged bilinearly by 4

    `compress` joins an object tensor and an image tensor at stride 16: `PairConvolution` in STM, `PairBlock` in STCN, `Fuser` in
    XMem. `channels`: at strides 16, 8 and 4. Shapes: objects `b o co h w`, image `b ci h w`, skips f8 and f4 -> `Decoded`.
    Source: STM, section 3.3; STCN and XMem, authors' code.
    """

    def __init__(
        self, compress: nn.Module, channels: tuple[int, int, int] = (512, 256, 256), outputs: int = 1, skip_block=False
    ):
        super().__init__()
        c16, c8, c4 = channels
        self.compress = compress
        self.up_16_8 = UpBlock(512, c16, c8, skip_block)
        self.up_8_4 = UpBlock(256, c8, c4, skip_block)
        self.pred = conv3x3(c4, outputs)

    def climb(
        self,
        objects: Float[Tensor, "b o co h w"],
        image: Float[Tensor, "b ci h w"],
        skips: tuple[Float[Tensor, "b _ _ _"], ...],
    ) -> tuple[Float[Tensor, "b o _ _ _"], ...]:
        """The objects' features at strides 16, 8 and 4."""
        f8, f4 = skips
        x16 = self.compress(objects, image)
        x8 = self.up_16_8(x16, f8)
        return x16, x8, self.up_8_4(x8, f4)

    def forward(
        self,
        objects: Float[Tensor, "b o co h w"],
        image: Float[Tensor, "b ci h w"],
        skips: tuple[Float[Tensor, "b _ _ _"], ...],
    ) -> Decoded:
        pyramid = self.climb(objects, image, skips)
        scores = each_object(lambda x: self.pred(torch.relu(x)), pyramid[-1])
        return Decoded(object_logits(scores, 4), scores, pyramid)


class TinyDecoder(nn.Module):
    """Objects and image at stride 4 -> logits at image size, by way of stride 2. Source: ours.

        x = block([objects, image]) ;  x = block([enlarged narrow(x), f2])
        logits = conv(x) at stride 2, enlarged bilinearly by 2

    `narrow` is a 1x1 convolution before the enlargement: stride 2 is where computing is dear, so it gets few channels.
    Shapes: objects `b o co h w`, image `b ci h w`, skip f2 -> `Decoded`.
    """

    def __init__(self, object_channels: int = 64, image_channels: int = 64):
        super().__init__()
        self.compress = TinyBlock(object_channels + image_channels, 64)
        self.narrow = nn.Conv2d(64, 32, 1)
        self.up_4_2 = TinyBlock(32 + 16, 24)
        self.pred = conv3x3(24, 1)

    def forward(
        self,
        objects: Float[Tensor, "b o co h w"],
        image: Float[Tensor, "b ci h w"],
        skips: tuple[Float[Tensor, "b _ _ _"], ...],
    ) -> Decoded:
        (f2,) = skips
        x4 = self.compress.pair(objects, image)
        x2 = self.up_4_2.pair(each_object(lambda x: enlarge(self.narrow(x), 2), x4), f2)
        scores = each_object(self.pred, x2)
        return Decoded(object_logits(scores, 2), scores, (x4, x2))
