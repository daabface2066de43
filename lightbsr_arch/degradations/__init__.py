"""Synthesis of low-quality images on the fly, in batches, on the images' device, and reproducible from a seed."""

from typing import Any

from lightbsr_arch.degradations.classical import ClassicalDegradation, Degradation, Degraded, Parameters
from lightbsr_arch.degradations.draws import Draws
from lightbsr_arch.degradations.kernels import gaussian_kernels
from lightbsr_arch.degradations.mixed import MixedDegradation
from lightbsr_arch.degradations.pair_pool import Pooled
from lightbsr_arch.degradations.ranked import RankedSecondOrderDegradation
from lightbsr_arch.degradations.registry import DEGRADATION_REGISTRY
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


def build_degradation(options: dict[str, Any], scale: int) -> Any:
    """Build the degradation that the ``degradation`` section of an options file describes, for a scale."""
    arguments = dict(options)
    return DEGRADATION_REGISTRY.get(arguments.pop("type"))(scale=scale, **arguments)
