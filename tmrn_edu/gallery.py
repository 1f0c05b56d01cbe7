"""The gallery: explorers on pages of their own, for a course page or a disk without a network. What `tmrn-edu gallery` writes.

    index.html           what there is, with a picture of each
    NAME.html ...        one clip, a few networks, every pixel of a few frames to be asked

Each page holds its script, its data and its pictures; nothing is loaded, so it works from a file. What the pages show is in `exhibits.py`: the
clips of `Exhibit` are synthetic, so the true path of every pixel is known, and memories hold true masks, so that what is seen is the reading
alone; the shipped pages say what to try. A `VideoExhibit` is a video of your own, whose masks a network made from the first. Ours.
"""

import base64
import html
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn
from tqdm.auto import tqdm

from tmrn_edu import report
from tmrn_edu.data.files import atomic_path
from tmrn_edu.data.synthetic import LEVELS, Clip
from tmrn_edu.errors import InputError
from tmrn_edu.exhibits import EXHIBITS, Exhibit, Try, VideoExhibit
from tmrn_edu.looking import PARTS, Look, without
from tmrn_edu.segment_video import output_folder
from tmrn_edu.viz.affinity import check_pixel
from tmrn_edu.viz.explorer import across_page, explorer_html
from tmrn_edu.viz.explorer_pack import by_frame
from tmrn_edu.viz.explorer_still import still
from tmrn_edu.viz.trajectories import cell_errors, choose_pixel
from tmrn_edu.weights import load

INDEX = "index.html"
BUDGET = 1_200_000  # bytes of a page's explorer; a page may hold more than a notebook
APART = 2.0  # pixels that paths are apart at a pixel worth starting from
SAME = 0.05  # share of W below which two readers hardly differ

WORDS = (
    "Affinity W: how the pixel that asks (square) shares out its look over the cells of a memory frame; it sums to one over each frame. Expected "
    "position (ring): the mean of all these cells, weighted by W. It may lie between two bright cells, where nothing matches."
)


def gallery(
    out: str | os.PathLike,
    exhibits: Sequence[Exhibit | VideoExhibit] = EXHIBITS,
    overwrite: bool = False,
    progress: bool = False,
) -> list[Path]:
    """Writes the pages and their index into the folder `out`; returns their paths, the index first.

    Pages that are there already are replaced only with `overwrite`, all at the end. Raises InputError for no exhibits, two of one name, a
    network that is not there, a part that it does not have, networks whose grids differ, a video or mask that cannot be read, and a folder
    that cannot be written. Source: ours.
    """
    names = [exhibit.name for exhibit in exhibits]
    if not names or len(set(names)) < len(names):
        raise InputError(f"pages are {', '.join(names) or 'none'}, expected at least one, each with a name of its own")
    network = cache(_network)
    for source in dict.fromkeys(source for exhibit in exhibits for source in exhibit.readers.values()):
        network(source)  # a wrong name is known before any work
    for exhibit in exhibits:
        if isinstance(exhibit, VideoExhibit):
            exhibit.asked()  # so are a wrong video, mask or frame
    pictures = {}
    with output_folder(out, (INDEX, *(f"{name}.html" for name in names)), overwrite) as folder:
        for exhibit in tqdm(exhibits, desc="gallery", unit="page", disable=not progress):
            content, pictures[exhibit.name] = page(exhibit, network)
            _write(folder / f"{exhibit.name}.html", content)
        _write(folder / INDEX, _index(exhibits, pictures))
    return [Path(out) / name for name in (INDEX, *(f"{name}.html" for name in names))]


def custom(clips: Sequence[tuple[str, int]], networks: Sequence[str]) -> list[Exhibit]:
    """One page for each clip (level, seed), with all `networks` on it. Raises InputError for an unknown level."""
    for level, _ in clips:
        if level not in LEVELS:
            raise InputError(f"level is {level!r}, known levels are {', '.join(LEVELS)}")
    words = "Point at the target, at what looks like it, and at the background."
    readers = {_short(name): name for name in networks}
    return [
        Exhibit(f"{level}-{seed}", f"Clip {level} {seed}", words, (level, seed), readers)
        for level, seed in dict.fromkeys(clips)
    ]


