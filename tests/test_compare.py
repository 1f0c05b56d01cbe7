"""tmrn-edu compare: what runs are read, which differences are taken, and what the tables say."""

import csv
import json
import re

import numpy as np
import pytest

from tmrn_edu.__main__ import main
from tmrn_edu.bootstrap import DRAWS, draw_counts, interval
from tmrn_edu.compare import compare_runs
from tmrn_edu.errors import InputError
from tmrn_edu.runs import check_runs, read_attributes, read_run
from tmrn_edu.tables import escape, render

SEQUENCES = 8  # with 1, 2, 3, 1, ... objects


def scores(gain=0.0, noise=0.0, sequences=SEQUENCES, seed=0, **more):
    """What evaluate writes: J around 0.55, F a tenth higher; `gain` for all, `noise` for each sequence."""
    rng, own = np.random.default_rng(3), np.random.default_rng(seed)
    objects, attributes = {}, {}
    for s in range(sequences):
        change = gain + noise * own.normal()
        attributes[f"seq_{s}"] = ["small"] * (s % 4 == 0) + ["fast-motion"] * (s > 0)
        for label in range(1, 2 + s % 3):
            J = float(np.clip(0.55 + 0.05 * rng.normal() + change, 0, 1))
            both = {"J": J, "F": min(J + 0.1, 1.0), "J_recall": float(J > 0.5), "F_recall": 1.0, "J_decay": 0.0}
            objects[f"seq_{s}/{label}"] = both
    origin = {"dataset": "davis2017", "split": "val", "frames_per_second": 12.34, "attributes": attributes}
    return {"J&F": 0.5, "per_object": objects} | origin | more


@pytest.fixture
def write(tmp_path):
    def write_run(name, plain=None, **how):
        path = tmp_path / name
        path.write_text(json.dumps(scores(**how) if plain is None else plain))
        return str(path)

    return write_run


def mean(plain, what, sequences=None):
    chosen = [one[what] for key, one in plain["per_object"].items() if sequences is None or key[:5] in sequences]
    return sum(chosen) / len(chosen)


# --- intervals


def test_draws_are_the_ones_of_a_generator():
    """Counts of draws give the means that drawing the values themselves gives."""
    values = np.random.default_rng(1).normal(size=5)
    counts = draw_counts(5)
    assert counts.shape == (DRAWS, 5) and (counts.sum(axis=1) == 5).all()
    drawn = np.random.default_rng(0).choice(values, size=(DRAWS, 5)).mean(axis=1)
    np.testing.assert_allclose(counts @ values / 5, drawn, atol=1e-12)
    assert interval(values, list("abcde"))[1:] == tuple(np.percentile(drawn, [2.5, 97.5]))


def test_an_interval_covers_as_often_as_it_says():
    """Of 200 samples of 30 normal numbers, the intervals of about 190 hold the true mean; 5 standard errors are 15."""
    rng = np.random.default_rng(8)
    counts = draw_counts(30)
    samples = rng.normal(loc=0.3, size=(200, 30))
    low, high = np.percentile(counts @ samples.T / 30, [2.5, 97.5], axis=0)
    assert 172 <= np.count_nonzero((low <= 0.3) & (high >= 0.3)) <= 199
    one = interval(samples[0], [f"clip {i}" for i in range(30)])
    assert (one.low, one.high) == pytest.approx((low[0], high[0])) and not one.excludes_zero()


# --- what is computed


def test_values_are_means_over_objects_and_differences_are_paired(write):
    first, second = scores(), scores(gain=0.02, noise=0.01)
    found = compare_runs([read_run(write("a.json", first)), read_run(write("b.json", second))])
    for measure in ("J", "F", "J_recall", "F_recall"):
        a, b = found.find(measure, "a"), found.find(measure, "b")
        assert (a.value, b.value) == pytest.approx((mean(first, measure), mean(second, measure)))
        assert a.baseline is a.difference is None and b.difference == pytest.approx(b.value - a.value)
    both = found.find("J&F", "b")
    assert both.value == pytest.approx((mean(second, "J") + mean(second, "F")) / 2)
    assert both.baseline == "a" and (both.sequences, both.objects) == (8, 15) and both.clear == "yes"
    # the interval by a loop over draws of sequences, each with all its objects
    changes = {name: [] for name in dict.fromkeys(key[:5] for key in first["per_object"])}
    for key, one in first["per_object"].items():
        changes[key[:5]].append(second["per_object"][key]["J"] - one["J"])
    drawn = np.random.default_rng(0).integers(8, size=(DRAWS, 8))
    lists = list(changes.values())
    means = [np.mean(sum((lists[s] for s in row), [])) for row in drawn]
    J = found.find("J", "b")
    assert (J.low, J.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=1e-9)


