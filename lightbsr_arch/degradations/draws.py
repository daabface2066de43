"""Random numbers for a batch that several processes, or several patches, share."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Draws:
    """Draws for one process's part of a batch what a single process would draw for that part of the whole batch.

    Process r of w holds the items r, r + w, r + 2w, ... of the batch, as BasicSR's sampler deals them out; so a run
    does not depend on how many processes share it. An item is one sample, or a group of neighbours with one
    degradation.

    Attributes:
        generator: where the numbers come from, and on whose device they are.
        rank: of this process.
        world_size: number of processes, whose parts of the batch are equally large.
        group: samples an item.
    """

    generator: torch.Generator
    rank: int = 0
    world_size: int = 1
    group: int = 1

    def uniform(self, n: int) -> torch.Tensor:
        """Numbers in [0, 1) for the degradations of ``n`` samples: equal within a group."""
        whole = torch.rand(self._items(n), generator=self.generator, device=self.generator.device)
        return whole[self.rank :: self.world_size].repeat_interleave(self.group)

    def noise(self, shape: torch.Size) -> torch.Tensor:
        """Standard normal noise for N samples of the given shape, N included: never shared."""
        n, *rest = shape
        shape = torch.Size([self._items(n), self.group, *rest])
        whole = torch.randn(shape, generator=self.generator, device=self.generator.device)
        return whole[self.rank :: self.world_size].flatten(0, 1)

    def _items(self, n: int) -> int:
        return n // self.group * self.world_size
