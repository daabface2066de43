"""Upscaling of images as NumPy arrays or torch tensors."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lightbsr.defaults import DTYPES
from lightbsr.errors import UserError
from lightbsr.shipped import default_name
from lightbsr_arch.archs.fast.memory import release_freed, rows_that_fit
from lightbsr_arch.archs.part import Advance, Network, needs_lq_only
from lightbsr_arch.checkpoint import load
from lightbsr_arch.device import find_device
from lightbsr_arch.inference.resize import check_size, output_size, resized
from lightbsr_arch.inference.self_ensemble import TURNS
from lightbsr_arch.inference.self_ensemble import self_ensemble as mean_over_turns
from lightbsr_arch.inference.tiling import sr_strips

Image = TypeVar("Image", NDArray[Any], torch.Tensor)

TORCH_DTYPES = dict(zip(DTYPES, (torch.float32, torch.bfloat16, torch.float16), strict=True))
"""The dtypes of PyTorch by the names of the command line."""

LARGEST_OUTPUT = 100.0
"""Outputs beyond it are no image."""


@torch.inference_mode()
def upscale(
    image: Image,
    model: Network | str | Path | None = None,
    *,
    tile: int | str = "auto",
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    self_ensemble: bool = False,
    outscale: float | None = None,
    fit_inside: tuple[int | None, int | None] | None = None,
    advance: Advance = lambda share: None,
) -> Image:
    """Upscale an image.

        sr = lightbsr_arch.upscale(np.asarray(PIL.Image.open("photo.jpg").convert("RGB")))

    Args:
        image: NumPy, RGB: H x W x 3, or H x W grey; H x W x 4 or H x W x 2 with alpha last; uint8, uint16, or floats in
            [0, 1]. Torch: floats in [0, 1], C x H x W or N x C x H x W, with 3 channels (RGB) or 1 (grey).
        model: a model from ``lightbsr_arch.load``, the name of shipped weights, or a file. The default is the best
            shipped weights (`lightbsr.shipped.default_name`). For many images, load the model once.
        tile: number of rows that are processed at a time, "auto" for as many as the free memory allows, or 0 for the
            whole image at once. It limits the memory and changes the result only by rounding (`inference.tiling`).
        device: device of a model that is given by name: "cpu", "cuda", "mps" or "auto", the default, which is the first
            available of "cuda", "mps" and "cpu". A loaded model stays on its device.
        dtype: number format of a model that is given by name; fp32 by default.
        self_ensemble: whether to average over the eight flips and transposes of the image. This takes eight times as
            long and needs memory for two SR images in fp32.
        outscale: factor of both sides, if it is not to be the model's scale; at most twice that. The model's output is
            resized with Pillow's Lanczos filter, with antialiasing.
        fit_inside: instead of ``outscale``, the largest height and width, one of which may be None. The aspect is kept.
        advance: receives the share of the work that has been done since the last call.

    Returns:
        The image enlarged by ``scale``, with the layout, dtype and range of ``image``, clamped to this range. Grey is
        repeated as three channels, and the mean of the output's channels is returned. Alpha is upscaled as a grey
        image. Constant alpha stays constant.

    Raises:
        ValueError: ``image`` has another form, dtype or range, another argument has a wrong type or value, or
            ``outscale`` and ``fit_inside`` are both given.
        UserError: the output would be more than twice as large as the model's, the model or device is missing, the
            weights are a teacher's, there is not enough memory, fp16 overflows, or the output is no image.
    """
    check_tile(tile)
    check_size(outscale, fit_inside)
    if isinstance(model, Network):
        if device is not None or dtype is not None:
            raise ValueError("a loaded model keeps its device and dtype: use load(name, device, dtype)")
    else:
        if not isinstance(model, str | Path | None):
            raise ValueError(f"model is a network of lightbsr_arch.load, a name or a file, not {type(model).__name__}")
        model = load_student(model, device or "auto", dtype or torch.float32, outscale)
    scale = model.scale

    def size(height: int, width: int) -> tuple[int, int]:
        return output_size(height, width, scale, outscale, fit_inside)

    def strips(lq: torch.Tensor, share: float) -> Iterator[torch.Tensor]:
        made = _clamped_strips(model, lq, tile, self_ensemble, lambda done: advance(share * done))
        height, width = (side * scale for side in lq.shape[1:])
        wanted = size(*lq.shape[1:])
        return made if wanted == (height, width) else resized(made, height, wanted)

    if isinstance(image, torch.Tensor):
        return _upscale_tensor(image, size, strips)
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f"expected a NumPy array or a tensor, not {type(image).__name__}; "
            'np.asarray(image.convert("RGB")) converts a Pillow image'
        )
    return _upscale_array(image, size, strips)


_Size = Callable[[int, int], tuple[int, int]]
_Strips = Callable[[torch.Tensor, float], Iterator[torch.Tensor]]


def load_student(
    name_or_path: str | Path | None,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    outscale: float | None = None,
) -> Network:
    """Load a model for upscaling, by default the best shipped weights for the factor ``outscale``.

    Raises:
        UserError: the weights are missing, a teacher's, or not for RGB, or the device is missing or cannot compute in
            that dtype.
    """
    if name_or_path is None:
        name_or_path = default_name(outscale)
    device = find_device(device)
    model = load(name_or_path, device, dtype)
    needs_lq_only(model, name_or_path)
    for key in ("num_in_ch", "num_out_ch"):
        if (channels := getattr(model, key)) != 3:
            raise UserError(f"{name_or_path}: a network with {key} {channels}; pictures are upscaled as RGB, by 3")
    _check_dtype(device, dtype)
    return model


def _check_dtype(device: torch.device, dtype: torch.dtype) -> None:
    try:
        with torch.inference_mode():
            ones = torch.ones(1, 1, 3, 3, device=device, dtype=dtype)
            assert torch.nn.functional.conv2d(ones, ones).item() == 9
    except (RuntimeError, TypeError, NotImplementedError):
        name = next(name for name, known in TORCH_DTYPES.items() if known == dtype)
        raise UserError(f"{device} cannot compute in {name} here; use fp32") from None


def check_tile(tile: int | str) -> None:
    """Raise `ValueError` for a value that is not a tile size."""
    if tile != "auto" and (not isinstance(tile, int) or tile < 0):
        raise ValueError(f'tile is a number of rows, 0 for the whole image, or "auto", not {tile!r}')


def _strips(model: Network, image: torch.Tensor, tile: int | str, advance: Advance) -> Iterator[torch.Tensor]:
    rows = rows_that_fit(model.num_feat, image) if tile == "auto" else int(tile)
    return sr_strips(model, image, rows, advance)


def _ensembled(model: Network, image: torch.Tensor, tile: int | str, advance: Advance) -> Iterator[torch.Tensor]:
    """Yield the whole image as one strip."""

    def whole(lq: torch.Tensor) -> torch.Tensor:
        turned = lq.contiguous(memory_format=torch.channels_last)
        strips = _strips(model, turned, tile, lambda share: advance(share / len(TURNS)))
        return torch.cat([strip.float() for strip in strips], dim=2)

    yield mean_over_turns(whole, image)


def _clamped_strips(
    model: Network, lq: torch.Tensor, tile: int | str, self_ensemble: bool, advance: Advance
) -> Iterator[torch.Tensor]:
    """Yield the SR image of 3 x H x W or 1 x H x W in [0, 1] as fp32 strips with the same number of channels."""
    parameter = next(model.parameters())
    image = lq[None].to(parameter).contiguous(memory_format=torch.channels_last).expand(-1, 3, -1, -1)
    try:
        for strip in (_ensembled if self_ensemble else _strips)(model, image, tile, advance):
            sr = strip[0].float()
            largest = sr.abs().max().item()
            if not math.isfinite(largest):
                if parameter.dtype == torch.float16:
                    raise UserError("the network's numbers overflow in fp16; use fp32 or bf16")
                raise UserError("the network returns numbers that are not finite: its weights are unusable")
            if largest > LARGEST_OUTPUT:
                raise UserError(
                    f"the network returns {largest:.0f} where an image has 0 to 1, because it was trained on other "
                    "pictures, or hardly trained: use other weights"
                )
            yield (sr if len(lq) == 3 else sr.mean(dim=0, keepdim=True)).clamp_(0, 1)
            release_freed()
    except (MemoryError, RuntimeError) as error:
        out_of_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
        if not out_of_memory:
            raise
        raise UserError(f"memory does not suffice on {parameter.device}; use smaller tiles than {tile}") from None


def _upscale_tensor(image: torch.Tensor, size: _Size, strips: _Strips) -> torch.Tensor:
    if image.dim() not in (3, 4) or image.shape[-3] not in (1, 3) or not image.is_floating_point():
        raise ValueError(
            f"expected floats, C x H x W or N x C x H x W with 1 or 3 channels, not {image.dtype} {tuple(image.shape)}"
        )
    _check_range(image)
    *before, height, width = image.shape
    out = image.new_empty(*before, *size(height, width))
    lqs, srs = (x if x.dim() == 4 else x[None] for x in (image, out))
    for lq, sr in zip(lqs, srs):
        top = 0
        for strip in strips(lq, 1 / len(lqs)):
            sr[:, top : top + strip.shape[1]] = strip
            top += strip.shape[1]
    return out


def _upscale_array(image: NDArray[Any], size: _Size, strips: _Strips) -> NDArray[Any]:
    if not image.size:
        raise ValueError(f"an empty image, {image.shape}")
    if image.ndim == 3 and image.shape[2] in (2, 4):
        colour = image[..., 0] if image.shape[2] == 2 else image[..., :3]
        alpha = image[..., -1]
        out = np.empty((*size(*image.shape[:2]), image.shape[2]), image.dtype)
        first = alpha.flat[0]
        same_everywhere = bool((alpha == first).all())
        share = 1.0 if same_everywhere else 0.5
        _fill(out[..., 0] if image.shape[2] == 2 else out[..., :3], colour, strips, share)
        if same_everywhere:
            if np.issubdtype(image.dtype, np.floating):
                _check_range(torch.tensor(float(first)))
                first = first.clip(0, 1)
            out[..., -1] = first
        else:
            _fill(out[..., -1], alpha, strips, share)
        return out
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"expected H x W or H x W x 2, 3 or 4, not {image.shape}")
    out = np.empty((*size(*image.shape[:2]), *image.shape[2:]), image.dtype)
    _fill(out, image, strips, 1.0)
    return out


def _fill(out: NDArray[Any], image: NDArray[Any], strips: _Strips, share: float) -> None:
    """Upscale H x W or H x W x 3 into ``out``."""
    if image.dtype.newbyteorder("=") in (np.uint8, np.uint16):
        largest = np.iinfo(image.dtype).max
    elif np.issubdtype(image.dtype, np.floating):
        largest = None
    else:
        raise ValueError(f"expected uint8, uint16 or floats, not {image.dtype}")
    lq = torch.from_numpy(np.array(image, np.float32))
    if largest:
        lq /= largest
    else:
        _check_range(lq)
    top = 0
    for strip in strips(lq.permute(2, 0, 1) if image.ndim == 3 else lq[None], share):
        values = strip.mul_(largest).round_() if largest else strip
        rows = (values.permute(1, 2, 0) if image.ndim == 3 else values[0]).cpu().numpy()
        out[top : top + len(rows)] = rows
        top += len(rows)


def _check_range(image: torch.Tensor) -> None:
    """Raise `ValueError` for values outside [0, 1]. The small overshoot of an earlier interpolation is allowed."""
    if image.numel() == 0:
        raise ValueError("an empty image")
    low, high = (value.item() for value in image.aminmax())
    if not (low >= -0.5 and high <= 1.5):
        raise ValueError(f"expected floats in [0, 1], not {low:.4g} to {high:.4g}")
