"""Loading the authors' files: names, forms in which weights come, stage 0, and what is refused with which message."""

import io
import itertools
import json
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch
from official import CASES, official_shapes, official_state, skip_without_cases
from safetensors.torch import save_file

import tmrn_edu as te
from tmrn_edu.errors import InputError
from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.official import NAMES, OFFICIAL_NETWORKS, official_names, read_state_dict

FIRST = {"stcn": "value_encoder.conv1.weight", "xmem": "value_encoder.conv1.weight"}
STATE_DICTS = ("stm", "stcn", "stcn_stage0", "xmem", "xmem_stage0", "gsfm")


@pytest.fixture(scope="module")
def state():
    """STCN's state dict with numbers drawn by name. Tests change copies of the dict, never its tensors."""
    return official_state("stcn")


@pytest.fixture(scope="module")
def loaded(state):
    return te.load_official("stcn", state)


def assert_same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]


def refusal(name, source, **arguments) -> str:
    """The one message with which a source is refused."""
    with pytest.raises(InputError) as refused:
        te.load_official(name, source, **arguments)
    message = str(refused.value)
    assert "\n" not in message
    return message


def zeros(shapes) -> dict[str, torch.Tensor]:
    """A state dict of the right shapes that takes no memory."""
    return {name: torch.zeros(1).expand(shape) if len(shape) else torch.zeros(()) for name, shape in shapes.items()}


# ------------------------------------------------------------------ names


@pytest.mark.parametrize("name", OFFICIAL_NETWORKS)
def test_names_are_one_to_one(name):
    ours = [entry for entry in OFFICIAL_NETWORKS[name]().state_dict()]
    theirs = [entry for own in ours for entry in official_names(name, own)]
    assert len(theirs) == len(set(theirs))
    joined = [own for own in ours if len(official_names(name, own)) > 1]
    assert joined == (["memory_encoder.trunk.conv1.weight"] if name == "stm" else [])
    assert len(theirs) == len(ours) + 2 * len(joined)
    begins = [pair[0] for pair in NAMES[name]]
    assert not [
        begin for begin in begins if not any(own.startswith(begin) for own in ours)
    ]  # no entry of the map is idle


@pytest.mark.parametrize("file", STATE_DICTS)
def test_every_official_state_dict_loads(file):
    """Names and shapes as the authors' code has them; the values do not matter here."""
    skip_without_cases()
    listed = json.loads((CASES / "state_dicts" / f"{file}.json").read_text())["state_dict"]
    shapes = {entry: tuple(shape) for entry, (shape, _) in listed.items()}
    name, _, stage0 = file.partition("_")
    own = official_shapes(name)
    assert set(shapes) == set(own)
    assert [entry for entry in own if own[entry] != shapes[entry]] == ([FIRST[name]] if stage0 else [])
    network = te.load_official(name, zeros(shapes))
    assert not any(parameter.any() for parameter in network.parameters()) and not network.training
    with_prefix = te.load_official(name, {f"module.{entry}": tensor for entry, tensor in zeros(shapes).items()})
    assert not any(parameter.any() for parameter in with_prefix.parameters())


def test_stm_joins_the_three_parts_of_its_first_convolution():
    shapes = official_shapes("stm")
    state = zeros(shapes)
    parts = ("Encoder_M.conv1.weight", "Encoder_M.conv1_m.weight", "Encoder_M.conv1_o.weight")
    for number, entry in enumerate(parts, start=1):
        state[entry] = torch.full(shapes[entry], float(number))
    weight = te.load_official("stm", state).memory_encoder.trunk.conv1.weight
    assert weight.shape == (64, 5, 7, 7)
    assert weight[0, :, 0, 0].tolist() == [1, 1, 1, 2, 3]


# ------------------------------------------------------------------ forms in which weights come


