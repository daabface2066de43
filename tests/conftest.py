"""Test modules may import BasicSR first, which on today's torchvision works only after this package."""

import lightbsr_arch  # noqa: F401
