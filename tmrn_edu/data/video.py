"""Videos in: a folder of frames, a GIF, or any video file, frame by frame or at once (masks and writing: re-exported).

    folder of JPEG / PNG        sorted by name, digits read as numbers; names are kept for the masks
    .gif                        Pillow
    anything else               PyAV (FFmpeg's libraries), the extra `video`: pip install tmrn-edu[video]

All three are one class to the caller, `VideoReader`: its size, names and frame rate are known, and what can be seen to
be wrong is said, before the first frame is asked for. Frames come as uint8 RGB `H W 3`, turned upright (EXIF
orientation, the display matrix of phone videos). Pixels are taken as they are stored: a pixel that is not square stays
one pixel. Everything here is ours.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from tmrn_edu.data.files import DAMAGED, by, natural_key, reason, to_rgb
from tmrn_edu.data.masks_io import Mask, davis_palette, read_mask, write_mask
from tmrn_edu.data.video_writer import VideoWriter, import_av, write_video
from tmrn_edu.errors import InputError

__all__ = [
    "DEFAULT_FPS", "Mask", "Video", "VideoReader", "VideoWriter", "davis_palette", "open_video", "read_mask",
    "read_video", "write_mask", "write_video",
]  # fmt: skip

DEFAULT_FPS = 24.0  # a folder of images has no frame rate; DAVIS and YouTube-VOS were filmed at 24 to 30
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
EXIF_ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # these orientations swap height and width
BT601 = 5  # FFmpeg's name for it, and its default


@dataclass(frozen=True)
class Video:
    """A video in memory."""

    frames: UInt8[Tensor, "t H W 3"]  # RGB, 0..255
    names: list[str]  # one per frame: file names without suffix, 00000, 00001, ... for video files
    fps: float  # frames per second; 24 for a folder, which does not say


class VideoReader:
    """An opened video: iterate over it for its frames, UInt8 `H W 3`, one in memory at a time.

    Each iteration starts at the first frame again. Made by `open_video`.
    """

    path: Path
    size: tuple[int, int]  # (H, W) of every frame, after turning it upright
    fps: float
    count: int  # frames

    def __len__(self) -> int:
        return self.count

    @property
    def names(self) -> list[str]:
        """A name per frame, unique: the image's name without suffix, or its number with five digits."""
        return [f"{index:05d}" for index in range(self.count)]

    def __iter__(self) -> Iterator[UInt8[Tensor, "H W 3"]]:
        for index, image in enumerate(self._images()):
            if image.shape[:2] != self.size:
                raise InputError(
                    f"frame {index} of {self.path} is {by(image.shape)}, expected {by(self.size)} as the first one"
                )
            yield torch.from_numpy(np.ascontiguousarray(image))

    def _images(self):
        raise NotImplementedError

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        pass  # files are open only while an iteration runs, and close with it


