"""The tour: one clip, segmented with and without TMRN, scored, looked into. What `tmrn-edu tour` runs.

    masks/NAME/00000.png ...    what each network found, and the truth
    overlay.mp4                 the same, side by side
    figures/*.png               one query pixel: its trajectory through the memory, and its affinities
    report.html                 all of it on one page, in plain words, with an explorer to click in

The clip is a held-out synthetic one and was *chosen* by eye out of 76: a look-alike passes in front of the target, and the networks
behave differently. What they do on average, the records of the shipped networks say; the report repeats them. Ours.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import repeat
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor, nn
from tqdm.auto import tqdm

from tmrn_edu import report
from tmrn_edu.data.files import atomic_path
from tmrn_edu.data.synthetic import LEVELS, Clip, make_clip
from tmrn_edu.data.video import VideoWriter, write_mask
from tmrn_edu.errors import InputError
from tmrn_edu.evaluate_clips import score_clips, trajectory_pck
from tmrn_edu.looking import Look, look
from tmrn_edu.metrics import region_similarity, score
from tmrn_edu.segment_video import output_folder
from tmrn_edu.segmenter import segment
from tmrn_edu.viz.explorer import across_page, explorer_html
from tmrn_edu.viz.overlays import contact_sheet, overlay
from tmrn_edu.viz.trajectories import choose_pixel, comparison_figure, path_errors, trajectory_figure
from tmrn_edu.weights import list_networks, load

NETWORKS = ("stcn-tiny", "tmrn-stcn-tiny", "tmrn-stcn-chained-tiny")  # the baseline first
SEED, LEVEL, FRAMES = 1, "medium", 8
QUERY = 5  # the frame that is looked into: the look-alike hides half of the target
REPORT, OVERLAY, MASKS, FIGURES, TRUTH = "report.html", "overlay.mp4", "masks", "figures", "truth"
COLUMNS = ("network", "J", "F", "J, true memories", "trajectory PCK", "frames/s")


@dataclass(frozen=True)
class TourResult:
    """One network on the tour's clip."""

    name: str
    index_masks: UInt8[Tensor, "t H W"]  # from predicted memories, as in use
    J: float  # region similarity of the target, DAVIS rule: first and last frame not counted
    F: float  # boundary accuracy, likewise
    J_true_memory: float  # J when every memory frame has its true mask: what a read is worth by itself
    pck: float  # share of the best matches of the target's cells that lie within 4 pixels of the truth
    frames_per_second: float  # here, now, with whatever else this machine is doing
    look: Look  # one frame, read from all earlier ones with true masks

    def cells(self) -> list[str]:
        """A row of the table."""
        numbers = (self.J, self.F, self.J_true_memory, self.pck)
        return [self.name, *(f"{number:.3f}" for number in numbers), f"{self.frames_per_second:.0f}"]


@dataclass(frozen=True)
class Tour:
    """All networks on the tour's clip, and where the pictures are."""

    out: Path
    clip: Clip
    results: tuple[TourResult, ...]  # the baseline first
    pixel: tuple[int, int]  # (y, x) in the frame that is looked into: the one whose trajectory is drawn

    def table(self) -> str:
        """The scores as text."""
        rows = [COLUMNS, *(result.cells() for result in self.results)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
        return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)

    def summary(self) -> str:
        """What the table says, in a sentence or two that do not claim more."""
        baseline, *others = self.results
        words = []
        for result in others:
            gain = result.J - baseline.J
            verdict = "about as much" if abs(gain) < 0.005 else "more" if gain > 0 else "less"
            words.append(f"{result.name} finds {verdict} ({result.J:.3f})")
        compared = f"; {' and '.join(words)}" if words else ""
        return (
            f"On this clip {baseline.name} finds the target with J = {baseline.J:.3f}{compared}. "
            f"{self._masks_and_positions()}One clip, chosen to be instructive, proves nothing: the report ends with averages over many."
        )

    def _masks_and_positions(self) -> str:
        """A sentence where a network's masks are better than the baseline's and its best matches worse, or the other way round."""
        baseline, *others = self.results
        odd = [
            one
            for one in others
            if (one.J - baseline.J) * (one.pck - baseline.pck) < 0
            and abs(one.J - baseline.J) >= 0.005
            and abs(one.pck - baseline.pck) >= 0.02
        ]
        if not odd:
            return ""
        said = " and ".join(f"{one.name} {one.pck:.3f}" for one in odd)
        return (
            f"Trajectory PCK goes the other way ({baseline.name} {baseline.pck:.3f}, {said}): a mask only asks whether the pixels that are looked "
            "at belong to the target, not whether they are the very same ones. "
        )


