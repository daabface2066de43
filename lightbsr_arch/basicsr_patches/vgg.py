"""The VGG networks of the perceptual loss."""

from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from basicsr.archs import vgg_arch

from lightbsr_arch.losses.vgg_weights import load_vgg


class _VggFromFile:
    """Has torchvision's functions ``vgg11``, ``vgg13_bn`` and so on, which read the weights from a local file."""

    def __getattr__(self, name: str) -> Any:
        # BasicSR 1.4.2 calls `vgg19(pretrained=True)`, later states `vgg19(weights=VGG19_Weights.DEFAULT)`.
        if name.endswith("_Weights"):
            return SimpleNamespace(DEFAULT=None)
        return lambda **_: load_vgg(name)


def patched_vgg() -> AbstractContextManager[Any]:
    """Make BasicSR's feature extractor read its weights by ``load_vgg``."""
    # BasicSR loads the file VGG_PRETRAIN_PATH, which is of vgg19, into any VGG network. Without that file it downloads
    # weights. It finds torchvision's networks in a module that 1.4.2 imports as `vgg`, later states as `models`.
    module = "vgg" if hasattr(vgg_arch, "vgg") else "models"
    replacements: dict[str, Any] = {"VGG_PRETRAIN_PATH": "", module: _VggFromFile()}
    patched: AbstractContextManager[Any] = patch.multiple(vgg_arch, **replacements)
    return patched
