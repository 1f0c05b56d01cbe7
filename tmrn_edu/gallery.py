"""The gallery: explorers on pages of their own, for a course page or a disk without a network. What `tmrn-edu gallery` writes.

    index.html           what there is, with a picture of each
    NAME.html ...        one clip, a few networks, every pixel of a few frames to be asked

Each page holds its script, its data and its pictures; nothing is loaded, so it works from a file. The clips are synthetic, so the true path
of every pixel is known; memories hold true masks, so that what is seen is the reading alone. Ours.
"""

import base64
import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import nn
from tqdm.auto import tqdm

from tmrn_edu import report
from tmrn_edu.data.files import atomic_path
from tmrn_edu.data.photos import bundled_photos
from tmrn_edu.data.synthetic import LEVELS, Clip, make_clip
from tmrn_edu.errors import InputError
from tmrn_edu.looking import PARTS, look, without
from tmrn_edu.segment_video import output_folder
from tmrn_edu.viz.explorer import explorer_html
from tmrn_edu.viz.explorer_pack import by_frame
from tmrn_edu.viz.explorer_still import still
from tmrn_edu.viz.trajectories import choose_pixel
from tmrn_edu.weights import load

INDEX = "index.html"
BUDGET = 1_200_000  # bytes of a page's explorer; a page may hold more than a notebook
TOP_K = 20
FRAMES = 8
QUERIES = (4, 5, 6, 7)  # query frames to scrub through; each is read from all frames before it


@dataclass(frozen=True)
class Exhibit:
    """One page."""

    name: str  # of the file
    title: str
    words: str  # what to look for
    clip: tuple[str, int]  # level and seed
    readers: Mapping[
        str, str
    ]  # what the page calls them -> a network's name or file; "NETWORK without PART" switches a part off
    size: tuple[int, int] = (96, 96)  # of the clip, pixels
    photos: bool = False  # textures from photographs: for networks of real video


EXHIBITS = (
    Exhibit(
        "together-or-each-frame",
        "All frames at once, or each frame by itself",
        "STCN lets all pixels of all memory frames compete in one softmax; TMRN asks each frame where the pixel was, then how much that frame "
        "counts. Point at the target where its look-alike passes, and see which of the two each reader follows, and where both go wrong.",
        ("medium", 1),
        {"STCN": "stcn-tiny", "TMRN, chained": "tmrn-stcn-chained-tiny", "TMRN, paper": "tmrn-stcn-tiny"},
    ),
    Exhibit(
        "agents",
        "With agents, and without them",
        "The same network twice, not one weight changed; below, its agents have no say (lambda = 0). Choose the colours “agents” to see which "
        "agent answers for which pixel. In this small network they move affinities by little: change the reader and see whether you find where.",
        ("medium", 1),
        {"agents on": "tmrn-stcn-tiny", "agents off": "tmrn-stcn-tiny without agents"},
    ),
    Exhibit(
        "chaining",
        "With chaining, and without it",
        "A network for real video, on a clip with textures from photographs. Below, it matches each frame anew (beta = 0) instead of starting "
        "from where it found the pixel in the next later frame. It reads with the ten best cells of all its memory, so some frames are not read.",
        ("hard", 5),
        {"chaining on": "tmrn-stcn-tracking-mobile", "chaining off": "tmrn-stcn-tracking-mobile without chaining"},
        size=(128, 192),
        photos=True,
    ),
    Exhibit(
        "three-networks",
        "STM, STCN, XMem",
        "Three ways to say how alike two pixels are: a product of keys, their distance, a distance that each pixel sharpens for itself. "
        "Put two of them beside each other and compare how wide they look.",
        ("hard", 3),
        {"STM": "stm-tiny", "STCN": "stcn-tiny", "XMem": "xmem-tiny"},
    ),
    Exhibit(
        "in-every-network",
        "One reader in three networks",
        "TMRN's reader in place of the one that STM, STCN and XMem came with. The trajectories of one pixel differ as the keys do.",
        ("easy", 2),
        {"STM + TMRN": "tmrn-stm-tiny", "STCN + TMRN": "tmrn-stcn-tiny", "XMem + TMRN": "tmrn-xmem-tiny"},
    ),
)  # fmt: skip


def gallery(
    out: str | os.PathLike, exhibits: Sequence[Exhibit] = EXHIBITS, overwrite: bool = False, progress: bool = False
) -> list[Path]:
    """Writes the pages and their index into the folder `out`; returns their paths, the index first.

    Pages that are there already are replaced only with `overwrite`, all at the end. Raises InputError for no exhibits, two of one name, a
    network that is not there, a part that it does not have, networks whose grids differ, and a folder that cannot be written. Source: ours.
    """
    names = [exhibit.name for exhibit in exhibits]
    if not names or len(set(names)) < len(names):
        raise InputError(f"pages are {', '.join(names) or 'none'}, expected at least one, each with a name of its own")
    network = cache(_network)
    for source in dict.fromkeys(source for exhibit in exhibits for source in exhibit.readers.values()):
        network(source)  # a wrong name is known before any work
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


def page(exhibit: Exhibit, network=None) -> tuple[str, bytes]:
    """The page as text, and a picture of it. `network`: source -> network, by default `load` and `without`."""
    network = network or _network
    level, seed = exhibit.clip
    pictures = bundled_photos() if exhibit.photos else None
    clip = make_clip(seed, level, FRAMES, exhibit.size, pictures=pictures)
    looks = {name: _looks(network(source), clip) for name, source in exhibit.readers.items()}
    first = list(by_frame(looks).values())[-1]
    pixel = choose_pixel(first, clip)
    height, width = exhibit.size
    made = ", ".join(f"`{name}` is {source}" for name, source in exhibit.readers.items())
    parts = [
        report.paragraph(exhibit.words),
        explorer_html(looks, pixel, TOP_K, clip, BUDGET),
        report.paragraph(
            f"A synthetic clip of {FRAMES} frames of {height} x {width} pixels ({level}, seed {seed}), on which no network was trained. Each query "
            f"frame is read from all frames before it, with their true masks. The first pixel was chosen because the readers differ there: it "
            f"shows how, not how often. Networks: {made}. Made by `tmrn-edu gallery`."
        ),
        '<p><a href="index.html">All pages</a></p>',
    ]
    return report.page(exhibit.title, parts), still(first, pixel, clip)


def _looks(network: nn.Module, clip: Clip) -> list:
    return [look(network, clip.frames, clip.index_masks, query, range(query)) for query in QUERIES]


def _network(source: str) -> nn.Module:
    """A network by name or file; "NETWORK without PART" with that part switched off."""
    name, _, part = source.rpartition(" without ")
    return without(load(name), part) if part in PARTS and name else load(source)


def _short(name: str) -> str:
    return name if not name.endswith(".safetensors") else Path(name).stem


def _index(exhibits: Sequence[Exhibit], pictures: Mapping[str, bytes]) -> str:
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
