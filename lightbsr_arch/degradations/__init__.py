"""Synthesis of low-quality images on the fly, in batches, on the images' device, and reproducible from a seed."""

from lightbsr_arch.degradations.classical import ClassicalDegradation, Degradation, Degraded, Parameters
from lightbsr_arch.degradations.draws import Draws
from lightbsr_arch.degradations.kernels import gaussian_kernels
from lightbsr_arch.degradations.mixed import MixedDegradation
from lightbsr_arch.degradations.pair_pool import Pooled
from lightbsr_arch.degradations.ranked import RankedSecondOrderDegradation
from lightbsr_arch.degradations.registry import DEGRADATION_REGISTRY, build_degradation
from lightbsr_arch.degradations.resize import bicubic_resize
from lightbsr_arch.degradations.second_order import SecondOrderDegradation
from lightbsr_arch.degradations.settings import FixedSecondOrder, Setting, named_settings

__all__ = [
    "DEGRADATION_REGISTRY",
    "ClassicalDegradation",
    "Degradation",
    "Degraded",
    "Draws",
    "FixedSecondOrder",
    "MixedDegradation",
    "Parameters",
    "Pooled",
    "RankedSecondOrderDegradation",
    "SecondOrderDegradation",
    "Setting",
    "bicubic_resize",
    "build_degradation",
    "gaussian_kernels",
    "named_settings",
]