def test_noise_is_seen_as_noise(write):
    runs = [read_run(write(f"{name}.json", **how)) for name, how in RUNS.items()]
    found = compare_runs(runs, baseline="same")
    assert {name: found.find("J&F", name).clear for name in RUNS} == {
        "same": "",
        "noisy": "no",
        "better": "yes",
        "worse": "yes",
    }
    assert found.find("J", "worse").high < 0 < found.find("J", "better").low
    few = [read_run(write(f"{name}.json", sequences=5, **how)) for name, how in RUNS.items()]
    assert compare_runs(few).find("J", "better").clear == "few"


RUNS = {"same": {}, "noisy": {"noise": 0.05}, "better": {"gain": 0.05}, "worse": {"gain": -0.05, "noise": 0.01}}


def test_per_sequence_object_and_attribute(write):
    plain, other = scores(), scores(noise=0.03)
    runs = [read_run(write("a.json", plain)), read_run(write("b.json", other))]
    found = compare_runs(runs, per="sequence")
    assert found.groups("sequence") == tuple(f"seq_{s}" for s in range(8))
    of_one = found.find("F", "b", kind="sequence", group="seq_4")
    assert of_one.value == pytest.approx(mean(other, "F", ["seq_4"]))
    assert of_one.low is None and of_one.clear == "" and of_one.objects == 2
    found = compare_runs(runs, per="object")
    assert found.find("J", "a", kind="object", group="seq_4/2").value == plain["per_object"]["seq_4/2"]["J"]
    found = compare_runs(runs, per="attribute")
    assert found.groups("attribute") == ("fast-motion", "small")  # in the order of the rules, not of the sequences
    small = found.find("J", "b", kind="attribute", group="small")
    assert small.value == pytest.approx(mean(other, "J", ["seq_0", "seq_4"])) and small.sequences == 2
    assert small.clear == "few" and small.low < small.high
    given = {f"seq_{s}": ("late",) if s == 2 else () for s in range(8)}
    assert compare_runs(runs, per="attribute", attributes=given).groups("attribute") == ("late",)


def test_youtube_vos_has_its_measures(write):
    """G is the mean of four; draws without an unseen object do not count, and without any there is no G."""
    seen = {key: not key.startswith("seq_7") for key in scores()["per_object"]}
    about = {"dataset": "youtubevos2018", "seen": seen}
    runs = [read_run(write("a.json", **about)), read_run(write("b.json", gain=0.1, **about))]
    found = compare_runs(runs)
    four = [found.find(name, "b").value for name in ("J_seen", "F_seen", "J_unseen", "F_unseen")]
    assert four[2] == pytest.approx(mean(scores(gain=0.1), "J", ["seq_7"]))
    G = found.find("G", "b")
    assert G.value == pytest.approx(sum(four) / 4) and G.difference == pytest.approx(0.1)
    assert (G.low, G.high) == pytest.approx((0.1, 0.1)) and G.clear == "yes"
    assert "| run | G | J_seen | F_seen | J_unseen | F_unseen | J&F | J | F |" in render(found)
    all_seen = [read_run(write(name, seen=dict.fromkeys(seen, True))) for name in ("a.json", "b.json")]
    text = render(compare_runs(all_seen))
    J, F = (f"{100 * mean(scores(), name):.1f}" for name in "JF")
    assert f"| a | - | {J} | {F} | - | - | " in text


# --- what is printed


@pytest.fixture
def pairs(write):
    names = ["same", "better", "noisy", "worse"]
    runs = [read_run(write(f"{name}.json", **RUNS[name])) for name in names]
    return compare_runs(runs, pairs=[("same", "better"), ("same", "noisy")])