def tour(
    out: str | os.PathLike,
    networks: Sequence[str | os.PathLike] = NETWORKS,
    clip: Clip | None = None,
    query: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Tour:
    """Runs the tour into the folder `out`; see the head of this file for what it writes.

    `networks`: names or weight files, the baseline first. `clip`: None is the tour's own. `query`: the frame that is
    looked into, the last one of a clip that was given if None. A folder that holds an earlier
    tour is replaced when the new one is complete; one that holds other masks or overlays only with `overwrite`, else InputError. PyAV
    missing: no overlay.mp4. Source: ours.
    """
    query = query if query is not None else QUERY if clip is None else len(clip.frames) - 1
    clip = make_clip(SEED, LEVEL, FRAMES) if clip is None else clip
    models = {_short(name): load(name) for name in networks}
    if len(models) < len(networks) or not models:
        raise InputError(
            f"networks are {', '.join(map(str, networks)) or 'none'}, expected at least one, each with a name of its own"
        )
    again = overwrite or (Path(out) / REPORT).is_file()
    with output_folder(out, (MASKS, OVERLAY, FIGURES, REPORT), again) as folder:
        bar = tqdm(models.items(), desc="tour", unit="network", disable=not progress)
        results = tuple(run_network(name, network, clip, query) for name, network in bar)
        looks = {result.name: result.look for result in results}
        done = Tour(Path(out), clip, results, choose_pixel(looks, clip))
        _write(done, looks, folder)
    return done


def run_network(name: str, network: nn.Module, clip: Clip, query: int) -> TourResult:
    """One network on a clip with one labelled object: every frame joins the memory, as in its training."""
    given = {0: clip.index_masks[0]}
    segment(network, clip.frames[:2], given, memory_every=1)  # the first run of a network is slower than all others
    start = time.perf_counter()
    found = segment(network, clip.frames, given, memory_every=1).index_masks
    seconds = time.perf_counter() - start
    scores = score(found, clip.index_masks)
    return TourResult(
        name=name,
        index_masks=found,
        J=float(scores.J),
        F=float(scores.F),
        J_true_memory=float(score_clips(network, [clip]).J_true_memory[0]),
        pck=trajectory_pck(network, [clip]),
        frames_per_second=len(clip.frames) / seconds,
        look=look(network, clip.frames, clip.index_masks, query, range(query)),
    )


def _short(name: str | os.PathLike) -> str:
    """A shipped network's name as it is; of a weight file, the file's or its folder's name."""
    path = Path(name)
    return path.parent.name if path.name == "network.safetensors" and path.parent.name else path.stem


def _write(done: Tour, looks: Mapping[str, Look], folder: Path) -> None:
    masks = {TRUTH: done.clip.index_masks} | {result.name: result.index_masks for result in done.results}
    for name, index_masks in masks.items():
        for t, index_mask in enumerate(index_masks):
            write_mask(folder / MASKS / name / f"{t:05d}.png", index_mask)
    figures = {
        "masks": mask_sheet(done.clip, masks),
        "trajectory": trajectory_figure(looks, done.pixel, truth=done.clip),
        "affinity": comparison_figure(looks, done.pixel, truth=done.clip),
    }
    pictures = {name: report.png(figure) for name, figure in figures.items()}
    for name, content in pictures.items():
        with atomic_path(folder / FIGURES / f"{name}.png") as path:
            path.write_bytes(content)
    try:
        write_comparison(folder / OVERLAY, done.clip.frames, masks)
    except InputError as error:
        if "PyAV" not in str(error):
            raise
    with atomic_path(folder / REPORT) as path:
        path.write_text(page(done, looks, pictures, folder / OVERLAY), encoding="utf-8")


def mask_sheet(clip: Clip, masks: Mapping[str, Tensor], columns: int = 4) -> Figure:
    """One row per entry of `masks`, a few frames from first to last, with the J of every frame found."""
    shown = sorted({round(t) for t in np.linspace(0, len(clip.frames) - 1, columns)})
    titles = []
    for name, index_masks in masks.items():
        J = {t: region_similarity(index_masks[t] == 1, clip.index_masks[t] == 1) for t in shown}
        titles += [f"{name}, frame {t}" if name == TRUTH or t == 0 else f"{name}: J {J[t]:.2f}" for t in shown]
    rows = torch.cat([index_masks[shown] for index_masks in masks.values()])
    frames = repeat(clip.frames[shown], "t H W c -> (n t) H W c", n=len(masks))
    return contact_sheet(frames, rows, columns=len(shown), titles=titles, alpha=0, thickness=2)


def write_comparison(path: Path, frames: UInt8[Tensor, "t H W 3"], masks: Mapping[str, Tensor], scale: int = 3) -> None:
    """An mp4 of one panel per entry of `masks`, side by side, enlarged `scale` times with its name above."""
    with VideoWriter(path, fps=4) as writer:
        for t, frame in enumerate(frames):
            panels = []
            for name, index_masks in masks.items():
                big = repeat(frame, "H W c -> (H y) (W x) c", y=scale, x=scale)
                labels = repeat(index_masks[t], "H W -> (H y) (W x)", y=scale, x=scale)
                strip = Image.new("RGB", (big.shape[1], 20), "white")
                ImageDraw.Draw(strip).text((6, 4), f"{name}, frame {t}", fill="black")
                panels.append(
                    np.concatenate([np.asarray(strip), overlay(big, labels, alpha=0, thickness=scale + 1).numpy()])
                )
            writer.write(np.concatenate(panels, axis=1))


# The page


SCENES = {
    "easy": "one other thing moves about, unlike the target",
    "medium": "a look-alike crosses the target's path, painted from the same stock of colours and patterns",
    "hard": "two look-alikes cross the target's path, painted from the same stock of colours and patterns",
}


def page(done: Tour, looks: Mapping[str, Look], pictures: Mapping[str, bytes], film: Path) -> str:
    """The report: what was asked, what came out, where one pixel looked, and what all of this does not show."""
    clip, pixel, query = done.clip, done.pixel, done.results[0].look.query
    height, width = clip.frames.shape[1:3]
    names = [result.name for result in done.results]
    errors = {name: float(path_errors(one, pixel, clip).nanmean()) for name, one in looks.items()}
    parts = [
        report.paragraph(
            "A network is shown where an object is in the first frame of a video, and has to find it in all others. It works from "
            "memory: earlier frames, each with its mask. For every pixel of a new frame it looks up similar pixels in the memory, "
            "and reads off whether those belonged to the object. When something else looks like the object, that goes wrong."
        ),
        report.paragraph(
            f"The baseline, `{names[0]}`, compares a pixel with all pixels of all memory frames at once, in one softmax over space and time. "
            "TMRN, “Alignment Before Aggregation” (ICCV 2023), asks every memory frame by itself where the pixel was, and then how much each "
            "frame counts. Its counterparts, one per frame, are the pixel's trajectory. That split alone changes nothing: one softmax over "
            "everything is one within each frame, times the share of all that looks similar that lies in the frame. What changes the answer is "
            "that frames are weighed by attention along the trajectory instead, and that a few directions in each frame, its agents, correct "
            "what counts as similar. What is called chained keeps that share too, lets each step of the trajectory start from the one before it, "
            "and minds how old a frame is: our additions. "
            "The networks are built alike in everything but this reading of the memory."
        ),
        report.heading("The clip, and what was found"),
        report.paragraph(
            f"{len(clip.frames)} frames of {height} x {width} pixels, synthetic, so that the true path of every pixel is "
            f"known: {SCENES[clip.level]}. Only the target is asked for (outlined; mask of frame 0 given). No network was trained "
            f"on this clip, `make_clip({clip.seed}, {clip.level!r})`. It was chosen by eye out of 76 because the networks "
            "behave differently on it: it is instructive, not typical."
        ),
        report.picture(
            pictures["masks"],
            "Frames in columns; truth and each network in rows, masks outlined",
            "First row: the truth. Then what each network found.",
        ),
        report.video(film, "The same as a film.") if film.exists() else "",
        report.table(COLUMNS, [result.cells() for result in done.results]),
        report.paragraph(done.summary()),
        report.paragraph(
            "J is the overlap of found and true mask (intersection over union), F the agreement of their outlines; 1 is "
            "perfect. “J, true memories”: the memory is given true masks of all earlier frames instead of the network's own, "
            "so that no mistake is handed on; it tells what the reading alone is worth. “Trajectory PCK”: of the best "
            "matches of the target's cells in the last frame, one per memory frame, the share within 4 pixels of the truth. Frames "
            "per second: on the machine that made this page."
        ),
        report.heading("One pixel, looked up in memory"),
        report.paragraph(
            f"Take pixel {pixel} (row, column) of frame {query}, and give the memory the true masks of all frames before it. The "
            "frame was chosen like the clip; the pixel was picked by a rule: where the baseline loses the true path by most while "
            "the others keep it. So it shows "
            "how the readers differ, not how often. Mean distance between its path and the true one: "
            + ", ".join(f"`{name}` {error:.0f} pixels" for name, error in errors.items())
            + "."
        ),
        report.picture(
            pictures["trajectory"],
            "Per reader, the path of the pixel through the memory frames; its error and the weight of each frame",
            "Above: where each reader expects the pixel to have been, back in time from the square; numbers are frames, thick lines and large "
            "dots count more, crosses mark the true path. Below: the error in pixels, and the temporal weight of every frame.",
        ),
        report.picture(
            pictures["affinity"],
            "Rows are readers, columns memory frames: heat maps of where the pixel looks",
            "Where the pixel looks in each memory frame (bright: most). Two bright spots mean that the reader cannot tell the object from "
            "a look-alike; the ring, the expected position, is then the mean of two places. Cross: the truth. u: how much that frame counts.",
        ),
        report.heading("Look for yourself"),
        report.paragraph("Click or drag on the frame below, and switch between the readers: every pixel can be asked."),
        across_page(explorer_html(looks, pixel, truth=clip)),
        report.heading("What this page does not show"),
        *_averages(names),
        report.paragraph(
            f"Made by `tmrn-edu tour`; masks and figures lie beside this file, in `{MASKS}/` and `{FIGURES}/`."
        ),
    ]
    return report.page("One clip, with and without TMRN", parts)


def _averages(names: Sequence[str]) -> list[str]:
    """What the shipped networks' records say about many clips: {level: {"J": ..., "F": ...}}."""
    columns = COLUMNS[1:5]
    scores = {info.name: info.scores for info in list_networks() if info.name in names}
    rows = [
        [f"{level}: {name}", *(f"{scores[name][level].get(column, float('nan')):.3f}" for column in columns)]
        for level in LEVELS
        for name in names
        if level in scores.get(name, {})
    ]
    if not rows:
        return [report.paragraph("One clip proves nothing: `benchmarks/readers.py` compares the readers on many.")]
    words = (
        "One clip proves nothing. These are averages over many held-out clips of each level, as recorded when the networks "
        "were trained; `benchmarks/readers.py` makes them, and says how sure the differences are. Where a network stands "
        "below the baseline here, what was seen above is the exception."
    )
    return [report.paragraph(words), report.table(("clips: network", *columns), rows)]
