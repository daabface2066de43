"""The blocks of LightBSR's restorer: LightBSR (ICCV 2025), section 3.3.

Images and features are N x C x H x W in channels-last memory, so that the views which put the channels last copy
nothing. Where nothing is trained, a block works through the image in strips of rows, so that what becomes of a strip
stays in the processor's cache: memory, not arithmetic, is what the time goes to.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs.fused import add_conv1x1_, conv_gelu, gated_gelu
from lightbsr_arch.archs.row_strips import RowStrip, is_inference_on_cpu, row_strips

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

    def forward(self, x: torch.Tensor, overwrite: bool = False) -> torch.Tensor:
        """Features N x C x H x W; with ``overwrite``, the result may take their place in memory."""
        if is_inference_on_cpu(x):
            return self.add_in_strips(x, lambda strip: strip.with_halo(x, HALO), overwrite)
        return self.add(x, x)

    def add(self, x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """``x`` with the residual of what is ``mixed`` in space next."""
        return x + F.conv2d(self.expanded(self.dwconv(mixed)), *self.reduction())

    def add_in_strips(
        self, x: torch.Tensor, mixed: Callable[[RowStrip], torch.Tensor], overwrite: bool
    ) -> torch.Tensor:
        """``add``, of what ``mixed`` gives for a strip and its halo."""
        out = x if overwrite else x.clone()
        reduction = self.reduction()
        strips = row_strips(x, self.expand.out_features, HALO)
        convolved = (strip.without_halo(self.dwconv(mixed(strip)), HALO) for strip in strips)
        ahead = next(convolved)
        for strip in strips:
            y, ahead = ahead, next(convolved, ahead)  # the next strip's halo is overwritten here
            add_conv1x1_(strip.of(out), self.expanded(y), *reduction)
        return out

    def expanded(self, x: torch.Tensor) -> torch.Tensor:
        """What follows the depthwise convolution."""
        y = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return conv_gelu(y, self.expand.weight[:, :, None, None], self.expand.bias)

    def reduction(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the 1x1 convolution that comes last: it does the layer scale, too."""
        weight = self.layer_scale[:, None] * self.reduce.weight
        return weight[:, :, None, None], self.layer_scale * self.reduce.bias


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
        self,
        x: torch.Tensor,
        channel: torch.Tensor,
        spatial: torch.Tensor,
        pooled: torch.Tensor | None = None,
        overwrite: bool = False,
    ) -> torch.Tensor:
        """Features N x C x H x W under a channel guide, N x 3C/4, and a spatial one, N x num_spatial x H x W.

        ``pooled``, N x C, is the features' mean where ``x`` is but a part of the image that it is to be taken of. With
        ``overwrite``, the result may take the features' place in memory.
        """
        num_local, num_wide = local_and_wide(x.shape[1])
        local, wide = x.split((num_local, num_wide), dim=1)
        gate = conv_gelu(torch.cat([spatial, local], dim=1), self.spatial_gate[0].get_parameter("weight"))
        local = conv_gelu(local * self.spatial_gate[2](gate).sigmoid(), self.local_conv.weight, padding=2)
        pooled = wide.mean(dim=(2, 3)) if pooled is None else pooled[:, num_local:]
        gate = self.channel_gate(torch.cat([pooled, channel], dim=1)).sigmoid()
        if not is_inference_on_cpu(x):
            return self.add(x, torch.cat([local, F.gelu(wide * gate[:, :, None, None])], dim=1))
        gates = F.pad(gate, (num_local, 0))

        def modulated(strip: RowStrip) -> torch.Tensor:
            y = gated_gelu(strip.with_halo(x, HALO), gates[strip.sample])
            y[:, :num_local] = strip.with_halo(local, HALO)
            return y

        return self.add_in_strips(x, modulated, overwrite)


def local_and_wide(num_feat: int) -> tuple[int, int]:
    """Of so many channels, those that are modulated pixel by pixel and those as a whole: a quarter, and the others."""
    return num_feat // 4, num_feat - num_feat // 4
