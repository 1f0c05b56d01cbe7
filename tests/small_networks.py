"""Networks and clips of the tests about whole networks: small frames, several objects, weights at which a read matters."""

import torch
from einops import rearrange, repeat

from tmrn_edu.folding import inference_copy
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks import GSFM, STCN, STM, XMem

FULL = {"STM": STM, "STCN": STCN, "XMem": XMem, "GSFM": GSFM}
TINY = {"STM tiny": STM.tiny, "STCN tiny": STCN.tiny, "STCN mobile": STCN.mobile, "XMem tiny": XMem.tiny}
READERS = ("space-time", "paper", "warm", "chained", "tracking")


SPREAD = 4.0  # mean squared distance of two pixels' keys / sqrt(ck), so that a read neither averages everything nor picks one pixel


@torch.no_grad()
def build(name, seed=0):
    """A network in evaluation mode, batch normalisation folded; drawn weights, with keys that lie `SPREAD` apart."""
    torch.manual_seed(seed)
    network = inference_copy((FULL | TINY)[name]().eval())
    frames, masks = torch.rand(1, 3, 48, 64), torch.zeros(1, 1, 48, 64)
    features = network.encode(frames)
    spread(network.query_key if hasattr(network, "query_key") else network.key_projection, features.key)
    if hasattr(network, "memory_key"):
        spread(network.memory_key, network.encode_memory(frames, masks)[0][:, 0])
    return network


def spread(convolution, key):
    """Scales what makes keys."""
    distance = 2 * key.var(dim=(2, 3)).sum() / key.shape[1] ** 0.5
    convolution.weight.mul_((SPREAD / distance) ** 0.5)


def reader_of(kind, network, top_k=None, **options):
    """One of `READERS`, made for a network."""
    if kind == "space-time":
        return SpaceTimeReader(network.similarity, top_k).eval()
    sizes = network.key_channels, network.value_channels
    return TrajectoryReader.preset(kind, *sizes, similarity=network.similarity, top_k=top_k, **options).eval()


def put(network, reader):
    """The network with another reader."""
    network.reader = reader.train(network.training)
    return network


def video(frames=3, size=(32, 48), objects=2, seed=0):
    """Noise with a bar for each object that moves to the right: uint8 `t H W 3`, and masks `t H W`, ids 1, 2, ..."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    colours = torch.randint(0, 256, (objects, 3), generator=generator, dtype=torch.uint8)
    pictures = torch.randint(0, 256, (1, *size, 3), generator=generator, dtype=torch.uint8)
    pictures = repeat(pictures, "1 H W c -> t H W c", t=frames).clone()
    masks = torch.zeros(frames, *size, dtype=torch.uint8)
    step = width // (objects + 1)
    for t in range(frames):
        for o in range(objects):
            place = (slice(height // 4, -height // 4), slice(o * step + 2 * t, o * step + 2 * t + max(2, step // 2)))
            masks[(t, *place)] = o + 1
            pictures[(t, *place)] = colours[o] // 2 + pictures[(t, *place)] // 2
    return pictures, masks


def as_batch(pictures):
    """uint8 `t H W 3` -> float `1 t 3 H W` in [0, 1]."""
    return rearrange(pictures, "t H W c -> 1 t c H W").float() / 255
