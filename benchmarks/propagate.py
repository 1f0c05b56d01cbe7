"""What a memory reader is worth on real videos before anything is learned: labels propagated along the trunk's ImageNet features, Markdown tables.

    python benchmarks/propagate.py --data DAVIS --imagenet mobilenet_v2-b0353104.pth     minutes a reader on one core
    python benchmarks/propagate.py --data DAVIS --imagenet FILE --readers space-time tracking --videos bear rhino --frames 20

Keys are the directions of `mobile.MobileEncoder` with torchvision's weights, scaled so that similarity is cosine / --temperature; values are the
mask alone; there is no decoder: a read-out mask above one half is the answer, and joins the memory as it is. Object 1 of every video is scored, as
the video is and with a look-alike (`data.pasting`). Nothing is trained, so all videos are unseen; but the readers' numbers (beta, velocity, reach,
trust) were found on videos like these. *J*: DAVIS rule, predicted masks in memory. *J, true memories*: true ones, and memory frames are scored like
all others. Intervals as in `real_readers.py`, which see.
"""

import argparse
from collections.abc import Callable
from functools import partial

import real_readers  # sets the number of threads
import torch
import torch.nn.functional as F
from einops import rearrange
from tqdm.auto import tqdm

from tmrn_edu.data.sets import find_sets
from tmrn_edu.encoders import Normalise
from tmrn_edu.folding import inference_copy
from tmrn_edu.imagenet import load_imagenet
from tmrn_edu.masks import pad_to_stride, unpad
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader, WorkingMemory
from tmrn_edu.memory.alignment import rectification
from tmrn_edu.memory.working import Query
from tmrn_edu.metrics import score
from tmrn_edu.mobile import COARSE, MobileEncoder
from tmrn_edu.train import show_progress

CELL, STRIDE = 8, 16
plain = partial(TrajectoryReader, COARSE, 1, top_k=20, agents=0, evidence=True, attention=False)
moving = partial(plain, chain=True, beta=0.5, velocity=1.0, age=True, trust=2.0)


class ValueAgents(SpaceTimeReader):
    """Agents of the values: what a first read finds at a query pixel has to agree with what a memory pixel carries.

    A mask has two agents, the object and the rest: g[m,q] = v[m] r[q] + (1 - v[m]) (1 - r[q]) with r the first read, and the second read scores
    s[m,q] + log(g[m,q] + eps). For one clip and one object, whose values are masks from 0 to 1. Source: ours.
    """

    first = None

    def forward(self, memory, query, insides=False):
        """Reads twice."""
        self.first = rearrange(super().forward(memory, query).value, "1 1 1 h w -> h w")
        readout = super().forward(memory, query, insides)
        self.first = None
        return readout

    def score(self, frame, query, centre, gap):
        """In the first read the similarity; in the second, rectified."""
        score = super().score(frame, query, centre, gap)
        if self.first is None:
            return score
        rows = slice(query.first_row, query.first_row + query.key.shape[-2])
        read = rearrange(self.first[rows], "h w -> 1 1 (h w)")
        value = rearrange(frame.value, "1 1 1 h w -> 1 (h w) 1")
        return score + rectification(value * read + (1 - value) * (1 - read))


READERS: dict[str, Callable] = {
    "space-time": partial(SpaceTimeReader, top_k=20),
    "agents": partial(plain, agents=8, rectify=1.0),
    "agents of key and place": partial(plain, agents=8, rectify=1.0, agent_place=3.0),
    "agents of context": partial(plain, agents=8, rectify=1.0, agent_scales=(1, 3)),
    "agents of values": partial(ValueAgents, top_k=20),
    "trust": partial(plain, age=True, trust=2.0),
    "mutual": partial(plain, mutual=0.05),
    "chained": partial(plain, chain=True, beta=0.5),
    "moving": moving,
    "tracking": partial(moving, reach=4.0),
    "tracking and mutual": partial(moving, reach=4.0, mutual=0.05),
    "tracking, agents of place": partial(moving, reach=4.0, agents=8, rectify=0.3, agent_place=3.0),
}
CHOSEN = "chosen in 5 folds"


def make_encoder(imagenet: str) -> torch.nn.Module:
    """Frames -> features at strides 2, 4 and 8, by ImageNet weights alone."""
    encoder = torch.nn.Sequential(Normalise(), MobileEncoder())
    load_imagenet(encoder, mobilenet_v2=imagenet)
    return inference_copy(encoder.eval())


def make_keys(encoder, video, count: int, temperature: float) -> torch.Tensor:
    """Keys of the first `count` frames, t ck h w, whose negative squared L2 is cosine / temperature, up to a constant of the query."""
    gain = (COARSE**0.5 / (4 * 64 * temperature)) ** 0.5  # both parts of a key have length 8
    keys = []
    for t in range(count):
        padded, _ = pad_to_stride(rearrange(video.frame(t), "H W c -> 1 c H W") / 255, STRIDE)
        keys.append(gain * encoder(padded)[-1])
    return torch.cat(keys)


