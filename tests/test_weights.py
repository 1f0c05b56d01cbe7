"""Weight files: the round trip, and everything that can be wrong with a file."""

import json

import pytest
import torch
from safetensors.torch import save_file

from tmrn_edu import memory, weights
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.errors import InputError
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader, anisotropic_l2, dot_product
from tmrn_edu.networks import GSFM, STCN, STM, XMem
from tmrn_edu.segmenter import segment
from tmrn_edu.weights import describe, export, fit, list_networks, load

READERS = (
    lambda: SpaceTimeReader(top_k=7),
    lambda: SpaceTimeReader(dot_product),
    lambda: TrajectoryReader.paper(32, 64, agents=4),
    lambda: TrajectoryReader.chained(32, 64, similarity=anisotropic_l2, top_k=5),
)


@pytest.mark.parametrize("reader", READERS)
def test_round_trip(tmp_path, reader):
    network = STCN.tiny(reader())
    path = tmp_path / "network.safetensors"
    export(network, path, {"seed": 3})
    state = torch.random.get_rng_state()
    again = load(path)
    assert torch.equal(torch.random.get_rng_state(), state)  # loading draws no random numbers of the caller's
    assert not again.training and again.preset == "tiny"
    assert type(again.reader) is type(network.reader) and again.reader.settings() == network.reader.settings()
    assert all(
        torch.equal(x, y) for x, y in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    )
    clip = make_clip(7, frames=3, size=(32, 48))
    results = [segment(n, clip.frames, {0: clip.index_masks[0]}).probabilities for n in (network, again)]
    assert torch.equal(*results)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # no temporary file is left


@pytest.fixture
def file(tmp_path):
    export(STCN.tiny(), tmp_path / "network.safetensors")
    return tmp_path / "network.safetensors"


def test_truncated_files(file):
    whole = file.read_bytes()
    for size in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(InputError, match="network.safetensors is no whole safetensors file"):
            load(file)


def test_foreign_files(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(InputError, match=r"was not written by tmrn_edu \(metadata: none\)"):
        load(path)
    save_file({"x": torch.zeros(2)}, path, {"format": "pt"})
    with pytest.raises(InputError, match=r"metadata: \['format'\]"):
        load(path)
    torch.save({"x": torch.zeros(2)}, path)  # a pickle is not opened at all
    with pytest.raises(InputError, match="no whole safetensors file"):
        load(path)


def test_missing_files_and_unknown_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no weight file at .*nothing.safetensors"):
        load("nothing.safetensors")
    with pytest.raises(InputError, match="no network is called 'nothing'; there are .*or give a .safetensors file"):
        load("nothing")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="no network is called 'folder'"):
        load("folder")


def test_weights_of_another_network(file):
    network = STCN.tiny(TrajectoryReader.paper(32, 64))
    with pytest.raises(
        InputError, match=r"does not fit STCN \(tiny\): missing reader.rectify; .*missing reader.attention.key.weight"
    ):
        fit(network, STCN.tiny().state_dict(), file)
    with pytest.raises(InputError, match="unexpected reader.rectify"):
        fit(STCN.tiny(), network.state_dict() | STCN.tiny().state_dict(), file)
    state = network.state_dict()
    state["key_projection.weight"] = torch.zeros(3, 3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(InputError, match=r"key_projection.weight is \(3, 3\), expected \(32, 64, 3, 3\)"):
        fit(network, state, file)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_network_of_a_later_version(tmp_path):
    path = tmp_path / "later.safetensors"
    metadata = {
        "format": "tmrn_edu",
        "network": json.dumps(["XYZ", "tiny"]),
        "reader": json.dumps(["SpaceTimeReader", {}]),
    }
    save_file({"x": torch.zeros(2)}, path, metadata)
    with pytest.raises(InputError, match="holds XYZ tiny with SpaceTimeReader; this version knows .*STCN tiny, "):
        load(path)
    reader = json.dumps(["SpaceTimeReader", {"similarity": "cosine", "top_k": None}])
    save_file({"x": torch.zeros(2)}, path, metadata | {"network": json.dumps(["STCN", "tiny"]), "reader": reader})
    with pytest.raises(InputError, match="similarity 'cosine'"):
        load(path)


def test_a_failed_write_leaves_the_old_file(file, monkeypatch):
    before = file.read_bytes()

    def interrupted(state, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(STCN.tiny(), file)
    assert file.read_bytes() == before and len(list(file.parent.iterdir())) == 1


def test_shipped_networks():
    names = [info.name for info in list_networks()]
    assert len(names) == len(set(names))
    for info in list_networks():
        network = load(info.name)
        assert sum(p.numel() for p in network.parameters()) == info.parameters
        assert info.licence and info.origin and info.scores


def test_a_folder_does_not_hide_a_shipped_network(tmp_path, monkeypatch):
    names = [info.name for info in list_networks()]
    if not names:
        pytest.skip("no network is shipped yet")
    monkeypatch.chdir(tmp_path)
    (tmp_path / names[0]).mkdir()
    assert load(names[0]).preset == names[0].rpartition("-")[2]


# ------------------------------------------------------------------ every network with every reader


PRESETS = (None, "paper", "warm", "chained")


def small(kind, preset):
    make = {"STM": STM.tiny, "STCN": STCN.tiny, "XMem": XMem.tiny}[kind]
    return make(None if preset is None else TrajectoryReader.preset(preset, 32, 64, top_k=9, agents=6))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kind", ["STM", "STCN", "XMem"])
def test_round_trip_of_every_tiny_network(tmp_path, kind, preset):
    """Equal weights, settings and outputs; the reader keeps the similarity that the network gave it."""
    network = small(kind, preset)
    with torch.no_grad():
        for parameter in network.reader.parameters():
            parameter.add_(0.1)  # nothing is as it is after building
    export(network, tmp_path / "network.safetensors")
    again = load(tmp_path / "network.safetensors")
    assert type(again) is type(network) and again.rules == network.rules and again.preset == "tiny"
    assert again.reader.similarity is network.reader.similarity is type(network).similarity
    assert again.reader.settings() == network.reader.settings() and again.settings() == network.settings() == {}
    assert network.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in network.state_dict().items())
    clip = make_clip(7, frames=4, size=(32, 48))
    results = [segment(n, clip.frames, {0: clip.index_masks[0]}, memory_every=1) for n in (network, again)]
    assert torch.equal(results[0].probabilities, results[1].probabilities)


def full_networks():
    yield from ((f"{kind.__name__} {layout}", kind, {"layout": layout}) for kind in (STM, XMem) for layout in LAYOUTS)
    yield from ((kind.__name__, kind, {}) for kind in (STCN, GSFM))


LAYOUTS = ("released", "supplement")


@pytest.mark.parametrize("preset", [None, "chained"])
@pytest.mark.parametrize("kind, options", [case[1:] for case in full_networks()], ids=[c[0] for c in full_networks()])
def test_metadata_of_every_full_network(kind, options, preset):
    """What a file says of a full-size network builds one with the same names and shapes, layout included."""
    with torch.device("meta"):
        made = kind(**options)
        channels = made.key_channels, made.value_channels
        reader = None if preset is None else TrajectoryReader.preset(preset, *channels, top_k=made.top_k)
        network = kind(reader, **options)
        metadata = describe(network)
        name, size, settings = json.loads(metadata["network"])
        reader_name, reader_settings = json.loads(metadata["reader"])
        assert (name, size, settings) == (kind.__name__, "full", options)
        assert reader_settings["similarity"] == kind.similarity.__name__ and reader_settings["top_k"] == made.top_k
        similarity = getattr(memory.similarity, reader_settings["similarity"])
        again = weights.NETWORKS[name, size](
            weights.READERS[reader_name](**reader_settings | {"similarity": similarity}), **settings
        )
    shapes = [{entry: x.shape for entry, x in n.state_dict().items()} for n in (network, again)]
    assert shapes[0] == shapes[1] and again.settings() == options


def test_a_full_network_in_the_supplements_layout(tmp_path):
    network = STM.tmrn("chained")
    export(network, tmp_path / "network.safetensors")
    again = load(tmp_path / "network.safetensors")
    assert again.layout == "supplement" and again.reader.chained and again.reader.similarity is dot_product
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in network.state_dict().items())


