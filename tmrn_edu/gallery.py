"""The gallery: explorers on pages of their own, for a course page or a disk without a network. What `tmrn-edu gallery` writes.

    index.html           what there is, with a picture of each
    NAME.html ...        one clip, a few networks, every pixel of a few frames to be asked

Each page holds its script, its data and its pictures; nothing is loaded, so it works from a file. The clips of `Exhibit` are synthetic, so
the true path of every pixel is known, and memories hold true masks, so that what is seen is the reading alone. The shipped pages say what to
try. A `VideoExhibit` is a video of your own, whose masks a network made from the first. Ours.
"""

import base64
import html
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn
from tqdm.auto import tqdm

from tmrn_edu import report
from tmrn_edu.data.files import atomic_path
from tmrn_edu.data.photos import bundled_photos
from tmrn_edu.data.synthetic import LEVELS, Clip, make_clip
from tmrn_edu.data.video import open_video
from tmrn_edu.errors import InputError
from tmrn_edu.looking import PARTS, Look, look, without
from tmrn_edu.segment_video import output_folder, read_given_masks
from tmrn_edu.segmenter import segment, shrink
from tmrn_edu.viz.affinity import check_pixel
from tmrn_edu.viz.explorer import across_page, explorer_html
from tmrn_edu.viz.explorer_pack import by_frame
from tmrn_edu.viz.explorer_still import still
from tmrn_edu.viz.trajectories import cell_errors, choose_pixel
from tmrn_edu.weights import load

INDEX = "index.html"
BUDGET = 1_200_000  # bytes of a page's explorer; a page may hold more than a notebook
TOP_K = 20
FRAMES = 8
QUERIES = (4, 5, 6, 7)  # query frames to scrub through; each is read from all frames before it
LONGEST = 60  # frames of a video that are looked at, where no query frames are asked for
SIDE = 480  # rows of its frames, for networks that take any
APART, SAME = (
    2.0,
    0.05,
)  # pixels that paths are apart at a pixel worth starting from; share of W that counts as a difference
READ = 5  # memory frames of a video that a query frame is read from: the first, and the latest others


@dataclass(frozen=True)
class Shown:
    """What a page shows."""

    looks: dict[str, list[Look]]
    truth: Clip | None  # where the true paths are known
    about: str  # where the frames and masks come from


@dataclass(frozen=True)
class Try:
    """Where to point on a page, in its last query frame, and what to expect there."""

    cell: tuple[int, int]
    expect: str
    beside: tuple[str, str] = ()  # the two readers to show; the first two if empty
    colour: str = "W"


@dataclass(frozen=True)
class Exhibit:
    """One page: a synthetic clip."""

    name: str  # of the file
    title: str
    words: str  # what to look for
    clip: tuple[str, int]  # level and seed
    readers: Mapping[
        str, str
    ]  # what the page calls them -> a network's name or file; "NETWORK without PART" switches a part off
    size: tuple[int, int] = (96, 96)  # of the clip, pixels
    photos: bool = False  # textures from photographs: for networks of real video
    tries: tuple[Try, ...] = ()
    queries: tuple[int, ...] = ()  # none: QUERIES
    top_k: int = TOP_K  # cells of a memory frame to keep, if the budget allows

    def show(self, networks: Mapping[str, nn.Module]) -> Shown:
        """Every query frame read from all frames before it, with true masks."""
        level, seed = self.clip
        clip = make_clip(seed, level, FRAMES, self.size, pictures=bundled_photos() if self.photos else None)
        ask = lambda network: [
            look(network, clip.frames, clip.index_masks, query, range(query)) for query in self.queries or QUERIES
        ]
        height, width = self.size
        about = (
            f"A synthetic clip of {FRAMES} frames of {height} x {width} pixels ({level}, seed {seed}), on which no network was trained. Each query "
            "frame is read from all frames before it, with their true masks."
        )
        return Shown({name: ask(network) for name, network in networks.items()}, clip, about)


