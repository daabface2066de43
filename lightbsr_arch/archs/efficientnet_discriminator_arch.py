"""A discriminator on frozen features, which distinguishes restored images from real ones after few steps."""

from typing import Annotated

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from msgspec import Meta
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from lightbsr_arch.efficientnet import CHANNELS, STRIDES, EfficientNetFeatures, enlarged_half


@ARCH_REGISTRY.register()
class EfficientNetDiscriminator(nn.Module):
    """A small head on each of several feature maps of EfficientNet-Lite0 (trained on ImageNet, frozen), and a PatchGAN.

    The idea is that of Projected GANs (Sauer et al., NeurIPS 2021): the features describe texture from the first step,
    whereas a discriminator without them has to learn such features. The features are those of a random half of each
    image, enlarged twice, in which all pixels count alike. The PatchGAN reads the whole image. All layers have spectral
    normalisation.

    Args:
        num_feat: channels of each head, and of the PatchGAN.
        num_stages: number of strides that have a head: 2, 4, 8, 16 and 32 in this order.

    Raises:
        UserError: the extra ``efficientnet`` is not installed.
    """

    def __init__(self, num_feat: int = 64, num_stages: Annotated[int, Meta(ge=1, le=len(STRIDES))] = 4) -> None:
        super().__init__()
        self.features = EfficientNetFeatures(STRIDES[:num_stages])
        heads = {str(stride): _head(channels, num_feat) for stride, channels in zip(STRIDES[:num_stages], CHANNELS)}
        self.heads = nn.ModuleDict(heads)
        self.patches = nn.Sequential(
            *(_conv(3, num_feat // 2, 3), nn.LeakyReLU(0.2)),
            *(_conv(num_feat // 2, num_feat, 4, stride=2), nn.LeakyReLU(0.2)),
            *(_conv(num_feat, num_feat, 4, stride=2), nn.LeakyReLU(0.2)),
            _conv(num_feat, 1, 3),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return one logit per head and place, N x (num_stages + 1) x H' x W', for ``images`` N x 3 x H x W in [0, 1].

        The PatchGAN is the last head. H' and W' are about a quarter of H and W. All heads have equal weight, whatever
        their stride.
        """
        patches = self.patches(images * 2 - 1)
        size = (patches.shape[2], patches.shape[3])
        (part,) = enlarged_half(images)
        verdicts = [
            F.adaptive_avg_pool2d(self.heads[str(stride)](features), size)
            for stride, features in self.features(part).items()
        ]
        return torch.cat([*verdicts, patches], 1)


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=(kernel_size - 1) // 2))


def _head(in_channels: int, num_feat: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(in_channels, num_feat, 1),
        nn.LeakyReLU(0.2),
        _conv(num_feat, num_feat, 3),
        nn.LeakyReLU(0.2),
        _conv(num_feat, 1, 1),
    )
