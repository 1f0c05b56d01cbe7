"""What a memory reader is worth on real videos before anything is learned: labels propagated along the trunk's ImageNet features, Markdown tables.

    python benchmarks/propagate.py --data DAVIS --imagenet mobilenet_v2-b0353104.pth                     a quarter of an hour a reader on one core
    python benchmarks/propagate.py --data DAVIS --imagenet FILE --readers space-time tracking --videos bear rhino --frames 20

Keys are the directions of `mobile.MobileEncoder` with torchvision's weights, scaled so that similarity is cosine / --temperature; values are the
mask alone; there is no decoder: a read-out mask above one half is the answer, and joins the memory as it is. Every video is scored as it is and
with a look-alike (`data.pasting`). Nothing is trained, so all videos are unseen; but the readers' numbers (beta, velocity, reach, trust) were found
on videos like these. *J*: DAVIS rule, predicted masks in memory. *J, true memories*: true ones. Intervals as in `real_readers.py`, which see.
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
from tmrn_edu.memory.working import Query
from tmrn_edu.metrics import score
from tmrn_edu.mobile import COARSE, MobileEncoder
from tmrn_edu.train import show_progress

CELL, STRIDE = 8, 16
plain = partial(TrajectoryReader, COARSE, 1, top_k=20, agents=0, evidence=True, attention=False)
READERS: dict[str, Callable] = {
    "space-time": partial(SpaceTimeReader, top_k=20),
    "agents": partial(plain, agents=8, rectify=1.0),
    "trust": partial(plain, age=True, trust=2.0),
    "chained": partial(plain, chain=True, beta=0.5),
    "moving": partial(plain, chain=True, beta=0.5, velocity=1.0, age=True, trust=2.0),
    "tracking": partial(plain, chain=True, beta=0.5, velocity=1.0, age=True, trust=2.0, reach=4.0),
}


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
                row[measure].append(float(score(propagate(reader, keys, masks, true=true), masks).J))
    return found


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
    parser.add_argument("--per-video", action="store_true", help="also J of every video")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    sets = [one for root in options.data for one in find_sets(root) if one.kind == "video"]
    with torch.inference_mode():
        found = collect(options, make_encoder(options.imagenet), sets)
    print(real_readers.tables(found, options.per_video))


if __name__ == "__main__":
    main()