@dataclass(frozen=True)
class VideoExhibit:
    """One page: a video, and the mask of its first frame."""

    name: str
    title: str
    words: str
    video: str | os.PathLike  # file or folder of frames
    mask: str | os.PathLike  # of frame 0
    readers: Mapping[str, str]
    queries: tuple[int, ...] = ()  # none: four, evenly spaced
    tries: tuple[Try, ...] = ()
    top_k: int = TOP_K

    def asked(self) -> tuple[int, ...]:
        """The query frames. Raises InputError for a video or mask that cannot be read, and for frames that the video does not have."""
        with open_video(self.video) as reader:
            read_given_masks(reader, {0: self.mask})
            count = len(reader)
        if count < 2:
            raise InputError(f"{self.video} has {count} frame, expected at least 2 to read one from another")
        last = min(count, LONGEST) - 1
        queries = self.queries or tuple(sorted({max(1, round(part * last / 4)) for part in (1, 2, 3, 4)}))
        outside = [query for query in queries if not 1 <= query < count]
        if outside:
            raise InputError(
                f"query frame {outside[0]} was asked for, {self.video} has frames 1 to {count - 1} to read from earlier ones"
            )
        return queries

    def show(self, networks: Mapping[str, nn.Module]) -> Shown:
        """Every query frame read from some frames before it; their masks, the same for all networks, are those that the first network makes."""
        queries, first = self.asked(), next(iter(networks.values()))
        side = min(network.short_side or SIDE for network in networks.values())
        with open_video(self.video) as reader:
            mask = read_given_masks(reader, {0: self.mask})[0].index
            frames = torch.stack([_small(frame, side) for _, frame in zip(range(max(queries) + 1), reader)])
            count = len(reader)
        given = rearrange(mask, "H W -> 1 1 H W").float()
        given = torch.nn.functional.interpolate(given, size=tuple(frames.shape[1:3]), mode="nearest-exact")[0, 0]
        every = first.rules.memory_every
        masks = segment(first, frames, {0: given.to(torch.uint8)}, keep_probabilities=False).index_masks
        reads = {query: sorted({0, *range(0, query, every)[1 - READ :]}) for query in queries}
        ask = lambda network: [look(network, frames, masks, query, memory) for query, memory in reads.items()]
        height, width = frames.shape[1:3]
        about = (
            f"The first {len(frames)} of {count} frames of {Path(self.video).name}, at {height} x {width} pixels. Each query frame is read from "
            f"frame 0 and the latest of every {every}, at most {READ}. Mask 0 was given, the others were made from it by "
            f"{next(iter(networks))}: what differs is the reading, not the memory."
        )
        return Shown({name: ask(network) for name, network in networks.items()}, None, about)


def _small(frame: Tensor, side: int) -> Tensor:
    """A frame with a short side of at most `side` pixels."""
    picture = shrink(rearrange(frame, "H W c -> c H W").float() / 255, side)
    return rearrange(255 * picture, "c H W -> H W c").round().clamp(0, 255).to(torch.uint8)