def of_video(
    video: str | os.PathLike, mask: str | os.PathLike, networks: Sequence[str], queries: Sequence[int] = ()
) -> VideoExhibit:
    """The page of one video, with all `networks` on it."""
    stem = Path(video).resolve().stem
    stem = "video" if stem == Path(INDEX).stem else stem
    words = "Point at an object, at what looks like it, and at the background."
    queries = tuple(sorted(set(queries)))
    return VideoExhibit(stem, stem, words, video, mask, {_short(name): name for name in networks}, queries)


def page(exhibit: Exhibit | VideoExhibit, network=None) -> tuple[str, bytes]:
    """The page as text, and a picture of it. `network`: source -> network, by default `load` and `without`."""
    network = network or _network
    shown = exhibit.show({name: network(source) for name, source in exhibit.readers.items()})
    first = list(by_frame(shown.looks).values())[-1]
    pixel, chosen = _start(first, shown.truth)
    made = ", ".join(f"`{name}` is {source}" for name, source in exhibit.readers.items())
    parts = [
        report.paragraph(exhibit.words),
        report.paragraph(WORDS),
        _tries(exhibit.tries, list(first), next(iter(first.values())).query),
        across_page(explorer_html(shown.looks, pixel, exhibit.top_k, shown.truth, BUDGET)),
        report.paragraph(_how_wide(shown.looks)),
        report.paragraph(f"{shown.about} {chosen} Networks: {made}. Made by `tmrn-edu gallery`."),
        '<p><a href="index.html">All pages</a></p>',
    ]
    return report.page(exhibit.title, parts), still(first, pixel, shown.truth)


def _start(looks: Mapping[str, Look], truth: Clip | None) -> tuple[tuple[int, int], str]:
    """The pixel (y, x) that is shown first, and why: where paths of the first two readers part; else where their affinities differ most."""
    pixel, names = choose_pixel(looks, truth), list(looks)[:2]
    if len(names) < 2:
        return pixel, ""
    pair = [looks[name] for name in names]
    y, x = check_pixel(pair[0], pixel)
    if truth is not None:
        errors = [float(cell_errors(look, truth)[:, y, x].nanmean()) for look in pair]
        if abs(errors[0] - errors[1]) >= APART:
            seen = " and ".join(
                f"{error:.0f} pixels off with {name}" for name, error in zip(names, errors, strict=True)
            )
            return (
                pixel,
                f"The first pixel was chosen because trajectories differ there ({seen}): it shows how, not how often.",
            )
    else:
        paths = [look.insides.trajectory[0, :, :, y, x].cpu() for look in pair]
        apart = pair[0].cell * float((paths[0] - paths[1]).norm(dim=1).mean())
        if apart >= APART:
            return (
                pixel,
                f"The first pixel was chosen because trajectories differ there, by {apart:.0f} pixels on average: it shows how, not how often.",
            )
    differ = _difference(*pair, truth)
    y, x = divmod(int(differ.argmax()), differ.shape[1])
    place = pair[0].cell_to_pixel(torch.tensor([y, x]).float()).round().int().tolist()
    most, usual = float(differ.max()), float(differ[differ >= 0].median())
    if most < SAME:
        return (
            pixel,
            f"{names[0]} and {names[1]} hardly differ here: nowhere by more than {100 * most:.1f} % of W, on average over memory frames.",
        )
    return tuple(place), (
        f"The first pixel was chosen because affinities differ there most: {100 * most:.0f} % of W lies on other cells with {names[0]} than with "
        f"{names[1]}, on average over memory frames. For half of all pixels it is less than {max(100 * usual, 1):.0f} %."
    )


