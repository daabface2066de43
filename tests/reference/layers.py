"""Layers that several of the published networks share, as functions of a state dict."""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, leaky_relu, linear, pixel_shuffle

State = Mapping[str, Tensor]

RGB_MEAN = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)
STRIDES = (1, 1, 2, 1, 2, 1)
"""Strides of the encoder that DASR introduced."""


def count(w: State, pattern: str) -> int:
    """Return how many different numbers a pattern finds in the names."""
    return len({match[1] for key in w if (match := re.fullmatch(pattern, key))})


def conv(w: State, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """Convolve under zero padding that keeps the size."""
    weight = w[f"{name}.weight"]
    return conv2d(x, weight, w.get(f"{name}.bias"), stride, weight.shape[-1] // 2, groups=groups)


def dense(w: State, name: str, x: Tensor) -> Tensor:
    """Apply a linear layer, or a 1x1 convolution, to vectors."""
    return linear(x, w[f"{name}.weight"].flatten(1), w.get(f"{name}.bias"))


def leaky(x: Tensor) -> Tensor:
    return leaky_relu(x, 0.1)


def encode(w: State, name: str, x: Tensor) -> Tensor:
    """Apply six convolutions, each with batch normalisation, if the weights have any, and a LeakyReLU."""
    step = 3 if f"{name}.1.running_mean" in w else 2
    for i, stride in enumerate(STRIDES):
        x = conv(w, f"{name}.{step * i}", x, stride)
        if step == 3:
            weight, bias, mean, var = (
                w[f"{name}.{step * i + 1}.{part}"].view(1, -1, 1, 1)
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            x = (x - mean) / (var + 1e-5).sqrt() * weight + bias
        x = leaky(x)
    return x


def perceptron(w: State, name: str, x: Tensor, activation: Callable[[Tensor], Tensor] = leaky) -> Tensor:
    """Apply two linear layers with an activation between them."""
    return dense(w, f"{name}.2", activation(dense(w, f"{name}.0", x)))


def dynamic_conv(w: State, name: str, x: Tensor, vector: Tensor) -> Tensor:
    """Convolve each channel of each image with a 3x3 kernel that a perceptron computes from its vector."""
    channels = x.shape[1]
    kernels = perceptron(w, name, vector).view(len(x), channels, 1, 3, 3)
    images = [conv2d(x[n : n + 1], kernels[n], padding=1, groups=channels) for n in range(len(x))]
    return torch.cat(images)


def enlarged_by_4(idr: Tensor) -> Tensor:
    """Place each 16 channels of a map, N x C x H x W, as 4 x 4 pixels: N x C/16 x 4H x 4W."""
    n, channels, rows, columns = idr.shape
    out = torch.zeros(n, channels // 16, 4 * rows, 4 * columns)
    for i in range(4):
        for j in range(4):
            out[:, :, i::4, j::4] = idr[:, 4 * i + j :: 16]
    return out


def convnext(w: State, name: str, x: Tensor, y: Tensor) -> Tensor:
    """Add ConvNeXt's residual of y to x."""
    y = conv(w, f"{name}.dwconv", y, groups=y.shape[1]).permute(0, 2, 3, 1)
    y = (y - y.mean(dim=-1, keepdim=True)) / (y.var(dim=-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    y = y * w[f"{name}.norm.weight"] + w[f"{name}.norm.bias"]
    y = dense(w, f"{name}.pwconv2", gelu(dense(w, f"{name}.pwconv1", y)))
    return x + (w[f"{name}.gamma"] * y).permute(0, 3, 1, 2)


def restored(
    w: State, lq: Tensor, body: Callable[[Tensor], Tensor], mean: Tensor = RGB_MEAN, white: float = 1.0
) -> Tensor:
    """Apply head, body, the convolution after it, upsampler and tail to images whose mean is subtracted.

    Args:
        w: the weights.
        lq: N x 3 x H x W, in [0, 1].
        body: a function of the head's output.
        mean: RGB mean, in [0, 1].
        white: the value of white inside the network.
    """
    x = head = conv(w, "G.head.0", white * (lq - mean))
    (last,) = [key for key in w if re.fullmatch(r"G\.body\.\d+\.weight", key)]
    x = head + conv(w, last.removesuffix(".weight"), body(x))
    for name in ("G.tail.0.0", "G.tail.0.2"):
        if f"{name}.weight" in w:  # without activation
            x = conv(w, name, x)
            x = pixel_shuffle(x, 3 if x.shape[1] == 9 * head.shape[1] else 2)
    return conv(w, "G.tail.1", x) / white + mean
