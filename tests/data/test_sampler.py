"""The order and the seeds of training samples."""

import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import DataLoader

from lightbsr_arch.data.sampler import SampleIndex, SeededDataset, TrainSampler
from lightbsr_arch.seeds import derive_seed


class Noise:
    """A data set that draws from all random generators."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Any:
        return torch.tensor([float(index), random.random(), np.random.rand(), torch.rand(()).item()])


def draws(sampler: TrainSampler, epochs: range, workers: int = 0, persistent: bool = False) -> torch.Tensor:
    loader = DataLoader(SeededDataset(Noise()), 2, sampler=sampler, num_workers=workers, persistent_workers=persistent)
    found = []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        found += list(loader)
    return torch.cat(found)


def sampler_at(epoch: int = 0, sample: int = 0, rank: int = 0, ranks: int = 1) -> TrainSampler:
    sampler = TrainSampler(Noise(), ranks, rank, 2)
    sampler.start_at(7, epoch, sample)
    return sampler


def test_order_is_that_of_basicsr() -> None:
    ours, theirs = sampler_at(rank=1, ranks=2), EnlargedSampler(Noise(), 2, 1, 2)
    for epoch in (0, 5):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        assert list(ours) == list(theirs)


def test_starts_in_the_middle_of_one_epoch_only() -> None:
    whole = draws(sampler_at(), range(3))
    assert whole.shape == (60, 4)
    resumed = draws(sampler_at(epoch=1, sample=6), range(1, 3))
    torch.testing.assert_close(resumed, whole[26:], rtol=0, atol=0)


def test_every_sample_has_a_seed_of_its_own() -> None:
    values = draws(sampler_at(), range(3))[:, 1:]
    assert all(len(column.unique()) == 60 for column in values.T)


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_change_nothing(persistent: bool) -> None:
    alone = draws(sampler_at(), range(2))
    torch.testing.assert_close(draws(sampler_at(), range(2), 2, persistent), alone, rtol=0, atol=0)


def test_two_processes_draw_what_one_would() -> None:
    alone = list(sampler_at())
    pair = [list(sampler_at(rank=rank, ranks=2)) for rank in (0, 1)]
    together = [sample for place in zip(*pair, strict=True) for sample in place]
    assert [(int(sample), sample.seed) for sample in together] == [(int(sample), sample.seed) for sample in alone]


def test_global_generators_are_left_alone() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(())
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    SeededDataset(Noise())[SampleIndex(4, 99)]
    assert (random.random(), np.random.rand(), torch.rand(())) == expected


def test_index_is_an_int_that_survives_pickling() -> None:
    index = pickle.loads(pickle.dumps(SampleIndex(12, 34)))
    assert index == 12
    assert index.seed == 34
    assert index % 5 == 2
    assert "abc"[SampleIndex(1, 0)] == "b"


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive_seed(7, 0, 3) == 3351598949
    assert derive_seed(7, 3, 0) != derive_seed(7, 0, 3)
