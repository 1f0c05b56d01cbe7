"""Writing a video frame by frame; nothing of it stays in memory, and nothing half-written stays on disk. Ours."""

import math
import os
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from tmrn_edu.data.files import PendingFile, by
from tmrn_edu.errors import InputError

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}  # suffix: FFmpeg's name
BT709 = 1  # the number of this colour matrix in ITU-T H.273, which every codec uses


def import_av():
    """The PyAV module; `InputError` with the command that installs it where it is missing."""
    try:
        import av
    except ImportError as error:
        raise InputError(
            "video files need PyAV, which is not installed: pip install tmrn-edu[video] "
            "(folders of frames and GIFs work without it)"
        ) from error
    return av


class VideoWriter:
    """Write frames to an H.264 video as they come.

        with VideoWriter("out.mp4", fps=25) as writer:
            writer.write(frame)                         # UInt8 "H W 3", one after the other

    The video is made under a hidden temporary name in the same folder and gets its name when the block ends well; if
    the block raises (KeyboardInterrupt too), the temporary file is removed and an older video of that name stays as it
    was. H.264 as every player reads it wants even sizes: an odd height or width grows by one pixel, the last row or
    column repeated, so a 35 x 51 clip becomes 36 x 52 at the bottom and the right.

    Raises `InputError` where PyAV is missing, the suffix is none of .mp4 .mov .mkv, or the file cannot be written;
    `ValueError` for frames that differ in size.
    """

    def __init__(self, path: str | os.PathLike, fps: float | int = 24.0):
        self.path = Path(path)
        if self.path.suffix.lower() not in CONTAINERS:
            raise InputError(f"cannot write video {path}: its name ends in '{self.path.suffix}', "
                             f"expected one of {' '.join(CONTAINERS)}")  # fmt: skip
        if not (math.isfinite(fps) and 0 < fps <= 1000):
            raise InputError(f"frames per second are {fps}, expected a number above 0 and at most 1000")
        self.fps = float(fps)
        self.frames_written = 0
        self._av = import_av()
        self._size = None
        self._stream = None
        self._container = None
        self._pending = PendingFile(self.path)
        try:
            # A Python file, not a name: then a full disk is an OSError here and not a line in FFmpeg's log.
            self._file = open(self._pending.temporary, "wb")
        except OSError as error:
            raise self._pending.failure(error) from error

    def write(self, frame: UInt8[Tensor, "H W 3"] | UInt8[np.ndarray, "H W 3"]) -> None:
        """Append one frame, RGB 0..255; the first one sets the size."""
        image = torch.as_tensor(frame).cpu().numpy()
        if self._file.closed:
            raise ValueError(f"{self.path} is closed: write needs an open VideoWriter")
        if self._size is None:
            self._size = image.shape[:2]
        if image.shape[:2] != self._size:
            raise ValueError(f"frame {self.frames_written} is {by(image.shape)}, the video is {by(self._size)}")
        height, width = self._size
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        with self._giving_up_on_errors():
            if self._stream is None:
                self._open(image.shape[:2])
            # Say which matrix turned RGB into YUV: untagged, players guess by the height and shift the colours.
            picture = picture.reformat(format="yuv420p", dst_colorspace=BT709)
            picture.pts = self.frames_written
            self._container.mux(self._stream.encode(picture))
        self.frames_written += 1

    def close(self) -> None:
        """Finish the video and give it its name; `InputError` if no frame was written."""
        if self._file.closed:
            return
        with self._giving_up_on_errors():
            if self._stream is None:
                raise InputError(f"no frame was written to {self.path}: expected at least one")
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._file.close()
        self._pending.commit()

    def abort(self) -> None:
        """Give up: remove what was written so far; nothing happens after `close`."""
        if self._file.closed:
            return
        # Closing writes a trailer, and that fails where writing failed; the file goes away in any case.
        for part in (self._container, self._file):
            with suppress(OSError, ValueError, self._av.FFmpegError):
                if part is not None:
                    part.close()
        self._pending.discard()

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _open(self, size):
        self._container = self._av.open(self._file, "w", format=CONTAINERS[self.path.suffix.lower()])
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        stream = self._container.add_stream(codec, rate=Fraction(self.fps).limit_denominator(1001))
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast"} if codec == "libx264" else {"qscale": "3"}
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        self._stream = stream

    @contextmanager
    def _giving_up_on_errors(self):
        try:
            yield
        except BaseException as error:
            self.abort()
            self._pending.discard()  # abort() does nothing once the file is closed, and closing it may be what failed
            if isinstance(error, (OSError, self._av.FFmpegError)):
                raise self._pending.failure(error) from error
            raise


def write_video(
    path: str | os.PathLike,
    frames: UInt8[Tensor, "t H W 3"] | UInt8[np.ndarray, "t H W 3"] | Iterable,
    fps: float | int = 24.0,
) -> None:
    """Write all frames of a tensor, or of any iterable of UInt8 `H W 3`, as `VideoWriter` does; whole or not at all."""
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
