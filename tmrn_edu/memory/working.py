"""Working memory: the frames that are kept, each with its keys, values and what a reader computed about it.

Frames are kept as a list and never joined into one tensor: readers walk over them, so adding a frame copies nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from tmrn_edu.memory.agents import AgentDescription

# The number of a frame in its video. In training, where each clip of a batch has frames of its own, one number per clip, on the CPU.
FrameIndex = int | Int[Tensor, " b"]


@dataclass(frozen=True)
class MemoryFrame:
    """One stored frame."""

    key: Float[Tensor, "b ck h w"]  # what queries are matched with
    value: Float[Tensor, "b o cv h w"]  # what is read, one per object
    index: FrameIndex  # number of the frame in its video
    exact: bool  # its mask was given, not predicted
    shrinkage: Float[Tensor, "b 1 h w"] | None = None  # XMem: sharpness of each memory pixel, >= 1
    description: AgentDescription | None = None  # TMRN: agents of this frame and their likelihoods
    batch_objects: int | None = (
        None  # STM: its keys belong to objects, so b is (b o), with so many objects; None: keys are shared
    )
    home: Float[Tensor, "b 2 m"] | None = (
        None  # during a read: the place (y, x) in the query frame each pixel fits best
    )

    def of_objects(self, first: int, last: int) -> "MemoryFrame":
        """What belongs to the objects from `first` up to, not including, `last`: their values, and in STM their keys too."""
        if self.batch_objects is None:
            whole = (first, last) == (0, self.value.shape[1])
            return self if whole else replace(self, value=pixel_by_pixel(self.value[:, first:last]))

        def pick(x: Tensor) -> Tensor:
            objects = rearrange(x, "(b o) ... -> b o ...", o=self.batch_objects)[:, first:last]
            return rearrange(objects, "b o ... -> (b o) ...")

        description = self.description
        if description is not None:
            description = AgentDescription(*(pick(getattr(description, f.name)) for f in fields(description)))
        return replace(
            self, key=pick(self.key), value=pick(self.value), description=description, batch_objects=last - first
        )


def frames_apart(one: FrameIndex, other: FrameIndex) -> FrameIndex:
    """How many video frames lie between two frames, in either direction; one number per clip where one of them has that."""
    return abs(one - other)


def time_of(index: FrameIndex) -> float:
    """What frames are put in order by: their number; of a batch of clips, in each of which the order is the same, the sum of the numbers."""
    return float(index if isinstance(index, int) else index.sum())


def pick_frames(frames: Sequence[MemoryFrame], choice: Int[Tensor, "b r"]) -> list[MemoryFrame]:
    """For every clip of a batch its own choice among the stored frames: `r` memory frames, in which clip b has frame choice[b, r].

    Rows of `choice` ascend, so the picked frames stay in the order of time. A picked frame counts as exact where it is so in every clip.
    Source: XMem's training, where later frames read the first one and a few random ones (XMem:model/trainer.py).
    """
    objects = frames[0].batch_objects or 1
    rows = repeat(choice, "b r -> (b o) r", o=objects).to(frames[0].key.device)
    clip = torch.arange(len(rows), device=rows.device)

    def pick(tensors, column: Tensor):
        return None if tensors[0] is None else torch.stack(tensors)[column, clip]

    picked = []
    for r in range(choice.shape[1]):
        parts = {
            name: pick([getattr(frame, name) for frame in frames], rows[:, r]) for name in ("key", "value", "shrinkage")
        }
        if frames[0].description is not None:
            names = [field.name for field in fields(AgentDescription)]
            described = [frame.description for frame in frames]
            parts["description"] = AgentDescription(
                *(pick([getattr(d, name) for d in described], rows[:, r]) for name in names)
            )
        numbers = torch.stack([torch.as_tensor(frame.index).expand(len(rows)) for frame in frames])
        parts["index"] = numbers[rows[:, r].cpu(), clip.cpu()]
        parts["exact"] = all(frames[t].exact for t in choice[:, r].tolist())
        picked.append(replace(frames[0], **parts))
    return picked


def pixel_by_pixel(value: Float[Tensor, "b o cv h w"]) -> Float[Tensor, "b o cv h w"]:
    """The same tensor, stored so that all numbers of a pixel lie side by side: pixels are what a read fetches. Source: ours."""
    rows = rearrange(value, "b o cv h w -> b h w o cv").contiguous()
    return rearrange(rows, "b h w o cv -> b o cv h w")


@dataclass(frozen=True)
class Query:
    """The frame that asks."""

    key: Float[Tensor, "b ck h w"]
    index: FrameIndex  # number of the frame in its video
    selection: Float[Tensor, "b ck h w"] | None = None  # XMem: channel weights in [0, 1]
    features: Float[Tensor, "b cf h w"] | None = None  # TMRN: what agents see of it, where that is more than its key
    first_row: int = 0  # of the frame's grid: a query may be a block of its rows

    def rows(self, first: int, last: int) -> "Query":
        """The rows of its grid from `first` up to, not including, `last`."""
        fields_of_rows = {
            name: None if field is None else field[:, :, first:last]
            for name, field in (("key", self.key), ("selection", self.selection), ("features", self.features))
        }
        return replace(self, **fields_of_rows, first_row=self.first_row + first)


class WorkingMemory:
    """The stored frames of one group of objects, oldest first, with an optional bound.

    With `max_frames` = n, at most n frames are kept. The first always stays. When another one arrives, the oldest *predicted* frame
    after the first makes room; if every kept frame was given by the user, the oldest given one after the first does. So memory holds the
    first frame, corrections, and a window of recent frames, and needs constant space however long the video is.
    Raises ValueError for max_frames < 1. Source: ours; STCN and XMem (long-term memory off) keep everything, which None does.
    """

    def __init__(self, max_frames: int | None = None):
        if max_frames is not None and max_frames < 1:
            raise ValueError(f"max_frames is {max_frames}, expected None (keep all) or at least 1")
        self.max_frames = max_frames
        self.frames: list[MemoryFrame] = []

    def add(self, frame: MemoryFrame) -> None:
        """Keeps `frame`; makes room first if the bound is reached."""
        if self.max_frames == 1 and self.frames:
            return
        if self.max_frames is not None and len(self.frames) >= self.max_frames:
            predicted = [i for i, kept in enumerate(self.frames) if i > 0 and not kept.exact]
            del self.frames[predicted[0] if predicted else 1]
        self.frames.append(frame)

    def __len__(self) -> int:
        return len(self.frames)
