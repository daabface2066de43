"""The blocks of LightBSR's restorer: LightBSR (ICCV 2025), section 3.3.

Images and features are N x C x H x W in channels-last memory, so that the views which put the channels last copy
nothing.
"""

import torch
from torch import nn
from torch.nn import functional as F


class ConvNeXtBlock(nn.Module):
    """ConvNeXt (CVPR 2022) with an expansion of two: depthwise 7x7 convolution, then a perceptron at every pixel."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(num_feat, num_feat, 7, padding=3, groups=num_feat)
        self.norm = nn.LayerNorm(num_feat, eps=1e-6)
        self.expand = nn.Linear(num_feat, 2 * num_feat)
        self.reduce = nn.Linear(2 * num_feat, num_feat)
        self.layer_scale = nn.Parameter(torch.full((num_feat,), 1e-6))

    def mix(self, x: torch.Tensor) -> torch.Tensor:
        """The residual of features N x C x H x W."""
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.layer_scale * self.reduce(F.gelu(self.expand(y)))
        return y.permute(0, 3, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mix(x)


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

    def modulate(self, x: torch.Tensor, channel: torch.Tensor, spatial: torch.Tensor) -> torch.Tensor:
        local, wide = x.split(local_and_wide(x.shape[1]), dim=1)
        gate = self.spatial_gate(torch.cat([spatial, local], dim=1))
        local = self.local_conv(local * gate.sigmoid())
        gate = self.channel_gate(torch.cat([wide.mean(dim=(2, 3)), channel], dim=1))
        wide = wide * gate.sigmoid()[:, :, None, None]
        return F.gelu(torch.cat([local, wide], dim=1))

    def forward(self, x: torch.Tensor, channel: torch.Tensor, spatial: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Features N x C x H x W under a channel guide, N x 3C/4, and a spatial one, N x num_spatial x H x W."""
        return x + self.mix(self.modulate(x, channel, spatial))


def local_and_wide(num_feat: int) -> tuple[int, int]:
    """Of so many channels, those that are modulated pixel by pixel and those as a whole: a quarter, and the others."""
    return num_feat // 4, num_feat - num_feat // 4
