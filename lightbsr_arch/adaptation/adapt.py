"""Fine-tuning of a network to low-quality pictures alone.

The idea is LWay's (CVPR 2024). A frozen network degrades the SR image again, and the SR network is tuned until the
result equals the low-quality image. Pixels with detail have more weight. LWay's frozen network learns the whole
degradation. Here, it estimates only the blur kernel, and bicubic downsampling follows. Noise and JPEG artefacts are not
reproduced.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from basicsr.utils.img_process_util import filter2D

from lightbsr_arch.adaptation.kernel_estimator import KernelEstimator
from lightbsr_arch.archs.part import Network
from lightbsr_arch.degradations import bicubic_resize

CROP = 40
"""Side of the low-quality crops."""
BATCH = 4
BORDER = 4
"""Number of pixels at each side of a crop that the loss leaves out. They depend on the SR image outside the crop."""
SMALLEST = 4 * BORDER
"""Smallest side of a picture."""


@dataclass(frozen=True)
class Adaptation:
    """Outcome of an adaptation.

    Attributes:
        kernels: estimated blur kernel of each picture, 21 x 21, in pixels of the SR image.
        before: mean reproduction error of the first ten steps, in grey levels of 8 bits.
        after: mean reproduction error of the last ten steps.
    """

    kernels: list[torch.Tensor]
    before: float
    after: float


def adapt(
    model: Network,
    pictures: Sequence[torch.Tensor],
    estimator: KernelEstimator,
    *,
    steps: int = 60,
    lr: float = 1e-4,
    seed: int = 0,
    step_done: Callable[[], object] = lambda: None,
) -> Adaptation:
    """Tune a network to low-quality pictures, in place.

    Args:
        model: a network of scale 4 that needs only the low-quality image, in fp32.
        pictures: low-quality pictures, 3 x H x W in [0, 1], on the model's device, with sides of at least 16 pixels.
            The crops of a picture whose smaller side is less than 40 pixels have that side.
        estimator: estimates each picture's blur kernel.
        steps: steps of Adam, each with four crops.
        lr: Adam's learning rate.
        seed: seed of the crops.
        step_done: called after each step.
    """
    kernels = [estimator.kernel(lq[None]) for lq in pictures]
    rng = np.random.default_rng(seed)
    areas = np.array([lq.shape[1] * lq.shape[2] for lq in pictures], float)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr)
    losses = []
    for _ in range(steps):
        chosen = rng.choice(len(pictures), BATCH, p=areas / areas.sum())
        loss = _reproduction_error(model, [(_crop(pictures[index], rng), kernels[index]) for index in chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(255 * loss.item())
        step_done()
    few = min(10, steps)
    return Adaptation(kernels, float(np.mean(losses[:few])), float(np.mean(losses[-few:])))


def _reproduction_error(model: Network, crops: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Return the mean error of crops with their kernels. Crops of the same side are restored together."""
    sides = [lq.shape[1] for lq, _ in crops]
    errors = []
    for side in sorted({*sides}):
        lq, kernel = (torch.stack(parts) for parts in zip(*(crop for crop in crops if crop[0].shape[1] == side)))
        difference = (degraded_again(model(lq), kernel, model.scale) - lq).abs() * detail_weights(lq)
        errors.append(sides.count(side) / len(sides) * difference[..., BORDER:-BORDER, BORDER:-BORDER].mean())
    return torch.stack(errors).sum()


def degraded_again(sr: torch.Tensor, kernel: torch.Tensor, scale: int) -> torch.Tensor:
    """Blur and downsample SR images, N x 3 x H x W, with one kernel each, without rounding to 8 bits."""
    return bicubic_resize(filter2D(sr.contiguous(), kernel), 1 / scale)


def detail_weights(lq: torch.Tensor) -> torch.Tensor:
    """Return weights of pixels, N x 1 x H x W with the mean 1, which grow with the detail around a pixel.

    The detail is the difference between the image and its 3 x 3 mean. Half of the weight is constant, so that smooth
    areas keep their colour.
    """
    padded = F.pad(lq, (1, 1, 1, 1), mode="replicate")
    detail = (lq - F.avg_pool2d(padded, 3, stride=1)).abs().mean(dim=1, keepdim=True)
    return 0.5 + 0.5 * detail / detail.mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)


def _crop(lq: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return a random square of ``CROP`` pixels per side, or of the smaller side of a smaller picture."""
    side = min(CROP, *lq.shape[1:])
    top, left = (int(rng.integers(length - side + 1)) for length in lq.shape[1:])
    return lq[:, top : top + side, left : left + side]
