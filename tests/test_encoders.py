"""Encoders: sizes, masks that go in and come out, initial weights, gradients."""

import pytest
import torch
from torch import nn

from tmrn_edu.encoders import (
    Fuser,
    Normalise,
    TinyImageEncoder,
    TinyValueEncoder,
    ValueEncoder,
    freeze_batch_norm,
    resnet18,
    resnet50,
    stack_masks,
)


def idle(module):
    return [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]


def test_normalise_is_imagenets():
    normalise = Normalise()
    grey = torch.full((2, 3, 4, 6), 0.5)
    expected = torch.tensor([(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225])
    torch.testing.assert_close(normalise(grey)[1, :, 3, 5], expected)
    assert not normalise.state_dict()


@pytest.mark.parametrize("build, channels", [(resnet50, (256, 512, 1024)), (resnet18, (64, 128, 256))])
def test_resnet_features(build, channels):
    features = freeze_batch_norm(build())(torch.randn(1, 3, 48, 80))
    assert [f.shape for f in features] == [(1, c, 48 // s, 80 // s) for c, s in zip(channels, (4, 8, 16))]


def test_resnet_parameters():
    """8,543,296: ResNet-50 to stride 16 without biases, as in STCN and XMem (authors' code)."""
    assert sum(p.numel() for p in resnet50().parameters()) == 8_543_296
    assert sum(p.numel() for p in ValueEncoder().parameters()) == 21_701_635


def test_resnet_has_torchvisions_names():
    names = set(resnet50().state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight", "layer3.5.bn3.bias"} <= names
    assert "layer1.2.conv3.weight" in names and "layer3.6.conv1.weight" not in names and "conv1.bias" not in names
    assert {"conv1.bias", "layer2.0.downsample.0.bias"} <= set(resnet18(bias=True).state_dict())


def test_freeze_batch_norm_keeps_statistics():
    trunk = freeze_batch_norm(resnet18().train())
    before = trunk.bn1.running_mean.clone()
    trunk(torch.randn(2, 3, 32, 32) + 3)
    assert torch.equal(trunk.bn1.running_mean, before)


def test_stack_masks():
    frames, masks = torch.rand(2, 3, 4, 6), torch.rand(2, 3, 4, 6)
    stacked = stack_masks(frames, masks)
    assert stacked.shape == (2, 3, 2, 4, 6)
    torch.testing.assert_close(stacked[1, 2, 0], masks[1, 2])
    torch.testing.assert_close(stacked[1, 2, 1], masks[1, 0] + masks[1, 1])
    assert not stack_masks(frames, masks[:, :1])[:, :, 1].any()  # one object: no others


@pytest.mark.parametrize("shape, said", [((2, 3, 4, 5), r"2 x \(4, 5\)"), ((1, 3, 4, 6), r"1 x \(4, 6\)")])
def test_stack_masks_names_both_sides(shape, said):
    with pytest.raises(ValueError, match=rf"frames have batch and size 2 x \(4, 6\), object masks have {said}"):
        stack_masks(torch.rand(2, 3, 4, 6), torch.rand(shape))


@pytest.mark.parametrize("image_first", [False, True])
def test_fuser(image_first):
    fuser = Fuser(5, 7, 32, image_first)
    objects, image = torch.randn(2, 3, 5, 6, 8), torch.randn(2, 7, 6, 8)
    value = fuser(objects, image)
    x = fuser.block1(objects[:, 1:2], image)[:, 0]
    torch.testing.assert_close(value[:, 1], fuser.block2(x + fuser.attention(x)), atol=1e-5, rtol=1e-4)


def test_value_encoder():
    encoder = freeze_batch_norm(ValueEncoder(image_channels=7, value_channels=32))
    value = encoder(torch.randn(2, 3, 32, 48), torch.randn(2, 7, 2, 3), torch.rand(2, 3, 2, 32, 48))
    assert value.shape == (2, 3, 32, 2, 3) and encoder.mask_channels == 0
    value.square().mean().backward()
    assert not idle(encoder)


def test_value_encoder_stem_sees_image_mask_others():
    """The stem's five channels in the authors' order: R, G, B, mask, others."""
    encoder = ValueEncoder(image_channels=7, value_channels=32).eval()
    image, coarse, masks = torch.randn(1, 3, 32, 48), torch.randn(1, 7, 2, 3), torch.rand(1, 1, 2, 32, 48)
    plain = encoder.trunk(torch.cat([image, masks[:, 0]], dim=1))[-1]
    expected = encoder.fuser(plain[:, None], coarse)
    torch.testing.assert_close(encoder(image, coarse, masks), expected, atol=1e-4, rtol=1e-4)


def test_biases_are_stcns_only():
    assert sum(name.endswith("bias") for name, _ in ValueEncoder(bias=True).trunk.named_parameters()) == 2 * sum(
        name.endswith("bias") for name, _ in ValueEncoder(bias=False).trunk.named_parameters()
    )


def test_tiny_image_encoder():
    encoder = TinyImageEncoder(out_channels=40)
    f2, f4 = encoder(torch.randn(2, 3, 48, 80))
    assert f2.shape == (2, 16, 24, 40) and f4.shape == (2, 40, 12, 20)
    (f2.square().mean() + f4.square().mean()).backward()
    assert not idle(encoder)


def test_tiny_value_encoder_carries_the_mask():
    encoder = TinyValueEncoder(image_channels=24, value_channels=44, mask_channels=4)
    masks = torch.rand(2, 3, 2, 32, 48)
    value = encoder(torch.randn(2, 3, 32, 48), torch.randn(2, 24, 8, 12), masks)
    assert value.shape == (2, 3, 44, 8, 12)
    cells = nn.functional.avg_pool2d(masks[:, :, 0], 4)
    for channel in range(40, 44):
        torch.testing.assert_close(value[:, :, channel], cells)
    value.square().mean().backward()
    assert not idle(encoder)
