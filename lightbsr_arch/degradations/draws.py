"""Random numbers for a batch that several processes, or several patches, share."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Draws:
    """Draws for one process's part of a batch what a single process would draw for that part of the whole batch.

    Process r of w holds the items r, r + w, r + 2w, ... of the batch, as BasicSR's sampler deals them out; so a run
    does not depend on how many processes share it, unless several items share a degradation.

    Attributes:
        generator: where the numbers come from, and on whose device they are.
        rank: of this process.
        world_size: number of processes, whose parts of the batch are equally large.
        group: neighbouring samples that share a degradation.
        item: neighbouring samples that come from one item.
    """

    generator: torch.Generator
    rank: int = 0
    world_size: int = 1
    group: int = 1
    item: int = 1

    def uniform(self, n: int) -> torch.Tensor:
        """Numbers in [0, 1) for the degradations of ``n`` samples: equal within a group."""
        shape = (self._blocks(n), self._block // self.group)
        whole = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return whole[self.rank :: self.world_size].flatten().repeat_interleave(self.group)

    def noise(self, shape: torch.Size) -> torch.Tensor:
        """Standard normal noise for N samples of the given shape, N included: never shared."""
        n, *rest = shape
        whole = torch.randn(
            (self._blocks(n), self._block, *rest), generator=self.generator, device=self.generator.device
        )
        return whole[self.rank :: self.world_size].flatten(0, 1)

    @property
    def _block(self) -> int:
        """Samples that no process and no degradation divides."""
        return math.lcm(self.group, self.item)

    def _blocks(self, n: int) -> int:
        return n // self._block * self.world_size
