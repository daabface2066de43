"""The structure that most restorers share: head, body, a long skip connection, upsampler and tail."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from basicsr.archs.arch_util import Upsample
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightbsr_arch.archs.fast.row_streams import Strips, cut, not_taller, streamed
from lightbsr_arch.archs.fast.upscale import upscale
from lightbsr_arch.archs.mean_shift import RGBMean
from lightbsr_arch.archs.part import Restorer, State, count

SHELL_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"G\.(add|sub)_mean\.", None),  # constants
    (r"G\.head\.0\.", "head."),
    (r"G\.body\.\d+\.(weight|bias)$", r"after_body.\1"),
    (r"G\.tail\.0\.", "upsample."),
    (r"G\.tail\.1\.", "tail."),
)
"""Published names of the layers outside the body. Subclasses add those of the body."""


class ResidualRestorer(Restorer):
    """Base class of restorers that return the RGB mean plus ``tail(upsample(head + after_body(body)))``.

    The input of the body is the output of the head. A subclass creates the layers in that order, and computes the body.

    Attributes:
        checkpoint_activations: whether training stores only the inputs of each part of the body. Backpropagation then
            computes the part again, which needs less memory and more time.
    """

    published_names = SHELL_NAMES
    checkpoint_activations = False
    mean_in: RGBMean
    mean_out: RGBMean
    head: nn.Conv2d
    body: nn.ModuleList
    after_body: nn.Conv2d
    upsample: Upsample
    tail: nn.Conv2d

    @staticmethod
    def scale_of(state: State) -> int:
        """Return the ``scale`` that the shapes of the upsampler imply."""
        steps = count(state, r"upsample\.(\d+)\.weight")  # one step of 3, or steps of 2
        after, before = state["upsample.0.weight"].shape[:2]
        return int(round((after / before) ** 0.5) ** steps)

    def run_part(self, part: nn.Module, *inputs: torch.Tensor, **guides: torch.Tensor) -> Any:
        """Return the output of a part of the body."""
        if self.checkpoint_activations and torch.is_grad_enabled():
            run = partial(part, **guides)  # `checkpoint` has keywords of its own
            return checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False)
        return part(*inputs, **guides)

    def image(self, features: torch.Tensor) -> torch.Tensor:
        """Return the SR image of the last features."""
        return self.mean_out.add(upscale(features, self.upsample, self.tail))

    def head_in_strips(self, lq: torch.Tensor, rows: int) -> Strips:
        """Yield the head's output. It is computed twice, because storing it would need the memory of a whole image."""
        return streamed(lambda strip: self.head(self.mean_in.subtract(strip)), cut(lq, rows), halo=1)

    def image_in_strips(self, features: Strips, rows: int, done: Callable[[int], Any]) -> Strips:
        """Yield the SR image of the last features. ``done`` receives the number of low-quality rows of each strip."""
        # The last strip contains all rows that the layers of the body had not yet output.
        for strip, last in streamed(self.image, not_taller(features, rows), halo=2, scale=self.scale):
            yield strip, last
            done(strip.shape[2] // self.scale)
