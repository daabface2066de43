"""Training and testing in the steps of BasicSR, with exact resuming and an orderly end on signals."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from basicsr.models import build_model
from basicsr.models.sr_model import SRModel
from basicsr.utils import AvgTimer, MessageLogger, get_env_info, get_root_logger, get_time_str, set_random_seed
from basicsr.utils.options import dict2str
from basicsr.utils.registry import MODEL_REGISTRY
from torch import distributed

from lightbsr.errors import UserError
from lightbsr_arch.seeds import derive_seed
from lightbsr_arch.training.loading import TrainingData, build_evaluation_loader
from lightbsr_arch.training.resuming import load_resume_state, refuse_weights_of_this_run
from lightbsr_arch.training.run_folder import RunFolder
from lightbsr_arch.training.stop import Stopped, StopRequest

Options = dict[str, Any]


class Training:
    """One training run.

    Attributes:
        first: the iteration that the run resumed from, or 0.
        last: the last complete iteration.
        saved: whether ``last`` was saved upon a stop request.
    """

    def __init__(self, folder: RunFolder, stop: StopRequest) -> None:
        self.first = self.last = self._saved_at = 0
        self.saved = False
        self._folder = folder
        self._stop = stop
        self._validated = -1

    def run(self, opt: Options) -> None:
        """Train to the end.

        Raises:
            Stopped: a signal requested it.
            UserError: the run's folder, data, networks or training state cannot be used.
        """
        folder = self._folder
        _prepare(opt, folder)
        state = load_resume_state(opt)
        if state:
            folder.resume(state["iter"])
            self.first = self.last = self._saved_at = state["iter"]
            if self.first > opt["train"]["total_iter"]:
                raise UserError(
                    f"{opt['path']['resume_state']}: iteration {self.first} is beyond train.total_iter, "
                    f"{opt['train']['total_iter']}; raise train.total_iter to continue"
                )
        else:
            refuse_weights_of_this_run(opt)
        log = _start_log(opt, folder)
        if opt["auto_resume"] and not state:
            log.info(f"No training state in {opt['path']['training_states']}: a new run starts.")
        data = TrainingData(opt, state["epoch"] if state else 0, self.first)
        val_loaders = [
            build_evaluation_loader(opt, dataset) for dataset in opt["datasets"].values() if dataset["phase"] == "val"
        ]
        for loader in val_loaders:
            log.info(f"Number of val images/folders in {loader.dataset.opt['name']}: {len(loader.dataset)}")
        with _errors_in_options(opt):
            model = build_model(opt)
        if state:
            model.resume_training(state)
            log.info(f"Resuming training from epoch: {state['epoch']}, iter: {self.first}.")
        log.info(f"Start training from epoch: {data.epoch}, iter: {self.first}")
        start = time.time()
        self.iterate(opt, model, data, val_loaders)
        log.info(f"End of training. Time consumed: {timedelta(seconds=int(time.time() - start))}")
        folder.create()
        log.info("Save the latest model.")
        self._save(model, data.epoch)  # from which a longer run can continue
        model.save(epoch=-1, current_iter=-1)
        self._validate(opt, model, val_loaders)
        if folder.tb_logger:
            folder.tb_logger.close()

    def iterate(self, opt: Options, model: Any, data: TrainingData, val_loaders: Iterable[Any]) -> None:
        """Run the iterations from ``first`` to ``train.total_iter``.

        Raises:
            Stopped: a signal requested it. The last iteration is saved if it is complete and belongs to this run.
        """
        logger_opt, log = opt["logger"], get_root_logger()
        messages: MessageLogger | None = None
        data_timer, iter_timer = AvgTimer(), AvgTimer()
        for batch in islice(data, max(int(opt["train"]["total_iter"]) - self.first, 0)):
            data_timer.record()
            self._stop_if_asked(model, data.epoch)
            self._stop.busy = True
            iteration = self.last + 1
            # Each iteration has its own seed, so that a resumed run draws the same numbers as an uninterrupted one.
            set_random_seed(derive_seed(opt["manual_seed"], opt["rank"], iteration))
            model.update_learning_rate(iteration, warmup_iter=opt["train"].get("warmup_iter", -1))
            with nullcontext() if messages else _errors_in_options(opt):
                model.feed_data(batch)
                model.optimize_parameters(iteration)
            iter_timer.record()
            self.last = iteration
            if messages is None:
                self._folder.create()  # the run is now known to work
                messages = MessageLogger(opt, self.first, self._folder.tb_logger)
            if iteration % logger_opt["print_freq"] == 0:
                times = {"time": iter_timer.get_avg_time(), "data_time": data_timer.get_avg_time()}
                rates = model.get_current_learning_rate()
                messages({"epoch": data.epoch, "iter": iteration, "lrs": rates, **times, **model.get_current_log()})
            if iteration % logger_opt["save_checkpoint_freq"] == 0:
                log.info("Saving models and training states.")
                self._save(model, data.epoch)
            if opt.get("val") is not None and iteration % opt["val"]["val_freq"] == 0:
                self._validate_or_save(opt, model, val_loaders, data.epoch)
            data_timer.start()
            iter_timer.start()

    def _stop_if_asked(self, model: Any, epoch: int) -> None:
        signum = self._stop.signum
        if distributed.is_initialized():
            # All processes must stop at the same iteration. A process that continued would wait for the others for
            # ever.
            highest = torch.tensor(signum, device=model.device)
            distributed.all_reduce(highest, distributed.ReduceOp.MAX)
            signum = int(highest)
        if not signum:
            return  # the request is not changed, because a signal may have arrived
        self._stop.signum = signum
        if self.last > self.first:
            self._save(model, epoch)
            self.saved = True
        raise Stopped

    def _save(self, model: Any, epoch: int) -> None:
        """Save the last iteration, unless it is saved."""
        if self.last > self._saved_at:
            model.save(epoch, self.last)
            self._saved_at = self.last

    def _validate_or_save(self, opt: Options, model: Any, loaders: Iterable[Any], epoch: int) -> None:
        """Validate. If this fails, save the last iteration before the error ends the run."""
        try:
            self._validate(opt, model, loaders)
        except Exception as error:
            self._save(model, epoch)
            if not isinstance(error, UserError):
                raise
            raise UserError(f"{error}; iteration {self.last} is saved: --auto_resume continues from it") from None

    def _validate(self, opt: Options, model: Any, loaders: Iterable[Any]) -> None:
        """Validate once per iteration, and stop at the first signal.

        The weights are complete at this point, and are saved at the start of the next iteration.
        """
        if opt.get("val") is None or self._validated == self.last:
            return
        self._validated = self.last
        loaders = list(loaders)
        if len(loaders) > 1 and not isinstance(model, SRModel):
            get_root_logger().warning("Multiple validation datasets are *only* supported by SRModel.")
        for loader in loaders:
            if self._stop.signum:
                return
            try:
                with self._stop.interruptible():
                    model.validation(loader, self.last, self._folder.tb_logger, opt["val"]["save_img"])
            except Stopped:
                get_root_logger().warning("Validation was cut short.")


def run_tests(opt: Options, folder: RunFolder) -> None:
    """Run a model on the options' test sets.

    Raises:
        UserError: the run's folder, data or networks cannot be used.
    """
    _prepare(opt, folder)
    log = _start_log(opt, folder)
    loaders = []
    for name, dataset_opt in sorted(opt["datasets"].items()):
        if dataset_opt["phase"] == "train":
            log.info(f"datasets.{name} is for training: not tested.")
            continue
        loaders.append(build_evaluation_loader(opt, dataset_opt))
        log.info(f"Number of test images in {dataset_opt['name']}: {len(loaders[-1].dataset)}")
    model = build_model(opt)
    for loader in loaders:
        folder.create()
        log.info(f"Testing {loader.dataset.opt['name']}...")
        model.validation(loader, current_iter=opt["name"], tb_logger=None, save_img=opt["val"]["save_img"])


def _prepare(opt: Options, folder: RunFolder) -> None:
    torch.backends.cudnn.benchmark = True
    set_random_seed(opt["manual_seed"] + opt["rank"])
    folder.claim(opt)


def _start_log(opt: Options, folder: RunFolder) -> Any:
    command = "train" if opt["is_train"] else "test"
    log = folder.start_log(Path(opt["path"]["log"], f"{command}_{opt['name']}_{get_time_str()}.log"))
    log.info(get_env_info())
    log.info(dict2str(opt))
    return log


@contextmanager
def _errors_in_options(opt: Options) -> Iterator[None]:
    """Raise a ``UserError`` for any error of one of BasicSR's models.

    Before the end of the first iteration, the options are the usual cause.
    """
    model_type = opt["model_type"]
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not MODEL_REGISTRY.get(model_type).__module__.startswith("basicsr."):
            raise
        what = " ".join(str(error).split())
        raise UserError(f"{model_type} cannot be trained with these options: {type(error).__name__}: {what}") from error
