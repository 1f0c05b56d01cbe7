"""What the parts of TMRN's reader are worth in a trained network: one table of many variants, training-free or after some training.

    python benchmarks/ablation.py --out runs/ablation.csv                            parts, one at a time, in stcn-tiny: easy, medium, hard, 3 seeds
    python benchmarks/ablation.py --out runs/ablation.csv --vary agents=none,8 chain=none,0.1 pool=evidence,mean       all combinations
    python benchmarks/ablation.py --out runs/trained.csv --study trained --steps 150              each variant trained on for 150 steps first
    python benchmarks/ablation.py --out runs/real.csv --study real --networks stcn-mobile --data DAVIS --seeds 0      on real videos

A variant is a set of words: preset, agents, start, place, scales, rectify, pool, chain, velocity, reach, age, trust, mutual, top_k (0: all) and
memory_every; "none" leaves one out (`tmrn_edu.ablation`). The table has a row for every clip and goes on where it stopped. Differences to the
space-time read are paired over clips; intervals hold 95 % of 10,000 bootstrap draws of clips; a star marks those that leave zero out. *J, true
memories*: every memory frame has its true mask.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tmrn_edu.ablation import Job, run_jobs, table, vary  # noqa: E402  (the number of threads is read when torch is imported)
from tmrn_edu.data.synthetic import LEVELS  # noqa: E402
from tmrn_edu.train import show_progress  # noqa: E402

PARTS = [
    "",
    *("agents=4", "agents=8", "agents=16", "agents=8 start=random"),
    *("agents=8 place=3", "agents=8 scales=2", "agents=8 place=3 scales=2"),
    *("pool=mean", "agents=8 pool=mean"),
    *("chain=0.1", "chain=0.5", "chain=0.1 velocity=1"),
    *("trust=2", "mutual=0.05", "chain=0.1 velocity=1 trust=2 mutual=0.05"),
    *("top_k=5", "top_k=20", "memory_every=2", "memory_every=3"),
]
TRAINED = [
    "",
    *("preset=paper", "preset=warm", "preset=warm pool=mean", "preset=chained"),
    *("agents=8 start=random pool=both", "agents=8 place=3 pool=both"),
]
REAL = [
    "",
    *("agents=8", "agents=8 start=random", "agents=8 place=3", "agents=8 scales=2", "pool=mean"),
    *("chain=0.1", "chain=0.5", "chain=0.5 velocity=1", "trust=2", "mutual=0.05"),
    *("chain=0.5 velocity=1 trust=2", "chain=0.5 velocity=1 trust=2 mutual=0.05", "top_k=5", "top_k=20"),
    *("memory_every=3", "memory_every=10"),
]
STUDIES = {"parts": PARTS, "trained": TRAINED, "real": REAL}


def main() -> None:
    """Parses, runs what is missing, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="CSV")
    parser.add_argument("--networks", nargs="+", default=["stcn-tiny"], metavar="NAME|FILE")
    parser.add_argument("--study", choices=list(STUDIES), default="parts", help="which variants (%(default)s)")
    parser.add_argument("--variants", nargs="+", metavar="WORDS", help="these in place of a study's")
    parser.add_argument("--vary", nargs="+", metavar="NAME=A,B", help="all combinations of these in place of a study's")
    parser.add_argument("--data", nargs="+", default=list(LEVELS), metavar="LEVEL|ROOT")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=0, help="of training before it is scored (%(default)s)")
    parser.add_argument("--clips", type=int, default=16, help="of a level, for each seed (%(default)s)")
    parser.add_argument("--frames", type=int, default=40, help="of a video, at most (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    options = parser.parse_args()
    variants = options.variants or (vary(options.vary) if options.vary else STUDIES[options.study])
    variants = list(dict.fromkeys(["", *variants]))  # the baseline is always there
    jobs = [
        Job(network, variant, data, seed, options.steps, options.clips, options.frames)
        for seed in options.seeds
        for data in options.data
        for network in options.networks
        for variant in variants
    ]
    runs = options.out.with_suffix("") if options.steps else None
    print(table(run_jobs(jobs, options.out, runs, options.workers, show_progress())))


if __name__ == "__main__":
    main()
