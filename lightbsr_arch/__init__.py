"""Blind super-resolution for BasicSR: importing this package registers its architectures, datasets, losses, models."""

from importlib.metadata import version

from lightbsr_arch.basicsr_patches.functional_tensor import provide_functional_tensor

provide_functional_tensor()  # before anything imports BasicSR

from lightbsr_arch import archs, data, degradations, losses, models  # noqa: E402
from lightbsr_arch.checkpoint import load  # noqa: E402
from lightbsr_arch.inference.upscaler import upscale  # noqa: E402

__version__ = version("lightbsr-arch")
__all__ = ["__version__", "archs", "data", "degradations", "load", "losses", "models", "upscale"]
