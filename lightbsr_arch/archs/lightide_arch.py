"""Degradation estimators of LightBSR (ICCV 2025), section 3.2."""

from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY

from lightbsr_arch.archs.degradation_encoder import (
    CONTRAST_NAMES,
    DegradationEncoder,
    map_in_strips,
    two_linear_layers,
)
from lightbsr_arch.archs.degradation_prior import DegradationPrior, KnowsPrior, PriorForm
from lightbsr_arch.archs.estimator_init import Init, remove_mean_
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.part import Advance, Arguments, State, refuse_extra_input


class LightIDE(DegradationEncoder):
    """The layers that teacher and student share. The IDR is a map, N x 4*num_feat x H/4 x W/4."""

    published_names = (
        *CONTRAST_NAMES,
        (r"E(?:_st|\.encoder_q)?\.E\.", "features."),
        (r"E(?:_st|\.encoder_q)?\.mlp\.", "mlp."),
    )
    knows: tuple[str, ...] = ("idr",)

    def __init__(self, num_in_ch: int, num_feat: int) -> None:
        super().__init__(num_in_ch, num_feat, batch_norm=True)

    def estimator_input(self, lq: torch.Tensor, extra: Any) -> torch.Tensor:
        """Return the input of the first convolution."""
        raise NotImplementedError

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the IDR, N x 4*num_feat x H/4 x W/4 (rounded up), and ``{"idr": its mean, N x 4*num_feat}``."""
        idr = self.features(self.estimator_input(lq, extra))
        return idr, {"idr": as_vector(idr)}

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        if "features.1.running_mean" not in state:
            return None
        num_feat, channels = state["features.0.weight"].shape[:2]
        return cls.of_channels(channels, {"num_feat": num_feat}, state)

    @classmethod
    def of_channels(cls, channels: int, arguments: Arguments, state: State) -> Arguments | None:
        """Add the arguments that follow from the number of input channels of the first convolution."""
        raise NotImplementedError


@ARCH_REGISTRY.register()
class LightIDEStudent(LightIDE):
    """Computes the IDR from the low-quality image only.

    Args:
        num_in_ch: channels of ``lq``.
        num_feat: channels C of the first convolution; the IDR has 4C.
        init: initialisation, see ``estimator_init``. With "detail", the first filters have zero mean.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) to the IDR (N x 4C x H/4 x W/4, rounded up).
    """

    def __init__(self, num_in_ch: int = 3, num_feat: int = 32, init: Init = "detail") -> None:
        super().__init__(num_in_ch, num_feat)
        self.start(init)

    def estimator_input(self, lq: torch.Tensor, extra: Any) -> torch.Tensor:
        refuse_extra_input(self, extra)
        return lq

    @classmethod
    def of_channels(cls, channels: int, arguments: Arguments, state: State) -> Arguments | None:
        return arguments if channels == 3 else None

    def estimate_in_strips(self, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
        """The strips have a halo; the map, which is small, is kept."""
        return map_in_strips(self.features, lq, rows, advance)


@ARCH_REGISTRY.register()
class LightIDETeacher(LightIDE, KnowsPrior):
    """Computes the IDR from the low-quality image and the degradation prior, which is unavailable at test time.

    ``estimate`` also returns the ``embedding``, N x 4C, for the contrast in training.

    Args:
        num_in_ch: channels of ``lq``.
        num_feat: channels C of the first convolution; the IDR has 4C.
        num_kernel_ch: number of maps with the PCA of the blur kernel; 0 leaves the kernel out.
        num_noise_ch: number of maps with the noise level. The paper has 3 for noisy images (setting 2), otherwise 0.
        kernel_size: side of the blur kernels.
        prior: form of the numbers, "standardised" or "published"; see ``DegradationPrior``.
        init: initialisation, see ``estimator_init``. With "detail", the first filters for ``lq`` have zero mean.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) and the prior, a pair of ``kernel`` (N x kernel_size x kernel_size) and
    ``noise`` (N, standard deviation on the 8-bit scale), to the IDR (N x 4C x H/4 x W/4, rounded up). Instead of the
    pair, the values of the maps may be given, N x (num_kernel_ch + num_noise_ch).
    """

    is_teacher = True
    knows = ("idr", "embedding")
    contrast_layers = ("mlp",)

    def __init__(
        self,
        num_in_ch: int = 3,
        num_feat: int = 32,
        num_kernel_ch: int = 15,
        num_noise_ch: int = 0,
        kernel_size: int = 21,
        prior: PriorForm = "standardised",
        init: Init = "detail",
    ) -> None:
        super().__init__(num_in_ch + num_kernel_ch + num_noise_ch, num_feat)
        self.prior = DegradationPrior(num_kernel_ch, num_noise_ch, kernel_size, prior)
        self.kernel_size = kernel_size
        if init == "detail":
            remove_mean_(self.features[0], num_in_ch)
        self.mlp = two_linear_layers(self.idr_ch)

    def estimator_input(self, lq: torch.Tensor, extra: Any) -> torch.Tensor:
        if extra is None:
            raise ValueError("LightIDETeacher needs its privileged input, the degradation: model(lq, (kernel, noise))")
        maps = self.prior(extra)[:, :, None, None].to(lq)
        return torch.cat([lq, maps.expand(-1, -1, *lq.shape[2:])], dim=1)

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        idr, known = super().estimate(lq, extra)
        return idr, {**known, "embedding": self.mlp(known["idr"])}

    @classmethod
    def of_channels(cls, channels: int, arguments: Arguments, state: State) -> Arguments | None:
        if channels == 3 and "prior.components" not in state:
            return None
        # Published files do not contain the PCA, but it always has 15 components of 21x21 kernels.
        num_kernel_ch, pixels = state["prior.components"].shape if "prior.components" in state else (15, 21**2)
        is_centred = "prior.mean" not in state or bool(state["prior.mean"].any())
        return {
            **arguments,
            "num_kernel_ch": num_kernel_ch,
            "num_noise_ch": channels - 3 - num_kernel_ch,
            "kernel_size": round(pixels**0.5),
            **({} if is_centred else {"prior": "published"}),
        }
