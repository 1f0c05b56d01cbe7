"""The ablation runner: what words mean, resuming, several processes, training, pairing, and the figure."""

import csv

import pytest
import torch
from davis_tree import write_davis

from tmrn_edu import ablation
from tmrn_edu.ablation import Job, parse_variant, read_table, run_job, run_jobs, summarise, table, variant_of, vary
from tmrn_edu.errors import InputError
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.viz.ablation import differences_figure
from tmrn_edu.weights import load


@pytest.fixture(autouse=True)
def small_clips(monkeypatch):
    usual = ablation.held_out_clips
    monkeypatch.setattr(
        ablation, "held_out_clips", lambda *args, **options: usual(*args, **options, frames=4, size=(48, 48))
    )


def job(variant="", **given):
    return Job(**{"network": "stcn-tiny", "variant": variant, "data": "easy", "seed": 0, "clips": 2} | given)


def test_words_make_readers():
    network = load("stcn-tiny")
    assert type(parse_variant("top_k=3").read_by(network).reader) is SpaceTimeReader and network.reader.top_k == 3
    assert parse_variant("top_k=0 memory_every=4").read_by(network).reader.top_k is None
    assert network.rules.memory_every == 4
    reader = parse_variant("agents=6 start=random place=0.5 scales=2 rectify=0.3").read_by(network).reader
    assert reader.evidence and reader.attention is None and reader.agents.count == 6
    assert reader.agents.place == 0.5 and reader.agents.scales == (2,) and reader.agents.directions is not None
    assert float(reader.rectify.detach()) == pytest.approx(0.3)
    reader = parse_variant("chain=0.5 velocity=1 reach=4 trust=2 mutual=0.05").read_by(network).reader
    assert reader.agents is None and [
        float(x.detach()) for x in (reader.beta, reader.velocity, reader.age.exact, reader.mutual)
    ] == (pytest.approx([0.5, 1, 2, 0.05]))
    for pool, parts in ablation.POOLS.items():
        reader = parse_variant(f"pool={pool}").read_by(network).reader
        assert (reader.evidence, reader.attention is not None) == parts
    warm = parse_variant("preset=warm").read_by(network).reader
    assert warm.settings()["agents"] == TrajectoryReader.warm(32, 64).settings()["agents"]
    network = load("tmrn-stcn-chained-tiny")
    own = network.reader
    assert parse_variant("preset=own memory_every=2").read_by(network).reader is own
    assert parse_variant(ablation.OWN) == parse_variant("")
    assert parse_variant("age=true agents=8").words == "agents=8 age=true"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("agnets=8", "variant has the word 'agnets=8', expected NAME=VALUE with a name of preset, agents,"),
        ("agents", "variant has the word 'agents', expected NAME=VALUE"),
        ("agents=many", "variant has 'agents=many', expected agents to be of type int"),
        ("pool=max", "variant has 'pool=max', expected pool to be one of evidence, mean, attention, both"),
    ],
)
def test_wrong_words(words, message):
    with pytest.raises(InputError, match=message):
        parse_variant(words)


def test_parts_that_do_not_go_together_and_unknown_data(tmp_path):
    with pytest.raises(InputError, match="variant 'velocity=1': velocity is 1.0 and chain is off"):
        run_jobs([job("velocity=1")], tmp_path / "table.csv")
    with pytest.raises(InputError, match="variant 'preset=own agents=8': preset is own, with other parts beside it"):
        run_jobs([job("preset=own agents=8")], tmp_path / "table.csv")
    with pytest.raises(InputError, match="data is 'esay', expected one of easy, medium, hard, or a folder of videos"):
        run_jobs([job(data="esay")], tmp_path / "table.csv")
    with pytest.raises(InputError, match="2 steps of training asked for, expected a folder for them as well"):
        run_jobs([job(steps=2)], tmp_path / "table.csv")
    with pytest.raises(InputError, match="seed 9000000 asks for clips up to 18000002, held out are"):
        run_jobs([job(seed=9 * 10**6)], tmp_path / "table.csv")
    with pytest.raises(
        InputError, match="variant 'rectify=0.5': rectify is 0.5 and there are no agents, expected agents=N"
    ):
        run_jobs([job("rectify=0.5")], tmp_path / "table.csv")
    with pytest.raises(InputError, match="variant 'age=false trust=2': age is false and trust 2, expected no trust"):
        run_jobs([job("age=false trust=2")], tmp_path / "table.csv")
    with pytest.raises(InputError, match="variant 'memory_every=0': memory_every is 0, expected at least 1"):
        run_jobs([job("memory_every=0")], tmp_path / "table.csv")
    with pytest.raises(InputError, match="easy and stcn-tiny on easy would be one in the table"):
        run_jobs([job(), job(clips=3)], tmp_path / "table.csv")
    assert not list(tmp_path.iterdir())


