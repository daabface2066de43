"""MRDA: "Meta-Learning-Based Degradation Representation for Blind Super-Resolution" (IEEE TIP 2023).

A small network is meta-learned, so that a few steps of gradient descent adapt it to the degradation of a batch. The
teacher's estimator receives the features of the adapted network. The student's estimator receives only the low-quality
image.
"""

from typing import Any

import torch
from basicsr.archs.arch_util import Upsample
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from lightbsr_arch.archs.dasr_arch import DABlock, VectorGuided
from lightbsr_arch.archs.degradation_encoder import (
    SLOPE,
    DegradationEncoder,
    mean_in_strips,
    two_linear_layers,
)
from lightbsr_arch.archs.estimator_init import Init, he_init_
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.idrdcrbnet_arch import IDRDDC
from lightbsr_arch.archs.inner_loop import adapt
from lightbsr_arch.archs.part import Advance, Arguments, Network, State, count, refuse_extra_input
from lightbsr_arch.archs.residual_restorer import ResidualRestorer
from lightbsr_arch.degradations import bicubic_resize

FIRST_RATE, LATER_RATE = 1e-2, 5e-3
"""Learning rates of the published adaptation: that of the first step, and that of the others."""


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


@ARCH_REGISTRY.register()
class MRDAMetaNet(Network):
    """Upscales an image by plain convolutions, and adds the image upscaled by bicubic interpolation.

    Args:
        num_feat: channels of the features.
        num_block: number of 3x3 convolutions after the first.
        scale: 2, 3 or 4.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) to N x 3 x H*scale x W*scale, or with ``restore=False`` to the features, N x
    num_feat x H x W.
    """

    def __init__(self, num_feat: int = 128, num_block: int = 6, scale: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (3, *[num_feat] * num_block):
            layers += [nn.Conv2d(channels, num_feat, 3, padding=1), nn.LeakyReLU(SLOPE)]
        self.features = nn.Sequential(*layers)
        self.upsample = Upsample(scale, num_feat)
        self.tail = nn.Conv2d(num_feat, 3, 3, padding=1)
        self.config = {"num_feat": num_feat, "num_block": num_block, "scale": scale}
        self.num_feat, self.scale = num_feat, scale

    def forward(self, lq: torch.Tensor, restore: bool = True) -> torch.Tensor:
        features: torch.Tensor = self.features(lq)
        if not restore:
            return features
        sr: torch.Tensor = self.tail(self.upsample(features)) + bicubic_resize(lq, self.scale)
        return sr

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        num_feat, channels = state["features.0.weight"].shape[:2]
        num_block = count(state, r"features\.\d+\.weight") - 1
        scale = ResidualRestorer.scale_of(state)
        return {"num_feat": num_feat, "num_block": num_block, "scale": scale} if channels == 3 else None


@ARCH_REGISTRY.register()
class MRDATeacher(DegradationEncoder):
    """Computes the IDR, a vector, from the features of a meta-learned network that is adapted to the batch.

    Every forward pass starts from the meta-learned weights, ``meta``, which are not trained. ``rates`` are the learning
    rates of the steps that adapt them. All images of a batch must have the same degradation (``degradation.per:
    batch``).

    Args:
        num_feat: channels C of the first convolution; the IDR has 4C numbers.
        num_meta_feat: channels of the meta-learned network.
        num_block: its number of convolutions after the first.
        num_step: number of steps that adapt it.
        scale: size of ``gt`` divided by that of ``lq``.
        init: initialisation, see ``estimator_init``.

    Forward: ``lq`` (N x 3 x H x W) and ``gt`` (N x 3 x H*scale x W*scale), both in [0, 1], to the IDR (N x 4C).
    """

    knows = ("idr",)
    extra_input = "gt"
    is_teacher = True
    rates: torch.Tensor

    def __init__(
        self,
        num_feat: int = 64,
        num_meta_feat: int = 128,
        num_block: int = 6,
        num_step: int = 5,
        scale: int = 4,
        init: Init = "detail",
    ) -> None:
        super().__init__(num_meta_feat, num_feat, batch_norm=False)
        self.mlp = two_linear_layers(self.idr_ch)
        if init == "detail":  # the input is no image, so the filters keep their mean
            he_init_(self, SLOPE)
        self.meta = MRDAMetaNet(num_meta_feat, num_block, scale).requires_grad_(False)
        rates = torch.full((num_step,), LATER_RATE)
        rates[:1] = FIRST_RATE
        self.register_buffer("rates", rates)

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the IDR, N x 4C, and ``{"idr": N x 4C}`` with the same tensor."""
        if extra is None:
            raise ValueError("MRDATeacher needs its privileged input, the ground-truth image: model(lq, gt)")
        idr = self.mlp(as_vector(self.features(self.adapted_features(lq, extra))))
        return idr, {"idr": idr}

    def adapted_features(self, lq: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
        """Return the features of the network adapted to a batch, N x num_meta_feat x H x W, without gradient."""
        with torch.inference_mode(False), torch.autocast(lq.device.type, enabled=False):
            lq, gt = (images.detach().clone().float() for images in (lq, gt))
            with torch.enable_grad():
                weights = adapt(self.meta, dict(self.meta.named_parameters()), lq, gt, self.rates.tolist(), F.l1_loss)
            with torch.no_grad():
                features: torch.Tensor = functional_call(self.meta, weights, (lq,), {"restore": False})
        return features

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        meta = {key.removeprefix("meta."): value for key, value in state.items() if key.startswith("meta.")}
        of_meta = MRDAMetaNet.from_state(meta)
        if of_meta is None:
            return None
        return {
            "num_feat": state["features.0.weight"].shape[0],
            "num_meta_feat": of_meta["num_feat"],
            "num_block": of_meta["num_block"],
            "num_step": len(state["rates"]),
            "scale": of_meta["scale"],
        }
