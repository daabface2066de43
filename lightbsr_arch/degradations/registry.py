"""Degradations by name, as BasicSR keeps its architectures and losses."""

from basicsr.utils.registry import Registry

DEGRADATION_REGISTRY = Registry("degradation")
