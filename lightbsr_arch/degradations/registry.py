"""The registry of degradations, like BasicSR's registries of architectures and losses."""

from typing import Any

from basicsr.utils.registry import Registry

DEGRADATION_REGISTRY = Registry("degradation")


def build_degradation(options: dict[str, Any], scale: int) -> Any:
    """Build the degradation that the ``degradation`` section of an options file describes, for a scale."""
    arguments = dict(options)
    return DEGRADATION_REGISTRY.get(arguments.pop("type"))(scale=scale, **arguments)
