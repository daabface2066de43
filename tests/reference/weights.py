"""Random weights, which are drawn in the order of the requests."""

import torch


class Weights(dict[str, torch.Tensor]):
    """A state dict with seeded random tensors, which are the same on every machine."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def conv(self, name: str, before: int, after: int, size: int, *, groups: int = 1, bias: bool = True) -> None:
        self._layer(name, (after, before // groups, size, size), before // groups * size**2, bias)

    def linear(self, name: str, before: int, after: int, *, bias: bool = True) -> None:
        self._layer(name, (after, before), before, bias)

    def vector(self, name: str, size: int, around: float = 0.0) -> None:
        self[name] = around + 0.2 * torch.randn(size, generator=self.generator)

    def _layer(self, name: str, shape: tuple[int, ...], fan_in: int, bias: bool) -> None:
        self[f"{name}.weight"] = torch.randn(shape, generator=self.generator) * fan_in**-0.5
        if bias:
            self.vector(f"{name}.bias", shape[0])


RGB_MEAN = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)


def add_shell(weights: Weights, channels: int, scale: int, last: int) -> None:
    """Add the layers around the body: mean shifts, head, convolution after the body, upsampler and tail."""
    for name in ("sub", "add"):
        weights[f"G.{name}_mean.weight"], weights[f"G.{name}_mean.bias"] = torch.ones(3, 3, 1, 1), torch.ones(3)
    weights.conv("G.head.0", 3, channels, 3)
    weights.conv(f"G.body.{last}", channels, channels, 3)
    for step in range(2 if scale == 4 else 1):
        weights.conv(f"G.tail.0.{2 * step}", channels, channels * (9 if scale == 3 else 4), 3)
    weights.conv("G.tail.1", channels, 3, 3)
