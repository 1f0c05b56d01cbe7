"""Blocks that encoders and decoders of all networks are built of.

Two families: the published ones (residual blocks of ResNet, pre-activation blocks of the heads, CBAM attention) and the
small group-normalised block of the tiny networks. Where a block sees an object tensor beside an image tensor, the
image's share of the convolution runs once, whatever the number of objects.
"""

import torch
import torch.nn.functional as F
from einops import pack, rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

# ------------------------------------------------------------------ objects beside an image


def each_object(module, objects: Float[Tensor, "b o ci hi wi"]) -> Float[Tensor, "b o c h w"]:
    """Apply a module or function of `b c h w` to every object; objects travel in the batch axis."""
    if objects.shape[0] == 1:  # one clip: plain indexing, since merging axes of size 1 loses the strides by which
        return module(objects[0])[None]  # torch knows that channels come last, and kernels would copy to and fro
    result = module(rearrange(objects, "b o c h w -> (b o) c h w"))
    return rearrange(result, "(b o) c h w -> b o c h w", b=objects.shape[0])


def convolve_pair(
    conv: nn.Conv2d,
    objects: Float[Tensor, "b o co hi wi"],
    image: Float[Tensor, "b ci hi wi"],
    image_first: bool = False,
) -> Float[Tensor, "b o c h w"]:
    """Convolve the concatenation of object and image channels, the image's share computed once for all objects.

        conv([objects, image]) = conv_objects(objects) + conv_image(image)      a convolution is linear in its input

    The channels are [objects, image], or [image, objects] with `image_first`: the order the weight was trained with.
    Raises ValueError if they do not add up to the weight's. Source: ours (the authors' code repeats the image per
    object).
    """
    own, shared = objects.shape[2], image.shape[1]
    if own + shared != conv.in_channels:
        raise ValueError(f"the convolution takes {conv.in_channels} channels, object and image bring {own} + {shared}")
    if image_first:
        image_weight, object_weight = conv.weight.split([shared, own], dim=1)
    else:
        object_weight, image_weight = conv.weight.split([own, shared], dim=1)
    from_image = F.conv2d(image, image_weight, conv.bias, conv.stride, conv.padding)
    from_objects = each_object(lambda x: F.conv2d(x, object_weight, None, conv.stride, conv.padding), objects)
    return from_objects.add_(rearrange(from_image, "b c h w -> b 1 c h w"))


def enlarge(x: Float[Tensor, "n c hi wi"], factor: int) -> Float[Tensor, "n c h w"]:
    """Bilinear enlargement by a whole factor; pixel areas, not corners, are aligned (as in all the peers' decoders)."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


# ------------------------------------------------------------------ published blocks


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """The 3x3 convolution, padded to keep the size."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=bias)


