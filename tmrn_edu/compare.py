"""Which method is better, and is it by more than chance? Scores of several runs, their differences and intervals.

Every number is a mean over objects, as in DAVIS' tables. A difference is taken object by object against another run on
the same objects, and its 95 % interval comes from draws of whole sequences, the same draws for both runs (`bootstrap`).
`tables.py` prints what is computed here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tmrn_edu.attributes import ATTRIBUTES
from tmrn_edu.bootstrap import ENDS, FEW, Interval, draw_counts
from tmrn_edu.errors import InputError
from tmrn_edu.runs import Run, check_runs, find_attributes, sequence_of

# A measure is the mean of parts; a part is the mean of one number over all objects, or over those of seen (True) or
# unseen (False) categories. So J&F is (J + F) / 2, and G of YouTube-VOS the mean of four.
MEASURES = {
    "J&F": (("J", None), ("F", None)),
    "J": (("J", None),),
    "F": (("F", None),),
    "J_recall": (("J_recall", None),),
    "F_recall": (("F_recall", None),),
}
BY_CATEGORY = {
    "G": (("J", True), ("F", True), ("J", False), ("F", False)),
    "J_seen": (("J", True),),
    "F_seen": (("F", True),),
    "J_unseen": (("J", False),),
    "F_unseen": (("F", False),),
}
ORDER = {rule.name: place for place, rule in enumerate(ATTRIBUTES)}
PER = ("sequence", "attribute", "object")


@dataclass(frozen=True)
class Record:
    """One measure of one run on one group of objects, and its difference to another run."""

    kind: str  # "all", "sequence", "attribute" or "object": what the group is
    group: str  # which one: "", "bear", "small", "bear/1"
    run: str
    baseline: str | None  # the run that the difference is to
    measure: str  # a key of MEASURES or BY_CATEGORY
    value: float  # [0, 1]; NaN for a mean over no object
    difference: float | None  # value minus the baseline's; None without a baseline
    low: float | None  # ends of the difference's 95 % interval; None in a single sequence or object
    high: float | None
    sequences: int  # in the group
    objects: int

    @property
    def clear(self) -> str:
        """ "yes": the interval excludes zero. "no": it does not. "few": too few sequences to say. "": not asked here."""
        if self.difference is None or self.kind in ("sequence", "object"):
            return ""
        if self.sequences < FEW:
            return "few"
        if self.low is None:
            return ""
        return "yes" if Interval(self.difference, self.low, self.high).excludes_zero() else "no"


@dataclass(frozen=True)
class Comparison:
    """Runs beside each other."""

    runs: tuple[Run, ...]
    against: tuple[tuple[str, str], ...]  # (run, baseline): the differences that are taken
    paired: bool  # whether these are pairs of a network and the same with TMRN, not all to one baseline
    per: str | None  # what the records after those of "all" are grouped by
    records: tuple[Record, ...]

    def measures(self) -> tuple[str, ...]:
        """Those that all runs have."""
        return tuple(dict.fromkeys(record.measure for record in self.records))

    def groups(self, kind: str) -> tuple[str, ...]:
        """Names of the groups of one kind, in order."""
        return tuple(dict.fromkeys(record.group for record in self.records if record.kind == kind))

    def find(self, measure: str, run: str, baseline: str | None = None, kind: str = "all", group: str = "") -> Record:
        """The record of a run; with `baseline`, the one whose difference is to that."""
        for one in self.records:
            if (one.measure, one.run, one.kind, one.group) == (measure, run, kind, group):
                if baseline is None or one.baseline == baseline:
                    return one
        raise KeyError((measure, run, baseline, kind, group))


def compare_runs(
    runs: Sequence[Run],
    baseline: str | None = None,
    pairs: Iterable[tuple[str, str]] = (),
    per: str | None = None,
    attributes: Mapping[str, tuple[str, ...]] | None = None,
) -> Comparison:
    """All measures of all runs, and their differences.

    runs: of the same objects. Differences are to `baseline`, a run's name (the first run), or, with `pairs` of names
    (network, the same network with TMRN), of the second to the first of each. per: also for each "sequence",
    "attribute" (of sequences; one may be in several groups) or "object". attributes: sequence -> its attributes, in
    place of the runs' own.

    A group of 2 or more sequences gets intervals of 10,000 draws, seeded: the same runs give the same numbers. They
    are not corrected for the number of groups or runs: of 20 differences that are chance alone, about one is "clear".

    Raises InputError: runs that do not fit each other, an unknown name, attributes that are missing.
    Source: ours; the bootstrap as in `bootstrap.py`.
    """
    check_runs(runs)
    against = _against(runs, baseline, list(pairs))
    if per is not None and per not in PER:
        raise InputError(f"tables per {per!r} are unknown, there are {', '.join(PER)}")
    groups = {("all", ""): list(runs[0].objects)}
    if per == "attribute":
        known = find_attributes(runs, attributes)
        names = dict.fromkeys(one for ones in known.values() for one in ones)
        for name in sorted(names, key=lambda name: ORDER.get(name, len(ORDER))):  # others stay as they come
            groups[per, name] = [key for key in runs[0].objects if name in known[sequence_of(key)]]
    elif per is not None:
        for key in runs[0].objects:
            groups.setdefault((per, key if per == "object" else sequence_of(key)), []).append(key)
    measures = (BY_CATEGORY if all(run.seen for run in runs) else {}) | MEASURES
    records = [
        record
        for (kind, group), keys in groups.items()
        for record in _records(runs, against, kind, group, keys, measures)
    ]
    return Comparison(tuple(runs), tuple(against), paired=bool(pairs), per=per, records=tuple(records))


def _against(runs, baseline, pairs):
    names = [run.name for run in runs]
    if baseline is not None and pairs:
        raise InputError(f"baseline {baseline!r} and {len(pairs)} pairs are given, expected one of both")
    for name in [name for pair in pairs for name in pair] + ([] if baseline is None else [baseline]):
        if name not in names:
            raise InputError(f"no run is called {name!r}, there are {', '.join(names)}")
    if same := [first for first, second in pairs if first == second]:
        raise InputError(f"a pair of {same[0]!r} with itself, expected two runs: BASELINE=TMRN")
    if pairs:
        return [(second, first) for first, second in pairs]
    return [(name, baseline or names[0]) for name in names if name != (baseline or names[0])]


def _records(runs, against, kind, group, keys, measures):
    """Records of one group: for each run as many as it has baselines, one if none."""
    sequences = list(dict.fromkeys(map(sequence_of, keys)))
    drawn = draw_counts(len(sequences)) if len(sequences) > 1 and against else None
    place = np.array([sequences.index(sequence_of(key)) for key in keys])
    for measure, parts in measures.items():
        found = {run.name: _measure(run, parts, keys, place, drawn) for run in runs}
        for run in runs:
            value, of_draws = found[run.name]
            for base in [base for name, base in against if name == run.name] or [None]:
                difference = low = high = None
                if base is not None:
                    difference = value - found[base][0]
                    if drawn is not None:
                        changes = of_draws - found[base][1]
                        changes = changes[~np.isnan(changes)]  # a draw may have no unseen object
                        low, high = np.percentile(changes, ENDS).tolist() if len(changes) else (None, None)
                yield Record(
                    kind, group, run.name, base, measure, value, difference, low, high, len(sequences), len(keys)
                )


def _measure(run, parts, keys, place, drawn):
    """(its value, its value in every draw): the mean of its parts, each a sum over sequences by the sum of their objects."""
    value, of_draws = 0.0, 0.0
    for number, seen in parts:
        chosen = np.array([seen is None or run.seen[key] == seen for key in keys])
        numbers = np.array([run.objects[key][number] for key in keys], dtype=float)
        count = place.max() + 1
        sums, sizes = np.bincount(place, numbers * chosen, count), np.bincount(place, chosen, count)
        with np.errstate(invalid="ignore"):
            value += np.divide(sums.sum(), sizes.sum()) / len(parts)
            if drawn is not None:
                of_draws += drawn @ sums / (drawn @ sizes) / len(parts)
    return float(value), of_draws
