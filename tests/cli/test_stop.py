"""What signals do, and when."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightbsr.errors import UserError
from lightbsr_arch.cli import stop as stop_module
from lightbsr_arch.cli import training
from lightbsr_arch.cli.run_folder import RunFolder
from lightbsr_arch.cli.stop import Stopped, StopRequest
from lightbsr_arch.cli.training import TrainingLoop


@pytest.fixture
def stop() -> Iterator[StopRequest]:
    before = {signum: signal.getsignal(signum) for signum in stop_module.SIGNALS}
    request = StopRequest()
    request.listen()
    yield request
    for signum, handler in before.items():
        signal.signal(signum, handler)


class Model:
    """As much of a BasicSR model as the loop touches."""

    def __init__(self) -> None:
        self.opt = {"manual_seed": 0, "rank": 0}
        self.saved: list[tuple[int, int]] = []
        self.device = torch.device("cpu")

    def save(self, epoch: int, iteration: int) -> None:
        self.saved.append((epoch, iteration))


def loop_at(stop: StopRequest, epoch: int = 2) -> TrainingLoop:
    loop = TrainingLoop(stop, RunFolder(Path(__file__)))
    loop._sampler = SimpleNamespace(epoch=epoch)
    return loop


def test_before_the_loop_the_first_signal_stops(stop: StopRequest) -> None:
    with pytest.raises(Stopped):
        signal.raise_signal(signal.SIGTERM)
    assert stop.exit_code == 143


@pytest.mark.parametrize(("signum", "code"), [("SIGUSR1", 138), ("SIGHUP", 129), ("SIGTERM", 143)])
def test_signals_of_slurm_and_of_a_closed_terminal_save_too(stop: StopRequest, signum: str, code: int) -> None:
    loop, model = loop_at(stop), Model()
    loop._begin_iteration(model, 1)
    stderr = os.dup(2)
    os.close(2)  # as where the terminal is gone
    try:
        signal.raise_signal(signal.Signals[signum])
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    with pytest.raises(Stopped):
        loop._begin_iteration(model, 2)
    assert model.saved == [(2, 1)]
    assert stop.exit_code == code


def test_nohup_is_respected(stop: StopRequest) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop.listen()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_in_an_iteration_the_first_signal_waits_and_the_second_stops(
    stop: StopRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 10.5, 12.0])
    monkeypatch.setattr(stop_module.time, "monotonic", lambda: next(clock))
    stop.busy = True
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)  # torchrun's echo of the first
    assert stop.exit_code == 130
    with pytest.raises(Stopped):
        signal.raise_signal(signal.SIGINT)


def test_iteration_ends_and_is_saved(stop: StopRequest) -> None:
    loop, model = loop_at(stop), Model()
    loop._begin_iteration(model, 1)
    loop._begin_iteration(model, 2)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(Stopped):
        loop._begin_iteration(model, 3)
    assert model.saved == [(2, 2)]
    assert loop.saved


def test_nothing_is_saved_before_the_first_iteration_after_a_resume(stop: StopRequest) -> None:
    loop, model = loop_at(stop), Model()
    loop.first = 40
    stop.busy = True
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(Stopped):
        loop._begin_iteration(model, 41)
    assert model.saved == []


def test_validation_is_left_at_once_and_training_saved(stop: StopRequest) -> None:
    loop, model = loop_at(stop), Model()
    reached = []

    def validation() -> None:
        reached.append("in")
        signal.raise_signal(signal.SIGINT)
        reached.append("past")

    loop._begin_iteration(model, 1)
    loop._validate("Set5", validation)
    loop._validate("Set14", validation)
    assert reached == ["in"]
    with pytest.raises(Stopped):
        loop._begin_iteration(model, 2)
    assert model.saved == [(2, 1)]


def test_processes_stop_together(stop: StopRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process learns from another one, and a signal while it is asking is not lost."""
    loop, model = loop_at(stop), Model()
    monkeypatch.setattr(training.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(training.distributed, "all_reduce", lambda *_: None)
    loop._begin_iteration(model, 1)
    monkeypatch.setattr(training.distributed, "all_reduce", lambda *_: signal.raise_signal(signal.SIGINT))
    loop._begin_iteration(model, 2)
    assert stop.exit_code == 130
    stop.signum = 0
    monkeypatch.setattr(training.distributed, "all_reduce", lambda signum, _: signum.fill_(signal.SIGTERM))
    with pytest.raises(Stopped):
        loop._begin_iteration(model, 3)
    assert stop.exit_code == 143
    assert model.saved == [(2, 2)]


def create(per_epoch: int, total: int) -> Any:
    loader = type("Loader", (), {"__len__": lambda self: per_epoch, "batch_size": 4})()
    sampler = type("Sampler", (), {"__len__": lambda self: 3, "start_at": lambda self, *at: setattr(self, "at", at)})()
    return lambda opt, logger: (loader, sampler, [], None, total)


@pytest.mark.parametrize(
    ("epoch", "iteration", "skipped", "last_epoch"),
    [(0, 0, 0, 4), (2, 25, 20, 4), (2, 30, 40, 4), (3, 30, 0, 4), (4, 50, 40, 4), (1, 45, 40, 2), (9, 45, 0, 9)],
)
def test_resumes_in_the_middle_of_an_epoch(epoch: int, iteration: int, skipped: int, last_epoch: int) -> None:
    """Ten iterations an epoch, fifty in all; the last two cases are options changed between the runs."""
    loop = TrainingLoop(StopRequest(), RunFolder(Path(__file__)))
    loop.first, loop._epoch = iteration, epoch
    _, sampler, _, last, _ = loop.create_dataloaders(create(10, 50), {"manual_seed": 6}, None)
    assert sampler.at == (6, epoch, skipped)
    assert last == last_epoch


def test_training_set_smaller_than_a_batch_is_refused() -> None:
    loop = TrainingLoop(StopRequest(), RunFolder(Path(__file__)))
    with pytest.raises(UserError, match="an epoch has 3 samples, fewer than a batch of 4; raise dataset_enlarge_ratio"):
        loop.create_dataloaders(create(0, 50), {"manual_seed": 6}, None)
