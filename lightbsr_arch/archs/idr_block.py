"""The blocks of LightBSR's restorer: LightBSR (ICCV 2025), section 3.3.

Images and features are N x C x H x W in channels-last memory, so that the views which put the channels last copy
nothing. Where nothing is trained, a block works through the image in strips of rows, so that what becomes of a strip
stays in the processor's cache: memory, not arithmetic, is what the time goes to.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs.row_strips import RowStrip, row_strips

HALO = 3
"""Rows above and below that the depthwise 7x7 convolution looks at."""


class ConvNeXtBlock(nn.Module):
    """ConvNeXt (CVPR 2022) with an expansion of two: depthwise 7x7 convolution, then a perceptron at every pixel."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(num_feat, num_feat, 7, padding=HALO, groups=num_feat)
        self.norm = nn.LayerNorm(num_feat, eps=1e-6)
        self.expand = nn.Linear(num_feat, 2 * num_feat)
        self.reduce = nn.Linear(2 * num_feat, num_feat)
        self.layer_scale = nn.Parameter(torch.full((num_feat,), 1e-6))

    def perceptron(self, x: torch.Tensor) -> torch.Tensor:
        """What follows the depthwise convolution, its layer scale included."""
        y = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = F.gelu(conv1x1(y, self.expand.weight, self.expand.bias))
        # A pixel's scale is a weight's: one pass over the features less.
        return conv1x1(y, self.layer_scale[:, None] * self.reduce.weight, self.layer_scale * self.reduce.bias)

    def add_residual(self, x: torch.Tensor, mixed: Callable[[RowStrip], torch.Tensor]) -> torch.Tensor:
        """``x`` with the residual of what ``mixed`` gives for a strip and its halo."""
        strips = row_strips(x, widest=self.expand.out_features)
        if len(strips) == 1:
            return x + self.perceptron(self.dwconv(mixed(strips[0])))
        out = torch.empty_like(x)
        for strip in strips:
            y = strip.without_halo(self.dwconv(mixed(strip)), HALO)
            torch.add(strip.of(x), self.perceptron(y), out=strip.of(out))
        return out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.add_residual(x, lambda strip: strip.with_halo(x, HALO))


class IDRBlock(ConvNeXtBlock):
    """A ConvNeXt block whose input is modulated: a quarter of the channels pixel by pixel, the others as a whole."""

    def __init__(self, num_feat: int, num_spatial: int) -> None:
        super().__init__(num_feat)
        local, wide = local_and_wide(num_feat)
        self.spatial_gate = nn.Sequential(
            nn.Conv2d(num_spatial + local, local, 1, bias=False),
            nn.GELU(),
            nn.Conv2d(local, local, 3, padding=1, bias=False),
        )
        self.local_conv = nn.Conv2d(local, local, 5, padding=2, bias=False)
        self.channel_gate = nn.Sequential(
            nn.Linear(2 * wide, wide // 2, bias=False), nn.GELU(), nn.Linear(wide // 2, wide, bias=False)
        )

    def forward(  # type: ignore[override]
        self, x: torch.Tensor, channel: torch.Tensor, spatial: torch.Tensor, pooled: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Features N x C x H x W under a channel guide, N x 3C/4, and a spatial one, N x num_spatial x H x W.

        ``pooled``, N x C, is the features' mean where ``x`` is but a part of the image that it is to be taken of.
        """
        local, wide = x.split(local_and_wide(x.shape[1]), dim=1)
        gate = self.spatial_gate(torch.cat([spatial, local], dim=1))
        local = self.local_conv(local * gate.sigmoid())
        pooled = wide.mean(dim=(2, 3)) if pooled is None else pooled[:, local.shape[1] :]
        gate = self.channel_gate(torch.cat([pooled, channel], dim=1)).sigmoid()[:, :, None, None]

        def modulated(strip: RowStrip) -> torch.Tensor:
            return F.gelu(torch.cat([strip.with_halo(local, HALO), strip.with_halo(wide, HALO) * gate], dim=1))

        return self.add_residual(x, modulated)


def conv1x1(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A linear layer at every pixel."""
    return F.conv2d(x, weight[:, :, None, None], bias)


def local_and_wide(num_feat: int) -> tuple[int, int]:
    """Of so many channels, those that are modulated pixel by pixel and those as a whole: a quarter, and the others."""
    return num_feat // 4, num_feat - num_feat // 4
