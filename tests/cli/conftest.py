"""Fixtures of the tests of ``lightbsr upscale``."""

from collections.abc import Callable
from typing import Any

import pytest

from lightbsr.commands import main
from lightbsr_arch.checkpoint import Checkpoint
from tests.inference.networks import network


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of the weights of a small network of scale 2."""
    net = network("kdsr", scale=2)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    Checkpoint(net.state_dict(), net.config).save(path)
    return str(path)


@pytest.fixture
def run(weights: str, capfd: Any) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command and returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["upscale", *map(str, arguments), "-m", weights, "-q"])
        return code, *capfd.readouterr()

    return run
