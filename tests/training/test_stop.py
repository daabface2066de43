"""The effects of signals, before, within and between iterations."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.utils.registry import DATASET_REGISTRY
from torch import distributed

from lightbsr_arch.training import stop as stop_module
from lightbsr_arch.training.loading import TrainingData
from lightbsr_arch.training.pipeline import Training
from lightbsr_arch.training.run_folder import RunFolder
from lightbsr_arch.training.stop import Stopped, StopRequest
from tests.training.test_loading import Numbers
from tests.training.test_loading import options as loading_options
from tests.training.test_run_folder import options as folder_options


@pytest.fixture
def stop() -> Iterator[StopRequest]:
    before = {signum: signal.getsignal(signum) for signum in stop_module.SIGNALS}
    request = StopRequest()
    request.listen()
    yield request
    for signum, handler in before.items():
        signal.signal(signum, handler)


class Model:
    """The part of a BasicSR model that training uses.

    Args:
        actions: called within an iteration, by its number.
        validate: called by each validation.
    """

    def __init__(
        self, actions: dict[int, Callable[[], Any]] | None = None, validate: Callable[[], None] | None = None
    ) -> None:
        self.actions = actions or {}
        self.validate = validate
        self.saved: list[tuple[int, int]] = []
        self.done: list[int] = []
        self.device = torch.device("cpu")

    def update_learning_rate(self, current_iter: int, warmup_iter: int) -> None: ...

    def feed_data(self, data: Any) -> None: ...

    def optimize_parameters(self, current_iter: int) -> None:
        self.actions.get(current_iter, int)()
        self.done.append(current_iter)

    def validation(self, *_: Any) -> None:
        if self.validate:
            self.validate()

    def save(self, epoch: int, current_iter: int) -> None:
        self.saved.append((epoch, current_iter))


class Run:
    """A run of twenty iterations, ten per epoch, from epoch 2."""

    def __init__(self, tmp_path: Path, stop: StopRequest) -> None:
        (tmp_path / "o.yml").write_text("name: run\n")
        often = {"print_freq": 100, "save_checkpoint_freq": 100, "use_tb_logger": False}
        self.opt = {**loading_options(), **folder_options(tmp_path, **often), "model_type": "SRModel"}
        self.opt["train"] = {"total_iter": 20}
        self.folder = RunFolder(tmp_path / "o.yml")
        self.folder.claim(self.opt)
        self.training = Training(self.folder, stop)

    def __call__(self, model: Model, val_loaders: tuple[str, ...] = ()) -> None:
        if val_loaders:
            self.opt["val"] = {"val_freq": 1, "save_img": False}
        self.training.iterate(self.opt, model, TrainingData(self.opt, epoch=2), val_loaders)


@pytest.fixture
def run(tmp_path: Path, stop: StopRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "Numbers", Numbers)
    run = Run(tmp_path, stop)
    yield run
    run.folder.release()


def send(signum: int) -> Callable[[], None]:
    return lambda: signal.raise_signal(signum)


def test_before_the_loop_the_first_signal_stops(stop: StopRequest) -> None:
    with pytest.raises(Stopped):
        signal.raise_signal(signal.SIGTERM)
    assert stop.exit_code == 143


def test_without_a_signal_all_iterations_are_done(run: Run, stop: StopRequest) -> None:
    model = Model()
    run(model)
    assert model.done == list(range(1, 21))
    assert model.saved == []
    assert stop.exit_code == 0


@pytest.mark.parametrize(("signum", "code"), [("SIGUSR1", 138), ("SIGHUP", 129), ("SIGTERM", 143)])
def test_signals_of_slurm_and_of_a_closed_terminal_save_too(
    run: Run, stop: StopRequest, signum: str, code: int
) -> None:
    def without_a_terminal() -> None:
        stderr = os.dup(2)
        os.close(2)
        try:
            signal.raise_signal(signal.Signals[signum])
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)

    model = Model({1: without_a_terminal})
    with pytest.raises(Stopped):
        run(model)
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
    signal.raise_signal(signal.SIGINT)  # torchrun repeats the first signal
    assert stop.exit_code == 130
    with pytest.raises(Stopped):
        signal.raise_signal(signal.SIGINT)


def test_iteration_ends_and_is_saved(run: Run) -> None:
    model = Model({2: send(signal.SIGINT)})
    with pytest.raises(Stopped):
        run(model)
    assert model.done == [1, 2]
    assert model.saved == [(2, 2)]
    assert run.training.saved


def test_nothing_is_saved_before_the_first_iteration_after_a_resume(run: Run, stop: StopRequest) -> None:
    model = Model()
    run.training.first = run.training.last = 10
    stop.busy = True
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(Stopped):
        run(model)
    assert model.done == model.saved == []


def test_validation_is_left_at_once_and_training_saved(run: Run) -> None:
    reached = []

    def validate() -> None:
        reached.append("in")
        signal.raise_signal(signal.SIGINT)
        reached.append("past")

    model = Model(validate=validate)
    with pytest.raises(Stopped):
        run(model, ("Set5", "Set14"))
    assert reached == ["in"]
    assert model.saved == [(2, 1)]


def test_processes_stop_together(run: Run, stop: StopRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process is informed by another one, and a signal during this exchange is not lost."""

    def of_another_process(signum: torch.Tensor) -> None:
        assert stop.exit_code == 130
        stop.signum = 0
        signum.fill_(signal.SIGTERM)

    answers = iter([lambda _: None, lambda _: signal.raise_signal(signal.SIGINT), of_another_process])
    monkeypatch.setattr(distributed, "all_reduce", lambda signum, _: next(answers)(signum))
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    model = Model()
    try:
        with pytest.raises(Stopped):
            run(model)
    finally:
        distributed.destroy_process_group()
    assert stop.exit_code == 143
    assert model.saved == [(2, 2)]
