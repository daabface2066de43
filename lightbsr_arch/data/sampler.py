"""The order and the seeds of training samples, which depend only on a sample's place in the run.

A resumed run therefore sees the samples of the uninterrupted run, with any number of loader processes.
"""

from collections.abc import Iterator
from typing import Any

from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import Dataset

from lightbsr_arch.seeds import derive_seed, seeded


class SampleIndex(int):
    """An index of a data set that also carries the seed of this sample.

    It is an int, for data sets that do not use the seed. Arithmetic returns plain ints, so read ``seed`` first.
    """

    seed: int

    def __new__(cls, index: int, seed: int) -> "SampleIndex":
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]  # pickling, on the way to a worker
        return int(self), self.seed


class TrainSampler(EnlargedSampler):
    """BasicSR's sampler with the same order, which can start in the middle of an epoch and yields ``SampleIndex``.

    Seeds count samples across all processes, so two processes draw the samples of one process with twice the batch.
    """

    manual_seed = 0
    start_epoch = 0
    start_sample = 0

    def start_at(self, manual_seed: int, epoch: int, sample: int) -> None:
        """Skip the first samples of one epoch, which this process used before the run was interrupted."""
        self.manual_seed, self.start_epoch, self.start_sample = manual_seed, epoch, sample

    def __iter__(self) -> Iterator[SampleIndex]:
        skipped = self.start_sample if self.epoch == self.start_epoch else 0
        for number, index in enumerate(super().__iter__()):
            if number >= skipped:
                place = number * self.num_replicas + self.rank
                yield SampleIndex(index, derive_seed(self.manual_seed, self.epoch, place))


class SeededDataset(Dataset[Any]):
    """Wraps any data set and seeds the global random generators for each sample.

    BasicSR gives each worker process the same seed in each epoch, so that crops and flips repeat and depend on the
    number of workers.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: SampleIndex) -> Any:
        with seeded(index.seed):
            return self.dataset[index]
