"""Data sets and their loaders. A resumed run continues the order of training samples."""

import signal
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import basicsr.data
import cv2
from basicsr.data import build_dataloader
from basicsr.data.prefetch_dataloader import CUDAPrefetcher
from basicsr.utils import get_root_logger
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from lightbsr.errors import UserError, reason_of
from lightbsr_arch.data.sampler import SeededDataset, TrainSampler
from lightbsr_arch.training.stop import SIGNALS

MOST_SAMPLES = 20_000_000
GRACE = 20
"""Seconds after SIGTERM until a loader process ends."""


class TrainingData:
    """Iterates endlessly over the batches of a training, from the batch at which a run starts or continues.

    Attributes:
        loader: yields the batches of one epoch.
        sampler: orders and seeds the samples.
    """

    def __init__(self, opt: dict[str, Any], epoch: int = 0, iteration: int = 0) -> None:
        """Build ``datasets.train``.

        Args:
            opt: complete options.
            epoch: the epoch to start in, counted from 0.
            iteration: number of iterations that are already done, in all epochs.

        Raises:
            UserError: the data set cannot be used, or has too few samples for a batch, or too many.
        """
        dataset_opt = opt["datasets"]["train"]
        dataset = build_dataset(dataset_opt)
        ratio = dataset_opt.get("dataset_enlarge_ratio", 1)
        self.sampler = TrainSampler(dataset, opt["world_size"], opt["rank"], ratio)
        samples = len(self.sampler)
        if samples > MOST_SAMPLES:
            raise UserError(
                f"datasets.train: an epoch has {samples} samples, more than {MOST_SAMPLES}, whose order must fit "
                "into memory; lower dataset_enlarge_ratio"
            )
        self.loader = build_dataloader(
            SeededDataset(dataset), dataset_opt, num_gpu=opt["num_gpu"], dist=opt["dist"], sampler=self.sampler
        )
        self.loader.worker_init_fn = prepare_worker
        per_epoch = len(self.loader)
        if not per_epoch:
            raise UserError(
                f"datasets.train: an epoch has {samples} samples, fewer than a batch of {self.loader.batch_size}; "
                "raise dataset_enlarge_ratio or lower batch_size_per_gpu"
            )
        # The result is between 0 and a whole epoch, unless the options changed since the run was interrupted.
        done = min(max(iteration - epoch * per_epoch, 0), per_epoch)
        self.sampler.start_at(opt["manual_seed"], epoch, done * self.loader.batch_size)
        self.sampler.set_epoch(epoch)
        self._opt = opt
        get_root_logger().info(
            f"Training statistics:\n\tNumber of train images: {len(dataset)}\n\tDataset enlarge ratio: {ratio}"
            f"\n\tBatch size per gpu: {dataset_opt['batch_size_per_gpu']}"
            f"\n\tWorld size (gpu number): {opt['world_size']}\n\tRequire iter number per epoch: {per_epoch}"
            f"\n\tTotal iters: {opt['train']['total_iter']}."
        )

    @property
    def epoch(self) -> int:
        """The epoch of the last batch, counted from 0."""
        epoch: int = self.sampler.epoch
        return epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for epoch in count(self.epoch):
            self.sampler.set_epoch(epoch)
            yield from self._batches()

    def _batches(self) -> Iterable[dict[str, Any]]:
        if self._opt["datasets"]["train"].get("prefetch_mode") != "cuda":
            loader: Iterable[dict[str, Any]] = self.loader
            return loader
        # `CUDAPrefetcher.reset` starts the loader's processes a second time in the first epoch, so each epoch has a
        # prefetcher of its own.
        return iter(CUDAPrefetcher(self.loader, self._opt).next, None)


def build_dataset(dataset_opt: dict[str, Any]) -> Any:
    """Build a data set by BasicSR's function.

    Raises:
        UserError: one of BasicSR's data sets refuses the options or the files, or there are no pictures.
    """
    where = f"data set {dataset_opt['name']}"
    of_basicsr = DATASET_REGISTRY.get(dataset_opt["type"]).__module__.startswith("basicsr.")
    try:
        dataset = basicsr.data.build_dataset(dataset_opt)
    except (AssertionError, ValueError, KeyError, OSError) as error:
        if not of_basicsr:
            raise
        raise UserError(f"{where}: {dataset_opt['type']} cannot be used: {error or type(error).__name__}") from error
    if not len(dataset):
        raise UserError(f"{where}: there are no pictures in it")
    return _OneLineErrors(dataset, where) if of_basicsr else dataset


class _OneLineErrors(Dataset[Any]):
    """One of BasicSR's data sets, ``wrapped``, whose errors about a picture become a UserError."""

    def __init__(self, wrapped: Any, where: str) -> None:
        self.wrapped, self.where = wrapped, where

    def __len__(self) -> int:
        return len(self.wrapped)

    def __getattr__(self, name: str) -> Any:
        if name == "wrapped":  # a loader process asks for it while it unpickles this
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.wrapped[index]
        except UserError:
            raise
        except Exception as error:
            number = index % len(self) + 1
            raise UserError(
                f"{self.where}: picture {number} of {len(self)} cannot be used: {reason_of(error)}"
            ) from error


def build_evaluation_loader(opt: dict[str, Any], dataset_opt: dict[str, Any]) -> Any:
    """Build the data set and the loader of a validation or a test, one image per batch."""
    return build_dataloader(build_dataset(dataset_opt), dataset_opt, num_gpu=opt["num_gpu"], dist=opt["dist"])


def prepare_worker(worker_id: int) -> None:
    """Prepare a loader process, which ``SeededDataset`` seeds for each sample."""
    # A terminal and SLURM send signals to all processes. This process ignores them, because the iteration that the main
    # process finishes and saves still needs it. The main process ends it by a flag. If that does not help, it sends
    # SIGTERM, for which a forked process would otherwise have the trainer's handler.
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    can_wait = hasattr(signal, "alarm")  # Windows cannot
    signal.signal(signal.SIGTERM, (lambda *_: signal.alarm(GRACE)) if can_wait else signal.SIG_DFL)
    cv2.setNumThreads(0)  # OpenCV's threads hang in a forked process
