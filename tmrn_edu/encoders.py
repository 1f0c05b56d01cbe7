"""Encoders: a frame -> key, query value and features; a frame with an object's mask -> the object's value.

Image encoders return their pyramid of features from fine to coarse; value encoders return one value per object on the
key's grid. The published encoders come first (ResNet, STCN's value encoder), the tiny networks' small ones after them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import pack, reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

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
from tmrn_edu.masks import others_mask


@dataclass(frozen=True)
class FrameFeatures:
    """What a network knows about frames from their pixels alone, objects unknown."""

    key: Float[Tensor, "b ck h w"]  # what is matched against the memory
    query_value: Float[Tensor, "b cq h w"]  # goes to the decoder beside the readout
    coarse: Float[Tensor, "b cf h w"]  # the feature that key and value are made of, on the key's grid
    skips: tuple[Float[Tensor, "b _ _ _"], ...]  # for the decoder, in its order: each finer than the one before
    shrinkage: Float[Tensor, "b 1 h w"] | None = None  # XMem: how sharply each pixel is matched once it is memory, >= 1
    selection: Float[Tensor, "b ck h w"] | None = (
        None  # XMem: which key channels count for each asking pixel, in [0, 1]
    )


class Normalise(nn.Module):
    """RGB in [0, 1] -> what ImageNet networks expect: (frames - mean) / std, constants and so no part of the weights.

    Source: the statistics that torchvision's networks were trained with.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([[[0.485]], [[0.456]], [[0.406]]]), persistent=False)
        self.register_buffer("std", torch.tensor([[[0.229]], [[0.224]], [[0.225]]]), persistent=False)

    def forward(self, frames: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        return (frames - self.mean) / self.std


def stack_masks(frames: Float[Tensor, "b 3 H W"], object_masks: Float[Tensor, "_ o _ _"]) -> Float[Tensor, "b o 2 H W"]:
    """What a value encoder sees of every object beside the image: [its mask, the sum of the others' masks].

    Raises ValueError if frames and masks differ in batch or size. Source: STCN and XMem; STM's encoder sees the same.
    """
    if frames.shape[0] != object_masks.shape[0] or frames.shape[-2:] != object_masks.shape[-2:]:
        raise ValueError(f"frames have batch and size {size(frames)}, object masks have {size(object_masks)}")
    return torch.stack([object_masks, others_mask(object_masks)], dim=2)


def size(x: Tensor) -> str:
    """Batch, height and width, for messages."""
    return f"{x.shape[0]} x ({x.shape[-2]}, {x.shape[-1]})"


def freeze_batch_norm(network: nn.Module) -> nn.Module:
    """Batch normalisation keeps using its stored statistics, and does not update them; gains and shifts still train.

    All the peers train so: their batches are too small and too alike for statistics of their own. To be called from
    `train()`.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network


# ------------------------------------------------------------------ published encoders


class ResNet(nn.Module):
    """ResNet up to its fourth stage: features at strides 4, 8 and 16 (He et al., CVPR 2016, table 1).

    Parameter names are torchvision's, so public ImageNet weights load by name. The last stage (stride 32) is left out
    by all the networks here. `bias` gives every convolution a bias, which batch normalisation makes idle but which
    STCN's value encoder has.
    """

    def __init__(self, block: type[nn.Module], depths: tuple[int, int, int], in_channels: int = 3, bias: bool = False):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=bias)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = stage(block, 64, 64, depths[0], 1, bias)
        self.layer2 = stage(block, 64 * block.expansion, 128, depths[1], 2, bias)
        self.layer3 = stage(block, 128 * block.expansion, 256, depths[2], 2, bias)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def stem(self) -> nn.Conv2d:
        """The first convolution, the only one that sees an image (and, in encoders of the memory, masks)."""
        return self.conv1

    def forward(self, image: Float[Tensor, "b ci H W"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """Features at strides 4, 8 and 16."""
        return self.after_stem(self.stem(image))

    def after_stem(self, x: Float[Tensor, "n 64 _ _"]) -> tuple[Float[Tensor, "n _ _ _"], ...]:
        """Everything behind the first convolution."""
        x = F.max_pool2d(torch.relu_(self.bn1(x)), 3, stride=2, padding=1)
        f4 = self.layer1(x)
        f8 = self.layer2(f4)
        return f4, f8, self.layer3(f8)


def stage(
    block: type[nn.Module], in_channels: int, channels: int, depth: int, stride: int, bias: bool
) -> nn.Sequential:
    """One stage of a ResNet: `depth` blocks, the first of which changes size and channels."""
    first = block(in_channels, channels, stride, bias)
    return nn.Sequential(first, *(block(channels * block.expansion, channels, 1, bias) for _ in range(depth - 1)))


def resnet50(in_channels: int = 3, bias: bool = False) -> ResNet:
    """ResNet-50 to stride 16: 256, 512 and 1024 channels."""
    return ResNet(Bottleneck, (3, 4, 6), in_channels, bias)


def resnet18(in_channels: int = 3, bias: bool = False) -> ResNet:
    """ResNet-18 to stride 16: 64, 128 and 256 channels."""
    return ResNet(BasicBlock, (2, 2, 2), in_channels, bias)


def encode_objects(
    trunk: nn.Module, image: Float[Tensor, "b 3 H W"], masks: Float[Tensor, "b o cm H W"]
) -> Float[Tensor, "b o c h w"]:
    """The coarsest feature of image and masks for every object, the image's share of the first convolution computed once.

    `trunk`: has a `stem` that takes [image, masks] and an `after_stem` that returns features, fine to coarse.
    Source: the stems of STM, STCN and XMem.
    """
    stem = convolve_pair(trunk.stem, masks, image, image_first=True)
    return each_object(lambda x: trunk.after_stem(x)[-1], stem)


class MemoryEncoder(nn.Module):
    """STM's encoder of memory frames: the query encoder's trunk again, with masks beside the image (STM, section 3.1).

    The stem sees [R, G, B, mask, others] as in the authors' code, or [R, G, B, mask] with `others=False`, as TMRN's supplement has
    it. `mask_channels`: how many channels of the value will hold the mask itself (0 but in the tiny network).
    """

    def __init__(self, trunk: nn.Module, others: bool = True, mask_channels: int = 0):
        super().__init__()
        self.trunk, self.others, self.mask_channels = trunk, others, mask_channels

    def forward(
        self, image: Float[Tensor, "b 3 H W"], masks: Float[Tensor, "b o 2 H W"]
    ) -> Float[Tensor, "b o cf h w"]:
        return encode_objects(self.trunk, image, masks if self.others else masks[:, :, :1])


class Fuser(nn.Module):
    """Joins what an object looks like with what the image looks like (STCN, section 3.1; authors' code for the blocks).

        x = block([objects, image]) ;  value = block(x + CBAM(x))

    STCN concatenates [objects, image], XMem [image, objects] (`image_first`).
    """

    def __init__(self, object_channels: int, image_channels: int, value_channels: int, image_first: bool = False):
        super().__init__()
        self.block1 = PairBlock(object_channels, image_channels, value_channels, image_first)
        self.attention = ChannelSpatialAttention(value_channels)
        self.block2 = ResidualBlock(value_channels, value_channels)

    def forward(
        self, objects: Float[Tensor, "b o co h w"], image: Float[Tensor, "b ci h w"]
    ) -> Float[Tensor, "b o cv h w"]:
        x = self.block1(objects, image)
        return each_object(lambda x: self.block2(x + self.attention(x)), x)


class ValueEncoder(nn.Module):
    """Image, mask and others' mask -> value at stride 16, by ResNet-18 and a fusion with the image's coarse feature.

    The stem sees five channels [R, G, B, mask, others] (STCN, section 3.1; `bias` as in the authors' code: STCN true,
    XMem false).
    """

    mask_channels = 0

    def __init__(
        self, image_channels: int = 1024, value_channels: int = 512, bias: bool = True, image_first: bool = False
    ):
        super().__init__()
        self.trunk = resnet18(in_channels=5, bias=bias)
        self.fuser = Fuser(256, image_channels, value_channels, image_first)

    def forward(
        self, image: Float[Tensor, "b 3 H W"], coarse: Float[Tensor, "b cf h w"], masks: Float[Tensor, "b o 2 H W"]
    ) -> Float[Tensor, "b o cv h w"]:
        return self.fuser(encode_objects(self.trunk, image, masks), coarse)


# ------------------------------------------------------------------ tiny encoders (ours)


class TinyImageEncoder(nn.Module):
    """Features at strides 2 and 4, the latter fed from strides 8 and 16.

        f2 -> f4 -> f8 -> f16 (TinyBlocks) ;   coarse = lateral4(f4) + enlarge(lateral8(f8) + enlarge(lateral16(f16)))

    Keys lie at stride 4, because in small frames an object covers too few cells of a coarser grid to be matched.
    Source: ours; the way back up is a feature pyramid network's (Lin et al., CVPR 2017, fig. 3).
    """

    def __init__(self, out_channels: int = 64, in_channels: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 16, 5, stride=2, padding=2)
        self.to_f2 = TinyBlock(16, 16)
        self.to_f4 = TinyBlock(16, 32, stride=2)
        self.to_f8 = TinyBlock(32, 64, stride=2)
        self.to_f16 = nn.Sequential(TinyBlock(64, 96, stride=2), TinyBlock(96, 96))
        self.lateral4 = nn.Conv2d(32, out_channels, 1)
        self.lateral8 = nn.Conv2d(64, out_channels, 1)
        self.lateral16 = nn.Conv2d(96, out_channels, 1)

    def forward(self, image: Float[Tensor, "b ci H W"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """Features at strides 2 and 4."""
        return self.after_stem(self.stem(image))

    def after_stem(self, x: Float[Tensor, "n 16 _ _"]) -> tuple[Float[Tensor, "n _ _ _"], ...]:
        """Everything behind the first convolution."""
        f2 = self.to_f2(torch.relu(x))
        f4 = self.to_f4(f2)
        f8 = self.to_f8(f4)
        f16 = self.to_f16(f8)
        up8 = self.lateral8(f8) + enlarge(self.lateral16(f16), 2)
        return f2, self.lateral4(f4) + enlarge(up8, 2)


class TinyValueEncoder(nn.Module):
    """Image, mask and others' mask -> value at stride 4, whose last `mask_channels` channels are the mask itself.

        value = [block([f4(image, mask, others), coarse]), mask averaged over each cell, repeated]

    Reading the mask with the weights of the keys propagates labels without any decoder: a loss on it teaches the keys
    directly. Source: ours.
    """

    def __init__(self, image_channels: int = 64, value_channels: int = 64, mask_channels: int = 8):
        super().__init__()
        self.mask_channels = mask_channels
        self.stem = nn.Conv2d(5, 16, 5, stride=2, padding=2)
        self.to_f4 = TinyBlock(16, 32, stride=2)
        self.fuser = TinyBlock(32 + image_channels, value_channels - mask_channels)

    def forward(
        self, image: Float[Tensor, "b 3 H W"], coarse: Float[Tensor, "b cf h w"], masks: Float[Tensor, "b o 2 H W"]
    ) -> Float[Tensor, "b o cv h w"]:
        stem = convolve_pair(self.stem, masks, image, image_first=True)
        learned = self.fuser.pair(each_object(lambda x: self.to_f4(torch.relu(x)), stem), coarse)
        return append_mask(learned, masks[:, :, 0], self.mask_channels)


def append_mask(
    value: Float[Tensor, "b o cv h w"], object_masks: Float[Tensor, "b o H W"], channels: int
) -> Float[Tensor, "b o cvm h w"]:
    """[value, the mask averaged over each cell, repeated over `channels` channels]. Source: ours, see `TinyValueEncoder`."""
    cell = object_masks.shape[-1] // value.shape[-1]
    mask = reduce(object_masks, "b o (h i) (w j) -> b o h w", "mean", i=cell, j=cell)
    return pack([value, repeat(mask, "b o h w -> b o c h w", c=channels)], "b o * h w")[0]
