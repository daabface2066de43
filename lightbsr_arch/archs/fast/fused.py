"""Operations that oneDNN fuses into one pass over memory, with PyTorch's own as the fallback.

PyTorch uses the fused operations when it compiles a network. They can also be called directly without a compiler. A 1x1
convolution then uses oneDNN even with a single thread.
"""

from functools import cache

import torch
from torch.nn import functional as F

from lightbsr_arch.archs.fast.row_strips import is_inference_on_cpu


def conv_gelu(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, padding: int = 0
) -> torch.Tensor:
    """Return the GELU of a convolution's output."""
    if not _fuses(x, weight):
        return F.gelu(F.conv2d(x, weight, bias, padding=padding))
    return _conv_gelu(x, weight, bias, padding)


def gated_gelu(x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """Multiply the channels of one image, 1 x C x H x W, by C factors, and return the GELU of the product."""
    if not _fuses(x, gate):
        return F.gelu(x * gate[:, None, None])
    return _conv_gelu(x, gate[:, None, None, None], groups=len(gate))


def add_conv1x1_(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Add a convolution's output to ``out``, an image or rows of an image in channels-last memory."""
    if not (_fuses(x, weight) and out.dtype == x.dtype and out.is_contiguous(memory_format=torch.channels_last)):
        out += F.conv2d(x, weight, bias)
        return
    add = torch.ops.mkldnn._convolution_pointwise_.binary
    add(out, x, weight, bias, [0, 0], [1, 1], [1, 1], 1, "add", 1.0, None, [], None)


def _conv_gelu(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, padding: int = 0, groups: int = 1
) -> torch.Tensor:
    conv = torch.ops.mkldnn._convolution_pointwise
    fused: torch.Tensor = conv(x, weight, bias, [padding] * 2, [1, 1], [1, 1], groups, "gelu", [], "none")
    return fused


def _fuses(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return is_inference_on_cpu(x) and x.dtype == weight.dtype and _available(x.dtype)


@cache
def _available(dtype: torch.dtype) -> bool:
    """Return whether the operations, which are not part of PyTorch's public interface, exist on this machine."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    ones = torch.ones(1, 1, 2, 2, dtype=dtype).contiguous(memory_format=torch.channels_last)
    out, weight = ones.clone(), ones[:, :, :1, :1]
    try:
        add_conv = torch.ops.mkldnn._convolution_pointwise_.binary
        add_conv(out, _conv_gelu(ones, weight), weight, None, [0, 0], [1, 1], [1, 1], 1, "add", 1.0, None, [], None)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.allclose(out, 1 + F.gelu(ones), rtol=0.01)
