"""Degradation estimators of KDSR: "Knowledge Distillation based Degradation Estimation for Blind Super-Resolution"
(ICLR 2023), section 3.1.
"""

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs.estimator_init import Init, he_init_, remove_mean_
from lightbsr_arch.archs.fast.row_streams import Mean, cut, streamed
from lightbsr_arch.archs.part import Advance, Arguments, Estimator, State, count, refuse_extra_input
from lightbsr_arch.option_types import Positive

SLOPE = 0.1  # slope of every LeakyReLU
DETAIL_GAIN = 4.0  # gain of the teacher's first filters, because the difference between HR and LR is small


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
        out: torch.Tensor = x + self.body(x)
        return out


class KDIDE(Estimator):
    """The layers that teacher and student share. The IDR is a vector, N x num_feat, no longer than ``max_norm``."""

    published_names = (
        (r"E(?:_st)?\.E\.", "features."),
        (r"E(?:_st)?\.mlp\.", "mlp."),
        (r"E(?:_st)?\.compress\.", "to_idr."),
    )
    knows = ("idr",)
    stored_arguments = ("max_norm",)
    max_norm: float | None = None

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

    def estimator_input(self, lq: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        """Return the input of the first convolution."""
        raise NotImplementedError

    def estimate(
        self, lq: torch.Tensor, extra: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the IDR, N x num_feat, and the vector that a student distils: ``{"idr": N x 4*num_feat}``."""
        distilled = self.mlp(self.features(self.estimator_input(lq, extra)))
        return self.idr_of(distilled), {"idr": distilled}

    def idr_of(self, distilled: torch.Tensor) -> torch.Tensor:
        """Return the IDR, N x num_feat, of the distilled vectors, N x 4*num_feat."""
        idr: torch.Tensor = self.to_idr(distilled)
        if self.max_norm is None:
            return idr
        norm: torch.Tensor = torch.linalg.vector_norm(idr, dim=1, keepdim=True)
        return idr * (self.max_norm / norm.clamp(min=self.max_norm))

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        num_feat, channels = state["features.0.weight"].shape[:2]
        num_block = count(state, r"features\.(\d+)\.body\.0\.weight")
        arguments = {"num_feat": num_feat, "num_block": num_block}
        if "max_norm" in state:
            (arguments["max_norm"],) = state["max_norm"].flatten().tolist()
        return cls.of_channels(channels, arguments)

    @classmethod
    def of_channels(cls, channels: int, arguments: Arguments) -> Arguments | None:
        """Add the arguments that follow from the number of input channels of the first convolution."""
        raise NotImplementedError


@ARCH_REGISTRY.register()
class KDIDEStudent(KDIDE):
    """Computes the IDR from the low-quality image only.

    Args:
        num_in_ch: channels of ``lq``.
        num_feat: channels C. The IDR has C numbers, and the distilled vector 4C.
        num_block: number of residual blocks before the layers that widen the channels.
        init: initialisation, see ``estimator_init``. With "detail", the first filters have zero mean.
        max_norm: largest Euclidean norm of an IDR; longer ones are shortened to it. Null, as published, for no limit.
            The IDR of a picture unlike those of training, such as a dithered one, can be several times as long as any
            IDR of training. The kernels of the restorer grow with it, and every block applies them to the features.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) to the IDR (N x C).
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 9,
        init: Init = "detail",
        max_norm: Positive | None = None,
    ) -> None:
        super().__init__(num_in_ch, num_feat, num_block)
        self.max_norm = max_norm
        if init == "detail":
            he_init_(self, SLOPE)
            remove_mean_(self.features[0])

    def estimator_input(self, lq: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        refuse_extra_input(self, extra)
        return lq

    @classmethod
    def of_channels(cls, channels: int, arguments: Arguments) -> Arguments | None:
        return arguments if channels == 3 else None

    def estimate_in_strips(self, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
        """Strips flow through the layers. Only the pooled features are stored."""
        *layers, _pool, _flatten = self.features
        strips = cut(lq, rows)
        for layer in layers:
            strips = streamed(layer, strips, halo=_halo(layer))
        mean = Mean()
        for strip, _ in strips:
            mean.add(strip)
            advance(strip.shape[2] / lq.shape[2])
        return self.idr_of(self.mlp(mean.value))


@ARCH_REGISTRY.register()
class KDIDETeacher(KDIDE):
    """Computes the IDR from the low-quality image and its ground truth, which is unavailable at test time.

    Args:
        num_in_ch: channels of ``lq``.
        num_feat: channels C. The IDR has C numbers, and the distilled vector 4C.
        num_block: number of residual blocks before the layers that widen the channels.
        scale: size of ``gt`` divided by that of ``lq``.
        init: initialisation, see ``estimator_init``. With "detail", the first filters compute gt - lq, where lq is
            repeated over the pixels of gt.

    Forward: ``lq`` (N x 3 x H x W) and ``gt`` (N x 3 x H*scale x W*scale), both in [0, 1], to the IDR (N x C).
    """

    extra_input = "gt"
    is_teacher = True

    def __init__(
        self, num_in_ch: int = 3, num_feat: int = 64, num_block: int = 9, scale: int = 4, init: Init = "detail"
    ) -> None:
        super().__init__(num_in_ch * (1 + scale**2), num_feat, num_block)
        self.scale = scale
        if init == "detail":
            he_init_(self, SLOPE)
            _see_difference_(self.features[0], num_in_ch)

    def estimator_input(self, lq: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        if extra is None:
            raise ValueError("KDIDETeacher needs its privileged input, the ground-truth image: model(lq, gt)")
        wanted = (*lq.shape[:2], lq.shape[2] * self.scale, lq.shape[3] * self.scale)
        if tuple(extra.shape) != wanted:
            raise ValueError(f"gt for lq {tuple(lq.shape)} at x{self.scale} is {wanted}, not {tuple(extra.shape)}")
        return torch.cat([lq, F.pixel_unshuffle(extra, self.scale)], dim=1)

    @classmethod
    def of_channels(cls, channels: int, arguments: Arguments) -> Arguments | None:
        return {**arguments, "scale": round((channels / 3 - 1) ** 0.5)} if channels > 3 else None


def _halo(layer: nn.Module) -> int:
    """Return the number of rows above and below that a layer with convolutions of stride 1 depends on."""
    return sum(module.padding[0] for module in layer.modules() if isinstance(module, nn.Conv2d))  # type: ignore[misc]


@torch.no_grad()
def _see_difference_(conv: nn.Module, num_in_ch: int) -> None:
    """Make filters, C x (num_in_ch + num_in_ch*scale^2) x 3 x 3, compute gt - lq, with lq repeated for all of gt."""
    assert isinstance(conv, nn.Conv2d)
    filters = conv.weight
    of_gt = filters[:, num_in_ch:].mul_(DETAIL_GAIN)
    filters[:, :num_in_ch] = -of_gt.unflatten(1, (num_in_ch, -1)).sum(dim=2)
