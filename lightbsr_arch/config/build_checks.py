"""Whether our networks can be built, which finds sizes that do not fit each other."""

from collections.abc import Iterator
from typing import Any

import torch

from lightbsr_arch.config.cross_checks import sections
from lightbsr_arch.config.problems import Finding
from lightbsr_arch.config.registries import registered
from lightbsr_arch.config.signatures import package


def build_checks(options: dict[str, Any]) -> Iterator[Finding]:
    """Build each network without memory for its weights, in milliseconds.

    The options must have passed the type check. BasicSR's networks and those of other plugins are left out, as some of
    them read files or download weights when they are built.
    """
    for key, network in sections(options):
        if not key.startswith("network_"):
            continue
        arguments = dict(network)
        cls = registered("network")[arguments.pop("type")]
        if package(cls) == "lightbsr_arch":
            try:
                with torch.device("meta"):
                    cls(**arguments)
            except Exception as error:  # whatever a constructor finds wrong
                yield Finding((key,), f"cannot be built: {error}")
