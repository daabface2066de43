"""The blocks of LightBSR's restorer (ICCV 2025, section 3.3).

Features are N x C x H x W. ``fast/idr_block.py`` runs the blocks in strips of rows on the CPU.
"""

import torch
from torch import nn
from torch.nn import functional as F

GROUP_NAMES = (
    (r"(G\.body\.\d+\.body\.\d+)\.pwconv1\.", r"\1.expand."),
    (r"(G\.body\.\d+\.body\.\d+)\.pwconv2\.", r"\1.reduce."),
    (r"(G\.body\.\d+\.body\.\d+)\.gamma$", r"\1.layer_scale"),
    (r"G\.body\.(\d+)\.body\.\d+\.(weight|bias)$", r"body.\1.conv.\2"),
    (r"G\.body\.(\d+)\.body\.(\d+)\.", r"body.\1.body.\2."),
)
"""Published names of groups of ``ConvNeXtBlock``s, each with a 3x3 convolution behind them."""


class ConvNeXtBlock(nn.Module):
    """A ConvNeXt block (CVPR 2022): a depthwise 7x7 convolution, then a perceptron per pixel of twice the width."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(num_feat, num_feat, 7, padding=3, groups=num_feat)
        self.norm = nn.LayerNorm(num_feat, eps=1e-6)
        self.expand = nn.Linear(num_feat, 2 * num_feat)
        self.reduce = nn.Linear(2 * num_feat, num_feat)
        self.layer_scale = nn.Parameter(torch.full((num_feat,), 1e-6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.residual(x)

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = F.linear(F.gelu(self.expand(y)), *self.scaled_reduction())
        return y.permute(0, 3, 1, 2)

    def scaled_reduction(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weight and bias of ``layer_scale * reduce(y)``, which is linear in y."""
        return self.layer_scale[:, None] * self.reduce.weight, self.layer_scale * self.reduce.bias


class IDRBlock(ConvNeXtBlock):
    """A ConvNeXt block with modulated input: a quarter of the channels per pixel, the rest per channel."""

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
        """Modulate features by a channel guide, N x 3C/4, and a spatial guide, N x num_spatial x H x W.

        If ``x`` is only a strip, ``pooled``, N x C, is the mean of the features of the whole image.
        """
        pooled = x.mean(dim=(2, 3)) if pooled is None else pooled
        local, wide = x.split(local_and_wide(x.shape[1]), dim=1)
        local = self.local_conv(local * self.spatial_gate(torch.cat([spatial, local], dim=1)).sigmoid())
        wide = wide * self.wide_gate(pooled, channel)[:, :, None, None]
        return x + self.residual(F.gelu(torch.cat([local, wide], dim=1)))

    def wide_gate(self, pooled: torch.Tensor, channel: torch.Tensor) -> torch.Tensor:
        """Return the factors of the wide channels, N x 3C/4, in (0, 1)."""
        pooled = pooled[:, -channel.shape[1] :]
        out: torch.Tensor = self.channel_gate(torch.cat([pooled, channel], dim=1)).sigmoid()
        return out


def local_and_wide(num_feat: int) -> tuple[int, int]:
    """Return the numbers of channels that are modulated per pixel, a quarter, and per channel."""
    return num_feat // 4, num_feat - num_feat // 4
