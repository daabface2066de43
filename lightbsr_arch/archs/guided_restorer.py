"""The frame that the restorers of DASR, CdCL and MRDA share."""

from collections.abc import Iterable

import torch
from basicsr.archs.arch_util import Upsample
from torch import nn

from lightbsr_arch.archs.fast.row_streams import Strips, cut, streamed
from lightbsr_arch.archs.fast.upscale import upscale
from lightbsr_arch.archs.mean_shift import RGB_MEAN, RGBMean
from lightbsr_arch.archs.part import Guides
from lightbsr_arch.archs.residual_restorer import SHELL_NAMES, ResidualRestorer


class GuidedRestorer(ResidualRestorer):
    """A residual restorer in which each part of the body receives the features and the guides.

    Args:
        num_in_ch: channels of the input image.
        num_out_ch: channels of the output image.
        num_feat: channels of the features.
        idr_ch: channels of the IDR.
        scale: 2, 3 or 4.
        body: the parts of the body. Their arguments after the features have the names of the guides.
        mean: RGB mean of the training images, in [0, 1].
        peak: value of white inside the network, 255 in DASR. Input and output are in [0, 1].

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) and its ``guides`` to N x 3 x H*scale x W*scale.
    """

    published_names = (*SHELL_NAMES, (r"G\.compress\.0\.", "compress."))

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
        super().__init__()
        self.mean_in, self.mean_out = RGBMean(num_in_ch, mean), RGBMean(num_out_ch, mean)
        self.head = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.compress = nn.Linear(idr_ch, num_feat, bias=False)
        self.body = nn.ModuleList(body)
        self.after_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upsample = Upsample(scale, num_feat)
        self.tail = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)
        self.peak = peak
        self.scale, self.num_in_ch, self.num_out_ch = scale, num_in_ch, num_out_ch
        self.num_feat, self.idr_ch = num_feat, idr_ch

    def first_features(self, lq: torch.Tensor) -> torch.Tensor:
        """Return the head's output."""
        out: torch.Tensor = self.head(self.peak * self.mean_in.subtract(lq))
        return out

    def image(self, features: torch.Tensor) -> torch.Tensor:
        return self.mean_out.add(upscale(features, self.upsample, self.tail) / self.peak)

    def head_in_strips(self, lq: torch.Tensor, rows: int) -> Strips:
        return streamed(self.first_features, cut(lq, rows), halo=1)

    def forward(self, lq: torch.Tensor, guides: Guides) -> torch.Tensor:
        head = self.first_features(lq)
        x = head
        for part in self.body:
            x = self.run_part(part, x, **guides)
        return self.image(head + self.after_body(x))
