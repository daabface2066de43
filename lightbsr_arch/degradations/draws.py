"""Random numbers for batches that are split between processes, or whose patches share degradations."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Draws:
    """Random numbers of one process, equal to those that a single process would draw for this part of the batch.

    Process r of w has the items r, r + w, r + 2w, ... of the batch, as BasicSR's sampler distributes them. The result
    of a run therefore does not depend on the number of processes, unless several items share a degradation.

    Attributes:
        generator: source of the numbers. They are on its device.
        rank: index of this process.
        world_size: number of processes. Their parts of the batch have the same size.
        group: number of neighbouring samples that share a degradation.
        item: number of neighbouring samples that come from one item.
    """

    generator: torch.Generator
    rank: int = 0
    world_size: int = 1
    group: int = 1
    item: int = 1

    def uniform(self, n: int) -> torch.Tensor:
        """Return numbers in [0, 1) for the degradations of ``n`` samples, equal within each group."""
        shape = (self._blocks(n), self._block // self.group)
        whole = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return whole[self.rank :: self.world_size].flatten().repeat_interleave(self.group)

    def noise(self, shape: torch.Size) -> torch.Tensor:
        """Return standard normal noise of the given shape, which begins with N. It is never shared."""
        n, *rest = shape
        whole = torch.randn(
            (self._blocks(n), self._block, *rest), generator=self.generator, device=self.generator.device
        )
        return whole[self.rank :: self.world_size].flatten(0, 1)

    @property
    def _block(self) -> int:
        """The number of neighbouring samples that are in one process and share their degradations."""
        return math.lcm(self.group, self.item)

    def _blocks(self, n: int) -> int:
        return n // self._block * self.world_size
