"""The VGG networks of the perceptual loss."""

from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from basicsr.archs import vgg_arch

from lightbsr_arch.losses.vgg_weights import load_vgg


class _VggFromFile:
    """Provides torchvision's functions, such as ``vgg11`` and ``vgg13_bn``, with weights from a local file."""

    def __getattr__(self, name: str) -> Any:
        # BasicSR 1.4.2 calls `vgg19(pretrained=True)`, later versions `vgg19(weights=VGG19_Weights.DEFAULT)`.
        if name.endswith("_Weights"):
            return SimpleNamespace(DEFAULT=None)
        return lambda **_: load_vgg(name)


def patched_vgg() -> AbstractContextManager[Any]:
    """Make BasicSR's feature extractor read its weights by ``load_vgg``."""
    # BasicSR loads the file VGG_PRETRAIN_PATH, which belongs to vgg19, into any VGG network. Without that file it
    # downloads weights. Version 1.4.2 imports torchvision's networks as `vgg`, later versions as `models`.
    module = "vgg" if hasattr(vgg_arch, "vgg") else "models"
    replacements: dict[str, Any] = {"VGG_PRETRAIN_PATH": "", module: _VggFromFile()}
    patched: AbstractContextManager[Any] = patch.multiple(vgg_arch, **replacements)
    return patched
