"""Settings of all tests.

Test modules may import BasicSR first, which on today's torchvision works only after this package.
"""

import pytest
from hypothesis import HealthCheck, settings

import lightbsr_arch  # noqa: F401

# Few examples, the same ones in each run, and no limit on time, so that a run on a busy machine fails for a fault only.
settings.register_profile(
    "lightbsr",
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lightbsr")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-messages", action="store_true", help="write tests/config/messages.txt again")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the comparison of all recorded messages last."""
    items.sort(key=lambda item: item.path.name == "test_messages.py")
