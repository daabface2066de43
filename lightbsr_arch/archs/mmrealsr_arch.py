"""MM-RealSR: "Metric Learning based Interactive Modulation for Real-World Super-Resolution" (ECCV 2022).

The IDR has one number in [0, 1] per kind of degradation (blur and noise), from 0 for a clean image to 1 for the worst.
A user can read and set these numbers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from basicsr.archs.rrdbnet_arch import RRDB
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs.estimator_init import Init, he_init_, remove_mean_
from lightbsr_arch.archs.fast.row_streams import Mean, Strips, added, cut, not_taller, streamed
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.part import Advance, Arguments, Estimator, Guides, Restorer, State, count, refuse_extra_input

SLOPE = 0.2  # slope of the restorer's LeakyReLUs; the estimator has ReLUs
BLOCK_HALO = 15  # rows above and below that a restorer's block depends on, because it has 15 3x3 convolutions in turn
NUM_STAGE = 4  # stages of the estimator
RESIDUAL_GAIN = 0.1  # factor of the initial weights in the last layers of residual blocks and of the degrees


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a ReLU between them, plus the input."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return out


LAYER_HALO = 2  # rows above and below that each layer of the estimator depends on, rounded up to its stride of 2


@ARCH_REGISTRY.register()
class DegreeEstimator(Estimator):
    """Estimates degrees of degradation, each in [0, 1], from the low-quality image, with one network per degree.

    The degrees are the IDR. For a restorer with more channels, ``idr_ch`` adds a linear layer and a ReLU after them.
    The knowledge is the ``degrees``, N x num_degree, and the ``idr``, N x idr_ch.

    Attributes:
        adjust: function that replaces degrees, N x num_degree, in training mode before they become the IDR, or None.
            The knowledge keeps the estimated degrees.

    Args:
        num_in_ch: channels of ``lq``.
        num_feat: channels C of the first three stages. The fourth has 2C, at half the size.
        num_block: number of residual blocks per stage.
        num_hidden: width of the layer before a degree.
        num_degree: number of kinds of degradation. The published network estimates blur and noise.
        idr_ch: channels of the IDR. If it equals ``num_degree``, the IDR is the degrees.
        init: initialisation, see ``estimator_init``. With "detail", the first filters have zero mean, residual blocks
            are close to the identity, and degrees are close to 0.5.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) to the IDR (N x idr_ch).
    """

    published_names = (
        (r"de_net\.conv_first\.", "first."),
        (r"de_net\.body\.", "body."),
        (r"de_net\.fc_degree\.", "to_degree."),
    )
    knows = ("idr", "degrees")
    adjust: Callable[[torch.Tensor], torch.Tensor] | None = None

    def __init__(
        self,
        num_in_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 2,
        num_hidden: int = 512,
        num_degree: int = 2,
        idr_ch: int = 2,
        init: Init = "detail",
    ) -> None:
        super().__init__()
        wide = 2 * num_feat
        self.first = nn.ModuleList(nn.Conv2d(num_in_ch, num_feat, 3, padding=1) for _ in range(num_degree))
        self.body = nn.ModuleList(
            nn.Sequential(
                *(ResidualBlock(num_feat) for _ in range((NUM_STAGE - 1) * num_block)),
                nn.Conv2d(num_feat, wide, 3, stride=2, padding=1),
                *(ResidualBlock(wide) for _ in range(num_block)),
            )
            for _ in range(num_degree)
        )
        self.to_degree = nn.ModuleList(
            nn.Sequential(nn.Linear(wide, num_hidden), nn.ReLU(), nn.Linear(num_hidden, 1), nn.Sigmoid())
            for _ in range(num_degree)
        )
        self.to_idr = nn.Linear(num_degree, idr_ch) if idr_ch != num_degree else None
        self.num_degree = num_degree
        self.idr_ch = idr_ch
        if init == "detail":
            self._start_from_detail()

    @torch.no_grad()
    def _start_from_detail(self) -> None:
        he_init_(self, slope=0)
        for first, to_degree in zip(self.first, self.to_degree):
            remove_mean_(first)
            to_degree[2].weight *= RESIDUAL_GAIN  # type: ignore[index]
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                module.conv2.weight *= RESIDUAL_GAIN

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        num_degree = count(state, r"first\.\d+\.weight")
        num_hidden = state["to_degree.0.0.weight"].shape[0]
        num_block = count(state, r"body\.0\.\d+\.conv1\.weight") // NUM_STAGE
        idr_ch = state["to_idr.weight"].shape[0] if "to_idr.weight" in state else num_degree
        return {
            "num_feat": state["first.0.weight"].shape[0],
            "num_block": num_block,
            "num_hidden": num_hidden,
            "num_degree": num_degree,
            "idr_ch": idr_ch,
        }

    def degrees(self, lq: torch.Tensor) -> torch.Tensor:
        """Return the degrees of ``lq``, N x num_degree, in [0, 1]."""
        trunks = zip(self.first, self.body, self.to_degree)
        return torch.cat([to_degree(as_vector(body(first(lq)))) for first, body, to_degree in trunks], dim=1)

    def degrees_in_strips(self, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
        """Return the degrees of one image, 1 x 3 x H x W. ``rows`` rows, rounded up to 2, are processed at a time."""
        rows += rows % 2
        found = []
        for first, body, to_degree in zip(self.first, self.body, self.to_degree):
            assert isinstance(body, nn.Sequential)
            strips = cut(lq, rows)
            for layer in (first, *body):
                stride = 2 if getattr(layer, "stride", 1) == (2, 2) else 1
                strips = streamed(layer, strips, halo=LAYER_HALO, stride=stride)
            mean = Mean()
            for strip, _ in strips:
                mean.add(strip)
                advance(strip.shape[2] / -(-lq.shape[2] // 2) / self.num_degree)
            found.append(to_degree(mean.value))
        return torch.cat(found, dim=1)

    def as_idr(self, degrees: torch.Tensor) -> torch.Tensor:
        """Return the IDR, N x idr_ch, of degrees, N x num_degree in [0, 1], which are estimated or set by a user."""
        return degrees if self.to_idr is None else F.relu(self.to_idr(degrees))

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the IDR, N x idr_ch, and the knowledge ``{"idr": N x idr_ch, "degrees": N x num_degree}``."""
        refuse_extra_input(self, extra)
        degrees = self.degrees(lq)
        idr = self.as_idr(degrees if self.adjust is None or not self.training else self.adjust(degrees))
        return idr, {"idr": idr, "degrees": degrees}

    def estimate_in_strips(self, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
        return self.as_idr(self.degrees_in_strips(lq, rows, advance))


class Affine(nn.Module):
    """Scales and shifts features per channel, by numbers that a perceptron computes from the guide."""

    def __init__(self, num_feat: int, num_embed: int, num_hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(num_embed, num_hidden),
            nn.ReLU(),
            nn.Linear(num_hidden, num_hidden),
            nn.ReLU(),
            nn.Linear(num_hidden, 2 * num_feat),
        )

    def forward(self, x: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        gamma, beta = self.mlp(guide)[:, :, None, None].chunk(2, dim=1)
        out: torch.Tensor = (1 + gamma) * x + beta
        return out


@ARCH_REGISTRY.register()
class MMRealSRNet(Restorer):
    """ESRGAN's RRDBNet with an affine modulation of the features after every block, computed from the IDR.

    The IDR is a vector. A map is averaged.

    Args:
        num_in_ch: channels of the input image.
        num_out_ch: channels of the output image.
        num_feat: channels of the features.
        num_block: number of residual-in-residual dense blocks.
        num_grow_ch: channels that each convolution of a dense block adds.
        num_embed: width of the guide.
        num_hidden: width of the perceptrons between the guide and the affine functions.
        idr_ch: channels of the IDR.
        scale: 1, 2 or 4. At 1 and 2, the image is first unshuffled to a quarter or half of its size, as in Real-ESRGAN.

    Forward: ``lq`` (N x 3 x H x W, [0, 1]) and its ``guides`` to N x 3 x H*scale x W*scale.
    """

    system = "MM-RealSR"
    published_names = (
        (r"dd_embed\.0\.", "embed."),
        (r"am_list\.(\d+)\.fc\.", r"affines.\1.mlp."),
        (r"conv_first\.", "head."),
        (r"body\.", "blocks."),
        (r"conv_body\.", "after_blocks."),
        (r"conv_up1\.", "enlarge.0."),
        (r"conv_up2\.", "enlarge.1."),
        (r"conv_hr\.", "refine."),
        (r"conv_last\.", "tail."),
    )
    knows = ("degree_guide",)

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 23,
        num_grow_ch: int = 32,
        num_embed: int = 512,
        num_hidden: int = 320,
        idr_ch: int = 2,
        scale: int = 4,
    ) -> None:
        super().__init__()
        if scale not in (1, 2, 4):
            raise ValueError(f"scale must be 1, 2 or 4, not {scale}")
        self.unshuffle = 4 // scale
        self.embed = nn.Linear(idr_ch, num_embed)
        self.head = nn.Conv2d(num_in_ch * self.unshuffle**2, num_feat, 3, padding=1)
        self.blocks = nn.ModuleList(RRDB(num_feat, num_grow_ch) for _ in range(num_block))
        self.affines = nn.ModuleList(Affine(num_feat, num_embed, num_hidden) for _ in range(num_block))
        self.after_blocks = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.enlarge = nn.ModuleList(nn.Conv2d(num_feat, num_feat, 3, padding=1) for _ in range(2))
        self.refine = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.tail = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)
        self.scale, self.num_in_ch, self.num_out_ch = scale, num_in_ch, num_out_ch
        self.num_feat, self.idr_ch = num_feat, idr_ch

    @classmethod
    def from_state(cls, state: State) -> Arguments | None:
        num_feat, channels = state["head.weight"].shape[:2]
        num_embed, idr_ch = state["embed.weight"].shape
        return {
            "num_feat": num_feat,
            "num_block": count(state, r"blocks\.\d+\.rdb1\.conv1\.weight"),
            "num_grow_ch": state["blocks.0.rdb1.conv1.weight"].shape[0],
            "num_embed": num_embed,
            "num_hidden": state["affines.0.mlp.0.weight"].shape[0],
            "idr_ch": idr_ch,
            "scale": 4 // round((channels / 3) ** 0.5),
        }

    @property
    def converters(self) -> tuple[nn.Module, ...]:  # type: ignore[override]
        return (self.embed,)

    def guides(self, idr: torch.Tensor, height: int, width: int) -> Guides:
        """Return the only guide: ``degree_guide``, N x num_embed, for images of any size."""
        return {"degree_guide": F.relu(self.embed(as_vector(idr)))}

    def forward(self, lq: torch.Tensor, guides: Guides) -> torch.Tensor:
        height, width = lq.shape[-2:]
        if self.unshuffle > 1:
            padding = (0, -width % self.unshuffle, 0, -height % self.unshuffle)
            lq = F.pixel_unshuffle(F.pad(lq, padding, mode="replicate"), self.unshuffle)
        head = self.head(lq)
        x = head
        for block, affine in zip(self.blocks, self.affines):
            x = affine(block(x), guides["degree_guide"])
        x = head + self.after_blocks(x)
        for conv in self.enlarge:
            x = _enlarged(conv, x)
        sr = self._last_layers(x)
        return sr[..., : height * self.scale, : width * self.scale] if self.unshuffle > 1 else sr

    def _last_layers(self, x: torch.Tensor) -> torch.Tensor:
        sr: torch.Tensor = self.tail(F.leaky_relu(self.refine(x), SLOPE))
        return sr

    def restore_in_strips(self, lq: torch.Tensor, guides: Guides, rows: int, advance: Advance) -> Strips:
        """At scale 4, strips flow through all layers. At 1 and 2, the image is processed as a whole."""
        if self.unshuffle > 1:
            yield from super().restore_in_strips(lq, guides, rows, advance)
            return
        body = streamed(self.head, cut(lq, rows), halo=1)
        for block, affine in zip(self.blocks, self.affines):
            run = partial(_run_on_strip, block, affine, guides["degree_guide"])
            body = streamed(run, body, halo=BLOCK_HALO)
        # The head runs twice, because a skip connection would store the features of the whole image.
        head = streamed(self.head, cut(lq, rows), halo=1)
        strips = not_taller(added(streamed(self.after_blocks, body, halo=1), head), rows)
        for conv in self.enlarge:
            strips = streamed(partial(_enlarged, conv), strips, halo=1, scale=2)
        for strip, last in streamed(self._last_layers, strips, halo=2):
            yield strip, last
            advance(strip.shape[2] / self.scale / lq.shape[2])


def _run_on_strip(block: nn.Module, affine: nn.Module, guide: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = affine(block(x), guide)
    return result


def _enlarged(conv: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(conv(F.interpolate(x, scale_factor=2, mode="nearest")), SLOPE)
