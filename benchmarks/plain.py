"""The networks once more, straightforwardly, as what `networks.py` measures against.

Same weights, same results, none of the library's savings, but what their authors' evaluation code does: batch normalisation is computed, tensors
are in the usual layout, what concerns the image is repeated for every object and concatenated, the memory is one tensor per key and value, and a
read makes the whole affinity, `N` memory pixels x all query pixels: top-k along the memory, scattered back among zeros, one matrix product.

`Plain(network)` has the steps that a frame consists of: encode, read, decode, memorize. Batch of one clip; the axis of objects takes its place.
`everything=False` repeats what the authors repeat (STCN, XMem and GSFM compute the decoder's skips once for all objects, STM for each of them),
`everything=True` repeats those too.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tmrn_edu.networks import GSFM, STM, XMem


@dataclass
class Features:
    """What `encode` knows of a frame."""

    key: Tensor
    query_value: Tensor
    f16: Tensor
    f8: Tensor
    f4: Tensor
    shrinkage: Tensor | None = None
    selection: Tensor | None = None


# ------------------------------------------------------------------ blocks, as written in the papers


def resnet(trunk, x):
    """Features at strides 4, 8 and 16."""
    x = F.max_pool2d(torch.relu(trunk.bn1(trunk.conv1(x))), 3, stride=2, padding=1)
    found = []
    for stage in (trunk.layer1, trunk.layer2, trunk.layer3):
        for block in stage:
            y = torch.relu(block.bn1(block.conv1(x)))
            if hasattr(block, "conv3"):
                y = torch.relu(block.bn2(block.conv2(y)))
                y = block.bn3(block.conv3(y))
            else:
                y = block.bn2(block.conv2(y))
            x = torch.relu(y + block.downsample(x))
        found.append(x)
    return found


def residual(block, x):
    return block.skip(x) + block.conv2(torch.relu(block.conv1(torch.relu(x))))


def cbam(attention, x):
    gate = attention.channel(x.mean((2, 3))) + attention.channel(x.amax((2, 3)))
    x = x * torch.sigmoid(gate)[:, :, None, None]
    pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
    return x * torch.sigmoid(attention.spatial(pooled))


def fuse(fuser, objects, image):
    """`image`: one for all objects."""
    x = residual(fuser.block1, beside(objects, image, fuser.block1.image_first))
    return residual(fuser.block2, x + cbam(fuser.attention, x))


def beside(objects, image, image_first=False):
    """The image repeated for every object, and concatenated with it."""
    image = image.repeat(len(objects), 1, 1, 1)
    return torch.cat([image, objects] if image_first else [objects, image], 1)


def spectral(module, x):
    """GSFM's filter."""
    spectrum = torch.fft.fft2(x) * module.window(x)
    parts = module.conv2(torch.relu(module.conv1(torch.cat([spectrum.real, spectrum.imag], 1))))
    real, imaginary = parts.chunk(2, 1)
    return x + torch.fft.ifft2(torch.complex(real, imaginary)).real


def gate(module, x, hidden):
    """XMem's gated update."""
    forget, update, new = module.transform(torch.cat([x, hidden], 1)).chunk(3, 1)
    forget, update, new = forget.sigmoid(), update.sigmoid(), new.tanh()
    return forget * hidden * (1 - update) + update * new


# ------------------------------------------------------------------ the read


def similarity(network, key, shrinkage, features):
    """key `o ck N` -> `o N q`; o is 1 but in STM."""
    query = features.key.flatten(2)
    if isinstance(network, STM):
        return key.transpose(1, 2) @ query / math.sqrt(key.shape[1])
    if isinstance(network, XMem):
        selection = features.selection.flatten(2)
        squares = key.pow(2).transpose(1, 2) @ selection
        products = 2 * (key.transpose(1, 2) @ (query * selection))
        own = (selection * query.pow(2)).sum(1, keepdim=True)
        return (-squares + products - own) * shrinkage.transpose(1, 2) / math.sqrt(key.shape[1])
    squares = key.pow(2).sum(1).unsqueeze(2)
    return (2 * (key.transpose(1, 2) @ query) - squares) / math.sqrt(key.shape[1])


def softmax(scores, top_k):
    """Over the memory, dim 1; with `top_k` the rest gets zeros. Overwrites the scores."""
    if top_k is None or top_k >= scores.shape[1]:
        return scores.softmax(1)
    best, position = scores.topk(top_k, dim=1)
    best = (best - best[:, :1]).exp_()
    best /= best.sum(1, keepdim=True)
    return scores.zero_().scatter_(1, position, best)


# ------------------------------------------------------------------ a frame's steps


