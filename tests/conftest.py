"""Import this package first, so that test modules can import BasicSR with current torchvision."""

import lightbsr_arch  # noqa: F401
