"""Restoration with degrees of blur and of noise that the user sets, instead of the estimated ones.

``benchmarks/degrees.py`` measures the effect on sharpness and PSNR; ``docs/systems/mmrealsr.md`` has the figures.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch

from lightbsr.errors import UserError
from lightbsr.shipped import students_with
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.mmrealsr_arch import DegreeEstimator
from lightbsr_arch.archs.part import Advance, Estimator, Network

KINDS = ("blur", "noise")
"""The kinds of degradation, in the order of the degrees."""


def with_degrees(model: Network, blur: float | None = None, noise: float | None = None) -> Network:
    """Return a copy of a model that restores every image with given degrees. Without degrees, return the model itself.

    Args:
        model: a ``BlindSR`` whose estimator is a ``DegreeEstimator`` of two degrees.
        blur: the degree of blur, from 0 (none) to 1 (the worst of the training), or None for the estimated one.
        noise: the same for noise and compression artefacts.

    Raises:
        UserError: a degree is out of range, or the model has another IDR.
    """
    degrees = (blur, noise)
    for kind, degree in zip(KINDS, degrees):
        if degree is not None and not 0 <= degree <= 1:
            raise UserError(f"{kind} {degree:g}: expected 0 to 1, or auto")
    if degrees == (None, None):
        return model
    estimator = model.estimator if isinstance(model, BlindSR) else model
    if not isinstance(estimator, DegreeEstimator) or estimator.num_degree != len(KINDS):
        able = " or ".join(students_with(DegreeEstimator.__name__))
        advice = f"choose {able} with -m" if able else "train one with options/weights/kdsr_s_x4_control.yml"
        raise UserError(
            f"a model with {type(estimator).__name__} estimates no degrees of blur and noise, which --blur and --noise "
            f"set; {advice}"
        )
    assert isinstance(model, BlindSR)
    changed = deepcopy(model)
    changed.estimator = SetDegrees(changed.estimator, degrees)
    return changed


class SetDegrees(Estimator):
    """A ``DegreeEstimator`` whose degrees are replaced. It does not run if all of them are.

    Args:
        estimator: the estimator.
        degrees: a degree in [0, 1] or None for the estimated one, per kind.
    """

    def __init__(self, estimator: Estimator, degrees: tuple[float | None, ...]) -> None:
        super().__init__()
        assert isinstance(estimator, DegreeEstimator)
        self.estimator, self.set_degrees = estimator, degrees
        self.idr_ch, self.knows = estimator.idr_ch, estimator.knows

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        degrees = self.replaced(lq, self.estimator.degrees)
        idr = self.estimator.as_idr(degrees)
        return idr, {"idr": idr, "degrees": degrees}

    def estimate_in_strips(self, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
        return self.estimator.as_idr(self.replaced(lq, lambda lq: self.estimator.degrees_in_strips(lq, rows, advance)))

    def replaced(self, lq: torch.Tensor, estimate: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return the degrees, N x 2, of images N x 3 x H x W, of which ``estimate`` returns the estimated ones."""
        all_set = None not in self.set_degrees
        degrees = lq.new_empty(len(lq), len(self.set_degrees)) if all_set else estimate(lq).clone()
        for kind, degree in enumerate(self.set_degrees):
            if degree is not None:
                degrees[:, kind] = degree
        return degrees
