"""Training clips: a few frames of each of several videos, as one batch.

Batches are a pure function of (seed, step): no state to save, so a resumed run sees exactly the batches of an unbroken one.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.masks import index_to_object_masks

# Seeds from here on belong to training; held-out clips have smaller ones.
FIRST_TRAINING_SEED = 10_000_000
VIDEO_LENGTH = 8  # frames per video, unless asked otherwise
# How often each level of difficulty is drawn.
LEVEL_MIX = ("easy", "medium", "medium", "hard")


@dataclass(frozen=True)
class Batch:
    """Clips of one length, ready for a network."""

    frames: Float[Tensor, "b t 3 H W"]  # RGB in [0, 1]
    object_masks: Float[Tensor, "b o t H W"]  # zeros and ones
    indices: tuple[int, ...]  # video frame numbers of the t frames, the same for all clips of the batch

    def to(self, device) -> "Batch":
        """The same batch on another device."""
        return Batch(self.frames.to(device), self.object_masks.to(device), self.indices)


class SyntheticClips:
    """A fixed set of synthetic videos from which batches are drawn.

    `count` videos of `length` frames at `size` pixels are made when first needed and kept as bytes (96 x 96, 8 frames: 0.3 MB a video).
    Source: ours.
    """

    def __init__(self, count: int = 2400, length: int = VIDEO_LENGTH, size: tuple[int, int] = (96, 96), seed: int = 0):
        self.count, self.length, self.size, self.seed = count, length, size, seed
        self._frames = np.zeros((count, length, *size, 3), dtype=np.uint8)
        self._masks = np.zeros((count, length, *size), dtype=np.uint8)
        self._made = np.zeros(count, dtype=bool)

    def batch(self, step: int, clips: int, frames: int, max_gap: int = 1) -> Batch:
        """The batch of a training step: `clips` videos, `frames` frames of each, neighbours 1 to `max_gap` video frames apart.

        Augmentation of whole clips: time reversed, mirrored, rows and columns exchanged (square clips only). Raises ValueError when the
        frames asked for do not fit into a video.
        """
        if (frames - 1) * max_gap + 1 > self.length:
            raise ValueError(
                f"{frames} frames with gaps up to {max_gap} need {(frames - 1) * max_gap + 1} video frames, videos have {self.length}"
            )
        rng = np.random.default_rng([self.seed, step])
        gaps = rng.integers(1, max_gap + 1, size=frames - 1)
        indices = np.concatenate([[0], np.cumsum(gaps)])
        pictures, masks = [], []
        for number in rng.choice(self.count, size=clips, replace=False).tolist():
            self._make(number)
            taken = rng.integers(0, self.length - indices[-1]) + indices
            if rng.random() < 0.5:
                taken = self.length - 1 - taken  # time reversed
            picture, mask = self._frames[number][taken], self._masks[number][taken]
            if rng.random() < 0.5:
                picture, mask = picture[:, :, ::-1], mask[:, :, ::-1]
            if rng.random() < 0.5 and self.size[0] == self.size[1]:
                picture, mask = rearrange(picture, "t H W c -> t W H c"), rearrange(mask, "t H W -> t W H")
            pictures.append(picture)
            masks.append(mask)
        pixels = torch.from_numpy(np.ascontiguousarray(np.stack(pictures)))
        labels = torch.from_numpy(np.ascontiguousarray(np.stack(masks)))
        return Batch(
            rearrange(pixels, "b t H W c -> b t c H W").float() / 255,
            rearrange(index_to_object_masks(labels, (1,)), "b t o H W -> b o t H W"),
            tuple(int(i) for i in indices),
        )

    def _make(self, number: int) -> None:
        if not self._made[number]:
            clip = make_clip(
                FIRST_TRAINING_SEED + self.seed * self.count + number, LEVEL_MIX[number % 4], self.length, self.size
            )
            self._frames[number], self._masks[number] = clip.frames.numpy(), clip.index_masks.numpy()
            self._made[number] = True
