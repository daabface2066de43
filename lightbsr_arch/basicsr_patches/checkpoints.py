"""Safe reading, atomic writing and resuming of networks and training states."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from torch import nn

from lightbsr.errors import UserError
from lightbsr.shipped import find_weights
from lightbsr_arch.archs.part import Network, complete
from lightbsr_arch.io import whole_file
from lightbsr_arch.stored_network import names_of
from lightbsr_arch.training_state import resume_training
from lightbsr_arch.weight_files import misfits, read_tensors


class CheckpointMethods:
    """Methods that replace those of ``BaseModel`` with the same names."""

    opt: dict[str, Any]
    optimizers: list[torch.optim.Optimizer]
    schedulers: list[Any]
    get_bare_model: Callable[[Any], Any]

    # BasicSR unpickles any object in the file, which can execute code. If a file does not fit, BasicSR logs every key,
    # and then raises PyTorch's error, which lists them again. It does not read .safetensors.
    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Load weights into ``net``.

        Args:
            net: the network, which may be wrapped for several GPUs or processes.
            load_path: a ``.pth``, a ``.safetensors`` or the name of shipped weights. A ``Network`` also accepts the
                authors' published checkpoints.
            strict: refuse weights that do not all fit, in place of leaving out those that do not.
            param_key: the key of the weights in a ``.pth``. If it is missing there, the keys in ``WRAPPERS`` are tried.

        Raises:
            UserError: the file is missing or damaged, contains more than tensors, or belongs to another network.
        """
        found = read_tensors(find_weights(load_path), param_key)[0]
        net = self.get_bare_model(net)
        if isinstance(net, Network):
            found = names_of(net, found)
            complete(found, net)
        if problem := misfits(net, found):
            if strict:
                raise UserError(f"{load_path}: {problem}")
            get_root_logger().warning(f"{load_path}: {problem}")
            wanted = net.state_dict()
            found = {key: value for key, value in found.items() if key in wanted and wanted[key].shape == value.shape}
        net.load_state_dict(found, strict=strict)
        get_root_logger().info(f"Loaded {type(net).__name__} from {load_path}.")

    # BasicSR writes to the final name, so an interrupted program leaves an incomplete file. After three failed
    # attempts, it logs a warning and continues training without a checkpoint.
    @master_only
    def save_network(self, net: Any, net_label: str, current_iter: int, param_key: Any = "params") -> None:
        """Save one network, or several networks under one key each, as ``NET_LABEL_ITERATION.pth``.

        Iteration -1 means the end of training. The file is then ``NET_LABEL_latest.pth``.

        Raises:
            UserError: the file cannot be written. An older file of the same name is then unchanged.
        """
        nets, keys = (net, param_key) if isinstance(net, list) else ([net], [param_key])
        states = [self.get_bare_model(part).state_dict() for part in nets]
        content = {key: {name: value.cpu() for name, value in state.items()} for key, state in zip(keys, states)}
        name = f"{net_label}_{'latest' if current_iter == -1 else current_iter}.pth"
        _save_whole(content, Path(self.opt["path"]["models"], name))

    # BasicSR's method has the fault described above `save_network`. It also does not save the types of optimisers.
    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Save the state of a run, except its networks, as ``ITERATION.state``.

        A model adds entries with a method ``more_training_state``. At iteration -1, the end of training, nothing is
        saved.

        Raises:
            UserError: the file cannot be written. An older file of the same name is then unchanged.
        """
        if current_iter == -1:
            return
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "optimizer_types": [type(optimizer).__name__ for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            **(self.more_training_state() if hasattr(self, "more_training_state") else {}),
        }
        _save_whole(state, Path(self.opt["path"]["training_states"], f"{current_iter}.state"))

    # BasicSR restores weight decay, betas, milestones and similar settings from the state and ignores the options.
    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restore progress and running averages, and keep the settings of the options. See ``resume_training``."""
        resume_training(self, resume_state)


def _save_whole(content: Any, path: Path) -> None:
    """Write a file. If this fails, an older file is unchanged."""
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        try:
            torch.save(content, file)
            os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # PyTorch wraps the error of the system in another one
            raise UserError(f"{path}: cannot be saved: {error.__context__ or error}") from error
