"""Degradation estimators of KDSR: "Knowledge Distillation based Degradation Estimation for Blind Super-Resolution"
(ICLR 2023), section 3.1.
"""

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs.estimator_init import Init, he_init_, remove_mean_

SLOPE = 0.1  # of every LeakyReLU
DETAIL_GAIN = 4.0  # of the teacher's first filters: the difference between HR and LR is small beside the images


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a LeakyReLU between them, added to the input."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(num_feat, num_feat, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class KDIDE(nn.Module):
    """What teacher and student share: an image goes in, a vector that describes its degradation comes out.

    Attributes:
        idr_ch: channels of the IDR, ``num_feat``: what a restorer must accept.
        knows: the names of what ``estimate`` gives besides the IDR.
        privileged: the name of the input that only a teacher sees, or None.
    """

    privileged: str | None = None
    knows = ("idr",)

    def __init__(self, num_in_ch: int, num_feat: int, num_block: int) -> None:
        super().__init__()
        wide, widest = 2 * num_feat, 4 * num_feat
        layers: list[nn.Module] = [nn.Conv2d(num_in_ch, num_feat, 3, padding=1), nn.LeakyReLU(SLOPE)]
        layers += [ResidualBlock(num_feat) for _ in range(num_block)]
        for before, after in ((num_feat, wide), (wide, wide), (wide, widest)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(SLOPE)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.mlp = nn.Sequential(
            nn.Linear(widest, widest), nn.LeakyReLU(SLOPE), nn.Linear(widest, widest), nn.LeakyReLU(SLOPE)
        )
        self.to_idr = nn.Sequential(nn.Linear(widest, num_feat), nn.LeakyReLU(SLOPE))
        self.idr_ch = num_feat

    def estimator_input(self, lq: torch.Tensor, privileged: torch.Tensor | None) -> torch.Tensor:
        """What the first convolution sees."""
        raise NotImplementedError

    def estimate(
        self, lq: torch.Tensor, privileged: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The IDR, N x num_feat, and the knowledge that a student distils: ``{"idr": N x 4*num_feat}``."""
        knowledge = self.mlp(self.features(self.estimator_input(lq, privileged)))
        return self.to_idr(knowledge), {"idr": knowledge}

    def forward(self, lq: torch.Tensor, privileged: torch.Tensor | None = None) -> torch.Tensor:
        return self.estimate(lq, privileged)[0]


@ARCH_REGISTRY.register()
class KDIDEStudent(KDIDE):
    """Reads the IDR off the low-quality image alone.

    Args:
        num_in_ch: channels of ``lq``.
        num_feat: channels C; the IDR has C numbers, the distilled vector 4C.
        num_block: residual blocks before the channels widen.
        init: start of the weights; see ``estimator_init``. "detail": the first filters have zero mean.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) to the IDR (N x C).
    """

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64, num_block: int = 9, init: Init = "detail") -> None:
        super().__init__(num_in_ch, num_feat, num_block)
        if init == "detail":
            he_init_(self, SLOPE)
            remove_mean_(self.features[0])

    def estimator_input(self, lq: torch.Tensor, privileged: torch.Tensor | None) -> torch.Tensor:
        if privileged is not None:
            raise ValueError("KDIDEStudent sees the low-quality image alone; only a teacher takes a privileged input")
        return lq


@ARCH_REGISTRY.register()
class KDIDETeacher(KDIDE):
    """Reads the IDR off the low-quality image together with its ground truth, which no user has at test time.

    Args:
        num_in_ch: channels of ``lq``.
        num_feat: channels C; the IDR has C numbers, the distilled vector 4C.
        num_block: residual blocks before the channels widen.
        scale: how many times ``gt`` is larger than ``lq``.
        init: start of the weights; see ``estimator_init``. "detail": the first filters see gt - lq, lq repeated over
            the pixels of gt.

    Forward: ``lq`` (N x 3 x H x W) and ``gt`` (N x 3 x H*scale x W*scale), both in [0, 1], to the IDR (N x C).
    """

    privileged = "gt"

    def __init__(
        self, num_in_ch: int = 3, num_feat: int = 64, num_block: int = 9, scale: int = 4, init: Init = "detail"
    ) -> None:
        super().__init__(num_in_ch * (1 + scale**2), num_feat, num_block)
        self.scale = scale
        if init == "detail":
            he_init_(self, SLOPE)
            _see_difference_(self.features[0], num_in_ch)

    def estimator_input(self, lq: torch.Tensor, privileged: torch.Tensor | None) -> torch.Tensor:
        if privileged is None:
            raise ValueError("KDIDETeacher needs its privileged input, the ground-truth image: model(lq, gt)")
        wanted = (*lq.shape[:2], lq.shape[2] * self.scale, lq.shape[3] * self.scale)
        if tuple(privileged.shape) != wanted:
            raise ValueError(f"gt for lq {tuple(lq.shape)} at x{self.scale} is {wanted}, not {tuple(privileged.shape)}")
        return torch.cat([lq, F.pixel_unshuffle(privileged, self.scale)], dim=1)


@torch.no_grad()
def _see_difference_(conv: nn.Module, num_in_ch: int) -> None:
    """Let filters, C x (num_in_ch + num_in_ch*scale^2) x 3 x 3, answer to gt - lq, one lq for all phases of gt."""
    assert isinstance(conv, nn.Conv2d)
    filters = conv.weight
    of_gt = filters[:, num_in_ch:].mul_(DETAIL_GAIN)
    filters[:, :num_in_ch] = -of_gt.unflatten(1, (num_in_ch, -1)).sum(dim=2)
