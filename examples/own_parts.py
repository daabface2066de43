"""A restorer, a distillation loss and a degradation as a plug-in."""

import math

import torch
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.part import Arguments, Guides, Restorer, State, count
from lightbsr_arch.degradations import DEGRADATION_REGISTRY, Degraded, Draws, Parameters
from lightbsr_arch.degradations.classical import degrade
from lightbsr_arch.losses.distill_loss import DistillLoss, Knowledge

KERNEL_SIZE = 21  # pixels, of the blur kernels
LINE_SIGMA = 0.5  # pixels, of the line's profile


@ARCH_REGISTRY.register()
class GainRestorer(Restorer):
    """Residual convolutions whose features are multiplied by gains that are computed from the IDR.

    Args:
        num_feat: channels of the features.
        num_block: convolutions.
        idr_ch: channels of the IDR.
        scale: upscaling factor.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) and its ``guides`` to N x 3 x H*scale x W*scale.
    """

    system = "Gain"
    knows = ("gain",)

    def __init__(self, num_feat: int = 32, num_block: int = 4, idr_ch: int = 32, scale: int = 4) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, num_feat, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(num_feat, num_feat, 3, padding=1) for _ in range(num_block))
        self.to_gain = nn.Linear(idr_ch, num_feat)
        self.tail = nn.Conv2d(num_feat, 3 * scale**2, 3, padding=1)
        self.num_feat, self.idr_ch, self.scale = num_feat, idr_ch, scale
        self.converters = (self.to_gain,)

    def guides(self, idr: torch.Tensor, height: int, width: int) -> Guides:
        """Return the only guide: the ``gain`` of each channel, N x num_feat, for images of any size."""
        return {"gain": self.to_gain(as_vector(idr))}

    def forward(self, lq: torch.Tensor, guides: Guides) -> torch.Tensor:
        features = self.head(lq)
        for layer in self.body:
            features = features + F.relu(guides["gain"][:, :, None, None] * layer(features))
        return F.pixel_shuffle(self.tail(features), self.scale)

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        num_feat, idr_ch = state["to_gain.weight"].shape
        blocks = count(state, r"body\.\d+\.weight")
        scale = math.isqrt(state["tail.weight"].shape[0] // 3)
        return {"num_feat": num_feat, "num_block": blocks, "idr_ch": idr_ch, "scale": scale}


@LOSS_REGISTRY.register()
class CosineDistillLoss(DistillLoss):
    """Cosine distance between the distilled vectors of student and teacher, as the mean over the batch.

    Args:
        loss_weight: weight of this loss in the sum.
    """

    compares = ("idr",)

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)

    def distance(self, student: Knowledge, teacher: Knowledge) -> torch.Tensor:
        """Compare ``idr``, N x D."""
        return 1 - F.cosine_similarity(student["idr"], teacher["idr"], dim=1).mean()


@DEGRADATION_REGISTRY.register()
class MotionBlur:
    """Blurs along a straight line of random length and angle, as a moving camera does, and downsamples.

    Args:
        scale: downsampling factor.
        length: range of the lengths, in pixels.
    """

    def __init__(self, scale: int, length: tuple[float, float] = (1.0, 15.0)) -> None:
        self.scale = scale
        self.length = length

    def __call__(self, gt: torch.Tensor, draws: Draws) -> Degraded:
        """Degrade ``gt`` (N x 3 x H x W in [0, 1]); equal generators give equal results."""
        low, high = self.length
        length = low + (high - low) * draws.uniform(len(gt))
        angle = math.pi * draws.uniform(len(gt))
        parameters = Parameters(line_kernels(length, angle), torch.zeros_like(length)).to(gt.device)
        return Degraded(degrade(gt, parameters, self.scale), parameters, gt, gt)


def line_kernels(length: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Return blur kernels of lines through the middle, N x K x K, whose sum is 1.

    Args:
        length: pixels, N.
        angle: radians, N.
    """
    steps = torch.arange(KERNEL_SIZE, device=length.device) - KERNEL_SIZE // 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, across = cos * x + sin * y, cos * y - sin * x
    inside = (length[:, None, None] / 2 + 0.5 - along.abs()).clamp(0, 1)
    kernels = inside * (-((across / LINE_SIGMA) ** 2) / 2).exp()
    return kernels / kernels.sum(dim=(1, 2), keepdim=True)
