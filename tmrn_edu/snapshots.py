"""What a segmenter remembers at one moment, kept to go back to. Ours.

Memory frames and the tensors in them never change, so a snapshot is lists of them and costs nothing of its own; it keeps them alive.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass

from torch import Tensor

from tmrn_edu.segmenter import Segmenter

SETTINGS = ("rules", "network", "device", "precision", "short_side")  # of a segmenter; all else is what it remembers


@dataclass(frozen=True)
class Snapshot:
    """All that a segmenter remembers before some frame; restored, it goes on from there to the same masks, to the bit."""

    state: dict  # the segmenter's attributes by name, with lists of their own and shared tensors

    @classmethod
    def of(cls, segmenter: Segmenter) -> "Snapshot":
        """The state of a segmenter now."""
        return cls(_copied({name: value for name, value in vars(segmenter).items() if name not in SETTINGS}))

    def restore(self, segmenter: Segmenter) -> None:
        """Puts a segmenter of the same network and settings into this state; may be done again and again."""
        vars(segmenter).update(_copied(self.state))


def bytes_held(snapshots: Iterable[Snapshot]) -> int:
    """Bytes of all tensors that snapshots hold on to; what they share counts once. Source: ours."""
    storages = [tensor.untyped_storage() for snapshot in snapshots for tensor in _tensors(snapshot.state)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _copied(state: dict) -> dict:
    """The state with lists and groups of its own, and the same tensors and memory frames."""
    groups = []
    for group in state["groups"]:
        group = copy.copy(group)
        group.object_ids, group.memory = list(group.object_ids), copy.copy(group.memory)
        group.memory.frames = list(group.memory.frames)
        groups.append(group)
    return state | {"groups": groups}


def _tensors(thing) -> Iterator[Tensor]:
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from _tensors(value)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from _tensors(value)
    elif is_dataclass(thing):
        yield from _tensors([getattr(thing, field.name) for field in fields(thing)])
    elif hasattr(thing, "frames"):  # a working memory
        yield from _tensors(thing.frames)
