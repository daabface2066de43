"""Estimation of an image's IDR without upscaling, and upscaling with a given IDR."""

from copy import deepcopy
from typing import Any

import torch

from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.fast.memory import rows_that_fit
from lightbsr_arch.archs.idr import MAP_STRIDE, as_vector
from lightbsr_arch.archs.part import Advance, Estimator, Network


@torch.no_grad()
def estimate_idr(
    model: Network, lq: torch.Tensor, tile: int | str = "auto", advance: Advance = lambda share: None
) -> torch.Tensor:
    """Return the IDR with which a model restores each image.

    Args:
        model: a ``BlindSR`` without extra input.
        lq: N x 3 x H x W, RGB in [0, 1].
        tile: see `upscaler.upscale`.
        advance: receives the progress.

    Returns:
        A vector, N x C, or a map, N x C x H/4 x W/4, with the model's device and dtype.

    Raises:
        UserError: the model is no ``BlindSR``.
    """
    estimator = _with_idr(model).estimator
    idrs = []
    for image in lq.to(next(model.parameters())).contiguous(memory_format=torch.channels_last).split(1):
        rows = rows_that_fit(model.num_feat, image) if tile == "auto" else int(tile)
        idrs.append(estimator.estimate_in_strips(image, rows or image.shape[2], lambda share: advance(share / len(lq))))
    return torch.cat(idrs)


def with_idr(model: Network, idr: torch.Tensor) -> Network:
    """Return a copy of a model that restores every image with the same given IDR. The IDR is not changed by a strength.

    Args:
        model: a ``BlindSR``.
        idr: a vector, 1 x C, or a map, 1 x C x H/4 x W/4. For images of another size, the mean of the map is used.

    Raises:
        UserError: the model is no ``BlindSR``, or its IDR has another number of channels.
    """
    wanted = _with_idr(model).estimator.idr_ch
    if idr.dim() not in (2, 4) or idr.shape[:2] != (1, wanted):
        raise UserError(
            f"an IDR of shape {' x '.join(map(str, idr.shape))}; expected 1 x {wanted} or a map, 1 x {wanted} x height "
            "x width; use the IDR that the same model estimates"
        )
    copied = _with_idr(deepcopy(model))
    copied.estimator = GivenEstimator(idr.to(next(model.parameters())))
    return copied


class GivenEstimator(Estimator):
    """An "estimator" that returns the same IDR for every image.

    Args:
        idr: 1 x C or 1 x C x H/4 x W/4.
    """

    def __init__(self, idr: torch.Tensor) -> None:
        super().__init__()
        self.idr, self.idr_ch = idr, idr.shape[1]

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        sides = [-(-side // MAP_STRIDE) for side in lq.shape[2:]]
        idr = self.idr if list(self.idr.shape[2:]) == sides else as_vector(self.idr)
        return idr.expand(len(lq), *idr.shape[1:]), {}


def _with_idr(model: Network) -> BlindSR:
    if not isinstance(model, BlindSR):
        raise UserError(f"a {type(model).__name__} has no IDR; choose another model, such as kdsr_s_x4_iso")
    return model