def open_video(path: str | os.PathLike) -> VideoReader:
    """Open a folder of frames, a GIF or a video file for reading frame by frame.

        with open_video("clip.mp4") as video:
            print(video.size, video.fps, len(video))
            for name, frame in zip(video.names, video):     # frame: UInt8 "H W 3"
                ...

    Memory does not grow with the length of the video. Raises `InputError`, one line that names what came and what was
    expected: at once for a missing, empty, foreign or cut-off file and for frames of different sizes, during the
    iteration for a frame that cannot be decoded (how many frames came, of how many).
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"no video at {path}: expected a video file or a folder of JPEG or PNG frames")
    if path.is_dir():
        return FolderReader(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"{path} is one image: expected a video file or a folder of JPEG or PNG frames")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is an empty file: expected a video file or a folder of JPEG or PNG frames")
    return GifReader(path) if path.suffix.lower() == ".gif" else FileReader(path)


def read_video(path: str | os.PathLike) -> Video:
    """Read a whole video into memory, `3 H W` bytes a frame; raises as `open_video` does."""
    with open_video(path) as video:
        frames = torch.stack(list(video))
        names = video.names if len(frames) == len(video) else [f"{index:05d}" for index in range(len(frames))]
        return Video(frames=frames, names=names, fps=video.fps)


class FolderReader(VideoReader):
    """A folder of JPEG or PNG frames; other files in it, and names that begin with a dot, are passed over."""

    def __init__(self, path: Path):
        self.path, self.fps = path, DEFAULT_FPS
        try:
            entries = sorted((entry for entry in path.iterdir() if not entry.name.startswith(".")), key=_by_name)
        except OSError as error:
            raise InputError(f"cannot read folder {path}: {reason(error)}") from error
        self.files = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()]
        if not self.files:
            holds = "is empty"
            if entries:
                holds = f"holds {len(entries)} entries, none JPEG or PNG (first: {entries[0].name})"
            raise InputError(f"folder {path} {holds}: expected a folder of JPEG or PNG frames")
        self.count = len(self.files)
        seen = {}
        for file in self.files:
            if file.stem in seen:
                raise InputError(f"{seen[file.stem]} and {file} have the same name: expected one image per frame")
            seen[file.stem] = file
        unnumbered = [file for file in self.files if not any(letter.isdigit() for letter in file.stem)]
        if len(unnumbered) == 1 and self.count > 2:
            raise InputError(
                f"folder {path} holds {self.count - 1} images with numbers in their names and {unnumbered[0].name} without: "
                f"expected frames alone, and a mask or a poster elsewhere"
            )
        # Only headers are read here, so that a wrong size in frame 900 does not end a run at frame 900.
        self.size = _image_size(self.files[0])
        for file in self.files[1:]:
            if _image_size(file) != self.size:
                raise InputError(
                    f"{file} is {by(_image_size(file))}, expected {by(self.size)} as {self.files[0].name}: "
                    f"all frames have one size"
                )

    @property
    def names(self) -> list[str]:
        return [file.stem for file in self.files]

    def _images(self):
        for file in self.files:
            try:
                with Image.open(file) as image:
                    yield to_rgb(image)
            except DAMAGED as error:
                raise InputError(f"cannot read image {file}: {reason(error)}; expected a JPEG or PNG frame") from error


class GifReader(VideoReader):
    """An animated GIF; its frame rate is the mean one, since each frame may last its own time."""

    def __init__(self, path: Path):
        self.path = path
        durations = []
        try:
            with Image.open(path) as image:
                self.size = (image.height, image.width)
                self.count = getattr(image, "n_frames", 1)
                for index in range(self.count):
                    image.seek(index)
                    durations.append(image.info.get("duration", 0))
        except DAMAGED as error:
            raise InputError(f"cannot read {path}: {reason(error)}; expected a GIF") from error
        # Times of 0 mean "as fast as you can"; browsers take 100 ms, and so do we.
        self.fps = 1000.0 * self.count / sum(duration or 100 for duration in durations)

    def _images(self):
        index = 0
        try:
            with Image.open(self.path) as image:
                for index in range(self.count):
                    image.seek(index)
                    yield to_rgb(image)
        except DAMAGED as error:
            raise InputError(
                f"{self.path} stops decoding after {index} of {self.count} frames: {reason(error)}"
            ) from error


class FileReader(VideoReader):
    """A video file through PyAV: the first video stream.

    Opening goes once over the packets without decoding them, which costs about as much as reading the file. That
    gives the number of frames where the container does not state it, and finds a cut-off file before any work is done
    (not for MPEG transport streams, which are made to be cut anywhere).
    """

    def __init__(self, path: Path):
        self.path = path
        self._av = import_av()
        try:
            with self._open() as container:
                stream = self._stream(container)
                self.fps = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
                self.count, expected = _count_packets(container, stream, self.fps)
        except (OSError, self._av.FFmpegError) as error:
            raise InputError(f"cannot read {path} as a video: {reason(error)}; "
                             f"expected a video file or a folder of JPEG or PNG frames") from error  # fmt: skip
        if self.count == 0:
            raise InputError(f"video {path} has no frames: expected at least one")
        if self.count < expected:
            raise InputError(f"video {path} is cut off: it holds {self.count} of {expected} frames")
        first = next(self._images(), None)
        if first is None:
            raise InputError(f"video {path} has no frame that can be decoded: expected {self.count}")
        self.size = first.shape[:2]

    def _open(self):
        # "file:" keeps FFmpeg from taking a name such as "take:2.mp4" for a protocol.
        return self._av.open(f"file:{self.path}")

    def _stream(self, container):
        # FFmpeg opens text files as terminal art and single images as videos of one frame.
        if container.format.name == "tty" or container.format.name.endswith("_pipe"):
            kind = container.format.name
            raise InputError(f"{self.path} is no video (FFmpeg reads it as {kind}): expected a video file")
        if not container.streams.video:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
            raise InputError(f"{self.path} has no video stream (streams: {kinds}): expected a video file")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise InputError(f"{self.path} is coded in a way this FFmpeg cannot decode: expected H.264 or the like")
        return stream

    def _images(self):
        decoded = 0
        try:
            with self._open() as container:
                stream = self._stream(container)
                stream.thread_type = "AUTO"
                for frame in container.decode(stream):
                    # RGB has no colour matrix, but PyAV before 17 heeds that of the frame only if one is named here.
                    image = frame.reformat(format="rgb24", dst_colorspace=BT601).to_ndarray()
                    # The display matrix of phone videos, in degrees counter-clockwise.
                    yield np.rot90(image, round(frame.rotation / 90) % 4)
                    decoded += 1
        except (OSError, self._av.FFmpegError) as error:
            raise InputError(
                f"video {self.path} stops decoding after {decoded} of {self.count} frames: {reason(error)}"
            ) from error
        # Some codecs (VP8, MPEG-4 from old cameras) carry packets that show nothing, hence the slack.
        if decoded < 0.9 * self.count - 2:
            raise InputError(f"video {self.path} stops decoding after {decoded} of {self.count} frames")


def _count_packets(container, stream, fps):
    """(frames that are whole, frames there should be), without decoding."""
    packets = shown = 0
    end = 0.0
    broken = False
    for packet in container.demux(stream):
        if not packet.size:  # the empty packet that flushes a decoder
            continue
        packets += 1
        broken = packet.is_corrupt
        shown += not (packet.is_discard or broken)  # discarded: before the cut of a trimmed video
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    # mp4 and its kin list every frame up front; Matroska lists only key frames, but states how long the stream is.
    # PyAV before 17 does not show that list; the header's number serves where the end is torn, but not in general, since
    # it counts the frames that were trimmed away too.
    listed = len(stream.index_entries) if hasattr(stream, "index_entries") else stream.frames if broken else 0
    expected = shown + max(0, listed - packets) + broken
    tags = {key.upper(): value for key, value in stream.metadata.items()}
    stated = _seconds(tags.get("DURATION"))
    if expected == shown and stated and end < 0.99 * stated - 2 / fps:
        expected = max(expected + 1, round(stated * fps))
    return shown, expected


def _seconds(stamp):
    # Matroska writes a stream's length as a tag: 00:00:02.400000000
    try:
        hours, minutes, seconds = stamp.strip("\x00 ").split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except (AttributeError, ValueError):
        return None


def _image_size(file):
    try:
        with Image.open(file) as image:
            # Pillow decodes a whole PNG to look for EXIF behind the pixels; only what stands before them is asked for.
            exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
            turned = exif.get(EXIF_ORIENTATION) in TURNED
            return (image.width, image.height) if turned else (image.height, image.width)
    except DAMAGED as error:
        raise InputError(f"cannot read image {file}: {reason(error)}; expected a JPEG or PNG frame") from error


def _by_name(entry):
    return natural_key(entry.name)
