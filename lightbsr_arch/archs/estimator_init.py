"""How the weights of an estimator start: ``init="detail"``, the default, or ``init="pytorch"``.

Blur keeps the mean colour of an image, and the estimators pool their features over the whole image. With PyTorch's
default initialisation the pooled features of a fresh network therefore hold the image's colours and hardly a trace of
the blur, no gradient finds that trace, and training leaves a constant IDR ("dead"). ``init="detail"`` changes the start
alone, not the network: the first convolution takes differences between pixels, which blur does change, and the
layers behind it keep their scale (He initialisation). The effect is measured by ``benchmarks/idr_start.py``.
"""

from typing import Literal

import torch
from torch import nn

Init = Literal["detail", "pytorch"]


@torch.no_grad()
def he_init_(module: nn.Module, slope: float) -> None:
    """Start convolutions and linear layers as He et al. (ICCV 2015) do before a LeakyReLU of this slope."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=slope)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def remove_mean_(conv: nn.Module, num_ch: int | None = None) -> None:
    """Make the filters of a convolution blind to flat areas of its first ``num_ch`` input channels, or of all."""
    assert isinstance(conv, nn.Conv2d)
    filters = conv.weight[:, :num_ch]
    filters -= filters.mean(dim=(2, 3), keepdim=True)