def _difference(one: Look, other: Look, truth: Clip | None) -> Tensor:
    """Share of W that lies on other cells, mean over memory frames, `h w`; -1 outside the frame, and where the truth is mostly hidden."""
    height, width = one.insides.trajectory.shape[-2:]
    pair = [look.insides.affinity[0].float().cpu() for look in (one, other)]
    share = rearrange((pair[0] - pair[1]).abs().sum(dim=1).mean(dim=0) / 2, "(h w) -> h w", h=height)
    cells = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).float()
    middles, size = one.cell_to_pixel(cells).round(), rearrange(torch.tensor(one.frames.shape[1:3]), "yx -> yx 1 1")
    there = ((middles >= 0) & (middles < size)).all(dim=0)
    if truth is not None:
        seen = there & (cell_errors(one, truth).isfinite().float().mean(dim=0) >= 0.5)
        there = seen if seen.any() else there
    return torch.where(there, share, -1.0)


def _how_wide(looks: Mapping[str, Sequence[Look]]) -> str:
    """At how many cells readers look, exp of the entropy of W, from the whole affinity."""
    cells = {}
    for name, several in looks.items():
        wide = []
        for one in several:
            affinity = one.insides.affinity[0].float().cpu()
            entropy = torch.special.entr(affinity).sum(dim=1)
            wide.append(entropy[affinity.sum(dim=1) > 0])  # frames that are read
        cells[name] = float(torch.cat(wide).median().exp())
    of = next(iter(looks.values()))[0].insides.affinity.shape[2]
    said = ", ".join(f"{name} {number:.0f}" for name, number in cells.items())
    return (
        f"How wide a pixel looks into a memory frame: {said} of {of} cells. (As many cells, looked at equally, have the entropy of W: "
        "the median over all pixels and memory frames, from the whole affinity, not only from the cells that are kept for the view.)"
    )


def _tries(tries: Sequence[Try], readers: Sequence[str], query: int) -> str:
    """A list of things to try, each with a button that points there."""
    if not tries:
        return ""
    lines = []
    for one in tries:
        shown = one.beside or readers[:2]
        state = {
            "query": one.cell,
            "frame": query,
            "memory_cell": [],
            "colour": one.colour,
            "reader": shown[0],
            "beside": shown[1],
        }
        act = f"const e = document.querySelector('.tmrn-explorer').explorer; e.show({{...e.state(), ...{json.dumps(state)}}})"
        button = f'<button type="button" onclick="{html.escape(act)}">cell {one.cell}</button>'
        lines.append(f"<li>{button} {html.escape(one.expect)}</li>")
    return "<p>Try this: point here (or press), expect that.</p>\n<ol>" + "\n".join(lines) + "</ol>"


def _network(source: str) -> nn.Module:
    """A network by name or file; "NETWORK without PART" with that part switched off."""
    name, _, part = source.rpartition(" without ")
    return without(load(name), part) if part in PARTS and name else load(source)


def _short(name: str) -> str:
    return name if not name.endswith(".safetensors") else Path(name).stem


def _index(exhibits: Sequence[Exhibit | VideoExhibit], pictures: Mapping[str, bytes]) -> str:
    parts = [
        report.paragraph(
            "Point at a pixel of a frame, and see where a network looks for it in its memory: in each earlier frame, by which "
            "trajectory, how sure, and how far from the truth. Point at a pixel of the memory, and see who looks there. Pages need no network."
        )
    ]
    for exhibit in exhibits:
        link = f'<a href="{html.escape(exhibit.name)}.html">'
        uri = base64.b64encode(pictures[exhibit.name]).decode()
        parts.append(
            f"<h2>{link}{html.escape(exhibit.title)}</a></h2>\n{report.paragraph(exhibit.words)}\n"
            f'<figure>{link}<img alt="{html.escape(exhibit.title)}" src="data:image/png;base64,{uri}"></a></figure>'
        )
    return report.page("Where every pixel looks", parts)


def _write(path: Path, content: str) -> None:
    with atomic_path(path) as draft:
        draft.write_text(content, encoding="utf-8")
