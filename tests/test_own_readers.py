"""A reader of somebody's own, in a file beside the work: built, trained, resumed, loaded and run, from Python and from the command line."""

import importlib.util
import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from davis_tree import write_davis
from PIL import Image
from safetensors.torch import load_file

from tmrn_edu.__main__ import main
from tmrn_edu.commands import find_network
from tmrn_edu.courses import find_recipe, run_recipe, with_reader
from tmrn_edu.data.masks_io import write_mask
from tmrn_edu.errors import InputError
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks import STCN
from tmrn_edu.train import Course, Recipe, Run, Stopped, TrainSettings, train
from tmrn_edu.training.objective import make_optimiser
from tmrn_edu.training.own_reader import make_own, own_class
from tmrn_edu.training.start import READERS, start_from
from tmrn_edu.weights import export, load, read

FILE = '''
import torch
from helper_beside_it import FACTOR
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.memory.space_time import OWN


class Forget(SpaceTimeReader):
    """The older a memory frame, the less it counts; the rate is learned."""

    def __init__(self, rate=1.0, similarity=None, top_k=OWN):
        super().__init__(similarity, top_k)
        self.rate = rate
        self.learned = torch.nn.Parameter(torch.tensor(float(rate)))

    def settings(self):
        return super().settings() | {"rate": self.rate}

    def temporal_score(self, step, query_key, aligned_value):
        steps = torch.as_tensor(step.steps).to(query_key)[..., None]
        return step.affinity.evidence - FACTOR * self.learned * torch.log1p(steps)


class Mine(TrajectoryReader):
    """Takes the network's channels."""


class Needy(SpaceTimeReader):
    def __init__(self, size):
        super().__init__()


def helper():
    pass
'''
SMALL = TrainSettings(steps=4, batch=1, frames=3, short_frames=3, max_gap=1, clips=4, size=32, save_every=2)
QUICK = ["--steps=2", "--batch=1", "--size=32", "--frames=2", "--short-frames=2", "--max-gap=1", "--device=cpu"]


@pytest.fixture
def file(tmp_path):
    (tmp_path / "my_reader.py").write_text(FILE)
    (tmp_path / "helper_beside_it.py").write_text("FACTOR = 1.0\n")
    yield tmp_path / "my_reader.py"
    sys.modules.pop("helper_beside_it", None)


@pytest.fixture
def forget(file):
    return own_class(f"{file}:Forget")


def recipe(make, name="mine", **options):
    def build(seed):
        torch.manual_seed(seed)
        return STCN.tiny(make())

    return Recipe(name, build, replace(SMALL, **options))


def trained(forget, tmp_path, rate=1.0):
    """A file whose reader has moved."""
    network = STCN.tiny(forget(rate))
    torch.nn.init.constant_(network.reader.learned, 0.37)
    export(network, tmp_path / "forget.safetensors")
    return tmp_path / "forget.safetensors"


def stop_at(monkeypatch, step):
    """As if somebody pressed Ctrl-C before a step."""
    one_step = Run._one_step

    def stopping(self, parts):
        if self.step == step:
            raise KeyboardInterrupt
        return one_step(self, parts)

    monkeypatch.setattr(Run, "_one_step", stopping)


def refused(capsys, *words):
    """The one line of a command that must be refused."""
    capsys.readouterr()
    try:
        status = main([str(word) for word in words])
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert (status, out, len(err.splitlines())) == (2, "", 1), (status, out, err)
    return err


# ------------------------------------------------------------------ loading


def test_a_class_is_built_from_the_files_settings(forget, tmp_path):
    path = trained(forget, tmp_path, rate=3.0)
    network = load(path, reader=forget)
    assert isinstance(network.reader, forget) and network.reader.rate == 3.0 and not network.training
    assert network.reader.learned.item() == pytest.approx(0.37)
    assert network.reader.similarity is STCN.similarity
    with pytest.raises(InputError, match="reads with Forget, the class given is SpaceTimeReader; expected Forget, or"):
        load(path, reader=SpaceTimeReader)
    with pytest.raises(
        InputError, match=r"reads with Forget, this library .*reader=Forget\), or --reader FILE.py:Forget"
    ):
        load(path)
    assert "('" not in str(pytest.raises(InputError, load, path).value)
    again = load("tmrn-stcn-tiny", reader=TrajectoryReader)
    assert again.reader.settings() == load("tmrn-stcn-tiny").reader.settings()


def test_settings_that_a_class_does_not_take(forget, tmp_path):
    path = trained(forget, tmp_path)
    other = type("Forget", (SpaceTimeReader,), {})
    with pytest.raises(InputError, match="Forget with .*'rate': 1.0.*the class given does not take these: .*'rate'"):
        load(path, reader=other)


