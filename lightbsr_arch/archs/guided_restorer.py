"""The base class of the restorers of DASR, CdCL and MRDA."""

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn

from lightbsr_arch.archs.fast.upscale import upscale
from lightbsr_arch.archs.mean_shift import RGB_MEAN
from lightbsr_arch.archs.residual_restorer import SHELL_NAMES, ResidualRestorer


class GuidedRestorer(ResidualRestorer):
    """A residual restorer with a linear layer ``compress``, from the IDR to ``num_feat`` numbers.

    Args:
        num_in_ch, num_out_ch, num_feat, idr_ch, scale, body, mean: see `ResidualRestorer`.
        peak: value of white inside the network, 255 in DASR. Input and output are in [0, 1].
    """

    published_names = (*SHELL_NAMES, (r"G\.compress\.0\.", "compress."))
    compress: nn.Linear

    def __init__(
        self,
        num_in_ch: int,
        num_out_ch: int,
        num_feat: int,
        idr_ch: int,
        scale: int,
        body: Iterable[nn.Module],
        mean: tuple[float, ...] = RGB_MEAN,
        peak: float = 1.0,
    ) -> None:
        converters = {"compress": partial(nn.Linear, idr_ch, num_feat, bias=False)}
        super().__init__(num_in_ch, num_out_ch, num_feat, idr_ch, scale, body, converters, mean)
        self.peak = peak

    def first_features(self, lq: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.peak * self.mean_in.subtract(lq))
        return out

    def image(self, features: torch.Tensor) -> torch.Tensor:
        return self.mean_out.add(upscale(features, self.upsample, self.tail) / self.peak)
