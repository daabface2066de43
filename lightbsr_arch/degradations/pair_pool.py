"""Real-ESRGAN's training-pair pool."""

import math
from typing import Any

import torch

from lightbsr_arch.degradations.classical import Degraded


class PairPool:
    """Exchanges each batch of pairs for one that is drawn from many batches.

    It replaces ``RealESRNetModel._dequeue_and_enqueue`` of BasicSR, which copies the whole pool at every step. This
    class only shuffles indices. Until the pool is full, batches are returned unchanged.

    Args:
        size: number of pairs, rounded up to a multiple of the first batch's size.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.parts: list[torch.Tensor] = []
        self.order = torch.arange(0)
        self.filled = 0

    def exchange(self, *batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Put the samples of ``batch`` into the pool and return as many others. A sample is a row of each tensor.

        The order is drawn from PyTorch's generator on the CPU.
        """
        n = len(batch[0])
        size = math.ceil(self.size / n) * n
        # The options of a resumed run may have other sizes.
        fits = [part.shape[1:] for part in self.parts] == [part.shape[1:] for part in batch]
        if not fits or len(self.order) != size:
            self.filled = 0
            self.order = torch.arange(size)
            # Not new_empty: a training state must be finite, and so must the rows that are not filled yet.
            self.parts = [part.new_zeros(size, *part.shape[1:]) for part in batch]
        self.parts = [part.to(new.device) for part, new in zip(self.parts, batch)]  # moves a resumed pool
        if (room := len(self.order) - self.filled) > 0:
            for part, new in zip(self.parts, batch):
                part[self.filled : self.filled + n] = new[:room]
            self.filled += n
            return batch
        self.order = self.order[torch.randperm(len(self.order))]
        rows = self.order[:n].to(batch[0].device, non_blocking=True)
        taken = tuple(part[rows] for part in self.parts)
        for part, new in zip(self.parts, batch):
            part[rows] = new
        return taken

    def state_dict(self) -> dict[str, Any]:
        return {"parts": self.parts, "order": self.order, "filled": self.filled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.parts, self.order, self.filled = state["parts"], state["order"].cpu(), state["filled"]


class Pooled:
    """A degradation that mixes the pairs of many batches, with a pool that a training state contains.

    Attributes:
        pool: the pool, or None.
    """

    pool: PairPool | None

    def mix(self, new: Degraded, group: int, is_sharpened: bool) -> Degraded:
        """Exchange pairs with the pool, in groups of ``group`` neighbours that share a degradation.

        ``gt_plain`` takes memory in the pool only if the ground truth may be sharpened (``is_sharpened``).
        """
        if self.pool is None:
            return new
        images = (new.lq, new.gt, new.gt_plain) if is_sharpened else (new.lq, new.gt)
        groups = [part.unflatten(0, (-1, group)) for part in images]
        lq, gt, *plain = (part.flatten(0, 1) for part in self.pool.exchange(*groups))
        return Degraded(lq, None, gt, plain[0] if plain else gt)

    def state_dict(self) -> dict[str, Any]:
        """Return the pool of pairs, so that a resumed run uses the same pairs."""
        return {} if self.pool is None else self.pool.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.pool is not None:
            self.pool.load_state_dict(state)
