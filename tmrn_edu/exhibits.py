"""What the gallery shows, a page each: synthetic clips in a few networks (`Exhibit`; the shipped pages are `EXHIBITS`), or a video of your own.

Ours. `gallery.py` writes the pages.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

from tmrn_edu.data.photos import bundled_photos
from tmrn_edu.data.synthetic import Clip, make_clip
from tmrn_edu.data.video import open_video
from tmrn_edu.errors import InputError
from tmrn_edu.looking import Look, look
from tmrn_edu.segment_video import read_given_masks
from tmrn_edu.segmenter import segment, shrink

TOP_K = 20
FRAMES = 8
QUERIES = (4, 5, 6, 7)  # query frames to scrub through; each is read from all frames before it
LONGEST = 60  # frames of a video that are looked at, where no query frames are asked for
SIDE = 480  # rows of its frames, for networks that take any
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
