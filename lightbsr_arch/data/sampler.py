"""The order and the seeds of training samples. Both depend only on the position of a sample in the run.

A resumed run therefore uses the same samples as an uninterrupted one, with any number of loader processes.
"""

from collections.abc import Iterator
from typing import Any

from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import Dataset

from lightbsr_arch.seeds import derive_seed, seeded


class SampleIndex(int):
    """An index of a data set that also carries the seed of this sample.

    It is an int, so that data sets can ignore the seed. Arithmetic returns plain ints, so read ``seed`` first.
    """

    seed: int

    def __new__(cls, index: int, seed: int) -> "SampleIndex":
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]  # pickling, on the way to a worker
        return int(self), self.seed


class TrainSampler(EnlargedSampler):
    """A sampler with the order of BasicSR's. It can start in the middle of an epoch, and yields ``SampleIndex``.

    Seeds number the samples of all processes. Two processes therefore draw the same samples as one process with twice
    the batch.
    """

    manual_seed = 0
    start_epoch = 0
    start_sample = 0

    def start_at(self, manual_seed: int, epoch: int, sample: int) -> None:
        """Skip the first samples of an epoch, which this process used before the run was interrupted."""
        self.manual_seed, self.start_epoch, self.start_sample = manual_seed, epoch, sample

    def __iter__(self) -> Iterator[SampleIndex]:
        skipped = self.start_sample if self.epoch == self.start_epoch else 0
        for number, index in enumerate(super().__iter__()):
            if number >= skipped:
                place = number * self.num_replicas + self.rank
                yield SampleIndex(index, derive_seed(self.manual_seed, self.epoch, place))


class SeededDataset(Dataset[Any]):
    """Wraps any data set and seeds the global random generators for each sample.

    BasicSR seeds each worker process with the same number in each epoch. Crops and flips would therefore repeat and
    depend on the number of workers.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: SampleIndex) -> Any:
        with seeded(index.seed):
            return self.dataset[index]