def test_files_of_version_0_1(tmp_path):
    """Their metadata names network and preset alone."""
    network = STCN.tiny()
    old = describe(network) | {"network": json.dumps(["STCN", "tiny"])}
    save_file(network.state_dict(), tmp_path / "old.safetensors", old)
    again = load(tmp_path / "old.safetensors")
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in network.state_dict().items())
    full = describe(network) | {"network": json.dumps(["STM", "tiny"])}
    save_file(network.state_dict(), tmp_path / "other.safetensors", full)
    with pytest.raises(InputError, match=r"does not fit STM \(tiny\): missing query_encoder"):
        load(tmp_path / "other.safetensors")


def test_weights_in_half_precision_load_in_float32(tmp_path):
    network = XMem.tiny(TrajectoryReader.warm(32, 64))
    export(network.half(), tmp_path / "half.safetensors")
    again = load(tmp_path / "half.safetensors")
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert all(torch.equal(x.float(), again.state_dict()[name]) for name, x in network.state_dict().items())


def test_files_in_half_precision(tmp_path):
    """Half the size, numbers rounded; a number too large for it is refused and leaves no file."""
    network = STCN.tiny()
    export(network, tmp_path / "a.safetensors"), export(network, tmp_path / "b.safetensors", dtype=torch.float16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in "ab"]
    assert sizes[1] < 0.55 * sizes[0]
    again = load(tmp_path / "b.safetensors").state_dict()
    assert all(torch.equal(x.half().float(), again[name]) for name, x in network.state_dict().items())
    with pytest.raises(InputError, match="dtype is torch.int8, expected a floating-point type"):
        export(network, tmp_path / "c.safetensors", dtype=torch.int8)
    with torch.no_grad():
        network.key_projection.bias[0] = 1e6
    with pytest.raises(InputError, match="key_projection.bias: numbers that are not finite as torch.float16"):
        export(network, tmp_path / "c.safetensors", dtype=torch.float16)
    assert not (tmp_path / "c.safetensors").exists()


def test_another_reader_keeps_its_own_weights(tmp_path):
    """TMRN's warm reader goes into a trained baseline, from a file, and changes nothing."""
    torch.manual_seed(0)
    baseline = STCN.tiny().eval()
    export(baseline, tmp_path / "baseline.safetensors")
    warm = load(tmp_path / "baseline.safetensors", reader=TrajectoryReader.warm(32, 64))
    assert isinstance(warm.reader, TrajectoryReader) and not warm.training
    clip = make_clip(3, frames=4, size=(32, 48))
    results = [segment(net, clip.frames, {0: clip.index_masks[0]}, memory_every=1) for net in (baseline, warm)]
    torch.testing.assert_close(results[0].probabilities, results[1].probabilities, atol=1e-5, rtol=0)
