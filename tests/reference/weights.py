"""Random weights under the published names of their layers."""

from itertools import pairwise

import numpy as np
import torch


class Weights(dict[str, torch.Tensor]):
    """A state dict with random tensors, which it draws in the order of the calls.

    NumPy keeps the numbers of ``RandomState`` the same on every machine and in every version.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = np.random.RandomState(seed)

    def conv(self, name: str, before: int, after: int, size: int, *, groups: int = 1, bias: bool = True) -> None:
        self._layer(name, (after, before // groups, size, size), before // groups * size**2, bias)

    def linear(self, name: str, before: int, after: int, *, bias: bool = True) -> None:
        self._layer(name, (after, before), before, bias)

    def vector(self, name: str, size: int, around: float = 0.0) -> None:
        self[name] = around + 0.2 * self.normal(size)

    def batch_norm(self, name: str, size: int) -> None:
        for part, around in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0)):
            self.vector(f"{name}.{part}", size, around)
        self[f"{name}.running_var"] = 0.5 + torch.from_numpy(self.generator.rand(size)).float()
        self[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def encoder(self, name: str, before: int, width: int, *, batch_norm: bool = True) -> None:
        """Add the six convolutions that DASR introduced, to 4 * width channels."""
        widths = (before, width, width, 2 * width, 2 * width, 4 * width, 4 * width)
        step = 3 if batch_norm else 2
        for i, (into, out) in enumerate(pairwise(widths)):
            self.conv(f"{name}.{step * i}", into, out, 3)
            if batch_norm:
                self.batch_norm(f"{name}.{step * i + 1}", out)

    def perceptron(self, name: str, before: int, hidden: int, after: int, *, bias: bool = True) -> None:
        self.linear(f"{name}.0", before, hidden, bias=bias)
        self.linear(f"{name}.2", hidden, after, bias=bias)

    def convnext(self, name: str, channels: int) -> None:
        self.conv(f"{name}.dwconv", channels, channels, 7, groups=channels)
        self.vector(f"{name}.norm.weight", channels, 1.0)
        self.vector(f"{name}.norm.bias", channels)
        self.linear(f"{name}.pwconv1", channels, 2 * channels)
        self.linear(f"{name}.pwconv2", 2 * channels, channels)
        self.vector(f"{name}.gamma", channels, 0.5)

    def shell(self, channels: int, scale: int, last: int) -> None:
        """Add the layers around the body: mean shifts, head, convolution after the body, upsampler and tail."""
        for name in ("sub", "add"):
            self[f"G.{name}_mean.weight"], self[f"G.{name}_mean.bias"] = torch.ones(3, 3, 1, 1), torch.ones(3)
        self.conv("G.head.0", 3, channels, 3)
        self.conv(f"G.body.{last}", channels, channels, 3)
        for step in range(2 if scale == 4 else 1):
            self.conv(f"G.tail.0.{2 * step}", channels, channels * (9 if scale == 3 else 4), 3)
        self.conv("G.tail.1", channels, 3, 3)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self.generator.randn(*shape)).float()

    def _layer(self, name: str, shape: tuple[int, ...], fan_in: int, bias: bool) -> None:
        self[f"{name}.weight"] = self.normal(*shape) * fan_in**-0.5
        if bias:
            self.vector(f"{name}.bias", shape[0])
