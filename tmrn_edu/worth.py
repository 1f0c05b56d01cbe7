"""What each variant of an ablation is worth: means, paired differences to the space-time read with intervals, and the table of them. Ours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tmrn_edu.bootstrap import FEW, Interval, interval
from tmrn_edu.errors import InputError

OWN = "space-time read"  # what a variant without words is called


@dataclass(frozen=True)
class Worth:
    """What a variant is worth on one set of clips: means, and paired differences to the baseline with their 95 % intervals."""

    network: str
    data: str
    steps: str
    variant: str  # its words; `OWN` for the space-time read
    J: float
    J_true_memory: float
    difference: Interval  # of J
    difference_true: Interval  # of J with true memories
    clips: int


def summarise(rows: Sequence[dict[str, str]]) -> list[Worth]:
    """Means over clips, and differences to the space-time read of the same network, data and training, paired clip by clip.

    A clip that several seeds scored (trained variants) counts once, with the mean of its differences. 95 % bootstrap intervals over clips.
    Raises InputError where the baseline lacks a clip that a variant has.
    """
    studies: dict[tuple, dict[str, dict[tuple, tuple[float, float]]]] = {}
    for row in rows:
        study = studies.setdefault((row["network"], row["data"], row["steps"], row["frames"]), {})
        study.setdefault(row["variant"], {})[row["seed"], row["clip"]] = (float(row["J"]), float(row["J_true_memory"]))
    found = []
    for (network, data, steps, _), variants in studies.items():
        base = variants.get("", {})
        for variant, scores in variants.items():
            if missing := [pair for pair in scores if pair not in base]:
                raise InputError(
                    f"{network} on {data}: {variant!r} has {len(scores)} clips, the space-time read lacks {len(missing)} of them"
                )
            clips = [clip for _, clip in scores]
            both = np.array(list(scores.values()))
            gained = both - np.array([base[pair] for pair in scores])
            differences = [interval(gained[:, column], clips) for column in (0, 1)]
            mean = both.mean(axis=0)
            found.append(
                Worth(network, data, steps, variant or OWN, *map(float, mean), *differences, clips=len(set(clips)))
            )
    return found


def table(rows: Sequence[dict[str, str]]) -> str:
    """Markdown: J, and the difference to the space-time read with its interval, for every variant on every set of clips."""
    lines = [
        "| network | data | variant | J | J, true memories | J - baseline | J, true memories - baseline |",
        "|---" * 7 + "|",
    ]
    for one in summarise(rows):
        trained = f" + {one.steps} steps" if one.steps != "0" else ""
        cells = [
            f"{one.network}{trained}",
            f"{one.data} ({one.clips})",
            one.variant,
            f"{one.J:.3f}",
            f"{one.J_true_memory:.3f}",
        ]
        cells += (
            ["", ""]
            if one.variant == OWN
            else [_gain(one.difference, one.clips), _gain(one.difference_true, one.clips)]
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gain(difference: Interval, clips: int) -> str:
    """ "+0.019 [+0.001, +0.039] *": a star where the interval leaves zero out, "few" where there are too few clips to say."""
    mean, low, high = difference
    mark = " few" if clips < FEW else " *" if difference.excludes_zero() else ""
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]{mark}"
