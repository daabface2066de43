"""Test modules may import BasicSR first, which on today's torchvision works only after this package."""

import pytest

import lightbsr_arch  # noqa: F401


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-messages", action="store_true", help="write tests/config/messages.txt again")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the comparison of all recorded messages last."""
    items.sort(key=lambda item: item.path.name == "test_messages.py")
