"""From a batch to a number to be made small: roll the network out over the clips, compare every segmented frame with its truth."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tmrn_edu.data.clips import Batch
from tmrn_edu.errors import InputError
from tmrn_edu.imagenet import find_trunks
from tmrn_edu.inference import FrameSegmentation, roll_out
from tmrn_edu.losses import bootstrapped_cross_entropy, dice_loss, readout_mask_loss
from tmrn_edu.masks import pad_to_stride
from tmrn_edu.training.schedule import Stage
from tmrn_edu.training.settings import TrainSettings


@dataclass(frozen=True)
class ClipLoss:
    """The loss of a batch, and what it is made of."""

    total: Float[Tensor, ""]  # what is differentiated
    terms: Mapping[str, Float[Tensor, " t"]]  # weighted terms by name, one number per segmented frame, detached


class Parcel:
    """A batch with all that its step needs, as one thing: mixed precision would round the frames of anything it can look into."""

    def __init__(self, batch: Batch, stage: Stage, generator: torch.Generator | None = None):
        self.batch, self.stage, self.generator = batch, stage, generator


class ClipObjective(nn.Module):
    """A network with its loss as one module, which is what Fabric and data-parallel training take: parcel -> loss, terms, masks."""

    def __init__(self, network: nn.Module, settings: TrainSettings):
        super().__init__()
        self.network, self.settings = network, settings

    def forward(self, parcel: Parcel) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The loss, its terms, and the labels found, `b t H W` without the first frame; nothing but the loss carries gradients."""
        loss, results = clip_objective(self.network, parcel.batch, self.settings, parcel.stage, parcel.generator)
        found = torch.stack([result.logits.detach().max(dim=1).indices.to(torch.uint8) for result in results], dim=1)
        return loss.total, dict(loss.terms), found


def clip_objective(
    network: nn.Module, batch: Batch, settings: TrainSettings, stage: Stage, generator: torch.Generator | None = None
) -> tuple[ClipLoss, list[FrameSegmentation]]:
    """Rolls a network out over a batch of clips and compares: the loss of a training step. `generator`: of XMem's deep updates."""
    results = roll_out(
        network,
        batch.frames,
        batch.object_masks[:, :, 0],
        batch.indices,
        generator=generator,
        present=batch.present,
        references=batch.references,
    )
    return clip_loss(network, results, batch, settings, stage.hard_pixels), results


def clip_loss(
    network: nn.Module, results: list[FrameSegmentation], batch: Batch, settings: TrainSettings, hard_pixels: float
) -> ClipLoss:
    """Bootstrapped cross-entropy + dice + the auxiliary loss on the read-out mask, as the settings weigh them; sum or mean over frames.

    Cross-entropy looks at background and the objects that a clip has, dice at all slots (an empty one adds nothing but counts in the
    mean). Source: STCN:model/losses.py, XMem:model/losses.py; the auxiliary loss is ours.
    """
    terms: dict[str, list[Tensor]] = {}
    for t, result in enumerate(results, start=1):
        truth = batch.object_masks[:, :, t]
        found = {"cross_entropy": label_loss(result.logits, truth, batch.present, hard_pixels)}
        if settings.dice:
            found["dice"] = settings.dice * dice_loss(result.probabilities[:, 1:], truth)
        if network.mask_channels and settings.readout_mask:
            on_grid, _ = pad_to_stride(truth, network.stride)  # as the frame was, whose key's grid this is
            read = network.readout_mask(result.readouts[0])
            found["readout_mask"] = settings.readout_mask * readout_mask_loss(read, on_grid)
        for name, loss in found.items():
            terms.setdefault(name, []).append(loss)
    frames = torch.stack([sum(losses[1:], losses[0]) for losses in zip(*terms.values(), strict=True)])
    return ClipLoss(
        frames.sum() if settings.sum_frames else frames.mean(),
        {name: torch.stack([loss.detach() for loss in losses]) for name, losses in terms.items()},
    )


def label_loss(
    logits: Float[Tensor, "b l H W"],
    object_masks: Float[Tensor, "b o H W"],
    present: Float[Tensor, "b o"] | None,
    hard_pixels: float,
) -> Float[Tensor, ""]:
    """Bootstrapped cross-entropy, mean over clips, of each over background and the objects that it has.

    A clip without any object counts as one with one, whose mask is empty. Source: STCN:model/losses.py, XMem:model/losses.py.
    """
    largest = object_masks.max(dim=1)
    labels = torch.where(largest.values > 0, largest.indices + 1, 0)
    if present is None:
        return bootstrapped_cross_entropy(logits, labels, hard_pixels)
    counts = present.sum(dim=1).long().clamp_min(1)
    total = logits.new_zeros(())
    for count in counts.unique().tolist():
        clips = counts == count
        some = bootstrapped_cross_entropy(logits[clips, : count + 1], labels[clips], hard_pixels)
        total = total + some * (clips.sum() / len(counts))
    return total


def make_optimiser(network: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Adam (weight decay joins the gradient, as in STCN) or AdamW (it does not, as in XMem), over all weights of a network.

    Trunks that can begin with ImageNet weights learn `trunk_lr` times as fast as the rest, the reader's weights `reader_lr` times, each a group of
    their own where that is not 1; at 0 they take no gradients at all (in STM, STCN and XMem the value encoder's ResNet, which sees masks, is one of
    the trunks). `set_learning_rate` keeps groups apart. Weights that take no gradients (`requires_grad=False`, as the network was built) stay as
    they are. Raises InputError for a share of a part that the network does not have, and where no weight is left to learn.
    """
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimiser]
    shares = {"rest": 1.0, "trunk": settings.trunk_lr, "reader": settings.reader_lr}
    part_of = {id(weight): "trunk" for trunk in find_trunks(network).values() for weight in trunk.parameters()}
    part_of |= {id(weight): "reader" for weight in network.reader.parameters()}
    lacks = {"trunk": "no trunk", "reader": f"a {type(network.reader).__name__} without weights"}
    for part, what in lacks.items():
        if shares[part] != 1 and part not in part_of.values():
            raise InputError(
                f"{part}_lr is {shares[part]} and {type(network).__name__} ({network.preset}) has {what}; expected {part}_lr 1"
            )
    groups = {part: [] for part in shares}
    for weight in network.parameters():
        part = part_of.get(id(weight), "rest")
        groups["rest" if shares[part] == 1 else part].append(weight)
        if shares[part] == 0:
            weight.requires_grad_(False)
    if not any(weight.requires_grad for weight in network.parameters()):
        raise InputError(
            f"no weight of {type(network).__name__} ({network.preset}) takes gradients, expected at least one"
        )
    learning = [{"params": own, "share": shares[part]} for part, own in groups.items() if own and shares[part]]
    return kind(learning, lr=settings.lr, weight_decay=settings.weight_decay)


def set_learning_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of a step, for every group its own share of it."""
    for group in optimiser.param_groups:
        group["lr"] = group.get("share", 1.0) * lr
