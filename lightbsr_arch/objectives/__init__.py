"""Objectives of a training, of which models are composed: contrast, distillation, ranking and the GAN."""

from lightbsr_arch.objectives.base import Knowledge, Losses, Objective, TrainedModel, move_average
from lightbsr_arch.objectives.contrast import MomentumContrast
from lightbsr_arch.objectives.cyclic_contrast import CyclicContrast
from lightbsr_arch.objectives.distill import Distillation
from lightbsr_arch.objectives.gan import Adversarial
from lightbsr_arch.objectives.ranking import DegreeRanking

__all__ = [
    "Adversarial", "CyclicContrast", "DegreeRanking", "Distillation", "Knowledge", "Losses", "MomentumContrast",
    "Objective", "TrainedModel", "move_average",
]  # fmt: skip
