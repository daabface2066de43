"""Adaptation of a trained network to low-quality pictures that have no ground truth."""

from lightbsr_arch.adaptation.adapt import Adaptation, adapt
from lightbsr_arch.adaptation.kernel_estimator import KernelEstimator

__all__ = ["Adaptation", "KernelEstimator", "adapt"]
