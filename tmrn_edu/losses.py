"""Training losses: bootstrapped cross-entropy, dice, and the auxiliary loss on the mask that is read out."""

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor


def bootstrapped_cross_entropy(
    logits: Float[Tensor, "b l H W"], labels: Int[Tensor, "b H W"], share: float = 1.0
) -> Float[Tensor, ""]:
    """Cross-entropy over the hardest pixels of each clip.

    mean over the int(share * H W) pixels with the largest -log softmax(logits)[label]; share 1 is plain cross-entropy.
    Shapes: logits over labels `b l H W`, labels `b H W` integers in [0, l). Raises ValueError for a share outside (0, 1].
    Source: STCN (NeurIPS 2021), after Wu et al.'s bootstrapping; share falls from 1 during training (`hard_share`).
    """
    if not 0 < share <= 1:
        raise ValueError(f"share of hard pixels is {share}, expected more than 0 and at most 1")
    losses = rearrange(F.cross_entropy(logits, labels, reduction="none"), "b H W -> b (H W)")
    hardest = max(1, int(share * losses.shape[1]))
    return losses.topk(hardest, dim=1).values.mean()


def hard_share(step: int, warm_up: int, fall_until: int, final: float) -> float:
    """Share of hard pixels at a training step: 1 until `warm_up`, then falling linearly to `final` at `fall_until`.

    Source: STCN:model/losses.py (there 20 000, 70 000 and 0.15 iterations).
    """
    if step < warm_up:
        return 1.0
    if step >= fall_until:
        return final
    return 1.0 - (1.0 - final) * (step - warm_up) / (fall_until - warm_up)


def dice_loss(probabilities: Float[Tensor, "b o H W"], object_masks: Float[Tensor, "b o H W"]) -> Float[Tensor, ""]:
    """One minus the soft overlap of prediction and truth, averaged over objects and clips.

    1 - (2 sum p y + 1) / (sum p + sum y + 1). Probabilities of objects only, without background, in [0, 1].
    Source: XMem:model/losses.py (smoothing 1 in numerator and denominator).
    """
    overlap = reduce(probabilities * object_masks, "b o H W -> b o", "sum")
    size = reduce(probabilities + object_masks, "b o H W -> b o", "sum")
    return (1 - (2 * overlap + 1) / (size + 1)).mean()


def readout_mask_loss(mask_read: Float[Tensor, "b o h w"], object_masks: Float[Tensor, "b o H W"]) -> Float[Tensor, ""]:
    """Label propagation as a loss: the mask that was read from memory against the true mask of the query frame.

    Binary cross-entropy between the read-out mask channel, clamped to [1e-3, 1 - 1e-3], and the true mask pooled to the key's grid.
    It trains keys directly, before the decoder understands anything. Source: ours, as in self-supervised label propagation.
    """
    cell = object_masks.shape[-1] // mask_read.shape[-1]
    truth = reduce(object_masks, "b o (h dy) (w dx) -> b o h w", "mean", dy=cell, dx=cell)
    read = mask_read.clamp(1e-3, 1 - 1e-3)
    # PyTorch would raise for these, on a GPU fatally; a training loop wants to see a loss that is no number.
    unknown = read.isnan()
    loss = F.binary_cross_entropy(torch.where(unknown, 0.5, read), truth)
    return torch.where(unknown.any(), torch.nan, loss)