def test_a_reader_with_other_settings_is_refused(forget, tmp_path):
    path = trained(forget, tmp_path)
    assert load(path, reader=forget()).reader.learned.item() == pytest.approx(0.37)
    with pytest.raises(
        InputError, match="has the reader Forget with rate 1.0, the one given is Forget with rate 50.0; exp"
    ):
        load(path, reader=forget(50.0))
    with pytest.raises(
        InputError, match="SpaceTimeReader with top_k None, the one given is SpaceTimeReader with top_k 7"
    ):
        load("stcn-tiny", reader=SpaceTimeReader(top_k=7))
    network = load("stcn-tiny")
    network.reader = SpaceTimeReader(top_k=7)  # the way to read with others
    assert network.reader.top_k == 7


def test_a_reader_of_another_kind_keeps_its_own_and_says_what_is_left_out(forget, tmp_path):
    path = trained(forget, tmp_path)
    with pytest.warns(UserWarning, match=r"weights of its Forget \(reader.learned\) are left out, the SpaceTimeReader"):
        assert isinstance(load(path, reader=SpaceTimeReader()).reader, SpaceTimeReader)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is lost here
        assert load("stcn-tiny", reader=forget(50.0)).reader.learned.item() == 50.0


def test_settings_that_are_no_plain_data(forget):
    class Careless(forget):
        def settings(self):
            return super().settings() | {"rate": self.learned}

    with pytest.raises(InputError, match=r"settings\(\) of Careless holds what JSON cannot \(.*Parameter"):
        export(STCN.tiny(Careless()), "nowhere.safetensors")
    assert not Path("nowhere.safetensors").exists()


# ------------------------------------------------------------------ training from Python


def test_first_weights_with_a_reader_that_no_file_can_build(forget, tmp_path):
    path = trained(forget, tmp_path)
    network = STCN.tiny(forget(0.0))
    assert start_from(network, path) == "weights of forget.safetensors"
    assert network.reader.learned.item() == pytest.approx(0.37)
    plain = STCN.tiny()
    assert "its Forget is left out, this network's SpaceTimeReader begins" in start_from(plain, path)
    found = run_recipe(recipe(forget, steps=1), tmp_path / "run", init=path, progress=False)
    assert read(found).reader == "Forget"


def test_a_course_with_a_reader_of_ones_own(forget, tmp_path, monkeypatch):
    """Stopped in the second stage and gone on with, it ends as the unbroken one, and is scored."""
    monkeypatch.setattr("tmrn_edu.courses.CLIPS_A_LEVEL", 1)
    course = Course("mine", (recipe(forget, "one", steps=2), recipe(forget, "two", steps=3)))
    whole = run_recipe(course, tmp_path / "whole", progress=False)
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        with pytest.raises(
            Stopped, match=r"before step 2; continue with --resume \(resume=True in Python\) from .*in two"
        ):
            run_recipe(course, tmp_path / "parts", progress=False)
    parts = run_recipe(course, tmp_path / "parts", resume=True, progress=False)
    one, other = load_file(whole), load_file(parts)
    assert "reader.learned" in one and all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    scores = [json.loads((tmp_path / out / "scores.json").read_text()) for out in ("whole", "parts")]
    assert scores[0] == scores[1] and set(scores[0]["synthetic"]) == {"easy", "medium", "hard"}


