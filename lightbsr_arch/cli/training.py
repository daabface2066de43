"""What BasicSR's training loop lacks: exact resuming, and an end in good order when the user asks for it."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import basicsr.data
import basicsr.models
import torch
from basicsr.utils import get_root_logger, set_random_seed
from basicsr.utils.registry import MODEL_REGISTRY
from torch import distributed

from lightbsr.errors import UserError
from lightbsr_arch import compat
from lightbsr_arch.cli.run_folder import RunFolder
from lightbsr_arch.cli.stop import Stopped, StopRequest
from lightbsr_arch.data.sampler import SeededDataset, TrainSampler
from lightbsr_arch.seeds import derive_seed

MOST_SAMPLES = 20_000_000


class TrainingLoop:
    """Stands beside ``train_pipeline`` and is told, by the functions below, how far it is.

    Attributes:
        folder: of the run; it is made when the first iteration is done.
        first: the iteration that the run resumed from, or 0.
        last: the last complete iteration.
        saved: whether ``last`` was saved upon a stop request.
    """

    sampler_type = TrainSampler

    def __init__(self, stop: StopRequest, folder: RunFolder) -> None:
        self.stop = stop
        self.folder = folder
        self.first = self.last = 0
        self.saved = False
        self._epoch = 0
        self._sampler: Any = None
        self._validated: set[tuple[int, int]] = set()

    def load_resume_state(self, opt: dict[str, Any]) -> dict[str, Any] | None:
        """BasicSR's step, from which the loop learns where it starts; locks the run before."""
        self.folder.claim(opt)
        state = compat.load_resume_state(opt)
        if state:
            self.folder.resume()
            self._epoch = state["epoch"]
            self.first = self.last = state["iter"]
        return state

    @staticmethod
    def build_dataloader(dataset: Any, dataset_opt: dict[str, Any], **kwargs: Any) -> Any:
        """BasicSR's step, with every training sample seeded on its own."""
        if dataset_opt["phase"] == "train":
            dataset = SeededDataset(dataset)
        return basicsr.data.build_dataloader(dataset, dataset_opt, **kwargs)

    def create_dataloaders(self, create: Callable[..., Any], opt: dict[str, Any], logger: Any) -> tuple[Any, ...]:
        """BasicSR's step, with the sampler set to the sample that comes next."""
        loader, sampler, val_loaders, _, total_iters = create(opt, logger)
        per_epoch = len(loader)
        if len(sampler) > MOST_SAMPLES:
            raise UserError(
                f"datasets.train: an epoch has {len(sampler)} samples, more than {MOST_SAMPLES}, whose order has to be "
                "held in memory; lower dataset_enlarge_ratio"
            )
        if not per_epoch:
            raise UserError(
                f"datasets.train: an epoch has {len(sampler)} samples, fewer than a batch of {loader.batch_size}; "
                "raise dataset_enlarge_ratio or lower batch_size_per_gpu"
            )
        # Between 0 and a whole epoch, unless the options changed since the run was interrupted.
        done = min(max(self.first - self._epoch * per_epoch, 0), per_epoch)
        sampler.start_at(opt["manual_seed"], self._epoch, done * loader.batch_size)
        self._sampler = sampler
        # BasicSR's own count takes the last, incomplete batch of an epoch for an iteration, and so may end too early.
        last_epoch = self._epoch + math.ceil((done + total_iters - self.first) / per_epoch) - 1
        return loader, sampler, val_loaders, last_epoch, total_iters

    def build_model(self, opt: dict[str, Any]) -> Any:
        """BasicSR's step, with the model's methods that begin and end an iteration, save and validate watched."""
        with _options_of_basicsr(opt["model_type"]):
            model = basicsr.models.build_model(opt)
        update_learning_rate, optimize_parameters = model.update_learning_rate, model.optimize_parameters
        save, validation = model.save, model.validation

        def begin_iteration(current_iter: int, **kwargs: Any) -> None:
            self._begin_iteration(model, current_iter)
            update_learning_rate(current_iter, **kwargs)

        def whole_iteration(current_iter: int) -> None:
            with _options_of_basicsr(opt["model_type"]) if current_iter == self.first + 1 else nullcontext():
                optimize_parameters(current_iter)
            self.last = current_iter
            self.folder.create()

        def save_in_folder(*args: Any, **kwargs: Any) -> None:
            self.folder.create()
            save(*args, **kwargs)

        def validate_once(dataloader: Any, current_iter: int, *args: Any, **kwargs: Any) -> None:
            # After the last iteration, BasicSR validates again, and names the next iteration.
            self._validate(dataloader, lambda: validation(dataloader, self.last, *args, **kwargs))

        model.update_learning_rate, model.optimize_parameters = begin_iteration, whole_iteration
        model.save, model.validation = save_in_folder, validate_once
        return model

    def _begin_iteration(self, model: Any, iteration: int) -> None:
        """Every iteration has a seed of its own, so that a resumed run draws what the uninterrupted one would."""
        self.last = iteration - 1
        self._stop_if_asked(model)
        self.stop.busy = True
        set_random_seed(derive_seed(model.opt["manual_seed"], model.opt["rank"], iteration))

    def _stop_if_asked(self, model: Any) -> None:
        signum = self.stop.signum
        if distributed.is_initialized():
            # All processes must leave at the same iteration: those that went on would wait for the others for ever.
            highest = torch.tensor(signum, device=model.device)
            distributed.all_reduce(highest, distributed.ReduceOp.MAX)
            signum = int(highest)
        if not signum:
            return  # and leave ``stop`` alone, which a signal may have reached meanwhile
        self.stop.signum = signum
        if self.last > self.first:
            model.save(self._sampler.epoch, self.last)
            self.saved = True
        raise Stopped

    def _validate(self, dataloader: Any, validation: Callable[[], None]) -> None:
        """Validate once an iteration, but leave at once when asked to.

        The weights are whole then, and are saved where iterations begin.
        """
        if self.stop.signum or (id(dataloader), self.last) in self._validated:
            return
        self._validated.add((id(dataloader), self.last))
        try:
            with self.stop.interruptible():
                validation()
        except Stopped:
            get_root_logger().warning("Validation was cut short.")


@contextmanager
def _options_of_basicsr(model_type: str) -> Iterator[None]:
    """What a model of BasicSR's raises before its first iteration is done lies in the options, as a rule."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not MODEL_REGISTRY.get(model_type).__module__.startswith("basicsr."):
            raise
        what = " ".join(str(error).split())
        raise UserError(f"{model_type} cannot be trained with these options: {type(error).__name__}: {what}") from error