def test_weights_are_those_of_the_file(loaded, state):
    own = loaded.state_dict()
    assert torch.equal(own["key_projection.weight"], state["key_proj.key_proj.weight"])
    assert torch.equal(own["decoder.up_8_4.block.conv2.bias"], state["decoder.up_8_4.out_conv.conv2.bias"])
    assert not loaded.training
    assert own["key_projection.weight"].data_ptr() != state["key_proj.key_proj.weight"].data_ptr()  # a copy


def test_a_dict_a_pth_and_safetensors_give_the_same(loaded, state, tmp_path):
    torch.save(state, tmp_path / "stcn.pth")
    assert_same_weights(te.load_official("stcn", tmp_path / "stcn.pth"), loaded)
    assert_same_weights(te.load_official("stcn", str(tmp_path / "stcn.pth")), loaded)
    save_file(state, tmp_path / "stcn.safetensors")
    assert_same_weights(te.load_official("stcn", tmp_path / "stcn.safetensors"), loaded)


@pytest.mark.parametrize("key", ["network", "state_dict"])
def test_a_training_checkpoint_with_prefixes_gives_the_same(loaded, state, tmp_path, key):
    inside = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(
        {"it": 150_000, key: inside, "optimizer": {"state": {}, "param_groups": []}}, tmp_path / "checkpoint.pth"
    )
    assert_same_weights(te.load_official("stcn", tmp_path / "checkpoint.pth"), loaded)


