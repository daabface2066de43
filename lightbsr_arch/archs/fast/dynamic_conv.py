"""Depthwise convolution whose kernel differs from sample to sample."""

import os
import warnings
from functools import cache

import torch
import torch.nn.functional as F

from lightbsr_arch.archs.exporting import is_exporting

TRITON_VARIABLE = "LIGHTBSR_TRITON"
"""Environment variable that switches the Triton kernels off if it is 0. It is read once per device."""

TRITON_DEVICE = "cuda"
"""Type of the devices on which the Triton kernels are used. It includes AMD's GPUs."""

TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def dynamic_depthwise_conv(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Convolve each channel of each sample with its own kernel, with stride 1 and zero padding to the same size.

    The implementations return the same values except for rounding. The choice depends on the device and on the memory
    format. On CUDA devices, Triton kernels are used, see ``uses_triton``.

    Args:
        x: features, N x C x H x W.
        kernel: N x C x K x K, K odd.
    """
    if is_exporting():
        return _as_shifted_sum(x, kernel)  # exporters refuse groups that depend on a dynamic batch
    if x.device.type == "cpu" and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return _sample_by_sample(x, kernel)  # folding the batch into the groups would copy to NCHW and back
    if x.device.type == TRITON_DEVICE and uses_triton(x.device):
        return _by_triton(x, kernel)
    return _folded_into_groups(x, kernel)


@torch.compiler.assume_constant_result
def uses_triton(device: torch.device) -> bool:
    """Return whether the Triton kernels are used on a CUDA device.

    They are used if Triton is installed, the variable ``LIGHTBSR_TRITON`` is not 0, and a small convolution succeeds on
    the device. A failure is a warning. The first call for a device decides.
    """
    return _runs_triton(device)


@cache
def _runs_triton(device: torch.device) -> bool:
    if os.environ.get(TRITON_VARIABLE) == "0":
        return False
    try:
        from lightbsr_arch.archs.fast.triton_conv import try_kernels
    except ImportError:  # Triton is only installed with PyTorch on Linux
        return False
    try:
        try_kernels(device)
    except Exception as error:  # Triton's exceptions have no common class
        reason = (str(error).strip().splitlines() or ["no message"])[-1]
        warnings.warn(
            f"The Triton kernels do not run on {device} ({type(error).__name__}: {reason}). The convolution of PyTorch "
            f"is used instead. {TRITON_VARIABLE}=0 switches the kernels and this warning off.",
            stacklevel=2,
        )
        return False
    return True


def _by_triton(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    if x.dtype not in TRITON_DTYPES:
        return _folded_into_groups(x, kernel)
    # The operation computes in the dtype that autocast would use for conv2d.
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    out: torch.Tensor = torch.ops.lightbsr.dynamic_depthwise_conv(x.to(dtype), kernel.to(dtype))
    return out


def _folded_into_groups(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    size = kernel.shape[-1]
    if n == 1:  # without reshaping of the features, which ncnn's converter cannot follow for every size
        return F.conv2d(x, kernel.reshape(c, 1, size, size), padding=size // 2, groups=c)
    folded = F.conv2d(x.reshape(1, n * c, h, w), kernel.reshape(n * c, 1, size, size), padding=size // 2, groups=n * c)
    return folded.view(n, c, h, w)


def _sample_by_sample(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    channels, padding = x.shape[1], kernel.shape[-1] // 2
    samples = zip(x.split(1), kernel.unsqueeze(2))
    return torch.cat([F.conv2d(sample, weight, padding=padding, groups=channels) for sample, weight in samples])


def _as_shifted_sum(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    h, w = x.shape[-2:]
    size = kernel.shape[-1]
    pad = size // 2
    padded = F.pad(x, (pad, pad, pad, pad))
    out = torch.zeros_like(x)
    for i in range(size):
        for j in range(size):
            out = out + padded[:, :, i : i + h, j : j + w] * kernel[:, :, i, j, None, None]
    return out
