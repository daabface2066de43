"""The student's networks of MRDA, "Meta-Learning-Based Degradation Representation for Blind Super-Resolution" (IEEE TIP
2023).
"""

from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs.dasr_arch import DABlock, VectorGuided
from lightbsr_arch.archs.degradation_encoder import (
    SLOPE,
    DegradationEncoder,
    mean_in_strips,
    refuse_extra_input,
    two_linear_layers,
)
from lightbsr_arch.archs.estimator_init import Init
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.idrdcrbnet_arch import IDRDDC
from lightbsr_arch.archs.part import Advance, Arguments, State, count


@ARCH_REGISTRY.register()
class MRDAEncoder(DegradationEncoder):
    """Computes the IDR, a vector, by DASR's encoder without batch normalisation and an MLP.

    A student distils the IDR itself.

    Args:
        num_in_ch: channels of ``lq``.
        num_feat: channels C of the first convolution; the IDR has 4C numbers.
        init: initialisation, see ``estimator_init``. With "detail", the first filters have zero mean.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) to the IDR (N x 4C).
    """

    knows = ("idr",)

    published_names = ((r"E(_st)?\.E\.", "features."), (r"E(_st)?\.mlp\.", "mlp."))

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64, init: Init = "detail") -> None:
        super().__init__(num_in_ch, num_feat, batch_norm=False)
        self.mlp = two_linear_layers(self.idr_ch)
        self.start(init)

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the IDR, N x 4C, and ``{"idr": N x 4C}`` with the same tensor."""
        refuse_extra_input(self, extra)
        idr = self.mlp(as_vector(self.features(lq)))
        return idr, {"idr": idr}

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        return super().from_state(state) if "features.10.weight" in state else None

    def estimate_in_strips(self, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
        idr: torch.Tensor = self.mlp(mean_in_strips(self.features, lq, rows, advance))
        return idr


class RDAConv(nn.Module):
    """Region degradation-aware convolution: a dynamic depthwise convolution with a mask per pixel, plus the input."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.ddc = IDRDDC(num_feat)
        self.mask = nn.Conv2d(num_feat, 1, 1)

    def forward(self, x: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + F.leaky_relu(self.ddc(x, vector), SLOPE) * self.mask(x).sigmoid()
        return out


@ARCH_REGISTRY.register()
class RDANet(VectorGuided):
    """Upscales an image under the guidance of its degradation vector. A degradation map is averaged.

    Args:
        num_in_ch: channels of the input image.
        num_out_ch: channels of the output image.
        num_feat: channels of the body.
        num_block: number of blocks.
        idr_ch: channels of the IDR.
        scale: 2, 3 or 4.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) and its ``guides`` to N x 3 x H*scale x W*scale.
    """

    system = "MRDA"
    published_names = (
        *VectorGuided.published_names,
        (r"(G\..*\.da_conv[12])\.conv\.", r"\1.mask."),
        (r"G\.body\.0\.body\.(\d+)\.", r"body.\1."),
    )

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 27,
        idr_ch: int = 256,
        scale: int = 4,
    ) -> None:
        blocks: list[nn.Module] = [DABlock(num_feat, RDAConv) for _ in range(num_block)]
        super().__init__(num_in_ch, num_out_ch, num_feat, idr_ch, scale, blocks)

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        num_feat, idr_ch = state["compress.weight"].shape
        num_block = count(state, r"body\.\d+\.da_conv1\.mask\.weight")
        return {"num_feat": num_feat, "num_block": num_block, "idr_ch": idr_ch, "scale": cls.scale_of(state)}
