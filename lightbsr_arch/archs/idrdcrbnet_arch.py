"""The restorer of KDSR: "Knowledge Distillation based Degradation Estimation for Blind Super-Resolution"
(ICLR 2023), section 3.2.
"""

from functools import partial

import torch
from basicsr.archs.arch_util import Upsample
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs.fast.dynamic_conv import dynamic_depthwise_conv
from lightbsr_arch.archs.fast.row_streams import Strips, added, streamed
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.mean_shift import RGBMean
from lightbsr_arch.archs.part import Advance, Arguments, Guides, State, count
from lightbsr_arch.archs.residual_restorer import SHELL_NAMES, ResidualRestorer

SLOPE = 0.1  # slope of every LeakyReLU
KERNEL_SIZE = 3  # side of the kernels of the dynamic depthwise convolution


class IDRDDC(nn.Module):
    """IDR-based depthwise dynamic convolution: the IDR becomes one kernel per channel and sample."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.kernel = nn.Sequential(
            nn.Linear(num_feat, num_feat, bias=False),
            nn.LeakyReLU(SLOPE),
            nn.Linear(num_feat, num_feat * KERNEL_SIZE**2, bias=False),
        )

    def forward(self, x: torch.Tensor, idr: torch.Tensor) -> torch.Tensor:
        kernel = self.kernel(idr).view(-1, x.shape[1], KERNEL_SIZE, KERNEL_SIZE)
        return dynamic_depthwise_conv(x, kernel)


class IDRDCRB(nn.Module):
    """IDR-based dynamic convolution residual block."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.ddc = IDRDDC(num_feat)
        self.conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: torch.Tensor, idr: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.conv(F.leaky_relu(self.ddc(x, idr), SLOPE))
        return out


@ARCH_REGISTRY.register()
class IDRDCRBNet(ResidualRestorer):
    """Upscales an image under the guidance of its degradation vector. A degradation map is averaged.

    Args:
        num_in_ch: channels of the input image.
        num_out_ch: channels of the output image.
        num_feat: channels of the body, and channels of the IDR.
        num_block: number of IDR-DCRB blocks.
        scale: 2, 3 or 4.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) and its ``guides`` to N x 3 x H*scale x W*scale.
    """

    system = "KDSR"
    published_names = (
        *SHELL_NAMES,
        (r"G\.body\.0\.body\.(\d+)\.da_conv1\.kernel\.", r"body.\1.ddc.kernel."),
        (r"G\.body\.0\.body\.(\d+)\.conv1\.", r"body.\1.conv."),
    )
    knows = ("vector",)

    def __init__(
        self, num_in_ch: int = 3, num_out_ch: int = 3, num_feat: int = 64, num_block: int = 53, scale: int = 4
    ) -> None:
        super().__init__()
        self.mean_in, self.mean_out = RGBMean(num_in_ch), RGBMean(num_out_ch)
        self.head = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.body = nn.ModuleList(IDRDCRB(num_feat) for _ in range(num_block))
        self.after_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upsample = Upsample(scale, num_feat)
        self.tail = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)
        self.scale, self.num_in_ch, self.num_out_ch = scale, num_in_ch, num_out_ch
        self.num_feat = self.idr_ch = num_feat

    def guides(self, idr: torch.Tensor, height: int, width: int) -> Guides:
        """Return the only guide: the IDR as a ``vector``, N x num_feat, for images of any size."""
        return {"vector": as_vector(idr)}

    def forward(self, lq: torch.Tensor, guides: Guides) -> torch.Tensor:
        head = self.head(self.mean_in.subtract(lq))
        x = head
        for block in self.body:
            x = self.run_part(block, x, guides["vector"])
        return self.image(head + self.after_body(x))

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        return {
            "num_feat": state["head.weight"].shape[0],
            "num_block": count(state, r"body\.(\d+)\.conv\.weight"),
            "scale": cls.scale_of(state),
        }

    def restore_in_strips(self, lq: torch.Tensor, guides: Guides, rows: int, advance: Advance) -> Strips:
        """Strips flow through all layers, so memory grows with the width of the image and not with its height.

        A halo for the receptive field of the published network would need 110 rows.
        """
        body = self.head_in_strips(lq, rows)
        for block in self.body:
            body = streamed(partial(block, idr=guides["vector"]), body, halo=2)
        features = added(streamed(self.after_body, body, halo=1), self.head_in_strips(lq, rows))
        return self.image_in_strips(features, rows, lambda done: advance(done / lq.shape[2]))
