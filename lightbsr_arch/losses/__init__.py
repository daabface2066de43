"""Losses that BasicSR lacks, registered in its ``LOSS_REGISTRY``: the classes of every module ``*_loss.py`` here."""

from typing import TYPE_CHECKING, Any

from lightbsr_arch.plugins import import_modules

globals().update(import_modules(__name__, "_loss"))

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
