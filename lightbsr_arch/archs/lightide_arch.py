"""Degradation estimators of LightBSR (ICCV 2025), section 3.2."""

from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from lightbsr_arch.archs.degradation_prior import DegradationPrior, PriorForm
from lightbsr_arch.archs.estimator_init import Init, remove_mean_
from lightbsr_arch.archs.idr import as_vector

SLOPE = 0.1  # of every LeakyReLU


class LightIDE(nn.Module):
    """What teacher and student share: an image goes in, a map that describes its degradation comes out.

    Attributes:
        idr_ch: channels of the IDR, ``4 * num_feat``: what a restorer must accept.
        knows: the names of what ``estimate`` gives besides the IDR.
        privileged: the name of the input that only a teacher sees, or None.
    """

    privileged: str | None = None
    knows: tuple[str, ...] = ("idr",)

    def __init__(self, num_in_ch: int, num_feat: int) -> None:
        super().__init__()
        wide, widest = 2 * num_feat, 4 * num_feat
        layers: list[nn.Module] = []
        for before, after, stride in (
            (num_in_ch, num_feat, 1),
            (num_feat, num_feat, 1),
            (num_feat, wide, 2),
            (wide, wide, 1),
            (wide, widest, 2),
            (widest, widest, 1),
        ):
            layers += [nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.LeakyReLU(SLOPE)]
        self.features = nn.Sequential(*layers)
        self.idr_ch = widest

    def estimator_input(self, lq: torch.Tensor, privileged: Any) -> torch.Tensor:
        """What the first convolution sees."""
        raise NotImplementedError

    def estimate(self, lq: torch.Tensor, privileged: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The IDR, N x 4*num_feat x H/4 x W/4 (rounded up), and the knowledge ``{"idr": its mean, N x 4*num_feat}``."""
        idr = self.features(self.estimator_input(lq, privileged))
        return idr, {"idr": as_vector(idr)}

    def forward(self, lq: torch.Tensor, privileged: Any = None) -> torch.Tensor:
        return self.features(self.estimator_input(lq, privileged))


@ARCH_REGISTRY.register()
class LightIDEStudent(LightIDE):
    """Reads the IDR off the low-quality image alone.

    Args:
        num_in_ch: channels of ``lq``.
        num_feat: channels C of the first convolution; the IDR has 4C.
        init: start of the weights; see ``estimator_init``. "detail": the first filters have zero mean.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) to the IDR (N x 4C x H/4 x W/4, rounded up).
    """

    def __init__(self, num_in_ch: int = 3, num_feat: int = 32, init: Init = "detail") -> None:
        super().__init__(num_in_ch, num_feat)
        if init == "detail":  # batch normalisation keeps the scale
            remove_mean_(self.features[0])

    def estimator_input(self, lq: torch.Tensor, privileged: Any) -> torch.Tensor:
        if privileged is not None:
            raise ValueError(
                "LightIDEStudent sees the low-quality image alone; only a teacher takes a privileged input"
            )
        return lq


@ARCH_REGISTRY.register()
class LightIDETeacher(LightIDE):
    """Reads the IDR off the low-quality image together with the degradation prior, which no user has at test time.

    Its knowledge also holds the ``embedding``, N x 4C, on which degradations are contrasted in training.

    Args:
        num_in_ch: channels of ``lq``.
        num_feat: channels C of the first convolution; the IDR has 4C.
        num_kernel_ch: maps that describe the blur kernel, projected by PCA; 0 for a teacher that does not see it.
        num_noise_ch: maps that hold the noise level; the paper has 3 where images are noisy (setting 2), else 0.
        kernel_size: side of the blur kernels.
        prior: form of the numbers, "standardised" or "published"; see ``DegradationPrior``.
        init: start of the weights; see ``estimator_init``. "detail": the first filters for ``lq`` have zero mean.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) and the prior, a pair of ``kernel`` (N x kernel_size x kernel_size) and
    ``noise`` (N, standard deviation on the 8-bit scale), to the IDR (N x 4C x H/4 x W/4, rounded up). Instead of the
    pair, the numbers that the maps hold may be given, N x (num_kernel_ch + num_noise_ch).
    """

    privileged = "prior"
    knows = ("idr", "embedding")

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
        if init == "detail":
            remove_mean_(self.features[0], num_in_ch)
        self.mlp = nn.Sequential(
            nn.Linear(self.idr_ch, self.idr_ch), nn.LeakyReLU(SLOPE), nn.Linear(self.idr_ch, self.idr_ch)
        )

    def estimator_input(self, lq: torch.Tensor, privileged: Any) -> torch.Tensor:
        if privileged is None:
            raise ValueError("LightIDETeacher needs its privileged input, the degradation: model(lq, (kernel, noise))")
        maps = self.prior(privileged)[:, :, None, None].to(lq)
        return torch.cat([lq, maps.expand(-1, -1, *lq.shape[2:])], dim=1)

    def estimate(self, lq: torch.Tensor, privileged: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        idr, knowledge = super().estimate(lq, privileged)
        return idr, {**knowledge, "embedding": self.mlp(knowledge["idr"])}