def test_an_old_file_that_is_no_zip_gives_the_same(state, tmp_path):
    """The oldest releases were saved before torch used zip files."""
    few = {name: state[name] for name in ("key_proj.key_proj.weight", "key_comp.bias")}
    torch.save(few, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(tmp_path / "old.pth")
    found = read_state_dict(tmp_path / "old.pth")
    assert set(found) == set(few) and all(torch.equal(found[name], few[name]) for name in few)


@pytest.mark.parametrize("name", ["stcn", "xmem"])
def test_stage_0_gets_zeros_for_the_others(name):
    state = official_state(name, stage0=True)
    assert state[FIRST[name]].shape[1] == 4
    weight = te.load_official(name, state).value_encoder.trunk.conv1.weight
    assert weight.shape[1] == 5
    assert torch.equal(weight[:, :4], state[FIRST[name]]) and not weight[:, 4].any()
    assert state[FIRST[name]].shape[1] == 4  # the caller's dict stays as it is


def test_counters_of_batch_norm_may_be_missing(state):
    """Files of before torch 0.4.1 have none, and nothing reads them."""
    te.load_official("stcn", {name: x for name, x in state.items() if not name.endswith("num_batches_tracked")})


# ------------------------------------------------------------------ reader, random numbers


def test_another_reader_keeps_its_weights(state, loaded):
    reader = TrajectoryReader.warm(64, 512)
    before = {name: tensor.clone() for name, tensor in reader.state_dict().items()}
    network = te.load_official("stcn", state, reader=reader)
    assert network.reader is reader and before
    assert all(torch.equal(before[name], tensor) for name, tensor in reader.state_dict().items())
    assert torch.equal(network.key_projection.weight, loaded.key_projection.weight)
    assert not reader.training


def test_random_numbers_of_the_caller_stay_as_they_are(state):
    before = torch.get_rng_state()
    te.load_official("stcn", state)
    assert torch.equal(torch.get_rng_state(), before)


# ------------------------------------------------------------------ what is refused


def test_an_unknown_network_is_refused(state):
    assert "no network is called 'deaot', expected one of stm, stcn, xmem, gsfm" in refusal("deaot", state)


@pytest.mark.parametrize("name, other", list(itertools.permutations(OFFICIAL_NETWORKS, 2)))
def test_a_file_of_another_network_is_named(name, other):
    own, theirs = official_shapes(name), official_shapes(other)
    message = refusal(name, zeros(theirs))
    assert f"the state dict does not fit {name} (it looks like a file of {other}): " in message
    assert f"({len(theirs)} entries came, {name} has " in message
    missing, unexpected = set(re.findall(r"missing (\S+);", message)), set(re.findall(r"unexpected (\S+);", message))
    assert missing or unexpected
    assert missing <= set(own) - set(theirs) and unexpected <= set(theirs) - set(own)
    assert len(message) < 5000 and " more like it" in message  # hundreds differ


def test_a_file_of_another_network_is_named_with_its_path(tmp_path):
    path = tmp_path / "xmem.pth"
    torch.save({f"module.{entry}": x for entry, x in zeros(official_shapes("xmem")).items()}, path)
    message = refusal("stcn", path)
    assert message.startswith(f"{path} does not fit stcn (it looks like a file of xmem): missing key_comp.")
    assert "; unexpected key_proj.d_proj.weight;" in message


def test_all_that_is_wrong_stands_in_one_message(state):
    state = dict(state)
    del state["key_comp.bias"], state["decoder.pred.weight"]
    state["key_proj.key_proj.weight"] = torch.zeros(32, 1024, 3, 3)
    state["head.weight"] = torch.zeros(2)
    message = refusal("stcn", state)
    for part in (
        "missing key_comp.bias",
        "missing decoder.pred.weight",
        "unexpected head.weight",
        "key_proj.key_proj.weight is (32, 1024, 3, 3), expected (64, 1024, 3, 3)",
        "404 entries came, stcn has 405",
    ):
        assert part in message
    assert "looks like" not in message and "more like it" not in message


def test_a_missing_file_is_refused(tmp_path):
    assert f"no weight file at {tmp_path / 'none.pth'}" in refusal("stcn", tmp_path / "none.pth")
    assert "no weight file at" in refusal("stcn", tmp_path)  # a folder


class Malicious:
    """What an attacker would put into a file: unpickling it creates another one."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def as_torch_saves(thing, path, zipped):
    torch.save({"key_comp.bias": torch.zeros(512), "more": thing}, path, _use_new_zipfile_serialization=zipped)


def as_a_plain_pickle(thing, path, _):
    path.write_bytes(pickle.dumps({"more": thing}))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [as_torch_saves, as_a_plain_pickle])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_never_run(save, zipped, tmp_path):
    trap = tmp_path / "trap"
    save(Malicious(trap), tmp_path / "stcn.pth", zipped)
    message = refusal("stcn", tmp_path / "stcn.pth")
    assert not trap.exists()
    assert str(tmp_path / "stcn.pth") in message and "holding code, which is not run" in message
    with pytest.raises(Exception):  # noqa: B017 - whatever it raises: here the trap does close
        torch.load(tmp_path / "stcn.pth", weights_only=False)["nothing"]
    assert trap.exists()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_file_cut_off_is_refused(suffix, kept, tmp_path):
    few = {"key_comp.bias": torch.zeros(512), "key_comp.weight": torch.zeros(64, 64)}
    whole = tmp_path / f"whole.{suffix}"
    torch.save(few, whole) if suffix == "pth" else save_file(few, whole)
    content = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    assert str(cut) in refusal("stcn", cut)


def test_an_old_file_cut_off_is_refused(tmp_path):
    file = io.BytesIO()
    torch.save({"key_comp.bias": torch.zeros(512)}, file, _use_new_zipfile_serialization=False)
    for length in (20, len(file.getvalue()) // 2, len(file.getvalue()) - 8):
        (tmp_path / "cut.pth").write_bytes(file.getvalue()[:length])
        assert "cut.pth" in refusal("stcn", tmp_path / "cut.pth")


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {"lr": 1.0}, {"network": {"lr": 1.0}}, {}])
def test_a_file_of_something_else_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    message = refusal("stcn", tmp_path / "other.pth")
    assert "expected names and tensors" in message or "missing " in message


def test_text_under_the_name_of_weights_is_refused(tmp_path):
    for name in ("page.pth", "page.safetensors"):
        Path(tmp_path / name).write_text("<html>not found</html>")
        assert name in refusal("stcn", tmp_path / name)