EXHIBITS = (
    Exhibit(
        "together-or-each-frame",
        "One softmax over all frames, and a trajectory",
        "STCN reads with one softmax over all pixels of all memory frames. TMRN splits it: where in each frame (W), then how much each frame "
        "counts (u). The split alone changes nothing: STCN's softmax is split here too, with u the share of all that looks similar that lies in the "
        "frame. What changes the answer: TMRN weighs frames by attention along the trajectory (in the paper, instead of that share), its agents "
        "correct similarities, and “chained”, our addition, starts each step from where it found the pixel in the frame after, and minds age.",
        ("medium", 1),
        {"STCN": "stcn-tiny", "TMRN, chained": "tmrn-stcn-chained-tiny", "TMRN, paper": "tmrn-stcn-tiny"},
        tries=(
            Try((5, 2), "background. STCN looks at the far side of the frame (75 pixels off), TMRN, chained, stays near (4 pixels)."),
            Try(
                (5, 2),
                "the same pixel. Looking into each frame by itself is not enough: TMRN as in the paper is far off too (58 pixels).",
                ("TMRN, paper", "TMRN, chained"),
            ),
            Try((10, 15), "the target. Bright cells lie on target and look-alike, and rings between them: both readers go wrong (25 and 21 pixels)."),
        ),
    ),
    Exhibit(
        "agents",
        "With agents, and without them",
        "Agents are a few directions that TMRN finds in each memory frame; two pixels for which the same agents answer become more similar, by a "
        "number lambda that was learned. The same network twice, not one weight changed; below, lambda = 0: its agents have no say.",
        ("hard", 3),
        {"agents on": "tmrn-stcn-tiny", "agents off": "tmrn-stcn-tiny without agents"},
        queries=(7,),
        top_k=200,
        tries=(
            Try((20, 6), "background. With agents on, the pixel looks at fewer cells; the rings move by a few pixels, here away from the truth."),
            Try((15, 11), "the target. Best cells stay where they were in all frames but frame 4: agents change little here."),
            Try((20, 6), "which agent answers for which pixel; the one that answers for yours is in full colour.", colour="agents"),
        ),
    ),
    Exhibit(
        "chaining",
        "With chaining, and without it",
        "A network for real video, on a clip with textures from photographs. Above, it expects a pixel near where it found it in the next later "
        "frame, and a cell counts less the further it lies from there, by a number beta that was learned. Below, beta = 0: it matches each frame "
        "anew. It reads with the ten best cells of all its memory, so some frames are not read.",
        ("hard", 5),
        {"chaining on": "tmrn-stcn-tracking-mobile", "chaining off": "tmrn-stcn-tracking-mobile without chaining"},
        size=(128, 192),
        photos=True,
        tries=(
            Try((7, 15), "with chaining, best cells stay close to each other from frame to frame; without, they jump about."),
            Try((12, 20), "background like nothing else: the same path with and without (3 pixels off). There is nothing to correct."),
            Try((8, 6), "chaining can do harm: a step from a wrong place leads on to wrong places (26 pixels off; 8 without)."),
        ),
    ),
    Exhibit(
        "three-networks",
        "STM, STCN, XMem",
        "Three ways to say how alike two pixels are: a product of keys, their distance, a distance that each pixel sharpens for itself. "
        "Put two of them beside each other and compare how wide they look; the numbers are below the view.",
        ("hard", 3),
        {"STM": "stm-tiny", "STCN": "stcn-tiny", "XMem": "xmem-tiny"},
        tries=(
            Try((12, 11), "the target. STM looks at some 50 cells of each frame, STCN at about 5."),
            Try((12, 11), "the same pixel: XMem looks at about 12 cells of each frame, more than STCN.", ("STCN", "XMem")),
            Try((15, 11), "narrow is not right: STCN looks at 1 to 4 cells of each frame, and is 30 pixels off; STM, which looks wider, 18."),
        ),
        queries=(7,),
        top_k=200,
    ),
    Exhibit(
        "in-every-network",
        "One reader in three networks",
        "TMRN's reader in place of the one that STM, STCN and XMem came with. The trajectories of one pixel differ as the keys do.",
        ("easy", 2),
        {"STM + TMRN": "tmrn-stm-tiny", "STCN + TMRN": "tmrn-stcn-tiny", "XMem + TMRN": "tmrn-xmem-tiny"},
        queries=(7,),
        top_k=200,
        tries=(
            Try((11, 6), "the target. STCN's keys find it in every frame (2 pixels off); STM's look wider, and their rings are 8 pixels off."),
            Try((12, 4), "the target's rim. XMem's keys keep it (3 pixels off), STCN's less (10).", ("STCN + TMRN", "XMem + TMRN")),
            Try((3, 20), "background that looks like itself everywhere: no network finds the place (26 pixels off or more)."),
        ),
    ),
)  # fmt: skip

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
