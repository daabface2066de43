"""Architectures, registered in BasicSR's ``ARCH_REGISTRY``: the classes of every module ``*_arch.py`` here."""

from typing import TYPE_CHECKING, Any

from lightbsr_arch.archs.blindsr_arch import BlindSR
from lightbsr_arch.plugins import import_modules

__all__ = ["BlindSR"]

globals().update(import_modules(__name__, "_arch"))

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