def test_markdown_puts_pairs_side_by_side(pairs):
    text = render(pairs)
    assert "**Scores on davis2017 val: 8 sequences, 15 objects (%).**" in text and text.count("| worse |") == 1
    assert "| network | J&F baseline | J&F + TMRN | J&F difference | J baseline |" in text
    plain, better = ((mean(one, "J") + mean(one, "F")) / 2 for one in (scores(), scores(gain=0.05)))
    row = f"| same, better | {100 * plain:.1f} | {100 * better:.1f} | +5.0 [+5.0, +5.0] |"
    assert row in text
    assert "] n.s. |" in next(line for line in text.splitlines() if line.startswith("| same, noisy"))
    assert "n.s.: the interval holds zero" in text and "few:" not in text
    rows = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert rows == [8] * 6 + [11] * 4


def test_latex_escapes_and_balances(pairs, write):
    text = render(pairs, "latex")
    for name in ("table", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") == 2
    assert r"\multicolumn{3}{c}{$\mathcal{J}\&\mathcal{F}$}" in text and r"\cmidrule(lr){2-4}" in text
    assert r"$+5.0$ [$+5.0$, $+5.0$]" in text and r"\textsuperscript{n.s.}" in text and r"95 \% interval" in text
    body = [line for line in text.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in body} == {6, 9}
    odd = render(compare_runs([read_run(f"a_b&c={write('x.json')}")]), "latex")
    assert r"a\_b\&c & " in odd
    assert escape("[1] ~x^2 \\ #$") == r"{[}1] \textasciitilde{}x\textasciicircum{}2 \textbackslash{} \#\$"


def test_csv_has_a_line_per_number(pairs):
    rows = list(csv.DictReader(render(pairs, "csv").splitlines()))
    assert len(rows) == 4 + 4 * 5 and {row["kind"] for row in rows} == {"all"}
    row = next(row for row in rows if (row["run"], row["measure"]) == ("better", "J"))
    assert row["baseline"] == "same" and float(row["difference"]) == pytest.approx(0.05) and row["clear"] == "yes"
    assert float(row["value"]) == pytest.approx(mean(scores(gain=0.05), "J"), abs=1e-6)
    speed = next(row for row in rows if row["measure"] == "frames_per_second")
    assert float(speed["value"]) == 12.34 and speed["sequences"] == ""


def test_a_difference_that_rounds_to_nothing_has_no_sign(write):
    runs = [read_run(write("a.json")), read_run(write("b.json", gain=-0.0001))]
    assert "| b | 0.0 [0.0, 0.0] | 0.0 " in render(compare_runs(runs))


# --- the command


def run(capsys, *words):
    status = main(["compare", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_command_prints_or_writes(write, tmp_path, capsys):
    a, b = write("a.json"), write("b.json", gain=0.05, frames_per_second=None)
    status, out, _ = run(capsys, a, f"mine={b}", "--per", "sequence")
    assert status == 0 and "**Differences to a (points).**" in out and "| seq_3 | " in out and "| - |" in out
    status, out, _ = run(capsys, a, f"mine={b}", "--baseline", "mine", "--out", tmp_path / "deep" / "table.tex")
    assert status == 0 and out.strip().endswith("table.tex")
    assert "Differences to mine" in (tmp_path / "deep" / "table.tex").read_text()
    _, out, _ = run(capsys, a, b, "--pair", "a=b", "--format", "csv")
    assert out.startswith("kind,group,run,baseline,measure")
    (tmp_path / "attributes.csv").write_text("sequence,attributes\n" + "".join(f"seq_{s},even\n" for s in range(8)))
    _, out, _ = run(capsys, a, "--per", "attribute", "--attributes", tmp_path / "attributes.csv")
    assert "| even | 8 | " in out and "Differences" not in out


def test_attributes_as_json(tmp_path):
    (tmp_path / "a.json").write_text('{"bear": ["small", "late-object"], "camel": []}')
    assert read_attributes(tmp_path / "a.json") == {"bear": ("small", "late-object"), "camel": ()}
    (tmp_path / "bad.json").write_text('{"bear": "small"}')
    with pytest.raises(InputError, match="holds no lists of attributes by sequence"):
        read_attributes(tmp_path / "bad.json")


@pytest.mark.parametrize(
    "words, message",
    [
        (["{a}", "{b}", "--baseline", "c"], "no run is called 'c', there are a, b"),
        (["{a}", "{b}", "--pair", "a=c"], "no run is called 'c', there are a, b"),
        (["{a}", "{b}", "--pair", "a=a"], "a pair of 'a' with itself, expected two runs"),
        (
            ["{a}", "{b}", "--pair", "a=b", "--baseline", "a"],
            "baseline 'a' and 1 pairs are given, expected one of both",
        ),
        (["{a}", "{a}"], "2 runs are called 'a'; NAME=FILE gives each its own name"),
        (["={a}"], "has no name before the ="),
        (["{a}", "{other}"], "other is on davis2016 val, a on davis2017 val"),
        (["{a}", "{less}"], "less has 7 sequences, a 8: less lacks seq_7; a comparison needs the same"),
        (["{a}", "{less_objects}"], "less_objects has 14 objects, a 15: less_objects lacks seq_1/2; a comparison"),
        (["{a}", "{nowhere}"], "nowhere.json: No such file"),
        (["{broken}"], "broken.json is no JSON: "),
        (["{list}"], "holds a list; expected scores that tmrn-edu evaluate --json wrote"),
        (["{empty}"], "has scores of 0 objects of davis2017 test-dev, a table needs at least 1"),
        (["{half}"], "object 'seq_0/1' has .*'F': None.*; expected sequence/id with a number for each"),
        (["{unsure}"], "unsure.json: .seen. has 14 of 15 objects, not seq_1/2; expected all of them"),
        (["{odd}"], "odd.json: .seen. has 0 of 15 objects, not seq_0/1, .* and 10 more; expected all of them"),
        (["{plain}", "--per", "attribute"], "0 runs have attributes; evaluate once more, or give --attributes FILE"),
        (["{some}", "--per", "attribute"], "known for 1 of 8 sequences, not for seq_1, seq_2, .* and 2 more"),
        (["{a}", "--attributes", "{a}"], "is for --per attribute, got --per None"),
        (["{a}", "--out", "table.xlsx"], "table.xlsx ends in '.xlsx', expected .md, .tex, .csv"),
    ],
)
def test_what_cannot_be_compared(write, capsys, tmp_path, words, message):
    files = {name: write(f"{name}.json") for name in ("a", "b")}
    files["other"] = write("other.json", dataset="davis2016")
    files["unsure"] = write("unsure.json", seen={key: True for key in scores()["per_object"] if key != "seq_1/2"})
    files["odd"] = write("odd.json", seen=True)
    files["less"] = write("less.json", sequences=7)
    fewer = scores()
    del fewer["per_object"]["seq_1/2"]
    files["less_objects"] = write("less_objects.json", fewer)
    files["nowhere"] = str(tmp_path / "nowhere.json")
    files["broken"] = write("broken.json")
    (tmp_path / "broken.json").write_text("{")
    files["list"] = write("list.json", [1])
    files["empty"] = write("empty.json", {"dataset": "davis2017", "split": "test-dev", "per_sequence": {}})
    half = scores()
    del half["per_object"]["seq_0/1"]["F"]
    files["half"] = write("half.json", half)
    plain = scores()
    del plain["attributes"]
    files["plain"] = write("plain.json", plain)
    files["some"] = write("some.json", attributes={"seq_0": []})
    status, out, err = run(capsys, *(word.format(**files) for word in words))
    assert status == 2 and not out and err.count("\n") == 1
    assert re.search(message, err), err


def test_what_the_functions_refuse(write):
    with pytest.raises(InputError, match="0 runs to compare, needs at least 1"):
        check_runs([])
    found = compare_runs([read_run(write("a.json"))])
    with pytest.raises(InputError, match="tables as 'html' are unknown, there are markdown, latex, csv"):
        render(found, "html")
    with pytest.raises(InputError, match="tables per 'frame' are unknown, there are sequence, attribute, object"):
        compare_runs(found.runs, per="frame")
    with pytest.raises(KeyError):
        found.find("J", "nobody")
