"""A folder of mask files as a sequence: `masks[t]` reads the mask of frame t, and nothing else is in memory. Ours."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from tmrn_edu.data.files import by
from tmrn_edu.data.masks_io import read_mask
from tmrn_edu.data.video import VideoReader, open_video
from tmrn_edu.errors import InputError, some

INNER = "masks"  # where `tmrn-edu segment` puts the masks in its folder


class MaskFolder(Sequence):
    """The masks of a video's frames, read when they are asked for: `len`, index, iteration.

    path: a folder of palette PNGs as `tmrn-edu segment`, `tmrn-edu evaluate` and DAVIS have them, or the folder that
    holds them as `masks`. names: those of the frames, without suffix (`VideoReader.names`). A mask belongs to the frame of
    its name; where no name fits (masks 00000.png ... of frames IMG_01.jpg ...) and there are as many masks as frames, to
    the frame of its place. size: (H, W) of the frames.

    Raises `InputError` for a folder that cannot be read, frames without a mask (how many, the first of them) and masks of another
    size: at once, from names and headers; when it is read, for a file that is no mask.
    """

    def __init__(self, path: str | os.PathLike, names: Sequence[str], size: tuple[int, int]):
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(f"no folder of masks at {path}: expected one palette PNG per frame in it")
        if (self.path / INNER).is_dir() and not list(self.path.glob("*.png")):
            self.path = self.path / INNER
        elif not list(self.path.glob("*.png")):
            holds = some(sorted(entry.name for entry in self.path.iterdir()), most=3)
            raise InputError(
                f"{path} holds {', '.join(holds) or 'nothing'}: expected the masks of one video, 00000.png ..."
            )
        listing = open_video(self.path)  # headers alone: natural order, one size, upright
        if tuple(listing.size) != tuple(size):
            raise InputError(
                f"the masks in {self.path} are {by(listing.size)}, the frames are {by(size)} (height x width)"
            )
        by_name = dict(zip(listing.names, listing.files, strict=True))
        missing = [name for name in names if name not in by_name]
        if not missing:
            self.files = [by_name[name] for name in names]
        elif len(missing) == len(names) == len(by_name):
            self.files = list(listing.files)
        else:
            there = f"{len(by_name)} masks ({listing.files[0].name} ... {listing.files[-1].name})"
            raise InputError(
                f"{self.path} holds {there} for {len(names)} frames ({names[0]} ... {names[-1]}): "
                f"{len(missing)} have none, the first is {missing[0]}"
            )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> UInt8[Tensor, "H W"]:
        return read_mask(self.files[index], empty_ok=True).index

    def __iter__(self) -> Iterator[UInt8[Tensor, "H W"]]:
        return (self[index] for index in range(len(self)))


def open_masks(path: str | os.PathLike, video: VideoReader) -> MaskFolder:
    """The folder's masks for the frames of an opened video; raises as `MaskFolder` does."""
    return MaskFolder(path, video.names, tuple(video.size))
