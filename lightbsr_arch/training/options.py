"""Options in the form that BasicSR's code expects, with paths, processes and seeds."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from basicsr.utils.dist_util import get_dist_info

from lightbsr_arch.training.processes import init_dist

Options = dict[str, Any]


def complete_options(
    opt: Options,
    *,
    is_train: bool,
    root: Path,
    launcher: str = "none",
    auto_resume: bool = False,
    debug: bool = False,
) -> Options:
    """Complete checked options in place, as BasicSR's ``parse_options`` does, and join the launcher's processes.

    Args:
        opt: options from ``load_options``.
        is_train: whether to train or to test.
        root: folder of ``experiments`` and ``results``.
        launcher: program that started several processes: none, pytorch (torchrun) or slurm.
        auto_resume: whether to continue from the last training state.
        debug: whether to log every iteration, and save and validate every 8 iterations.

    Returns:
        The same options.

    Raises:
        UserError: the launcher did not start this process.
    """
    opt["dist"] = launcher != "none"
    if opt["dist"]:
        init_dist(launcher, **(opt.get("dist_params", {}) if launcher == "slurm" else {}))
    opt["rank"], opt["world_size"] = get_dist_info()
    if opt.get("manual_seed") is None:
        opt["manual_seed"] = 0  # a random seed would differ in a resumed run, and between processes
    opt.update(auto_resume=auto_resume, is_train=is_train, root_path=str(root))
    if debug and not opt["name"].startswith("debug"):
        opt["name"] = f"debug_{opt['name']}"
    for name, dataset in opt["datasets"].items():
        dataset["phase"] = name.partition("_")[0]
        if "scale" in opt:
            dataset["scale"] = opt["scale"]
        for key, value in dataset.items():
            if key.startswith("dataroot") and isinstance(value, str) and value:
                dataset[key] = str(Path(_at_home(value)))  # BasicSR accepts an LMDB only without a final slash
    _set_device(opt)
    _set_paths(opt, root)
    if is_train and "debug" in opt["name"]:
        if opt.get("val") is not None:
            opt["val"]["val_freq"] = 8
        opt["logger"].update(print_freq=1, save_checkpoint_freq=8)
    return opt


def _set_device(opt: Options) -> None:
    if opt["num_gpu"] == "auto":
        opt["num_gpu"] = torch.cuda.device_count()
    if torch.cuda.is_available():
        return
    if opt["num_gpu"] != 0 and opt["rank"] == 0:
        print(f"No CUDA GPU here: num_gpu {opt['num_gpu']} becomes 0, the CPU.", file=sys.stderr, flush=True)
    opt["num_gpu"] = 0  # BasicSR uses CUDA unless this is 0
    for dataset in opt["datasets"].values():
        dataset["pin_memory"] = False
        if dataset.get("prefetch_mode") == "cuda":
            dataset["prefetch_mode"] = None


def _set_paths(opt: Options, root: Path) -> None:
    path = opt["path"]
    for key, value in path.items():
        if value is not None and ("resume_state" in key or "pretrain_network" in key):
            path[key] = _at_home(value)
    run = root / ("experiments" if opt["is_train"] else "results") / opt["name"]
    path["experiments_root" if opt["is_train"] else "results_root"] = path["log"] = str(run)
    for name in run_folders(opt["is_train"]):
        path[name] = str(run / name)


def run_folders(is_train: bool) -> tuple[str, ...]:
    """Return the names of the folders in the folder of a run, which are also keys of the section `path`."""
    return ("models", "training_states", "visualization") if is_train else ("visualization",)


def _at_home(value: str) -> str:
    return os.path.expanduser(value)  # noqa: PTH111 - pathlib raises an error for the home of an unknown user
