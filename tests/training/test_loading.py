"""Batches of a training, and the processes that load them."""

import signal
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from lightbsr.errors import UserError
from lightbsr_arch.training.loading import GRACE, TrainingData, prepare_worker
from lightbsr_arch.training.stop import SIGNALS


class Numbers(Dataset):
    """A data set of the numbers from 0 to ``count`` - 1."""

    def __init__(self, opt: dict[str, Any]) -> None:
        self.count = opt["count"]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"number": torch.tensor(int(index))}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "Numbers", Numbers)


def options(count: int = 40, **dataset: Any) -> dict[str, Any]:
    """Return options with ten iterations per epoch and fifty in all."""
    train = {"name": "numbers", "type": "Numbers", "phase": "train", "count": count, "batch_size_per_gpu": 4}
    return {
        "datasets": {"train": {**train, "num_worker_per_gpu": 0, **dataset}},
        "train": {"total_iter": 50},
        "manual_seed": 6,
        "rank": 0,
        "world_size": 1,
        "num_gpu": 0,
        "dist": False,
    }


@pytest.mark.parametrize(
    ("epoch", "iteration", "skipped", "last_epoch"),
    [(0, 0, 0, 4), (2, 25, 20, 4), (2, 30, 40, 4), (3, 30, 0, 4), (4, 50, 40, 4), (1, 45, 40, 2), (9, 45, 0, 9)],
)
def test_resumes_in_the_middle_of_an_epoch(epoch: int, iteration: int, skipped: int, last_epoch: int) -> None:
    """In the last two cases, options are changed between the runs."""
    data = TrainingData(options(), epoch, iteration)
    sampler = data.sampler
    assert (sampler.manual_seed, sampler.start_epoch, sampler.start_sample) == (6, epoch, skipped)
    assert len(list(islice(data, 50 - iteration))) == 50 - iteration
    assert data.epoch == last_epoch


def test_a_resumed_run_gets_the_rest_of_the_batches() -> None:
    whole = [batch["number"].tolist() for batch in islice(TrainingData(options()), 25)]
    rest = [batch["number"].tolist() for batch in islice(TrainingData(options(), 1, 13), 12)]
    assert rest == whole[13:]
    assert sorted(number for batch in whole[:10] for number in batch) == list(range(40))
    assert whole[:10] != whole[10:20]


def test_training_set_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(UserError, match="an epoch has 3 samples, fewer than a batch of 4; raise dataset_enlarge_ratio"):
        TrainingData(options(3))


def test_an_order_too_long_for_memory_is_refused() -> None:
    with pytest.raises(UserError, match="an epoch has 24000000 samples, more than 20000000"):
        TrainingData(options(dataset_enlarge_ratio=600_000))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_basicsr_cannot_use_is_named(tmp_path: Path, workers: int) -> None:
    for folder, size in (("hr", 16), ("lr", 4)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), np.zeros((size, size, 3), np.uint8))
    pairs = {
        "type": "PairedImageDataset", "dataroot_gt": str(tmp_path / "hr"), "dataroot_lq": str(tmp_path / "lr"),
        "io_backend": {"type": "disk"}, "gt_size": 32, "scale": 4, "use_hflip": False, "use_rot": False,
    }  # fmt: skip
    data = TrainingData(options(batch_size_per_gpu=1, num_worker_per_gpu=workers, **pairs))
    with pytest.raises(UserError) as raised:
        next(iter(data))
    assert str(raised.value).rpartition("UserError: ")[2].strip() == (
        "data set numbers: picture 1 of 1 cannot be used: ValueError: LQ (4, 4) is smaller than patch size (8, 8). "
        f"Please remove {tmp_path}/hr/a.png."
    )


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(UserError, match="data set numbers: there are no pictures in it"):
        TrainingData(options(0))


def test_an_epoch_starts_its_loader_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = TrainingData(options(num_prefetch_queue=2, prefetch_mode="cpu"))
    started = []
    start = type(data.loader).__iter__
    monkeypatch.setattr(type(data.loader), "__iter__", lambda loader: started.append(1) or start(loader))
    assert len(list(islice(data, 20))) == 20
    assert len(started) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_are_on_the_gpu_ahead() -> None:
    opt = {**options(prefetch_mode="cuda", pin_memory=True), "num_gpu": 1}
    batches = list(islice(TrainingData(opt), 12))
    assert all(batch["number"].device.type == "cuda" for batch in batches)
    plain = [batch["number"].tolist() for batch in islice(TrainingData(options()), 12)]
    assert [batch["number"].tolist() for batch in batches] == plain


def test_workers_leave_signals_to_the_trainer() -> None:
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    try:
        prepare_worker(0)
        for signum in SIGNALS:
            if signum != signal.SIGTERM:
                assert signal.getsignal(signum) is signal.SIG_IGN
        signal.raise_signal(signal.SIGTERM)
        assert 0 < signal.alarm(0) <= GRACE, "ends later, in case that the main process does not end it"
    finally:
        signal.alarm(0)
        for signum, handler in before.items():
            signal.signal(signum, handler)
