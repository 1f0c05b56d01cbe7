"""ImageNet weights for trunks: from files in torchvision's naming, all or nothing, downloads only when asked for."""

import sys

import pytest
import torch

from tmrn_edu import imagenet
from tmrn_edu.encoders import ResNet, resnet18, resnet50
from tmrn_edu.errors import InputError
from tmrn_edu.imagenet import load_imagenet
from tmrn_edu.mobile import MobileNetV2
from tmrn_edu.networks import GSFM, STCN, STM, XMem


def torchvision_like(trunk):
    """A trunk's state dict with what torchvision's file has beside it: the last stage and a classifier."""
    state = {name: torch.rand_like(x) if x.is_floating_point() else x for name, x in trunk.state_dict().items()}
    return state | {
        "layer4.0.conv1.weight": torch.rand(2, 2, 1, 1),
        "fc.weight": torch.rand(3, 2),
        "fc.bias": torch.rand(3),
    }


@pytest.fixture(scope="module")
def files():
    torch.manual_seed(1)
    return {"resnet50": torchvision_like(resnet50()), "resnet18": torchvision_like(resnet18())}


@pytest.mark.parametrize(
    "build, kinds",
    [
        (STM, ("resnet50",) * 2),
        (STCN, ("resnet50", "resnet18")),
        (XMem, ("resnet50", "resnet18")),
        (GSFM, ("resnet50", "resnet18")),
    ],
)
def test_every_trunk_of_every_network(build, kinds, files):
    network = build()
    names = load_imagenet(network, **files)
    assert len(names) == 2
    for name, kind in zip(names, kinds, strict=True):
        trunk = network.get_submodule(name)
        assert torch.equal(trunk.layer3[1].conv2.weight, files[kind]["layer3.1.conv2.weight"])
        assert torch.equal(trunk.bn1.running_var, files[kind]["bn1.running_var"])
        stem = trunk.conv1.weight
        assert torch.equal(stem[:, :3], files[kind]["conv1.weight"])
        if stem.shape[1] > 3:  # what sees masks: orthogonal rows
            extra = stem[:, 3:].detach().reshape(64, -1)
            torch.testing.assert_close(extra @ extra.T, torch.eye(64), atol=1e-4, rtol=0)
        biases = [m.bias for m in trunk.modules() if isinstance(m, torch.nn.Conv2d) and m.bias is not None]
        assert all(not bias.any() for bias in biases)
    assert any(m.bias is not None for m in network.modules() if isinstance(m, ResNet) for m in [m.conv1]) == (
        build in (STCN, GSFM)
    )


def test_from_files(files, tmp_path):
    torch.save(files["resnet50"], tmp_path / "a.pth")
    network = STM()
    assert load_imagenet(network, resnet50=tmp_path / "a.pth") == ["query_encoder", "memory_encoder.trunk"]
    assert torch.equal(network.query_encoder.conv1.weight, files["resnet50"]["conv1.weight"])


def test_a_mobile_trunk(tmp_path):
    """torchvision's file has more stages, which are left out; nothing else of the network changes."""
    torch.manual_seed(0)
    network, state = STCN.mobile(), torchvision_like(MobileNetV2()) | {"features.18.0.weight": torch.rand(2, 2, 1, 1)}
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.save(state, tmp_path / "m.pth")
    assert load_imagenet(network, mobilenet_v2=tmp_path / "m.pth") == ["key_encoder.trunk"]
    for name, tensor in network.state_dict().items():
        of_trunk = name.removeprefix("key_encoder.trunk.")
        assert torch.equal(tensor, state[of_trunk] if name != of_trunk else before[name]), name
    with pytest.raises(InputError, match="key_encoder.trunk is no mobilenet_v2 of torchvision: missing features.0"):
        load_imagenet(network, mobilenet_v2=torchvision_like(resnet18()))
    with pytest.raises(InputError, match="key_encoder.trunk is a mobilenet_v2, for which no file was given"):
        load_imagenet(network, resnet50=state)


def test_wrong_weights_change_nothing(files):
    network = STCN()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    short = {name: tensor for name, tensor in files["resnet18"].items() if not name.startswith("layer2.0.conv1")}
    short["layer1.0.conv1.weight"] = torch.zeros(64, 64, 1, 1)
    short.pop("layer2.0.downsample.1.bias")
    with pytest.raises(InputError, match="value_encoder.trunk is no resnet18") as error:
        load_imagenet(network, resnet50=files["resnet50"], resnet18=short)
    for part in (
        "missing layer2.0.conv1.weight",
        "missing layer2.0.downsample.1.bias",
        "layer1.0.conv1.weight is (64, 64, 1, 1)",
    ):
        assert part in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(InputError, match="no resnet50 of torchvision"):
        load_imagenet(network, resnet50=files["resnet18"], resnet18=files["resnet18"])


def test_nothing_is_downloaded_unless_asked_for(files, monkeypatch):
    def fetched(kind):
        raise AssertionError(f"{kind} was fetched")

    monkeypatch.setattr(imagenet, "fetch", fetched)
    network = STCN()
    with pytest.raises(InputError, match="value_encoder.trunk is a resnet18, for which no file was given"):
        load_imagenet(network, resnet50=files["resnet50"])
    monkeypatch.setattr(imagenet, "fetch", lambda kind: files[kind])
    assert load_imagenet(network, resnet50=files["resnet50"], download=True) == ["key_encoder", "value_encoder.trunk"]


def test_downloads_are_checked(monkeypatch):
    asked = {}

    class Pooch:
        @staticmethod
        def os_cache(name):
            return name

        @staticmethod
        def retrieve(url, known_hash, **options):
            asked[url] = known_hash
            raise ValueError("SHA256 hash of downloaded file does not match the known hash")

    monkeypatch.setitem(sys.modules, "pooch", Pooch)
    with pytest.raises(InputError, match="could not be fetched .*does not match.*give resnet18=FILE"):
        imagenet.fetch("resnet18")
    ((url, checksum),) = asked.items()
    assert url.split("-")[-1].removesuffix(".pth") == checksum.removeprefix("sha256:")[:8]
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(InputError, match="needs pooch"):
        imagenet.fetch("resnet50")


def test_a_network_without_trunks():
    with pytest.raises(InputError, match="STCN has 0 ResNet or MobileNetV2 trunks"):
        load_imagenet(STCN.tiny(), download=True)