def test_all_combinations():
    assert vary(["agents=none,8", "chain=none,0.2"]) == ["", "chain=0.2", "agents=8", "agents=8 chain=0.2"]


def test_a_study_goes_on_where_it_stopped(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    jobs = [job(), job("pool=mean"), job("pool=mean", seed=1), job(seed=1)]
    whole = run_jobs(jobs, tmp_path / "whole.csv")
    assert [row["clip"] for row in whole] == ["0", "1", "0", "1", "2", "3", "2", "3"]  # each seed has clips of its own
    run_jobs(jobs[:2], path)
    with open(path, "a") as file:  # cut off in the middle of a job
        file.write(",".join(whole[4][name] for name in ablation.COLUMNS) + "\nstcn-tiny,,easy,1")
    ran = []
    usual = ablation.run_job
    monkeypatch.setattr(ablation, "run_job", lambda job, runs: ran.append(job) or usual(job, runs))
    assert (
        run_jobs([*jobs, jobs[3]], path) == whole == read_table(path) and ran == jobs[2:]
    )  # one given twice runs once
    assert run_jobs(jobs, path) == whole and len(ran) == 2
    with pytest.raises(InputError, match="table.csv has 2 clips of 'pool=mean' on easy, 3 are asked for"):
        run_jobs([job("pool=mean", clips=3)], path)


def test_other_columns_are_refused(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"other.csv has the columns \['a', 'b'\], expected \['network'"):
        run_jobs([job()], tmp_path / "other.csv")
    with pytest.raises(InputError, match="no table at .*none.csv"):
        read_table(tmp_path / "none.csv")


def test_training_changes_scores_and_is_matched(tmp_path):
    before = run_job(job("agents=4 pool=both", clips=1))
    after = run_job(job("agents=4 pool=both", clips=1, steps=1), tmp_path)
    assert before[0]["J"] != after[0]["J"] and after == run_job(job("agents=4 pool=both", clips=1, steps=1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["stcn-tiny-agents=4_pool=both-0-1"]
    run_job(job("agents=4 pool=both", clips=1, steps=1, data="hard"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1  # trained once for all levels
    one, other = variant_of(job("agents=4 start=random")), variant_of(job("agents=4 start=random"))
    assert all(torch.equal(x, y) for x, y in zip(one.parameters(), other.parameters(), strict=True))


def test_a_job_that_fails_does_not_take_the_others_along(tmp_path):
    write_davis(tmp_path / "short")
    jobs = [job("memory_every=1", data=str(tmp_path / "short"), frames=5), job(clips=1)]
    with pytest.raises(
        InputError, match="pair: a memory frame every 1 leaves no frame between them, expected at least 2"
    ):
        run_jobs(jobs, tmp_path / "t.csv", workers=2)
    assert [row["data"] for row in read_table(tmp_path / "t.csv")] == ["easy"]


def test_two_processes_train_and_score(tmp_path):
    """The same weights as in one process, and a row for every clip (which are of full size there: processes know nothing of this file)."""
    jobs = [job("pool=mean", clips=1, steps=1, data=level) for level in ("easy", "hard")]
    one = run_jobs(jobs, tmp_path / "one.csv", tmp_path / "a", workers=1)
    two = run_jobs(jobs, tmp_path / "two.csv", tmp_path / "b", workers=2)
    assert [(row["data"], row["clip"]) for row in one] == [(row["data"], row["clip"]) for row in two]
    weights = [tmp_path / folder / "stcn-tiny-pool=mean-0-1" / "network.safetensors" for folder in "ab"]
    same = [load(path).state_dict() for path in weights]
    assert all(torch.equal(value, same[1][name]) for name, value in same[0].items())


def rows_of(variant, seed, values):
    given = {name: "" for name in ablation.COLUMNS} | {
        "network": "n",
        "variant": variant,
        "data": "easy",
        "seed": str(seed),
    }
    given |= {"steps": "5", "clips_of_job": str(len(values))}
    return [given | {"clip": str(c), "J": str(v), "J_true_memory": str(v / 2)} for c, v in enumerate(values)]


def test_differences_are_paired_and_seeds_are_averaged():
    rows = rows_of("", 0, [0.2, 0.8]) + rows_of("", 1, [0.4, 0.6])
    rows += rows_of("pool=mean", 0, [0.3, 0.9]) + rows_of("pool=mean", 1, [0.5, 0.7])
    base, mean = summarise(rows)
    assert base.variant == "space-time read" and base.J == pytest.approx(0.5) and tuple(base.difference) == (0, 0, 0)
    assert mean.difference == pytest.approx((0.1, 0.1, 0.1)) and mean.clips == 2
    assert mean.difference_true == pytest.approx((0.05, 0.05, 0.05))
    text = table(rows)
    assert "| n + 5 steps | easy (2) | pool=mean | 0.600 | 0.300 | +0.100 [+0.100, +0.100] few |" in text
    many = rows_of("", 0, [0.2] * 6) + rows_of("pool=mean", 0, [0.3] * 6) + rows_of("top_k=1", 0, [0.1, 0.3] * 3)
    assert "| +0.100 [+0.100, +0.100] * |" in table(many) and "[-0.067, +0.067] | " in table(many)
    with pytest.raises(InputError, match="n on easy: 'pool=mean' has 4 clips, the space-time read lacks 4 of them"):
        summarise(rows[4:])


def test_the_table_is_tidy(tmp_path):
    run_jobs([job("chain=0.5 trust=1")], tmp_path / "t.csv", workers=1)
    with open(tmp_path / "t.csv") as file:
        first = next(csv.DictReader(file))
    assert (first["chain"], first["trust"], first["agents"], first["variant"]) == ("0.5", "1", "", "chain=0.5 trust=1")


def test_figure():
    rows = [("agents=8", (0.01, -0.01, 0.03)), ("mutual", (0.02, 0.01, 0.03))]
    figure = differences_figure({"easy": rows, "hard": rows}, "space-time read")
    assert [axis.get_title() for axis in figure.axes] == ["easy", "hard"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["agents=8", "mutual"]
    colours = figure.axes[0].collections[1].get_facecolor()
    assert tuple(colours[0][:3]) == (1, 1, 1) and tuple(colours[1][:3]) != (1, 1, 1)  # hollow: zero lies inside
    with pytest.raises(
        ValueError, match=r"panel hard has the variants \['mutual'\], the first one has \['agents=8', 'mutual'\]"
    ):
        differences_figure({"easy": rows, "hard": rows[1:]}, "x")


def test_real_videos_of_a_davis_folder(tmp_path):
    """Its val sequences, all objects counting the same; the table names the folder, not where it lies."""
    write_davis(tmp_path / "mini")
    rows = run_jobs([job(data=str(tmp_path / "mini"), frames=5)], tmp_path / "t.csv")
    assert [(row["data"], row["clip"]) for row in rows] == [("mini", "pair"), ("mini", "single")]
    assert all(0 <= float(row["J"]) <= 1 and 0 <= float(row["J_true_memory"]) <= 1 for row in rows)