def propagate(reader, keys, masks, every: int = 5, max_frames: int = 8, true: bool = False) -> torch.Tensor:
    """Masks t H W of zeros and ones, the first given; `true`: memory frames take their true masks."""
    padded, padding = pad_to_stride(rearrange(masks.float(), "t H W -> t 1 H W"), STRIDE)
    cells = rearrange(F.avg_pool2d(padded, CELL), "t 1 h w -> t 1 1 1 h w")
    memory, found = WorkingMemory(max_frames), [masks[0]]
    memory.add(reader.store(keys[:1], cells[0], 0, exact=True))
    for t in range(1, len(keys)):
        value = reader(memory.frames, Query(keys[t : t + 1], t)).value
        fine = F.interpolate(value[0], scale_factor=CELL, mode="bilinear", align_corners=False)
        found.append((unpad(fine, padding)[0, 0] > 0.5).to(torch.uint8))
        if t % every == 0:
            memory.add(reader.store(keys[t : t + 1], cells[t] if true else value.clamp(0, 1), t))
    return torch.stack(found)


def collect(options, encoder, sets) -> dict:
    """As `real_readers.collect`: {kind of videos: {reader: {"source", "video", J, J with true memories}}}."""
    videos = [v for one in sets for v in one.videos if not options.videos or v.name in options.videos]
    work = [("plain", v, v) for v in videos]
    work += [("look-alikes", v, c) for v in videos for c in real_readers.with_copies(v, options.copies, options.frames)]
    found: dict = {}
    for kind, source, video in tqdm(work, disable=not show_progress()):
        count = min(options.frames, len(video))
        keys = make_keys(encoder, video, count, options.temperature)
        masks = torch.stack([(video.mask(t) == 1).to(torch.uint8) for t in range(count)])
        for name in options.readers:
            row = found.setdefault(kind, {}).setdefault(
                name, {"source": [], "video": [], **{m: [] for m in real_readers.MEASURES}}
            )
            row["source"].append(source.name), row["video"].append(video.name)
            reader = READERS[name]().eval()
            for measure, true in zip(real_readers.MEASURES, (False, True), strict=True):
                found_masks = propagate(reader, keys, masks, options.every, options.max_frames, true)
                row[measure].append(float(score(found_masks, masks).J))
    return found


def choose(found: dict, folds: int = 5) -> None:
    """Adds what a reader is worth that is chosen on other videos: for each fifth of the source videos, the best of all on the other four fifths."""
    sources = sorted({source for rows in found.values() for row in rows.values() for source in row["source"]})
    if len(sources) < 2:
        raise SystemExit(f"--choose has {len(sources)} source videos ({', '.join(sources)}), expected 2 or more")
    fold_of = {source: place % folds for place, source in enumerate(sources)}
    measures = real_readers.MEASURES

    def mean_elsewhere(name, fold):
        kept = [
            [j for j, s in zip(rows[name]["J"], rows[name]["source"]) if fold_of[s] != fold] for rows in found.values()
        ]
        return sum(sum(some) / len(some) for some in kept)

    names = list(next(iter(found.values())))
    best = {fold: max(names, key=lambda name: mean_elsewhere(name, fold)) for fold in set(fold_of.values())}
    for rows in found.values():
        chosen = {"source": [], "video": [], **{m: [] for m in measures}}
        for place, source in enumerate(rows[names[0]]["source"]):
            for column, values in chosen.items():
                values.append(rows[best[fold_of[source]]][column][place])
        rows[CHOSEN] = chosen
    print("chosen on the videos of the other folds:", ", ".join(best[fold] for fold in sorted(best)), end="\n\n")


def main() -> None:
    """Parses, scores, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, nargs="+", help="folders, as of tmrn-edu train")
    parser.add_argument("--imagenet", required=True, metavar="FILE", help="torchvision's MobileNetV2")
    parser.add_argument(
        "--readers", nargs="+", default=list(READERS), choices=list(READERS), metavar="NAME", help=", ".join(READERS)
    )
    parser.add_argument("--videos", nargs="+", help="only these")
    parser.add_argument("--frames", type=int, default=40, help="of every video, from its first (%(default)s)")
    parser.add_argument("--copies", type=int, default=1, help="look-alike videos made of every video (%(default)s)")
    parser.add_argument("--temperature", type=float, default=0.03)
    parser.add_argument("--every", type=int, default=5, help="a memory frame every so many frames (%(default)s)")
    parser.add_argument("--max-frames", type=int, default=8, help="memory frames that are kept (%(default)s)")
    parser.add_argument(
        "--choose", action="store_true", help="also: the best reader, chosen in 5 folds of whole videos"
    )
    parser.add_argument("--per-video", action="store_true", help="also J of every video")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    sets = [one for root in options.data for one in find_sets(root) if one.kind == "video"]
    known = [video.name for one in sets for video in one.videos]
    if strange := [name for name in options.videos or () if name not in known]:
        parser.error(f"no video is called {', '.join(strange)}; there are {', '.join(known)}")
    with torch.inference_mode():
        found = collect(options, make_encoder(options.imagenet), sets)
    if options.choose:
        choose(found)
    print(real_readers.tables(found, options.per_video))


if __name__ == "__main__":
    main()
