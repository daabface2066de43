"""Settings of all tests.

Test modules may import BasicSR first, which on today's torchvision works only after this package.
"""

import signal

import pytest
import torch
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

if hasattr(signal, "SIGHUP"):  # `nohup make test` ignores it, and so would the commands that tests start and stop
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Give random weights and inputs the same values in each run."""
    torch.manual_seed(0)


WITH_MESSAGES = (
    "config/",
    "bench/test_bench.py",
    "models/test_meta.py",
    "models/test_objectives.py",
    "models/test_ranking.py",
    "test_own_estimator.py",
    "test_own_parts.py",
    "test_plug_in.py",
)
"""Tests that record messages about options."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-messages", action="store_true", help="write tests/config/messages.txt again")


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep each file in one process. Tests of messages share one, in which all recorded messages are compared last."""
    items.sort(key=lambda item: item.path.name == "test_messages.py")
    for item in items:
        path = item.path.relative_to(item.config.rootpath / "tests").as_posix()
        if path.startswith(WITH_MESSAGES):
            item.add_marker(pytest.mark.messages)
            path = "messages"
        item.add_marker(pytest.mark.xdist_group(path))