def test_a_run_goes_on_with_its_own_reader_only(forget, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        with pytest.raises(Stopped):
            train(recipe(forget), out, progress=False)
    kept = json.loads((out / "run.json").read_text())["reader"]
    assert kept == ["Forget", {"similarity": "negative_squared_l2", "top_k": None, "rate": 1.0}]
    with pytest.raises(InputError, match="holds a run with the reader Forget, now the network has SpaceTimeReader"):
        train(recipe(SpaceTimeReader), out, resume=True, progress=False)
    with pytest.raises(InputError, match="the reader Forget with rate 1.0, now the network has Forget with rate 50.0"):
        train(recipe(lambda: forget(50.0)), out, resume=True, progress=False)
    with pytest.raises(InputError, match="holds a run of mine, asked for is yours$"):
        train(recipe(forget, "yours"), out, resume=True, progress=False)
    with pytest.raises(InputError, match="holds a run of mine with lr 0.002, asked for is yours with lr 0.1$"):
        train(recipe(forget, "yours", lr=0.1), out, resume=True, progress=False)
    path = out / "run.json"
    run = json.loads(path.read_text())
    del run["reader"], run["settings"]["reader_lr"]  # as an earlier version wrote it
    path.write_text(json.dumps(run))
    assert read(train(recipe(forget), out, resume=True, progress=False)).reader == "Forget"


def test_data_that_an_earlier_version_wrote_down(tmp_path, monkeypatch):
    one, out = find_recipe("stcn_video_small"), tmp_path / "run"
    options = {"steps": 1, "batch": 1, "size": 32}
    path = run_recipe(one, out, ["synthetic:2"], "none", options=options, progress=False)
    run = json.loads((out / "run.json").read_text())
    assert run["about"]["data"] == "synthetic: 2 videos"
    run["about"]["data"] = "synthetic: 2 video"
    (out / "run.json").write_text(json.dumps(run))
    path.unlink()
    assert run_recipe(one, out, resume=True, progress=False) == path and path.exists()


def test_progress_from_python_is_silenced_too(forget, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TMRN_PROGRESS", "0")
    run_recipe(recipe(forget, steps=1), tmp_path / "a")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("TMRN_PROGRESS", "1")
    run_recipe(recipe(forget, steps=1), tmp_path / "b")
    assert "mine: 100%" in capsys.readouterr().err


# ------------------------------------------------------------------ which weights learn, and how fast


def test_frozen_weights_stay_frozen(forget, tmp_path):
    def build(seed):
        torch.manual_seed(seed)
        network = STCN.tiny(forget())
        network.requires_grad_(False).reader.requires_grad_(True)
        return network

    frozen = replace(recipe(forget), build=build)
    before, after = build(0).state_dict(), load_file(train(frozen, tmp_path / "run", progress=False))
    moved = [name for name, tensor in after.items() if not torch.equal(tensor, before[name])]
    assert moved == ["reader.learned"]
    with pytest.raises(InputError, match=r"no weight of STCN \(tiny\) takes gradients, expected at least one"):
        make_optimiser(build(0), replace(SMALL, reader_lr=0.0))


def test_the_reader_learns_at_a_rate_of_its_own(forget, tmp_path):
    settings = replace(SMALL, trunk_lr=0.1, reader_lr=20.0)
    network = STCN.mobile(forget())
    groups = make_optimiser(network, settings).param_groups
    assert [group["share"] for group in groups] == [1.0, 0.1, 20.0] and groups[2]["params"] == [network.reader.learned]
    one = make_optimiser(network, SMALL).param_groups
    assert len(one) == 1 and [id(p) for p in one[0]["params"]] == [id(p) for p in network.parameters()]
    moved = {}
    for factor in (0.0, 1.0, 20.0):
        path = train(recipe(forget, reader_lr=factor), tmp_path / str(factor), progress=False)
        moved[factor] = abs(load(path, reader=forget).reader.learned.item() - 1)
    assert moved[0.0] == 0 < 5 * moved[1.0] < moved[20.0]
    with pytest.raises(
        InputError, match=r"reader_lr is 2.0 and STCN \(tiny\) has a SpaceTimeReader without weights; exp"
    ):
        make_optimiser(STCN.tiny(), replace(SMALL, reader_lr=2.0))
    with pytest.raises(InputError, match="reader_lr is -1.0, expected a factor of 0 or more"):
        replace(SMALL, reader_lr=-1.0)


# ------------------------------------------------------------------ FILE.py:CLASS


def test_a_class_out_of_a_file(file, forget):
    assert make_own(forget, STCN.tiny()).settings()["rate"] == 1.0
    mine = make_own(own_class(f"{file}:Mine"), STCN.tiny())
    assert (mine.key_channels, mine.value_channels) == (32, 64)
    assert with_reader(find_recipe("stcn_small"), f"{file}:Forget").name == "stcn-small (Forget reader)"
    assert str(file.parent) not in sys.path


@pytest.mark.parametrize(
    "name, message",
    [
        ("my_reader.py:Forgett", "my_reader.py has no class Forgett, did you mean Forget?"),
        ("my_reader.py:Other", "my_reader.py has no class Other, its readers: Forget, Mine, Needy"),
        ("my_reader.py:helper", "something else than a reader's class helper, its readers: Forget"),
        ("my_reader.py:", "expected FILE.py:CLASS such as my_reader.py:MyReader"),
        ("my_readers.py:Forget", "there is no Python file .*my_readers.py; expected FILE.py:CLASS"),
        ("broken.py:Forget", "broken.py cannot be run: SyntaxError: .*line 1"),
    ],
)
def test_classes_that_are_not_there(file, name, message):
    (file.parent / "broken.py").write_text("class Forget(\n")
    with pytest.raises(InputError, match=message):
        own_class(f"{file.parent}/{name}" if not name.endswith(":") else name)


def test_a_class_that_needs_more(file):
    with pytest.raises(InputError, match=r"Needy\(\) cannot be made: .*'size'; expected a class that needs no other"):
        make_own(own_class(f"{file}:Needy"), STCN.tiny())


def test_on_the_command_line(file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tmrn_edu.courses.CLIPS_A_LEVEL", 1)
    monkeypatch.setenv("TMRN_PROGRESS", "0")
    words, out = ["--reader", f"{file}:Forget"], tmp_path / "run"
    first = ["train", "stcn_small", *words, "--data", "synthetic:2", "--out", str(out), *QUICK, "--reader-lr=5"]
    assert main(first) == 0
    weights = out / "2-stcn-video-small" / "network.safetensors"
    assert read(weights).reader == "Forget" and str(weights) in capsys.readouterr().out
    assert (
        main(["train", "stcn_small", "--out", str(out), "--resume", "--device=cpu"]) == 0
    )  # its reader is found again
    (tmp_path / "frames").mkdir()
    for t in range(2):
        Image.new("RGB", (48, 32), (40 * t, 90, 9)).save(tmp_path / "frames" / f"{t}.png")
    mask = torch.zeros(32, 48, dtype=torch.uint8)
    mask[4:20, 4:20] = 1
    write_mask(tmp_path / "mask.png", mask)
    segment = [
        "segment",
        tmp_path / "frames",
        "--mask",
        tmp_path / "mask.png",
        "--out",
        tmp_path / "out",
        "--no-overlay",
    ]
    segment += ["--device=cpu", "--weights", weights]
    assert main([str(word) for word in [*segment, *words]]) == 0
    assert (tmp_path / "out" / "masks" / "00001.png").exists()
    assert main([str(word) for word in [*segment, *words, "--network", weights, "--overwrite"]]) == 0
    line = refused(capsys, *segment, "--overwrite")
    assert "reads with Forget, this library has" in line and "--reader FILE.py:Forget" in line
    assert "no class Fort" in refused(capsys, *segment, "--reader", f"{file}:Fort")
    line = refused(capsys, *segment[:-2], "--network", "stcn-tiny", *words)
    assert "reads with SpaceTimeReader, the class given is Forget" in line
    line = refused(capsys, *segment, *words, "--network", "stcn-tiny")
    assert "holds STCN tiny with Forget" in line and "stcn-tiny is STCN tiny with SpaceTimeReader" in line
    line = refused(capsys, "train", "stcn_small", "--reader", f"{file}:Fort", "--out", tmp_path / "no", *QUICK)
    assert "no class Fort" in line and not (tmp_path / "no").exists()
    line = refused(capsys, "train", "stcn_small", "--reader", "forget", "--out", tmp_path / "no", *QUICK)
    assert "reader is 'forget', expected one of space-time" in line and "FILE.py:CLASS" in line
    root = write_davis(tmp_path / "DAVIS")
    evaluate = ["evaluate", "--dataset", "davis2016", "--data", root, "--sequences", "pair", "--device=cpu"]
    assert "--reader is given without --network" in refused(capsys, *evaluate, "--results", tmp_path, *words)
    assert "reads with Forget" in refused(capsys, *evaluate, "--network", weights)
    assert main([str(word) for word in [*evaluate, "--network", weights, *words]]) == 0


def test_files_of_authors_take_no_reader(file, tmp_path):
    (tmp_path / "stcn.pth").touch()
    with pytest.raises(InputError, match="stcn.pth is no file of tmrn-edu train, which --reader .*Forget is for"):
        find_network("stcn", str(tmp_path / "stcn.pth"), f"{file}:Forget")


def test_help_names_every_reader(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert f"{', '.join(READERS)}; trajectory is warm" in words and "FILE.py:CLASS" in words


# ------------------------------------------------------------------ the benchmark


def test_the_benchmark_takes_it(forget, file, tmp_path, capsys, monkeypatch):
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "real_readers.py"
    spec = importlib.util.spec_from_file_location("benchmark_own_readers", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    weights = trained(forget, tmp_path)
    assert benchmark.open_network(str(weights), forget).reader.learned.item() == pytest.approx(0.37)
    assert isinstance(benchmark.open_network("stcn-tiny", forget).reader, SpaceTimeReader)
    assert benchmark.open_network(f"stcn-tiny@{file}:Forget").reader.learned.item() == 1
    videos = tmp_path / "videos"
    for folder, mode in (("JPEGImages", "RGB"), ("Annotations", "L")):
        (videos / folder / "one").mkdir(parents=True)
        for t in range(5):
            picture = Image.new(mode, (48, 32))
            picture.paste(1 if mode == "L" else (200, 9, 9), (4 + t, 4, 20 + t, 20))
            picture.save(videos / folder / "one" / f"{t:05d}.{'png' if mode == 'L' else 'jpg'}")
    words = ["real_readers.py", "--data", str(videos), "--networks", str(weights), "--copies", "0", "--frames", "5"]
    monkeypatch.setenv("TMRN_PROGRESS", "0")
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        benchmark.main()
    line = capsys.readouterr().err
    assert stop.value.code == 2 and len(line.splitlines()) == 1 and "reads with Forget, this library has" in line
    monkeypatch.setattr(sys, "argv", [*words, "--reader", f"{file}:Forget"])
    benchmark.main()
    assert "| plain: 1 of 1 | forget |" in capsys.readouterr().out
