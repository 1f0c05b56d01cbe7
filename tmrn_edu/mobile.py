"""Parts of the mobile networks: a MobileNetV2 that knows ImageNet, and light encoders and decoders around it.

Keys lie at stride 8 and are made of two MobileNetV2 features, each of length one: even untrained, their matches carry masks along real videos. What
writes and reads the memory beside them is small and learned from nothing. Ours, but for MobileNetV2 (Sandler et al., CVPR 2018).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tmrn_edu.blocks import TinyBlock, conv3x3, convolve_pair, each_object, enlarge
from tmrn_edu.decoder import Decoded, object_logits
from tmrn_edu.encoders import append_mask

# MobileNetV2 to stride 16: (expansion, channels, blocks, stride of the first block) of every stage (table 2).
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
TAPS = {1: "f2", 3: "f4", 6: "f8", 13: "f16"}  # blocks after which the resolution falls, and the last one
F2, F4, F8, F16 = 16, 24, 32, 96  # their channels
COARSE = F8 + F16  # channels of what keys and values are made of


class InvertedResidual(nn.Module):
    """MobileNetV2's block: 1x1 to more channels, 3x3 in each of them, 1x1 to few; x + f(x) where the shape stays (fig. 3 and 4).

    The last convolution has no activation. Names of the parts are torchvision's.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int):
        super().__init__()
        wide = in_channels * expansion
        widen = [] if expansion == 1 else [conv_norm_relu(in_channels, wide, kernel=1)]
        self.conv = nn.Sequential(
            *widen,
            conv_norm_relu(wide, wide, stride=stride, groups=wide),
            nn.Conv2d(wide, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Float[Tensor, "n ci hi wi"]) -> Float[Tensor, "n c h w"]:
        y = self.conv(x)
        return y.add_(x) if self.residual else y


def conv_norm_relu(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1):
    """Convolution, batch normalisation, relu6."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU6(inplace=True))


class MobileNetV2(nn.Module):
    """MobileNetV2 as far as stride 16: features at strides 2, 4, 8 and 16, of 16, 24, 32 and 96 channels (Sandler et al., CVPR 2018, table 2).

    0.54 million parameters. Names are torchvision's `features.0` to `features.13`, so public ImageNet weights load by name
    (`imagenet.load_imagenet`); everything at stride 32 is left out.
    """

    def __init__(self):
        super().__init__()
        blocks, channels = [conv_norm_relu(3, 32, stride=2)], 32
        for expansion, out_channels, depth, stride in STAGES:
            for number in range(depth):
                blocks.append(InvertedResidual(channels, out_channels, stride if number == 0 else 1, expansion))
                channels = out_channels
        self.features = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, image: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """Features at strides 2, 4, 8 and 16."""
        found = []
        for number, block in enumerate(self.features):
            image = block(image)
            if number in TAPS:
                found.append(image)
        return tuple(found)


class MobileEncoder(nn.Module):
    """A frame's features at strides 2 and 4, and what keys and values are made of, at stride 8.

        coarse = 8 [f8 / |f8|, enlarge(f16 / |f16|)]      lengths over channels, so every cell has length 8 in either part

    Lengths carry contrast and brightness, directions what a cell shows: label propagation works on directions. Source: ours.
    """

    def __init__(self):
        super().__init__()
        self.trunk = MobileNetV2()

    def forward(self, image: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """Features at strides 2, 4 and 8 (coarse)."""
        f2, f4, f8, f16 = self.trunk(image)
        directions = [F.normalize(f8, dim=1), enlarge(F.normalize(f16, dim=1), 2)]
        return f2, f4, 8 * torch.cat(directions, dim=1)


class MobileValueEncoder(nn.Module):
    """Image, mask and others' mask -> value at stride 8, whose last `mask_channels` channels are the mask itself.

        value = [block([f8(image, mask, others), coarse]), mask averaged over each cell, repeated]

    As `encoders.TinyValueEncoder`, one stride further. Source: ours.
    """

    def __init__(self, value_channels: int = 96, mask_channels: int = 8):
        super().__init__()
        self.mask_channels = mask_channels
        self.stem = nn.Conv2d(5, 16, 5, stride=2, padding=2)
        self.to_f4 = TinyBlock(16, 24, stride=2)
        self.to_f8 = TinyBlock(24, 48, stride=2)
        self.fuser = TinyBlock(48 + COARSE, value_channels - mask_channels)

    def forward(
        self, image: Float[Tensor, "b 3 H W"], coarse: Float[Tensor, "b cf h w"], masks: Float[Tensor, "b o 2 H W"]
    ) -> Float[Tensor, "b o cv h w"]:
        stem = convolve_pair(self.stem, masks, image, image_first=True)
        f8 = each_object(lambda x: self.to_f8(self.to_f4(torch.relu(x))), stem)
        return append_mask(self.fuser.pair(f8, coarse), masks[:, :, 0], self.mask_channels)


class MobileDecoder(nn.Module):
    """What was read and what the frame shows, at stride 8 -> logits at image size, by way of strides 16, 4 and 2.

        x8 = block([objects, image]) ;  x8 = x8 + enlarge(lateral(x16)),  x16 = blocks(x8) at stride 16: a wider view
        x4 = block([enlarge(narrow(x8)), f4]) ;  x2 = block([enlarge(narrow(x4)), f2])
        logits = conv(x2) at stride 2, enlarged bilinearly by 2

    Shapes: objects `b o co h w`, image `b ci h w`, skips f4 and f2 -> `Decoded`. Source: ours.
    """

    def __init__(self, object_channels: int = 96, image_channels: int = COARSE):
        super().__init__()
        self.compress = TinyBlock(object_channels + image_channels, 80)
        self.wider = nn.Sequential(TinyBlock(80, 96, stride=2), TinyBlock(96, 96), nn.Conv2d(96, 80, 1))
        self.narrow_8 = nn.Conv2d(80, 48, 1)
        self.up_8_4 = TinyBlock(48 + F4, 48)
        self.narrow_4 = nn.Conv2d(48, 24, 1)
        self.up_4_2 = TinyBlock(24 + F2, 24)
        self.pred = conv3x3(24, 1)

    def forward(
        self,
        objects: Float[Tensor, "b o co h w"],
        image: Float[Tensor, "b ci h w"],
        skips: tuple[Float[Tensor, "b _ _ _"], ...],
    ) -> Decoded:
        f4, f2 = skips
        x8 = each_object(lambda x: x + enlarge(self.wider(x), 2), self.compress.pair(objects, image))
        x4 = self.up_8_4.pair(each_object(lambda x: enlarge(self.narrow_8(x), 2), x8), f4)
        x2 = self.up_4_2.pair(each_object(lambda x: enlarge(self.narrow_4(x), 2), x4), f2)
        scores = each_object(self.pred, x2)
        return Decoded(object_logits(scores, 2), scores, (x8, x4, x2))
