"""DASR: "Unsupervised Degradation Representation Learning for Blind Super-Resolution" (CVPR 2021).

The published networks process images in [0, 255]. The networks here receive images in [0, 1] and scale them.
"""

from functools import partial
from itertools import tee
from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs.degradation_encoder import (
    CONTRAST_NAMES,
    SLOPE,
    DegradationEncoder,
    mean_in_strips,
    two_linear_layers,
)
from lightbsr_arch.archs.estimator_init import Init
from lightbsr_arch.archs.fast.row_streams import Strips, added, streamed
from lightbsr_arch.archs.fast.upscale import upscale
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.idrdcrbnet_arch import IDRDDC
from lightbsr_arch.archs.part import Advance, Arguments, Guides, State, count, refuse_extra_input
from lightbsr_arch.archs.residual_restorer import GuidedRestorer

PEAK = 255.0  # value of white inside the networks
GATE_REDUCTION = 8
BLOCK_HALO = 4  # rows above and below that a block depends on, because it has four 3x3 convolutions in turn


@ARCH_REGISTRY.register()
class DASREncoder(DegradationEncoder):
    """Computes the IDR, a vector, from the low-quality image.

    Its knowledge is the ``idr``, N x 4C, and the ``embedding``, N x 4C, for the contrast in training. The embedding is
    not normalised.

    Args:
        num_in_ch: channels of ``lq``.
        num_feat: channels C of the first convolution; the IDR has 4C numbers.
        init: initialisation, see ``estimator_init``. With "detail", the first filters have zero mean.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) to the IDR (N x 4C).
    """

    knows = ("idr", "embedding")
    contrast_layers = ("mlp",)

    published_names = (
        *CONTRAST_NAMES,
        (r"E\.encoder_q\.E\.", "features."),
        (r"E\.encoder_q\.mlp\.", "mlp."),
    )

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64, init: Init = "detail") -> None:
        super().__init__(num_in_ch, num_feat, batch_norm=True)
        self.mlp = two_linear_layers(self.idr_ch)
        self.start(init)

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the IDR, N x 4C, and ``{"idr": N x 4C, "embedding": N x 4C}``."""
        refuse_extra_input(self, extra)
        idr = as_vector(self.features(PEAK * lq))
        return idr, {"idr": idr, "embedding": self.mlp(idr)}

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        is_it = "features.1.running_mean" in state and "mlp.0.weight" in state
        return super().from_state(state) if is_it else None

    def estimate_in_strips(self, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
        return mean_in_strips(self.features, PEAK * lq, rows, advance)


class DAConv(nn.Module):
    """Degradation-aware convolution: a dynamic depthwise convolution, plus the input with a gate per channel."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        hidden = max(num_feat // GATE_REDUCTION, 1)
        self.ddc = IDRDDC(num_feat)
        self.conv = nn.Conv2d(num_feat, num_feat, 1)
        self.gate = nn.Sequential(
            nn.Conv2d(num_feat, hidden, 1, bias=False),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(hidden, num_feat, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        convolved = self.conv(F.leaky_relu(self.ddc(x, vector), SLOPE))
        out: torch.Tensor = convolved + x * self.gate(vector[:, :, None, None])
        return out


class DABlock(nn.Module):
    """Two dynamic and two 3x3 convolutions, alternating, with LeakyReLUs between them, plus the input.

    Args:
        num_feat: channels of the features.
        dynamic_conv: class of the dynamic convolutions. They take features and a vector of ``num_feat`` numbers.
    """

    def __init__(self, num_feat: int, dynamic_conv: type[nn.Module] = DAConv) -> None:
        super().__init__()
        self.da_conv1 = dynamic_conv(num_feat)
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.da_conv2 = dynamic_conv(num_feat)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        y = F.leaky_relu(self.da_conv1(x, vector), SLOPE)
        y = F.leaky_relu(self.conv1(y), SLOPE)
        y = F.leaky_relu(self.da_conv2(y, vector), SLOPE)
        out: torch.Tensor = x + self.conv2(y)
        return out

    def in_strips(self, strips: Strips, vector: torch.Tensor) -> Strips:
        """Yield the block's output for features in strips."""
        return streamed(partial(self, vector=vector), strips, halo=BLOCK_HALO)


class DAGroup(nn.Module):
    """Blocks, then a 3x3 convolution, plus the input."""

    def __init__(self, num_feat: int, num_block: int) -> None:
        super().__init__()
        self.body = nn.ModuleList(DABlock(num_feat) for _ in range(num_block))
        self.conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        y = x
        for block in self.body:
            y = block(y, vector)
        out: torch.Tensor = x + self.conv(y)
        return out

    def in_strips(self, strips: Strips, vector: torch.Tensor) -> Strips:
        """Yield the group's output for features in strips. The skip connection stores a strip and a few rows."""
        inner, skipped = tee(strips)
        blocks: Any = self.body
        for block in blocks:
            inner = block.in_strips(inner, vector)
        return added(streamed(self.conv, inner, halo=1), skipped)


class VectorGuided(GuidedRestorer):
    """A restorer that compresses the IDR once, to a vector of ``num_feat`` numbers, which guides all blocks."""

    published_names = (
        *GuidedRestorer.published_names,
        (r"(G\..*\.da_conv[12])\.kernel\.", r"\1.ddc.kernel."),
    )
    knows = ("vector",)

    def guides(self, idr: torch.Tensor, height: int, width: int) -> Guides:
        """Return the only guide: a ``vector``, N x num_feat, for images of any size."""
        return {"vector": F.leaky_relu(self.compress(as_vector(idr)), SLOPE)}


@ARCH_REGISTRY.register()
class DASRNet(VectorGuided):
    """Upscales an image under the guidance of its degradation vector. A degradation map is averaged.

    Args:
        num_in_ch: channels of the input image.
        num_out_ch: channels of the output image.
        num_feat: channels of the body.
        num_group: number of groups of blocks.
        num_block: number of blocks per group.
        idr_ch: channels of the IDR.
        scale: 2, 3 or 4.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) and its ``guides`` to N x 3 x H*scale x W*scale.
    """

    system = "DASR"
    published_names = (
        *VectorGuided.published_names,
        (r"(G\..*\.da_conv[12])\.ca\.conv_du\.", r"\1.gate."),
        (r"G\.body\.(\d+)\.body\.\d+\.(weight|bias)$", r"body.\1.conv.\2"),
        (r"G\.body\.(\d+)\.body\.(\d+)\.", r"body.\1.body.\2."),
    )

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_group: int = 5,
        num_block: int = 5,
        idr_ch: int = 256,
        scale: int = 4,
    ) -> None:
        groups = (DAGroup(num_feat, num_block) for _ in range(num_group))
        super().__init__(num_in_ch, num_out_ch, num_feat, idr_ch, scale, groups)

    def first_features(self, lq: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(PEAK * self.mean_in.subtract(lq))
        return out

    def image(self, features: torch.Tensor) -> torch.Tensor:
        return self.mean_out.add(upscale(features, self.upsample, self.tail) / PEAK)

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        num_feat, idr_ch = state["compress.weight"].shape
        return {
            "num_feat": num_feat,
            "num_group": count(state, r"body\.\d+\.conv\.weight"),
            "num_block": count(state, r"body\.0\.body\.\d+\.conv1\.weight"),
            "idr_ch": idr_ch,
            "scale": cls.scale_of(state),
        }
