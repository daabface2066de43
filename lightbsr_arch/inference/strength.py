"""Weaker or stronger restoration: the difference between the estimated IDR and that of a clean picture is scaled.

``benchmarks/strength.py`` measures the effect on PSNR and sharpness. ``docs/upscaling.md`` has the figures.
"""

from copy import deepcopy

import numpy as np
import torch

from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.part import Estimator, Network
from lightbsr_arch.degradations.draws import Draws
from lightbsr_arch.degradations.resize import bicubic_resize
from lightbsr_arch.degradations.settings import Setting
from lightbsr_arch.inference.changed_idr import ChangedIdr

LARGEST_STRENGTH = 1.5
"""Largest strength. Its effect has been measured up to this value."""

LEAST_GAIN = 1.5
"""A model is accepted if its gradient energy at the largest strength is at least this multiple of that at 0."""

NO_IDR = "a {} has no IDR, which --strength changes; leave it out"


def with_strength(model: Network, strength: float) -> Network:
    """Return a copy of a model that restores with the IDR ``clean + strength * (own - clean)``.

    ``own`` is the IDR that the model estimates. ``clean`` is the IDR of pictures without blur and noise, see
    `clean_idr`.

    Args:
        model: a ``BlindSR`` without extra input.
        strength: from 0 (as if the picture were clean) to ``LARGEST_STRENGTH``; 1 changes nothing.

    Raises:
        UserError: the strength is out of range, or the model is no ``BlindSR``.
    """
    if not 0 <= strength <= LARGEST_STRENGTH:
        raise UserError(f"strength {strength:g}: expected 0 to {LARGEST_STRENGTH}; 1 is the usual strength")
    if not isinstance(model, BlindSR):
        raise UserError(NO_IDR.format(type(model).__name__))
    return _moved(model, strength, clean_idr(model))


def with_checked_strength(model: Network, strength: float) -> Network:
    """Return ``model`` itself for the strength 1, otherwise `with_strength` after `check_effect`."""
    if strength == 1:
        return model
    moved = with_strength(model, strength)
    check_effect(model)
    return moved


def _moved(model: BlindSR, strength: float, clean: torch.Tensor) -> BlindSR:
    model = deepcopy(model)
    model.estimator = MovedEstimator(model.estimator, strength, clean)
    return model


class MovedEstimator(ChangedIdr):
    """An estimator whose IDR is moved away from that of a clean picture, or towards it.

    Args:
        estimator: the estimator that computes the IDR.
        strength: factor of the distance to ``clean``.
        clean: IDR of a clean picture as a vector, 1 x C.
    """

    def __init__(self, estimator: Estimator, strength: float, clean: torch.Tensor) -> None:
        super().__init__(estimator)
        self.strength, self.clean = strength, clean

    def change(self, idr: torch.Tensor) -> torch.Tensor:
        clean = self.clean if idr.dim() == 2 else self.clean[:, :, None, None]
        return clean + self.strength * (idr - clean)


def check_effect(model: Network) -> None:
    """Raise `UserError` unless blurred synthetic pictures become sharper with every step of the strength.

    A model that ignores its IDR, or does not use it for sharpness, is refused.
    """
    if not isinstance(model, BlindSR):
        raise UserError(NO_IDR.format(type(model).__name__))
    clean = clean_idr(model)
    blur = Setting(sigma=0.65 * model.scale)  # the middle of the widths in the trainings of the papers
    lq = blur.degrade(_pictures(model.scale), model.scale, "bicubic", Draws(torch.Generator())).lq
    energies = [_gradient_energy(_moved(model, strength, clean), lq) for strength in (0, 0.5, 1, LARGEST_STRENGTH)]
    if energies != sorted(energies) or energies[-1] < LEAST_GAIN * energies[0]:
        raise UserError(
            "the sharpness of this model's output hardly follows its IDR; leave the strength at 1, or choose "
            "another model, such as kdsr_s_x4_iso"
        )


@torch.no_grad()
def clean_idr(model: BlindSR) -> torch.Tensor:
    """Return the mean IDR of clean synthetic pictures as a vector, 1 x C, with the model's device and dtype.

    The pictures are shrunk bicubically, without blur or noise.
    """
    lq = bicubic_resize(_pictures(model.scale), 1 / model.scale).clamp(0, 1)
    return as_vector(model.estimator(lq.to(next(model.parameters())))).mean(dim=0, keepdim=True)


def _pictures(scale: int, count: int = 4, side: int = 64) -> torch.Tensor:
    """Return pictures of discs of random sizes and colours, count x 3 x side*scale x side*scale, always the same."""
    draws = np.random.default_rng(0)
    y, x = np.mgrid[: side * scale, : side * scale]
    pictures = np.zeros((count, *y.shape, 3), np.float32)
    for picture in pictures:
        for _ in range(150):
            radius = 2 * scale * draws.uniform(0.005, 1) ** -0.5
            top, left = draws.uniform(0, len(y), 2)
            picture[(y - top) ** 2 + (x - left) ** 2 < radius**2] = draws.uniform(0, 1, 3)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def _gradient_energy(model: BlindSR, lq: torch.Tensor) -> float:
    """Return the mean squared difference between neighbouring pixels of the output."""
    sr = model(lq.to(next(model.parameters()))).float()
    return float(sum(sr.diff(dim=axis).square().mean().item() for axis in (2, 3)))
