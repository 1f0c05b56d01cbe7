"""GSFM, whole: "Global Spectral Filter Memory Network for Video Object Segmentation" (Liu et al., ECCV 2022).

STCN with two filters in the frequency domain: one behind the key encoder, one in a decoder that also predicts the objects' boundaries.
TMRN's authors compare with it. Everything that is not said here is `stcn.py`.
"""

from dataclasses import replace

import torch
from einops import pack, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tmrn_edu.blocks import PairBlock, conv3x3
from tmrn_edu.decoder import Decoded, Decoder, object_logits
from tmrn_edu.encoders import ResNet, ValueEncoder, resnet50
from tmrn_edu.memory.readers import TrajectoryReader
from tmrn_edu.networks.base import InferenceRules, Sizes, key_convolution
from tmrn_edu.networks.stcn import STCN, Parts

SIGMA = 7.0  # of the Gaussian, in frequency cells


class SpectralFilter(nn.Module):
    """A feature with part of its spectrum re-weighted: x + Re ifft2(conv(relu(conv(fft2(x) * window)))).

        window = G or 1 - G,   G = exp(-((y - h//2)^2 + (x - w//2)^2) / (2 sigma^2)),  sigma = 7
        both convolutions are 1x1 over [real, imaginary], 2 c channels

    The spectrum is not shifted, so its middle is the *highest* frequency: G keeps high frequencies (`keep="high"`), 1 - G low
    ones (`keep="low"`). Shapes: `n c h w` -> `n c h w`; the transforms run in float32 or better. Raises ValueError for another `keep`.
    Source: GSFM, low- and high-frequency modules; the unshifted window is the authors' code.
    """

    def __init__(self, channels: int, keep: str):
        super().__init__()
        if keep not in ("low", "high"):
            raise ValueError(f"keep is {keep!r}, expected 'low' or 'high'")
        self.keep = keep
        self.conv1 = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 1)

    def window(self, x: Tensor) -> Float[Tensor, "h w"]:
        """How much of each frequency goes in, in [0, 1]."""
        height, width = x.shape[-2:]
        y = torch.arange(height, device=x.device, dtype=x.dtype) - height // 2
        x = torch.arange(width, device=x.device, dtype=x.dtype) - width // 2
        gaussian = torch.exp(-(rearrange(y, "h -> h 1") ** 2 + rearrange(x, "w -> 1 w") ** 2) / (2 * SIGMA**2))
        return gaussian if self.keep == "high" else 1 - gaussian

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        weights = self.conv1.weight.dtype
        result = torch.promote_types(x.dtype, weights)  # under autocast weights are float32, and so is the result
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        spectrum = torch.fft.fft2(x.contiguous()) * self.window(x)  # contiguous: faster by a quarter
        parts, _ = pack([spectrum.real, spectrum.imag], "n * h w")
        real, imaginary = self.conv2(torch.relu(self.conv1(parts.to(weights)))).to(x.dtype).chunk(2, dim=1)
        return (x + torch.fft.ifft2(torch.complex(real, imaginary)).real).to(result)


