"""The dynamic depthwise convolution as Triton kernels, for GPUs.

cuDNN has no fast algorithm for a grouped convolution with N*C groups of one channel. These kernels read each pixel once
per element of the kernel, from the cache, and accept NCHW and channels-last memory without a copy. Sums are in fp32.

``TRITON_INTERPRET=1`` runs the kernels on CPU tensors, for tests.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl

PIXELS_OF_A_PROGRAM = 1024
"""Number of values in the tile of one program: pixels times channels."""

CHANNELS_OF_A_PROGRAM = 64
"""Largest number of channels of a tile in channels-last memory, where neighbouring channels are adjacent."""

TILES_OF_A_SUM = 16
"""Number of tiles over which one program sums for the gradient of the kernels. With more tiles, small batches have
fewer programs."""


@triton.jit
def _convolve(
    x, kernel, out, channels, height, width,
    x_n, x_c, x_h, x_w, out_n, out_c, out_h, out_w,
    size: tl.constexpr, flip: tl.constexpr, pixels: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Convolve ``pixels`` pixels and ``block`` channels of a sample. ``flip`` mirrors the kernels, for the gradient."""
    n = tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * block + tl.arange(0, block)[None, :]
    pixel = tl.program_id(0) * pixels + tl.arange(0, pixels)[:, None]
    row, column = pixel // width, pixel % width
    is_inside = (pixel < height * width) & (c < channels)
    source = x + n * x_n + c.to(tl.int64) * x_c + row.to(tl.int64) * x_h + column * x_w
    weights = kernel + (n * channels + c) * (size * size)
    total = tl.zeros((pixels, block), dtype=tl.float32)
    for i in tl.static_range(size):
        for j in tl.static_range(size):
            y, z = row + (i - size // 2), column + (j - size // 2)
            seen = is_inside & (y >= 0) & (y < height) & (z >= 0) & (z < width)
            value = tl.load(source + ((i - size // 2) * x_h + (j - size // 2) * x_w), mask=seen, other=0.0)
            place = (size * size - 1 - (i * size + j)) if flip else (i * size + j)
            weight = tl.load(weights + place, mask=c < channels, other=0.0)
            total += value.to(tl.float32) * weight.to(tl.float32)
    target = out + n * out_n + c.to(tl.int64) * out_c + row.to(tl.int64) * out_h + column * out_w
    tl.store(target, total.to(out.dtype.element_ty), mask=is_inside)


@triton.jit
def _correlate(
    x, grad, out, channels, height, width, splits, tiles,
    x_n, x_c, x_h, x_w, grad_n, grad_c, grad_h, grad_w,
    size: tl.constexpr, pixels: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Sum ``grad`` times the shifted ``x`` over ``tiles`` tiles, for one element of the kernels.

    ``out`` is N x ``splits`` x ``channels`` x ``size``^2, one sum per program.
    """
    split = tl.program_id(0) // (size * size)
    place = tl.program_id(0) % (size * size)
    n = tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * block + tl.arange(0, block)[None, :]
    down, right = place // size - size // 2, place % size - size // 2
    planes = x + n * x_n + c.to(tl.int64) * x_c + down * x_h + right * x_w
    planes_of_grad = grad + n * grad_n + c.to(tl.int64) * grad_c
    total = tl.zeros((pixels, block), dtype=tl.float32)
    for tile in range(tiles):
        pixel = (split * tiles + tile) * pixels + tl.arange(0, pixels)[:, None]
        row, column = pixel // width, pixel % width
        is_inside = (pixel < height * width) & (c < channels)
        y, z = row + down, column + right
        seen = is_inside & (y >= 0) & (y < height) & (z >= 0) & (z < width)
        value = tl.load(planes + row.to(tl.int64) * x_h + column * x_w, mask=seen, other=0.0)
        source = planes_of_grad + row.to(tl.int64) * grad_h + column * grad_w
        total += value.to(tl.float32) * tl.load(source, mask=is_inside, other=0.0).to(tl.float32)
    c = tl.program_id(1) * block + tl.arange(0, block)
    target = out + ((n * splits + split) * channels + c) * (size * size) + place
    tl.store(target, tl.sum(total, axis=0), mask=c < channels)


@torch.library.custom_op("lightbsr::dynamic_depthwise_conv", mutates_args=())
def triton_depthwise_conv(x: torch.Tensor, kernel: torch.Tensor, flip: bool = False) -> torch.Tensor:
    """Convolve each channel of each sample with its own kernel, with stride 1 and zero padding to the same size.

    Args:
        x: features, N x C x H x W, fp32, bf16 or fp16.
        kernel: N x C x K x K, K odd, of the same dtype.
        flip: whether to mirror the kernels along both axes.

    Returns:
        N x C x H x W, in the memory format of ``x``.
    """
    out = torch.empty_like(x)
    if out.numel() == 0:
        return out
    n, channels, height, width = x.shape
    pixels, block = _tile(x)
    grid = (triton.cdiv(height * width, pixels), triton.cdiv(channels, block), n)
    sizes: Any = {"size": kernel.shape[-1], "flip": flip, "pixels": pixels, "block": block}
    with _on(x):
        _convolve[grid](x, kernel.contiguous(), out, channels, height, width, *x.stride(), *out.stride(), **sizes)
    return out


@torch.library.custom_op("lightbsr::dynamic_depthwise_conv_kernel_grad", mutates_args=())
def _kernel_grad(x: torch.Tensor, grad: torch.Tensor, size: int) -> torch.Tensor:
    """Return the gradient with respect to the kernels, N x C x size x size. No atomic additions are used."""
    n, channels, height, width = x.shape
    pixels, block = _tile(x)
    tiles = min(triton.cdiv(height * width, pixels), TILES_OF_A_SUM)
    splits = triton.cdiv(height * width, pixels * TILES_OF_A_SUM)
    sums = x.new_zeros(n, splits, channels, size, size, dtype=torch.float32)
    if x.numel():
        grid = (splits * size**2, triton.cdiv(channels, block), n)
        sizes: Any = {"size": size, "pixels": pixels, "block": block}
        strides = (*x.stride(), *grad.stride())
        with _on(x):
            _correlate[grid](x, grad, sums, channels, height, width, splits, tiles, *strides, **sizes)
    return sums.sum(dim=1).to(x.dtype)


@triton_depthwise_conv.register_fake
def _(x: torch.Tensor, kernel: torch.Tensor, flip: bool = False) -> torch.Tensor:
    return torch.empty_like(x)


@_kernel_grad.register_fake
def _(x: torch.Tensor, grad: torch.Tensor, size: int) -> torch.Tensor:
    return x.new_empty(*x.shape[:2], size, size)


def _save(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor, bool], output: torch.Tensor) -> None:
    x, kernel, ctx.flip = inputs
    ctx.save_for_backward(x, kernel)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
    x, kernel = ctx.saved_tensors
    of_x = of_kernel = None
    if ctx.needs_input_grad[0]:
        of_x = triton_depthwise_conv(grad, kernel, not ctx.flip)
    if ctx.needs_input_grad[1]:
        of_kernel = _kernel_grad(x, grad, kernel.shape[-1])
        if ctx.flip:
            of_kernel = of_kernel.flip(2, 3)
    return of_x, of_kernel, None


def _save_pair(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor, int], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _backward_of_kernel_grad(ctx: Any, change: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
    x, grad = ctx.saved_tensors
    of_x = triton_depthwise_conv(grad, change, True) if ctx.needs_input_grad[0] else None
    of_grad = triton_depthwise_conv(x, change) if ctx.needs_input_grad[1] else None
    return of_x, of_grad, None


triton_depthwise_conv.register_autograd(_backward, setup_context=_save)
_kernel_grad.register_autograd(_backward_of_kernel_grad, setup_context=_save_pair)


def try_kernels(device: torch.device) -> None:
    """Compile and run both kernels on a small input of a device.

    Raises:
        RuntimeError: the results are wrong. Triton raises other exceptions, such as for a GPU that it does not support
            or without a C compiler.
    """
    ones = torch.ones(1, 1, 3, 3, device=device)
    expected = torch.tensor([[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]], device=device)
    with torch.no_grad():
        for result in (triton_depthwise_conv(ones, ones), _kernel_grad(ones, ones, 3)):
            if not torch.equal(result[0, 0], expected):
                raise RuntimeError(f"a convolution of ones returned {result.flatten().tolist()}")


def _tile(x: torch.Tensor) -> tuple[int, int]:
    """Return the pixels and channels of a program's tile, both powers of two, for the memory format of ``x``."""
    channels, height, width = x.shape[1:]
    is_channels_last = x.stride(1) == 1 and channels > 1
    block = min(triton.next_power_of_2(channels), CHANNELS_OF_A_PROGRAM) if is_channels_last else 1
    return min(triton.next_power_of_2(max(height * width, 1)), PIXELS_OF_A_PROGRAM // block), block


def _on(x: torch.Tensor) -> AbstractContextManager[Any]:
    """Return a context in which kernels start on the device of ``x``. Triton itself uses the current device."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()
