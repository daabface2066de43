"""The structure that most restorers share: head, body, a long skip connection, upsampler and tail."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from basicsr.archs.arch_util import Upsample
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightbsr_arch.archs.fast.row_streams import Strips, added, cut, not_taller, streamed
from lightbsr_arch.archs.fast.upscale import upscale
from lightbsr_arch.archs.mean_shift import RGB_MEAN, RGBMean
from lightbsr_arch.archs.part import Advance, Guides, Restorer, State, count

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

    The input of the body is the output of the head. Each part of the body receives the features and the guides. Parts
    have a method ``in_strips(strips, **guides)``, unless the subclass has its own ``restore_in_strips``.

    Args:
        num_in_ch: channels of the input image.
        num_out_ch: channels of the output image.
        num_feat: channels of the features.
        idr_ch: channels of the IDR.
        scale: 2, 3 or 4.
        body: the parts of the body. Their arguments after the features have the names of the guides.
        mean: RGB mean of the training images, in [0, 1].

    Attributes:
        checkpoint_activations: whether training stores only the inputs of each part of the body. Backpropagation then
            computes the part again, which needs less memory and more time.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) and its ``guides`` to N x 3 x H*scale x W*scale.
    """

    published_names = SHELL_NAMES
    checkpoint_activations = False

    def __init__(
        self,
        num_in_ch: int,
        num_out_ch: int,
        num_feat: int,
        idr_ch: int,
        scale: int,
        body: Iterable[nn.Module],
        mean: tuple[float, ...] = RGB_MEAN,
    ) -> None:
        super().__init__()
        self.mean_in, self.mean_out = RGBMean(num_in_ch, mean), RGBMean(num_out_ch, mean)
        self.head = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        converters = self.make_converters(num_feat, idr_ch)
        for name, layer in converters.items():
            self.add_module(name, layer)
        self._converters = tuple(converters)
        self.body = nn.ModuleList(body)
        self.after_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upsample = Upsample(scale, num_feat)
        self.tail = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)
        self.scale, self.num_in_ch, self.num_out_ch = scale, num_in_ch, num_out_ch
        self.num_feat, self.idr_ch = num_feat, idr_ch

    def make_converters(self, num_feat: int, idr_ch: int) -> dict[str, nn.Module]:
        """Return the layers that compute the guides, by name. They are created between the head and the body."""
        return {}

    @property
    def converters(self) -> tuple[nn.Module, ...]:  # type: ignore[override]
        return tuple(getattr(self, name) for name in self._converters)

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

    def first_features(self, lq: torch.Tensor) -> torch.Tensor:
        """Return the head's output."""
        out: torch.Tensor = self.head(self.mean_in.subtract(lq))
        return out

    def forward(self, lq: torch.Tensor, guides: Guides) -> torch.Tensor:
        head = self.first_features(lq)
        x = head
        for part in self.body:
            x = self.run_part(part, x, **guides)
        return self.image(head + self.after_body(x))

    def head_in_strips(self, lq: torch.Tensor, rows: int) -> Strips:
        """Yield the head's output. It is computed twice, because storing it would need the memory of a whole image."""
        return streamed(self.first_features, cut(lq, rows), halo=1)

    def restore_in_strips(self, lq: torch.Tensor, guides: Guides, rows: int, advance: Advance) -> Strips:
        """Strips flow through all layers, so memory grows with the width of the image and not with its height."""
        parts: Any = self.body
        body = self.head_in_strips(lq, rows)
        for part in parts:
            body = part.in_strips(body, **guides)
        features = added(streamed(self.after_body, body, halo=1), self.head_in_strips(lq, rows))
        return self.image_in_strips(features, rows, lambda done: advance(done / lq.shape[2]))

    def image_in_strips(self, features: Strips, rows: int, done: Callable[[int], Any]) -> Strips:
        """Yield the SR image of the last features. ``done`` receives the number of low-quality rows of each strip."""
        # The last strip contains all rows that the layers of the body had not yet output.
        for strip, last in streamed(self.image, not_taller(features, rows), halo=2, scale=self.scale):
            yield strip, last
            done(strip.shape[2] // self.scale)


class GuidedRestorer(ResidualRestorer):
    """A residual restorer with a linear layer ``compress``, from the IDR to ``num_feat`` numbers."""

    published_names = (*SHELL_NAMES, (r"G\.compress\.0\.", "compress."))
    compress: nn.Linear

    def make_converters(self, num_feat: int, idr_ch: int) -> dict[str, nn.Module]:
        return {"compress": nn.Linear(idr_ch, num_feat, bias=False)}
