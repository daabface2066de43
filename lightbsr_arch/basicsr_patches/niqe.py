"""NIQE of small images."""

from contextlib import AbstractContextManager
from functools import wraps
from typing import Any
from unittest.mock import patch

import basicsr.metrics
from basicsr.utils.registry import METRIC_REGISTRY

from lightbsr.errors import UserError

NIQE_BLOCK = 96


@wraps(basicsr.metrics.calculate_niqe)
def calculate_niqe(img: Any, crop_border: int, **kwargs: Any) -> float:
    """Return BasicSR's NIQE of an H x W x 3 uint8 image.

    Raises:
        UserError: the image has fewer than two blocks.
    """
    rows, columns = ((side - 2 * crop_border) // NIQE_BLOCK for side in img.shape[:2])
    if rows * columns < 2:
        size = f"{img.shape[1]}x{img.shape[0]}"
        raise UserError(f"NIQE needs two blocks of {NIQE_BLOCK}x{NIQE_BLOCK} pixels, this picture has {size}")
    niqe: float = basicsr.metrics.calculate_niqe(img, crop_border=crop_border, **kwargs)
    return niqe


def patched_niqe() -> AbstractContextManager[Any]:
    """Make validations compute NIQE by ``calculate_niqe``."""
    # BasicSR computes the covariance of the blocks' features, which is NaN for fewer than two blocks. It then
    # fails without stating the size of the image.
    return patch.dict(METRIC_REGISTRY._obj_map, calculate_niqe=calculate_niqe)
