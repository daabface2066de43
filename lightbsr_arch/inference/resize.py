"""Output sizes other than the model's: the strips of the SR image are resized with antialiasing as they arrive."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lightbsr.errors import UserError

LARGEST_FACTOR = 2
"""Largest factor by which the model's output is enlarged."""

_REACH = 3
"""Radius of the Lanczos kernel, in pixels of the coarser image."""

_WINDOW = 256
"""Approximate number of rows that are resized at once. Up to this number, Pillow's fp32 coordinates are exact
enough."""

Planes = NDArray[np.float32]
"""C x H x W."""


def check_outscale(outscale: float, scale: int, limit: str = "") -> None:
    """Raise `UserError` for a factor above the largest one, ``LARGEST_FACTOR * scale``.

    Args:
        outscale: the factor.
        scale: scale of the model.
        limit: the largest value that the user can ask for; by default the factor.
    """
    if outscale > (most := LARGEST_FACTOR * scale):
        raise UserError(
            f"x{outscale:.5g} is more than the largest output of a x{scale} model, x{most}; ask for at most "
            f"{limit or f'x{most}'}"
        )


def check_size(outscale: Any, fit_inside: Any) -> None:
    """Raise `ValueError` if these are not valid arguments of `output_size`."""
    if outscale is not None and not (isinstance(outscale, int | float | np.floating) and 0 < outscale < float("inf")):
        raise ValueError(f"outscale is a positive number, not {outscale!r}")
    if fit_inside is None:
        return
    if outscale is not None:
        raise ValueError("outscale and fit_inside exclude each other")
    is_pair = isinstance(fit_inside, tuple | list) and len(fit_inside) == 2
    given = [most for most in fit_inside if most is not None] if is_pair else []
    if not given or not all(isinstance(most, int | np.integer) and most > 0 for most in given):
        raise ValueError(f"fit_inside is a height and a width in pixels, one of which may be None, not {fit_inside!r}")


def output_size(
    height: int,
    width: int,
    scale: int,
    outscale: float | None = None,
    fit_inside: tuple[int | None, int | None] | None = None,
) -> tuple[int, int]:
    """Return height and width of the output for a low-quality image.

    Args:
        height: height of the low-quality image.
        width: width of the low-quality image.
        scale: scale of the model.
        outscale: factor of both sides, rounded to whole pixels, halves up. None keeps the model's scale.
        fit_inside: largest height and width, one of which may be None. The output meets one of them exactly and keeps
            the aspect.

    Raises:
        ValueError: both are given, or a number is not positive.
        UserError: the output would be more than ``LARGEST_FACTOR`` times as large as the model's.
    """
    check_size(outscale, fit_inside)
    if fit_inside is None:
        if outscale is None:
            return height * scale, width * scale
        factor = Fraction(str(outscale))
    else:
        sides = [(most, side) for most, side in zip(fit_inside, (height, width)) if most is not None]
        factor = min(Fraction(most, side) for most, side in sides)
    most = LARGEST_FACTOR * scale
    check_outscale(float(factor), scale, "" if fit_inside is None else f"--size {most * width}x{most * height}")
    return max(1, int(height * factor + Fraction(1, 2))), max(1, int(width * factor + Fraction(1, 2)))


def resized(strips: Iterator[torch.Tensor], height: int, size: tuple[int, int]) -> Iterator[torch.Tensor]:
    """Resize an image with Pillow's Lanczos filter, while its strips arrive from the top.

    The result equals that of resizing the whole image, except for rounding. Only the rows that the filter still needs
    are kept.

    Args:
        strips: C x h x W, fp32, with ``height`` rows in total.
        height: height of the image.
        size: height and width of the result.

    Yields:
        C x h x width on the CPU, clamped to [0, 1], because the filter overshoots at edges.
    """
    rows, columns = size
    step = height / rows
    reach = _REACH * max(step, 1.0)
    at_once = max(1, int(_WINDOW / step))
    kept: Planes | None = None
    top = done = 0  # index of the first kept row, and of the next row of the result
    for strip in strips:
        new = _resize(strip.cpu().numpy(), (strip.shape[1], columns))
        kept = new if kept is None else np.concatenate([kept, new], axis=1)
        bottom = top + kept.shape[1]
        ready = rows if bottom == height else int((bottom - reach - 1) / step + 0.5)
        while done < ready:
            last = min(done + at_once, ready)
            first_row = max(0, int((done + 0.5) * step - reach) - 1)
            last_row = min(height, int((last - 0.5) * step + reach) + 2)
            part = kept[:, first_row - top : last_row - top]
            edges = done * step - first_row, min(last * step - first_row, part.shape[1])
            yield torch.from_numpy(_resize(part, (last - done, columns), edges)).clamp_(0, 1)
            done = last
        first_row = max(top, int((done + 0.5) * step - reach) - 1)
        kept, top = kept[:, first_row - top :], first_row


def _resize(planes: Planes, size: tuple[int, int], edges: tuple[float, float] | None = None) -> Planes:
    """Resize the part of the planes between two rows, which may be fractions; by default the whole."""
    height, width = planes.shape[1:]
    top, bottom = edges or (0, height)
    box = (0, top, width, bottom)
    images = (Image.fromarray(np.ascontiguousarray(plane)) for plane in planes)
    return np.stack([np.asarray(one.resize(size[::-1], Image.Resampling.LANCZOS, box)) for one in images])