class BasicBlock(nn.Module):
    """ResNet-18's block: two 3x3 convolutions, relu(x + f(x)) (He et al., CVPR 2016, fig. 5 left)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, bias: bool):
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride, bias)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, bias=bias)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(in_channels, channels, stride, bias)

    def forward(self, x: Float[Tensor, "n ci hi wi"]) -> Float[Tensor, "n c h w"]:
        y = torch.relu_(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu_(y.add_(self.downsample(x)))


class Bottleneck(nn.Module):
    """ResNet-50's block: 1x1 to fewer channels, 3x3, 1x1 to four times as many (He et al., CVPR 2016, fig. 5 right).

    The stride sits on the 3x3 convolution, as in torchvision ("ResNet v1.5"), not on the first 1x1 as printed.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, bias: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride, bias)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=bias)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.downsample = shortcut(in_channels, 4 * channels, stride, bias)

    def forward(self, x: Float[Tensor, "n ci hi wi"]) -> Float[Tensor, "n c h w"]:
        y = torch.relu_(self.bn1(self.conv1(x)))
        y = torch.relu_(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu_(y.add_(self.downsample(x)))


def shortcut(in_channels: int, out_channels: int, stride: int, bias: bool) -> nn.Module:
    """ResNet's way around a block: the identity, or a normalised 1x1 convolution where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=bias), nn.BatchNorm2d(out_channels))


class ResidualBlock(nn.Module):
    """The heads' pre-activation block: skip(x) + conv2(relu(conv1(relu(x)))), without normalisation (STM, section 3.3).

    Where channels change, `skip` is a 3x3 convolution of x before its relu, in the authors' code of STM, STCN and XMem.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.skip = nn.Identity() if in_channels == out_channels else conv3x3(in_channels, out_channels)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)

    def forward(self, x: Float[Tensor, "n ci h w"]) -> Float[Tensor, "n c h w"]:
        y = self.conv2(torch.relu_(self.conv1(torch.relu(x))))
        return y.add_(self.skip(x))


class PairBlock(ResidualBlock):
    """`ResidualBlock` over the concatenation of object and image channels (`convolve_pair`).

    Raises ValueError if the number of channels stays: the identity skip would have nothing to choose between the two.
    """

    def __init__(self, object_channels: int, image_channels: int, out_channels: int, image_first: bool = False):
        if object_channels + image_channels == out_channels:
            raise ValueError(f"a pair block must change the number of channels, {out_channels} go in and out")
        super().__init__(object_channels + image_channels, out_channels)
        self.image_first = image_first

    def forward(
        self, objects: Float[Tensor, "b o co h w"], image: Float[Tensor, "b ci h w"]
    ) -> Float[Tensor, "b o c h w"]:
        x = convolve_pair(self.conv1, torch.relu(objects), torch.relu(image), self.image_first)
        x = each_object(lambda x: self.conv2(torch.relu_(x)), x)
        return x.add_(convolve_pair(self.skip, objects, image, self.image_first))


class ChannelSpatialAttention(nn.Module):
    """CBAM: a gate per channel, then a gate per position (Woo et al., ECCV 2018, equations 2 and 3).

    x' = x * sigmoid(MLP(mean over h w of x) + MLP(max over h w of x))
    x'' = x' * sigmoid(conv7x7([max over c of x', mean over c of x']))      (the authors' order: max first)
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        self.channel = nn.Sequential(
            nn.Linear(channels, channels // reduction), nn.ReLU(), nn.Linear(channels // reduction, channels)
        )
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        gate = self.channel(reduce(x, "n c h w -> n c", "mean")) + self.channel(reduce(x, "n c h w -> n c", "max"))
        x = x * rearrange(torch.sigmoid(gate), "n c -> n c 1 1")
        pooled, _ = pack([reduce(x, "n c h w -> n h w", "max"), reduce(x, "n c h w -> n h w", "mean")], "n * h w")
        return x * torch.sigmoid(self.spatial(pooled))


# ------------------------------------------------------------------ the tiny networks' block


class TinyBlock(nn.Module):
    """relu(skip(x) + norm2(conv2(relu(norm1(conv1(x)))))) with group normalisation (ours, after He et al., CVPR 2016).

    `norm2` starts with gain 0.2, so the block starts near its skip, which suits a training of a few hundred steps.
    Called with an image beside the objects, it works on the concatenation [objects, image] (`convolve_pair`).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride, bias=False)
        self.norm1 = group_norm(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels, bias=False)
        self.norm2 = group_norm(out_channels)
        nn.init.constant_(self.norm2.weight, 0.2)
        same = stride == 1 and in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, x: Float[Tensor, "n ci hi wi"]) -> Float[Tensor, "n c h w"]:
        return self.rest(self.conv1(x), self.skip(x))

    def pair(
        self, objects: Float[Tensor, "b o co h w"], image: Float[Tensor, "b ci h w"]
    ) -> Float[Tensor, "b o c h w"]:
        """The block on [objects, image]; the number of channels must change."""
        x = rearrange(convolve_pair(self.conv1, objects, image), "b o c h w -> (b o) c h w")
        skip = rearrange(convolve_pair(self.skip, objects, image), "b o c h w -> (b o) c h w")
        return rearrange(self.rest(x, skip), "(b o) c h w -> b o c h w", b=image.shape[0])

    def rest(self, x, skip):
        return torch.relu(skip + self.norm2(self.conv2(torch.relu(self.norm1(x)))))


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation in groups of eight channels."""
    return nn.GroupNorm(channels // 8, channels)