class Plain:
    """The steps of one frame; `memory` is (key `o ck N`, shrinkage `1 1 N` or None, value `o cv N`)."""

    def __init__(self, network, everything=False):
        self.network, self.repeat_skips = network, everything or isinstance(network, STM)

    def encode(self, frame):
        """frame `1 3 H W`."""
        net, x = self.network, self.network.normalise(frame)
        if isinstance(net, STM):
            f4, f8, f16 = resnet(net.query_encoder, x)
            return Features(net.query_key(f16), net.query_value(f16), f16, f8, f4)
        trunk = net.key_encoder.trunk if isinstance(net, GSFM) else net.key_encoder
        f4, f8, f16 = resnet(trunk, x)
        if isinstance(net, GSFM):
            f16 = spectral(net.key_encoder.low_pass, f16)
        found = Features(net.key_projection(f16), net.query_projection(f16), f16, f8, f4)
        if isinstance(net, XMem):
            found.shrinkage = net.shrinkage_projection(f16).pow(2) + 1
            found.selection = net.selection_projection(f16).sigmoid()
        return found

    def memorize(self, frame, features, masks):
        """masks `o 1 H W` -> (key, shrinkage, value) of one frame."""
        net, count = self.network, len(masks)
        others = torch.stack([masks.sum(0) - mask for mask in masks])
        if isinstance(net, STM):
            x = torch.cat([net.normalise(frame).repeat(count, 1, 1, 1), masks, others.clamp(0, 1)], 1)
            x = resnet(net.memory_encoder.trunk, x[:, : net.memory_encoder.trunk.conv1.in_channels])[-1]
            return net.memory_key(x).flatten(2), None, net.memory_value(x).flatten(2)
        x = torch.cat([net.normalise(frame).repeat(count, 1, 1, 1), masks, others], 1)
        x = resnet(net.value_encoder.trunk, x)[-1]
        value = fuse(net.value_encoder.fuser, x, features.f16).flatten(2)
        shrinkage = None if features.shrinkage is None else features.shrinkage.flatten(2)
        return features.key.flatten(2), shrinkage, value

    @staticmethod
    def add(memory, new):
        """The memory with one frame more: everything copied into longer tensors."""
        return tuple(old if old is None else torch.cat([old, x], 2) for old, x in zip(memory, new, strict=True))

    def read(self, memory, features):
        """`o cv h w`."""
        key, shrinkage, value = memory
        if isinstance(self.network, STM):  # an affinity for every object
            features = Features(features.key.repeat(len(value), 1, 1, 1), *[None] * 4)
        affinity = softmax(similarity(self.network, key, shrinkage, features), self.network.reader.top_k)
        read = value @ affinity.expand(len(value), -1, -1)
        return read.view(*read.shape[:2], *features.key.shape[-2:])

    def up(self, module, x, skip):
        """One step up in the decoder."""
        skip = skip.repeat(len(x), 1, 1, 1) if self.repeat_skips else skip
        skip = module.skip_conv(skip)
        if hasattr(module.skip_block, "conv1"):
            skip = residual(module.skip_block, skip)
        return residual(module.block, skip + F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))

    def decode(self, readout, features, hidden=None):
        """(logits `o H W`, new hidden state `o cs h w` or None)."""
        net, decoder = self.network, self.network.decoder
        if isinstance(net, XMem):
            x16 = fuse(decoder.compress, torch.cat([readout, hidden], 1), features.query_value)
        elif isinstance(net, STM):
            x16 = residual(decoder.compress.block, decoder.compress.conv(beside(readout, features.query_value)))
        else:
            x16 = residual(decoder.compress, beside(readout, features.query_value))
        x8 = self.up(decoder.up_16_8, x16, features.f8)
        x4 = self.up(decoder.up_8_4, x8, features.f4)
        if isinstance(net, GSFM):
            scores = self.spectral_scores(decoder, x4)
        else:
            scores = decoder.pred(torch.relu(x4))
        logits = F.interpolate(scores, scale_factor=4, mode="bilinear", align_corners=False)
        logits = logits[:, 1] - logits[:, 0] if isinstance(net, STM) else logits[:, 0]
        if isinstance(net, XMem):
            hidden = self.update(net.sensory_memory, hidden, x16, x8, torch.cat([x4, scores], 1))
        return logits, hidden

    @staticmethod
    def spectral_scores(decoder, x):
        """GSFM's mask branch, with what it needs of the boundary branch."""
        mask = decoder.mask_1(x)
        boundary = spectral(decoder.high_pass, decoder.boundary_1(x)) + torch.relu(decoder.fusion_1(mask))
        boundary = torch.relu(decoder.boundary_3(decoder.boundary_2(boundary)))
        scores = decoder.pred(torch.relu(decoder.predict_mask(mask + torch.relu(decoder.fusion_2(boundary)))))
        decoder.predict_boundary_2(torch.relu(decoder.predict_boundary_1(boundary)))  # nobody looks at it
        return scores

    @staticmethod
    def update(sensory, hidden, x16, x8, x4):
        """XMem's sensory memory after a frame was decoded."""
        p16, p8, p4 = sensory.project
        x8 = F.interpolate(x8, scale_factor=1 / 2, mode="area")
        x4 = F.interpolate(x4, scale_factor=1 / 4, mode="area")
        return gate(sensory.gate, p16(x16) + p8(x8) + p4(x4), hidden)

    def deep_update(self, hidden, value, grid):
        """XMem's sensory memory after a frame was memorized."""
        return gate(self.network.sensory_memory.deep_gate, value.view(*value.shape[:2], *grid), hidden)
