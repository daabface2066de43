"""SRMD: "Learning a Single Convolutional Super-Resolution Network for Multiple Degradations" (CVPR 2018).

The network is not blind, because it receives the blur kernel and the noise level. Its quality is an upper bound for a
blind network.
"""

from functools import partial
from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from lightbsr_arch.archs.degradation_prior import DegradationPrior, KnowsPrior, PriorForm
from lightbsr_arch.archs.fast.row_streams import Strips, cut, streamed
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.part import Advance, Arguments, Guides, Restorer, State, count


@ARCH_REGISTRY.register()
class KnownDegradation(KnowsPrior):
    """Returns the numbers that describe a known degradation as the IDR, a vector. It has no trainable weights.

    Args:
        num_kernel_ch: number of PCA components of the blur kernel.
        num_noise_ch: number of repetitions of the noise level; 0 for images without noise (SRMDNF).
        kernel_size: side of the blur kernels.
        prior: form of the numbers, "standardised" or "published"; see ``DegradationPrior``.

    Forward: ``lq``, of which only dtype and device are used, and the prior, a pair of ``kernel`` (N x kernel_size x
    kernel_size) and ``noise`` (N, standard deviation on the 8-bit scale), to the IDR (N x num_kernel_ch +
    num_noise_ch). Instead of the pair, the IDR itself may be given.
    """

    knows = ("idr",)

    def __init__(
        self,
        num_kernel_ch: int = 15,
        num_noise_ch: int = 1,
        kernel_size: int = 21,
        prior: PriorForm = "standardised",
    ) -> None:
        super().__init__()
        self.prior = DegradationPrior(num_kernel_ch, num_noise_ch, kernel_size, prior)
        self.kernel_size = kernel_size
        self.idr_ch = num_kernel_ch + num_noise_ch

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the IDR, N x idr_ch, and ``{"idr": N x idr_ch}`` with the same tensor.

        Raises:
            ValueError: there is no extra input, or its PCA is not fitted.
        """
        if extra is None:
            raise ValueError("KnownDegradation needs its extra input, the degradation: model(lq, (kernel, noise))")
        idr = self.prior(extra).to(lq)
        return idr, {"idr": idr}

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        """Return all arguments except ``num_noise_ch``, which no tensor depends on. Its default is used."""
        num_kernel_ch, pixels = state["prior.components"].shape
        is_centred = bool(state["prior.mean"].any())
        return {
            "num_kernel_ch": num_kernel_ch,
            "kernel_size": round(pixels**0.5),
            **({} if is_centred else {"prior": "published"}),
        }


@ARCH_REGISTRY.register()
class SRMDNet(Restorer):
    """A chain of 3x3 convolutions whose input is the image and, at every pixel, the numbers of the IDR.

    The IDR is a vector. A map is averaged.

    Args:
        num_in_ch: channels of the input image.
        num_out_ch: channels of the output image.
        num_feat: channels of the features.
        num_block: number of convolutions, at least 2.
        idr_ch: channels of the IDR.
        scale: factor by which the final pixel shuffle enlarges the image.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) and its ``guides`` to N x 3 x H*scale x W*scale.
    """

    system = "SRMD"
    published_names = ((r"model\.(\d+)\.", r"layers.\1."),)
    may_be_zero = ()
    knows = ("vector",)

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 128,
        num_block: int = 12,
        idr_ch: int = 16,
        scale: int = 4,
    ) -> None:
        super().__init__()
        if num_block < 2:
            raise ValueError(f"num_block must be 2 or more, not {num_block}")
        layers: list[nn.Module] = [nn.Conv2d(num_in_ch + idr_ch, num_feat, 3, padding=1), nn.ReLU()]
        for _ in range(num_block - 2):
            layers += [nn.Conv2d(num_feat, num_feat, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(num_feat, num_out_ch * scale**2, 3, padding=1), nn.PixelShuffle(scale)]
        self.layers = nn.Sequential(*layers)
        self.scale, self.num_in_ch, self.num_out_ch = scale, num_in_ch, num_out_ch
        self.num_feat, self.idr_ch = num_feat, idr_ch

    def guides(self, idr: torch.Tensor, height: int, width: int) -> Guides:
        """Return the only guide: the IDR as a ``vector``, N x idr_ch, for images of any size."""
        return {"vector": as_vector(idr)}

    def forward(self, lq: torch.Tensor, guides: Guides) -> torch.Tensor:
        sr: torch.Tensor = self.layers(_with_maps(lq, guides["vector"]))
        return sr

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        num_feat, channels = state["layers.0.weight"].shape[:2]
        num_block = count(state, r"layers\.\d+\.weight")
        last = state[f"layers.{2 * num_block - 2}.weight"]
        return {
            "num_feat": num_feat,
            "num_block": num_block,
            "idr_ch": channels - 3,
            "scale": round((last.shape[0] / 3) ** 0.5),
        }

    def restore_in_strips(self, lq: torch.Tensor, guides: Guides, rows: int, advance: Advance) -> Strips:
        """Strips flow through all layers, so memory grows with the width of the image and not with its height."""
        strips = streamed(partial(_with_maps, vector=guides["vector"]), cut(lq, rows), halo=0)
        *pairs, last_pair = (nn.Sequential(*self.layers[i : i + 2]) for i in range(0, len(self.layers), 2))
        for pair in pairs:
            strips = streamed(pair, strips, halo=1)
        for strip, last in streamed(last_pair, strips, halo=1, scale=self.scale):
            yield strip, last
            advance(strip.shape[2] / self.scale / lq.shape[2])


def _with_maps(lq: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Return the image and the vector, repeated at every pixel, as N x num_in_ch + idr_ch x H x W."""
    return torch.cat([lq, vector[:, :, None, None].expand(-1, -1, *lq.shape[-2:])], dim=1)
