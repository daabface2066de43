"""The registry of degradations, like BasicSR's registries of architectures and losses."""

from basicsr.utils.registry import Registry

DEGRADATION_REGISTRY = Registry("degradation")
