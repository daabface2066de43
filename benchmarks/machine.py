"""Description of the machine of a benchmark."""

import os
import platform
from importlib.metadata import version

from lightbsr_arch.basicsr_patches.distribution import basicsr_distribution
from lightbsr_arch.bench.machine import processor


def describe(*packages: str) -> str:
    """Return one line with the processor, the usable cores, Python, and the versions of some packages."""
    names = [basicsr_distribution() if package == "basicsr" else package for package in packages]
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{processor()}, {cores()} core{'s' * (cores() != 1)}; Python {platform.python_version()}, {versions}"


def cores() -> int:
    """Return the number of usable cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
