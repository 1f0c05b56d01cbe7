"""A video that is segmented, looked at, corrected, and segmented again from there on: `VideoSession`.

    session = te.VideoSession("my.mp4", {0: "first.png"})
    session.run()
    view = session.draw(15)              # a widget: outline what is wrong
    session.correct(15, view.mask)       # frames 15, 16, ... once more; frames 0 to 14 stay

To go back without starting over, the session takes snapshots of the segmenter: lists of the memory frames at that moment. Memory frames
never change, so snapshots share them. A few snapshots over the whole video are kept, so the state before any frame is at
most a few frames' work away. Ours.
"""

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from tqdm.auto import tqdm

from tmrn_edu.data.video import DEFAULT_FPS, Mask, VideoReader, open_video
from tmrn_edu.errors import InputError
from tmrn_edu.inputs import PICTURES, as_tensor, check_frame, stack_frames
from tmrn_edu.segment_video import CUTOUT, MASKS, OVERLAY, check_ids, output_folder, read_given_mask, write_results
from tmrn_edu.segmenter import Segmenter, StepResult
from tmrn_edu.snapshots import Snapshot, bytes_held
from tmrn_edu.viz.drawing import Drawing
from tmrn_edu.weights import DEFAULT_NETWORK, load


class VideoSession:
    """A video, the masks given for it, and the masks found; see above.

    `frames`: a video file or folder, opened by `data.video.open_video`, or frames in memory (uint8 `t H W 3` or float `t 3 H W`). Of a
    file, frames are read again when they are needed, so memory does not grow with them. `masks`: frame number -> file or
    integers `H W`; may be empty at first. `network`: a network, a shipped one's name, None for `DEFAULT_NETWORK`; `settings`
    are those of `Segmenter`. `snapshots`: at most so many are kept, 1 or more: spread evenly, farther apart as the video gets longer.
    What a session holds in bytes: `snapshots * max_frames` memory frames at most (`snapshot_bytes` counts them), and the masks found,
    deflated, a few kilobytes a frame. Raises InputError for frames, masks and settings that cannot be used, before any work.
    Source: ours.
    """

    def __init__(
        self,
        frames,
        masks: Mapping[int, object] | None = None,
        network: nn.Module | str | None = None,
        snapshots: int = 16,
        **settings,
    ):
        if snapshots < 1:
            raise InputError(f"snapshots are {snapshots}, expected at least 1")
        self.video = open_video(frames) if isinstance(frames, str | os.PathLike) else _InMemory(frames)
        self.given: dict[int, Mask] = {}  # frame number -> what was given for it
        for index, mask in (masks or {}).items():
            self._take(index, mask)
        network = network if isinstance(network, nn.Module) else load(DEFAULT_NETWORK if network is None else network)
        self._segmenter = Segmenter(network, **settings)
        self._most, self._apart = snapshots, self._segmenter.rules.memory_every
        self._found: list[bytes] = []  # index masks, deflated
        self._snapshots: dict[int, Snapshot] = {}
        self._pinned = 0  # the frame gone back to last: likely to be corrected again

    def __len__(self) -> int:
        return len(self.video)

    @property
    def done(self) -> int:
        """How many frames are segmented by now; the first `done` frames have masks."""
        return len(self._found)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects known by now, in the order of the probabilities."""
        return self._segmenter.object_ids

    @property
    def masks(self) -> UInt8[Tensor, "t H W"]:
        """The masks found by now, frames 0 to `done` - 1."""
        return (
            torch.stack([self.mask(t) for t in range(self.done)])
            if self._found
            else torch.zeros((0, *self.video.size), dtype=torch.uint8)
        )

    def frame(self, t: int) -> UInt8[Tensor, "H W 3"] | Float[Tensor, "3 H W"]:
        """One frame of the video."""
        self._check(t)
        return next(self._frames(t))

    def mask(self, t: int) -> UInt8[Tensor, "H W"]:
        """The mask found for a frame. InputError for one that is not segmented yet."""
        if not 0 <= t < self.done:
            raise InputError(f"the mask of frame {t} was asked for, {self.done} of {len(self)} frames are segmented")
        labels = np.frombuffer(bytearray(zlib.decompress(self._found[t])), dtype=np.uint8)
        return rearrange(torch.from_numpy(labels), "(H W) -> H W", W=self.video.size[1])

    def run(self, until: int | None = None, progress: bool = False) -> "VideoSession":
        """Segments what is not segmented yet, up to and without frame `until` (None: all). Returns itself.

        Raises InputError where no mask was given. Stopped by Ctrl-C or a frame that cannot be read, it keeps what is
        done; the next run goes on from there.
        """
        if not self.given:
            raise InputError("no mask was given, expected at least one: session.correct(frame, mask)")
        for _ in self._steps(len(self) if until is None else min(until, len(self)), progress):
            pass
        return self

    def correct(self, frame: int, mask: object, progress: bool = False) -> "VideoSession":
        """Gives the mask of a frame, and segments again from that frame on, as far as it was segmented before. Returns itself.

        `mask`: a file or integers `H W` (`view.mask` of a drawing); the objects in it are as it says, others stay as they are found, ids
        that are new enter here. The result is that of a run with all masks given from the start, to the bit. Frames before `frame` stay.
        A mask given for this frame earlier is replaced. Raises InputError as the constructor does, before anything changes.
        """
        self._check(frame)
        far = max(self.done, frame + 1)
        self._take(frame, mask)
        self._go_back(frame)
        return self.run(far, progress)

    def forget(self, frame: int, progress: bool = False) -> "VideoSession":
        """Takes the mask given for a frame back, and segments again from there on. Returns itself. InputError where none was given."""
        if frame not in self.given or len(self.given) == 1:
            there = f"masks were given for {sorted(self.given)}"
            raise InputError(f"the mask of frame {frame} cannot be forgotten: {there}, at least one must stay")
        far = self.done
        del self.given[frame]
        self._go_back(frame)
        return self.run(far, progress)

    def draw(self, frame: int, object: int = 1) -> Drawing:
        """A widget with a frame and the mask it has by now, given or found, to be drawn over. Then: `correct(frame, view.mask)`."""
        self._check(frame)
        found = self.mask(frame) if frame < self.done else None
        if found is None and frame in self.given:
            found = self.given[frame].index
        return Drawing(self.frame(frame), mask=found, object=object, index=frame)

    def probabilities(self, t: int) -> Float[Tensor, "l H W"]:
        """Background and objects of a segmented frame, in the order of `object_ids`; those that enter later are left out.

        They are not kept: from the nearest snapshot on, a few frames are segmented once more.
        """
        self.mask(t)  # says what is wrong with t
        head = Snapshot.of(self._segmenter)
        try:
            start = self._rewind(t)
            for s, frame in enumerate(islice(self._frames(start), t + 1 - start), start):
                result = self._segmenter.step(frame, self._mask_of(s))
            return result.probabilities
        finally:
            head.restore(self._segmenter)

    @property
    def snapshot_bytes(self) -> int:
        """Bytes of all tensors that the snapshots and the segmenter hold on to, each counted once."""
        return bytes_held([*self._snapshots.values(), Snapshot.of(self._segmenter)])

    def write(
        self,
        out: str | os.PathLike,
        overwrite: bool = False,
        with_overlay: bool = True,
        cutouts: bool | Sequence[int] = False,
        fps: float | None = None,
    ) -> Path:
        """Writes what `tmrn-edu segment` writes: `masks/00000.png ...`, `overlay.mp4`, `cutout/00000.png ...`; returns the folder.

        Frames that are not segmented yet are segmented first. `cutouts`: as `segment_video`; they need probabilities, so the video is
        run once more for them. `fps`: of the overlay, None for the video's own. Raises as `segment_video`.
        """
        self.run()
        check_ids(cutouts, self.given)
        steps = self._once_more() if cutouts is not False else self._as_found()
        with output_folder(out, (MASKS, OVERLAY, CUTOUT), overwrite) as folder:
            palette = self.given[min(self.given)].palette
            write_results(folder, steps, fps or self.video.fps, palette, with_overlay, cutouts)
        return Path(out)

    def __repr__(self) -> str:
        given = f"masks given for {', '.join(map(str, sorted(self.given))) or 'no frame'}"
        return f"VideoSession({self.done} of {len(self)} frames segmented, {given})"

    # ------------------------------------------------------------------ inside

    def _frames(self, start: int) -> Iterator[Tensor]:
        return islice(iter(self.video), start, None)

    def _check(self, t: int) -> None:
        if not 0 <= t < len(self):
            raise InputError(f"frame {t} was asked for, {self.video.path} has frames 0 to {len(self) - 1}")

    def _take(self, index: int, mask: object) -> None:
        if not 0 <= index < len(self):
            raise InputError(f"a mask was given for frame {index}, {self.video.path} has frames 0 to {len(self) - 1}")
        self.given[index] = read_given_mask(self.video, index, mask)

    def _mask_of(self, t: int) -> Tensor | None:
        return self.given[t].index if t in self.given else None

    def _steps(self, until: int, progress: bool = False) -> Iterator[StepResult]:
        """Segments from where the session stands up to frame `until`, and keeps what must be kept."""
        start = self.done
        frames = islice(self._frames(start), max(0, until - start))
        for t, frame in enumerate(
            tqdm(frames, "segment", max(0, until - start), unit="frame", disable=not progress), start
        ):
            before = Snapshot.of(self._segmenter)
            if t % self._apart == 0 or t == self._pinned:
                self._snapshots[t] = before
                self._thin()
            try:
                result = self._segmenter.step(frame, self._mask_of(t))
                self._found.append(zlib.compress(result.index_mask.numpy().tobytes(), 1))
            except BaseException:  # Ctrl-C in the middle of a step: this frame was not seen
                before.restore(self._segmenter)
                del self._found[t:]
                raise
            yield result

    def _thin(self) -> None:
        """Twice as far apart, until there are few enough; the first stays, and that of the last correction where there is room."""
        stays = {0, self._pinned} if self._most > 1 else {0}
        while len(self._snapshots) > self._most and self._apart < 2 * len(self):
            self._apart *= 2
            self._snapshots = {t: s for t, s in self._snapshots.items() if t % self._apart == 0 or t in stays}
        if len(self._snapshots) > self._most:  # farther apart than the video is long: these are of earlier corrections
            self._snapshots = {t: s for t, s in self._snapshots.items() if t in stays}

    def _go_back(self, t: int) -> None:
        """Back to the last snapshot before frame t or at it: what was found from there on is forgotten, and found again by the next run."""
        if t >= self.done:
            return
        start = self._rewind(t)
        del self._found[start:]
        self._snapshots = {s: snapshot for s, snapshot in self._snapshots.items() if s <= start}
        self._pinned = t

    def _rewind(self, t: int) -> int:
        """Puts the segmenter into the last state kept from before frame t; returns the frame that it has to segment next."""
        start = max(s for s in self._snapshots if s <= t)
        self._snapshots[start].restore(self._segmenter)
        return start

    def _as_found(self) -> Iterator[tuple[Tensor, StepResult]]:
        for t, frame in enumerate(self._frames(0)):
            yield _picture(frame), StepResult(self.mask(t), torch.zeros((0, *self.video.size)), self.object_ids)

    def _once_more(self) -> Iterator[tuple[Tensor, StepResult]]:
        head = Snapshot.of(self._segmenter)
        try:
            self._segmenter.reset()
            for t, frame in enumerate(self._frames(0)):
                yield _picture(frame), self._segmenter.step(frame, self._mask_of(t))
        finally:
            head.restore(self._segmenter)


class _InMemory(VideoReader):
    """Frames in memory, as a reader."""

    def __init__(self, frames):
        if not hasattr(frames, "shape"):
            if not hasattr(frames, "__iter__"):
                raise InputError(f"frames are a {type(frames).__name__}, expected pictures, {PICTURES}")
            frames = stack_frames([as_tensor(frame, f"frame {t}", PICTURES) for t, frame in enumerate(frames)])
        self.frames = as_tensor(frames, "the video", PICTURES)
        if self.frames.ndim != 4 or not len(self.frames):
            shape = tuple(self.frames.shape)
            raise InputError(
                f"frames have shape {shape}, expected uint8 t H W 3 or float t 3 H W with at least one frame"
            )
        self.size = tuple(check_frame(self.frames[0], 0).shape[-2:])
        self.path, self.fps, self.count = Path("the video"), DEFAULT_FPS, len(self.frames)

    def __iter__(self):
        return iter(self.frames)


def _picture(frame: Tensor) -> Tensor:
    """A frame as uint8 `H W 3`, as files take it."""
    if frame.dtype == torch.uint8:
        return frame
    return (255 * rearrange(frame, "c H W -> H W c")).round().to(torch.uint8).cpu()
