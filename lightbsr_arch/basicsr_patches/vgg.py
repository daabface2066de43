"""The VGG networks of the perceptual loss."""

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from basicsr.archs import vgg_arch

from lightbsr_arch.losses.vgg_weights import load_vgg


class _VggFromFile:
    """Has torchvision's functions ``vgg11``, ``vgg13_bn`` and so on, which read the weights from a local file."""

    def __getattr__(self, vgg_type: str) -> Any:
        return lambda pretrained: load_vgg(vgg_type)


def patched_vgg() -> AbstractContextManager[Any]:
    """Make BasicSR's feature extractor read its weights by ``load_vgg``."""
    # BasicSR loads the file VGG_PRETRAIN_PATH, which is of vgg19, into any VGG network. Without that file it downloads
    # weights, by an argument that torchvision has deprecated.
    return patch.multiple(vgg_arch, VGG_PRETRAIN_PATH="", vgg=_VggFromFile())
