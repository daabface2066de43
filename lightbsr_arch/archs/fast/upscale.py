"""The last stage of a restorer: upsampler and tail."""

import torch
from basicsr.archs.arch_util import Upsample
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from lightbsr_arch.archs.fast.row_strips import is_inference_on_cpu

REACH = 2
"""Largest distance, in low-quality pixels, of features that an output pixel depends on, at any scale."""


def upscale(x: torch.Tensor, upsample: Upsample, tail: nn.Conv2d) -> torch.Tensor:
    """Return ``tail(upsample(x))`` with less memory. It may need most of a restorer's memory and a fifth of its time.

    Args:
        x: features, N x C x H x W.
        upsample: alternating convolutions and pixel shuffles, which enlarge by 2, 3 or 4.
        tail: a 3x3 convolution with padding.
    """
    if torch.jit.is_tracing():  # ncnn's converter, pnnx, loses the crop behind `conv_of_shuffled`
        out: torch.Tensor = tail(upsample(x))
        return out
    channels, height, width = x.shape[1:]
    seen = REACH + 1
    by_the_layers = (1 + channels) * (2 * REACH + 1) ** 2 + 2 * seen * (height + width)  # pixels
    if not is_inference_on_cpu(x) or height * width < by_the_layers:
        return _layer_by_layer(x, upsample, tail)
    image = _as_one_convolution(x, nn.Sequential(*upsample, tail))
    # The layers pad, which affects only the outermost blocks of scale x scale pixels.
    scale = image.shape[2] // height
    image[:, :, :scale] = _layer_by_layer(x[:, :, :seen], upsample, tail)[:, :, :scale]
    image[:, :, -scale:] = _layer_by_layer(x[:, :, -seen:], upsample, tail)[:, :, -scale:]
    image[..., :scale] = _layer_by_layer(x[..., :seen], upsample, tail)[..., :scale]
    image[..., -scale:] = _layer_by_layer(x[..., -seen:], upsample, tail)[..., -scale:]
    return image


def _as_one_convolution(x: torch.Tensor, layers: nn.Sequential) -> torch.Tensor:
    """Apply all layers, which are linear, as one convolution. The result is wrong along the border.

    The weight is the response of the layers to images that are one at a single pixel and zero elsewhere.
    """
    channels, side = x.shape[1], 2 * REACH + 1
    dtype = torch.promote_types(x.dtype, torch.float32)
    places = torch.zeros(channels, channels, side, side, dtype=dtype)
    places[:, :, REACH, REACH] = torch.eye(channels)
    parameters = {name: parameter.to(dtype) for name, parameter in layers.named_parameters()}
    weights = {name: p if name.endswith("weight") else torch.zeros_like(p) for name, p in parameters.items()}
    with torch.autocast(x.device.type, enabled=False):
        responses = functional_call(layers, weights, places)
        constant = functional_call(layers, parameters, torch.zeros_like(places[:1]))
    scale = responses.shape[2] // side
    weight = F.pixel_unshuffle(responses, scale).transpose(0, 1).flip(2, 3)
    weight = weight.to(x.dtype, memory_format=torch.channels_last)
    bias = F.pixel_unshuffle(constant, scale)[0, :, REACH, REACH].to(x.dtype)
    return F.pixel_shuffle(F.conv2d(x, weight, bias, padding=REACH), scale)


def _layer_by_layer(x: torch.Tensor, upsample: Upsample, tail: nn.Conv2d) -> torch.Tensor:
    """Apply the tail before the last pixel shuffle, so that the shuffled features are never in memory."""
    *before, shuffle = upsample
    for layer in before:
        x = layer(x)
    return conv_of_shuffled(x, shuffle.upscale_factor, tail)


def conv_of_shuffled(x: torch.Tensor, scale: int, conv: nn.Conv2d) -> torch.Tensor:
    """Return ``conv(F.pixel_shuffle(x, scale))`` for a 3x3 convolution with padding, without the shuffled tensor.

    A block of scale x scale pixels that is shifted by one pixel up and left, relative to the block of a pixel of ``x``,
    depends on 2x2 pixels of ``x``. A 2x2 convolution with one output per pixel of the block is therefore applied first,
    and its outputs are shuffled.
    """
    spare = 2 * scale - 3
    shifted = [
        F.pixel_unshuffle(F.pad(conv.weight, (left, spare - left, above, spare - above)), scale)
        for above in range(scale - 2, 2 * scale - 2)
        for left in range(scale - 2, 2 * scale - 2)
    ]
    weight = torch.stack(shifted, dim=1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    bias = None if conv.bias is None else conv.bias.repeat_interleave(scale**2)
    blocks = F.pixel_shuffle(F.conv2d(x, weight, bias, padding=1), scale)
    return blocks[:, :, 1 : 1 - scale or None, 1 : 1 - scale or None]