class FilteredEncoder(nn.Module):
    """The key encoder with the low-pass filter on its coarse feature: key, query value and value all see the result (GSFM, section 3.2)."""

    def __init__(self, trunk: ResNet):
        super().__init__()
        self.trunk = trunk
        self.low_pass = SpectralFilter(1024, keep="low")

    def forward(self, image: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """Features at strides 4, 8 and 16."""
        *finer, coarse = self.trunk(image)
        return (*finer, self.low_pass(coarse))


class BoundaryDecoder(Decoder):
    """STCN's decoder with two branches at stride 4, mask and boundary, that inform each other (GSFM, decoder with boundaries).

        b = high_pass(conv(x)) + relu(conv1x1(m)),  m = conv(x) ;   b = relu(conv(conv(b)))
        mask logits = pred(relu(conv(m + relu(conv1x1(b))))) ;      boundary logits = conv(relu(conv(b)))

    Boundary logits serve the authors' training loss alone; no recipe here trains GSFM, so their layers are there for files to load.
    Names of the layers: the authors'.
    """

    def __init__(self):
        super().__init__(PairBlock(512, 512, 512))
        self.boundary_1, self.mask_1 = conv3x3(256, 256), conv3x3(256, 256)
        self.boundary_2, self.boundary_3 = conv3x3(256, 256), conv3x3(256, 256)
        self.fusion_1, self.fusion_2 = nn.Conv2d(256, 256, 1), nn.Conv2d(256, 256, 1)
        self.predict_boundary_1, self.predict_boundary_2 = conv3x3(256, 256), conv3x3(256, 1)
        self.predict_mask = conv3x3(256, 256)
        self.high_pass = SpectralFilter(256, keep="high")

    def boundary_feature(self, x: Float[Tensor, "n c h w"], mask: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """b: what the boundary branch makes of the decoder's feature and the mask branch."""
        boundary = self.high_pass(self.boundary_1(x)) + torch.relu(self.fusion_1(mask))
        return torch.relu(self.boundary_3(self.boundary_2(boundary)))

    def mask_scores(self, x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n 1 h w"], Float[Tensor, "n c h w"]]:
        """Scores of the mask at stride 4, and b for those of the boundary."""
        mask = self.mask_1(x)
        boundary = self.boundary_feature(x, mask)
        mask = self.predict_mask(mask + torch.relu(self.fusion_2(boundary)))
        return self.pred(torch.relu(mask)), boundary

    def forward(
        self,
        objects: Float[Tensor, "b o co h w"],
        image: Float[Tensor, "b ci h w"],
        skips: tuple[Float[Tensor, "b _ _ _"], ...],
    ) -> Decoded:
        pyramid = self.climb(objects, image, skips)
        scores, boundary = self.mask_scores(rearrange(pyramid[-1], "b o c h w -> (b o) c h w"))
        scores = rearrange(scores, "(b o) s h w -> b o s h w", b=image.shape[0])
        decoded = Decoded(object_logits(scores, 4), scores, pyramid)
        if not self.training:  # boundaries serve the loss alone
            return decoded
        boundary = self.predict_boundary_2(torch.relu(self.predict_boundary_1(boundary)))
        boundary = rearrange(boundary, "(b o) s h w -> b o s h w", b=image.shape[0])
        return replace(decoded, boundary=object_logits(boundary, 4))


def full_parts() -> Parts:
    """GSFM as published: STCN's sizes, all convolutions of both encoders with a bias; the 50 best memory pixels."""
    return Parts(
        FilteredEncoder(resnet50(bias=True)),
        key_projection=key_convolution(1024, 64),
        query_projection=nn.Conv2d(1024, 512, 3, padding=1),
        value_encoder=ValueEncoder(image_channels=1024, value_channels=512, bias=True),
        decoder=BoundaryDecoder(),
        sizes=Sizes("full", key_channels=64, value_channels=512, stride=16, cell=16, short_side=480),
        top_k=50,
    )


class GSFM(STCN):
    """Global Spectral Filter Memory network: `GSFM()` as published, with any reader; a comparator, so there is no tiny one.

    `reader`: None is the space-time read by negative squared L2, the 50 best memory pixels at inference. A memory frame every 3.
    Attributes: see `MemoryNetwork`.
    """

    rules = InferenceRules(memory_every=3)

    def __init__(self, reader: nn.Module | None = None):
        super().__init__(reader, full_parts())

    @classmethod
    def tiny(cls, reader: nn.Module | None = None) -> "GSFM":
        """Raises ValueError: there is no small GSFM."""
        raise ValueError("GSFM has no tiny form, expected one of STM.tiny, STCN.tiny, XMem.tiny")

    @classmethod
    def tmrn(cls, preset: str = "paper") -> "GSFM":
        """GSFM with TMRN's reader in preset "paper", "warm" or "chained" (ours: TMRN's authors only compare with GSFM)."""
        return cls(TrajectoryReader.preset(preset, 64, 512, top_k=50))
