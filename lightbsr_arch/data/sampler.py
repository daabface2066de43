"""The order and the randomness of training samples, both functions of a sample's place in the run alone.

A resumed run therefore sees what the uninterrupted one would have seen, whatever the number of loader processes.
"""

from collections.abc import Iterator
from typing import Any

from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import Dataset

from lightbsr_arch.seeds import derive_seed, seeded


class SampleIndex(int):
    """A data set's index, which also carries the seed for all that is random about this one sample.

    It is an int for data sets that know nothing of the seed. Arithmetic gives plain ints, so read ``seed`` first.
    """

    seed: int

    def __new__(cls, index: int, seed: int) -> "SampleIndex":
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]  # pickling, on the way to a worker
        return int(self), self.seed


class TrainSampler(EnlargedSampler):
    """BasicSR's sampler, in its order, that can start in the middle of an epoch; it yields ``SampleIndex``.

    Seeds count places across all processes: two processes draw together what one with twice the batch would draw.
    """

    manual_seed = 0
    start_epoch = 0
    start_sample = 0

    def start_at(self, manual_seed: int, epoch: int, sample: int) -> None:
        """Leave out the first samples of one epoch, those that this process used before the run was interrupted."""
        self.manual_seed, self.start_epoch, self.start_sample = manual_seed, epoch, sample

    def __iter__(self) -> Iterator[SampleIndex]:
        skipped = self.start_sample if self.epoch == self.start_epoch else 0
        for number, index in enumerate(super().__iter__()):
            if number >= skipped:
                place = number * self.num_replicas + self.rank
                yield SampleIndex(index, derive_seed(self.manual_seed, self.epoch, place))


class SeededDataset(Dataset):
    """Any data set with the global generators seeded for each sample.

    BasicSR seeds each worker process alike at each epoch, so that crops and flips repeat and depend on the workers.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: SampleIndex) -> Any:
        with seeded(index.seed):
            return self.dataset[index]
