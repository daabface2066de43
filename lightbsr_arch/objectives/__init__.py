"""Objectives of a training, of which models are composed: the classes of every module of this folder."""

from typing import TYPE_CHECKING, Any

from lightbsr_arch.objectives.base import Knowledge, Losses, Objective, TrainedModel, move_average
from lightbsr_arch.plugins import import_modules

__all__ = ["Knowledge", "Losses", "Objective", "TrainedModel", "move_average"]

globals().update(import_modules(__name__))

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
