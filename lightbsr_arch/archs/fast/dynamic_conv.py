"""Depthwise convolution whose kernel differs from sample to sample."""

import torch
import torch.nn.functional as F

from lightbsr_arch.archs.exporting import is_exporting


def dynamic_depthwise_conv(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Convolve each channel of each sample with its own kernel, with stride 1 and zero padding to the same size.

    The three implementations return the same values. The fastest one depends on the memory format.

    Args:
        x: features, N x C x H x W.
        kernel: N x C x K x K, K odd.
    """
    if is_exporting():
        return _as_shifted_sum(x, kernel)  # exporters refuse groups that depend on a dynamic batch
    if x.device.type == "cpu" and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return _sample_by_sample(x, kernel)  # folding the batch into the groups would copy to NCHW and back
    return _folded_into_groups(x, kernel)


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
