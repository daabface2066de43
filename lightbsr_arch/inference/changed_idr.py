"""The base of estimators that change the IDR of another one."""

from typing import Any

import torch

from lightbsr_arch.archs.part import Advance, Estimator


class ChangedIdr(Estimator):
    """An estimator that changes the IDR of another one. Subclasses implement ``change``.

    Args:
        estimator: the estimator that computes the IDR.
    """

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.estimator = estimator
        self.idr_ch, self.knows = estimator.idr_ch, estimator.knows

    def change(self, idr: torch.Tensor) -> torch.Tensor:
        """Return the changed IDR of an IDR, a vector, N x C, or a map, N x C x H/4 x W/4."""
        raise NotImplementedError

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        idr, known = self.estimator.estimate(lq, extra)
        return self.change(idr), known

    def estimate_in_strips(self, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
        return self.change(self.estimator.estimate_in_strips(lq, rows, advance))
