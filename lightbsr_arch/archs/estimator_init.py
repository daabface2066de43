"""Initialisation of estimators: ``init="detail"``, the default, or ``init="pytorch"``.

Blur does not change the mean colour of an image, and the estimators pool their features over the whole image. With
PyTorch's default initialisation, the pooled features of an untrained network therefore describe the image's colours and
hardly the blur. Training does not discover this small signal, and the IDR stays constant ("dead"). ``init="detail"``
changes only the initial weights. The first convolution computes differences between pixels, which depend on the blur.
The following layers preserve the scale of their input (He initialisation). ``benchmarks/idr_start.py`` measures the
effect.
"""

from typing import Literal

import torch
from torch import nn

Init = Literal["detail", "pytorch"]


@torch.no_grad()
def he_init_(module: nn.Module, slope: float) -> None:
    """Initialise convolutions and linear layers as He et al. (ICCV 2015) do before a LeakyReLU of this slope."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=slope)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def remove_mean_(conv: nn.Module, num_ch: int | None = None) -> None:
    """Remove the mean of a convolution's filters for its first ``num_ch`` input channels, or for all channels."""
    assert isinstance(conv, nn.Conv2d)
    filters = conv.weight[:, :num_ch]
    filters -= filters.mean(dim=(2, 3), keepdim=True)
