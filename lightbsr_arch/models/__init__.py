"""Models, registered in BasicSR's ``MODEL_REGISTRY``: the classes of every module ``*_model.py`` here."""

from typing import TYPE_CHECKING, Any

from lightbsr_arch.models.blindsr_model import BlindSRModel
from lightbsr_arch.plugins import import_modules

__all__ = ["BlindSRModel"]

globals().update(import_modules(__name__, "_model"))

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
