"""The one place that knows where BasicSR 1.4.2 and today's libraries disagree."""
# ruff: noqa: E402  # BasicSR can be imported only once the first function here has run

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import time
import types
from collections import Counter
from datetime import timedelta
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any


def _provide_functional_tensor() -> None:
    """torchvision 0.17 removed ``transforms.functional_tensor``, of which BasicSR wants one function."""
    name = "torchvision.transforms.functional_tensor"
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    module = types.ModuleType(name)
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[name] = module


_provide_functional_tensor()

import basicsr.data
import basicsr.metrics
import cv2
import torch
from basicsr import test, train
from basicsr.archs import vgg_arch
from basicsr.data import prefetch_dataloader
from basicsr.models import sr_model
from basicsr.models.base_model import BaseModel
from basicsr.utils import check_resume, get_root_logger, options
from basicsr.utils.dist_util import master_only
from basicsr.utils.registry import DATASET_REGISTRY, METRIC_REGISTRY
from torch import distributed, nn

from lightbsr_arch.cli.stop import SIGNALS
from lightbsr_arch.errors import UserError
from lightbsr_arch.names import LONGEST_PART, unsafe_name
from lightbsr_arch.training_state import check_state, resume_training
from lightbsr_cli.shipped import find_weights

if TYPE_CHECKING:
    from lightbsr_arch.cli.run_folder import RunFolder
    from lightbsr_arch.cli.training import TrainingLoop

Options = dict[str, Any]
CREATE_DATALOADERS = train.create_train_val_dataloader  # before a run replaces it


def install() -> None:
    """Mend BasicSR; called once, when the package is imported."""
    options.init_dist = init_dist  # divides by zero GPUs, and takes the rank in the job for that on the node
    basicsr.data.worker_init_fn = worker_init_fn  # Ctrl-C reaches the loader's processes too; OpenCV's threads hang
    prefetch_dataloader.PrefetchGenerator = PrefetchGenerator  # waits for ever once its thread has failed
    torch.serialization.add_safe_globals([Counter])  # in the state of BasicSR's MultiStepLR; not all versions load it
    vgg_arch.VGG_PRETRAIN_PATH = ""  # takes this file for the weights of any VGG network, not of vgg19 alone
    vgg_arch.vgg = VggFromFile()  # downloads what is missing, and asks for weights as torchvision did before 0.13
    METRIC_REGISTRY._obj_map["calculate_niqe"] = calculate_niqe  # fails on small pictures without a reason
    train.CPUPrefetcher = LazyPrefetcher  # starts the loader's processes twice
    sr_model.imwrite = PictureWriter()  # goes wherever a picture's name leads; leaves half a file when stopped
    BaseModel.model_to_device = model_to_device  # wants a GPU for distributed training
    BaseModel.load_network = load_network  # unpickles anything; answers a wrong file with a page of keys
    BaseModel.save_network = save_network  # leaves half a file when stopped; goes on when it cannot save
    BaseModel.save_training_state = save_training_state  # likewise
    BaseModel.resume_training = resume_training  # puts the saved run's weight decay and the like over the options'


# Options


def use_options(checked: Options, file: Path, flags: list[str]) -> None:
    """Have BasicSR take these options, read from ``file``, and these flags of its own."""
    # Its YAML loader, and its ``--force_yml``, execute code.
    options.ordered_yaml = lambda: (partial(CheckedLoader, checked), None)
    train.parse_options = test.parse_options = partial(parse_options, [f"-opt={file}", *flags])


class CheckedLoader:
    """Takes the place of a PyYAML loader and gives options that were read before."""

    def __init__(self, checked: Options, stream: object) -> None:
        self.checked = checked

    def get_single_data(self) -> Options:
        return self.checked

    def dispose(self) -> None:
        """Nothing to do; PyYAML asks for it."""


def parse_options(arguments: list[str], root_path: str, is_train: bool = True) -> tuple[Options, Any]:
    """BasicSR's, with these command line arguments, and on the CPU where there is no GPU."""
    command = sys.argv
    sys.argv = [command[0], *arguments]
    try:
        opt, args = options.parse_options(root_path, is_train=is_train)
    finally:
        sys.argv = command
    for dataset in opt["datasets"].values():
        for key, value in dataset.items():
            if key.startswith("dataroot") and isinstance(value, str) and value:
                dataset[key] = str(Path(value))  # BasicSR takes an LMDB's name only without a slash at its end
    if not torch.cuda.is_available():
        _use_cpu(opt)
    return opt, args


def copy_opt_file(text: str, opt_file: str, experiments_root: str) -> None:
    """Keep the options with the experiment, under a comment that holds the command.

    BasicSR copies the file, which fails where it is the experiment's own copy or was moved away with the experiment.
    """
    header = f"# GENERATE TIME: {time.asctime()}\n# CMD:\n# {shlex.join(sys.argv)}\n\n"
    Path(experiments_root, Path(opt_file).name).write_text(header + text, encoding="utf-8")


def _use_cpu(opt: Options) -> None:
    """BasicSR goes to CUDA unless ``num_gpu`` is 0."""
    if opt["num_gpu"] != 0 and opt["rank"] == 0:
        print(f"No CUDA GPU here: num_gpu {opt['num_gpu']} becomes 0, the CPU.", file=sys.stderr, flush=True)
    opt["num_gpu"] = 0
    for dataset in opt["datasets"].values():
        dataset["pin_memory"] = False
        if dataset.get("prefetch_mode") == "cuda":
            dataset["prefetch_mode"] = None


# Several processes


def init_dist(launcher: str, backend: str = "nccl", port: int | None = None) -> None:
    """Join the other processes, which torchrun or SLURM describe in the environment.

    Raises:
        UserError: they do not.
    """
    variable, command = ("SLURM_PROCID", "srun") if launcher == "slurm" else ("RANK", "torchrun")
    if variable not in os.environ:
        raise UserError(f"--launcher {launcher} is for processes that {command} starts")
    if launcher == "slurm":
        _describe_slurm_job(port)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    else:
        backend = "gloo"
    # The first process validates alone while the others wait: the default of 10 minutes is soon over.
    distributed.init_process_group(backend, timeout=timedelta(hours=2))


def _describe_slurm_job(port: int | None) -> None:
    """Set the variables of torchrun from those of SLURM; an address or a port that is set already stays."""
    environ = os.environ
    environ.update(RANK=environ["SLURM_PROCID"], WORLD_SIZE=environ["SLURM_NTASKS"])
    environ["LOCAL_RANK"] = environ["SLURM_LOCALID"]
    if port is not None:
        environ["MASTER_PORT"] = str(port)
    environ.setdefault("MASTER_PORT", "29500")
    if "MASTER_ADDR" not in environ:
        hosts = subprocess.check_output(["scontrol", "show", "hostnames", environ["SLURM_NODELIST"]], text=True)
        environ["MASTER_ADDR"] = hosts.split()[0]


def model_to_device(self: Any, net: nn.Module) -> nn.Module:
    """Move a network and wrap it for several GPUs or processes."""
    net = net.to(self.device)
    if self.opt["dist"]:
        devices = [torch.cuda.current_device()] if self.device.type == "cuda" else None
        unused = self.opt.get("find_unused_parameters", False)
        return nn.parallel.DistributedDataParallel(net, device_ids=devices, find_unused_parameters=unused)
    return nn.DataParallel(net) if self.opt["num_gpu"] > 1 else net


def worker_init_fn(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
    """Prepare a loader process; ``SeededDataset`` seeds it, sample by sample."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)  # a terminal or SLURM sends it to all processes; the main one ends this
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by SIGTERM, of which a fork inherits the trainer's handler
    cv2.setNumThreads(0)


class PrefetchGenerator(prefetch_dataloader.PrefetchGenerator):
    """BasicSR's thread that loads ahead; its error is raised where its next batch is wanted."""

    error: BaseException | None = None

    def run(self) -> None:
        try:
            for item in self.generator:
                self.queue.put(item)
        except BaseException as error:
            self.error = error
        self.queue.put(None)

    def __next__(self) -> Any:
        item = self.queue.get()
        if item is None:
            raise self.error or StopIteration
        return item


class LazyPrefetcher(prefetch_dataloader.CPUPrefetcher):
    """BasicSR's, whose iterator starts with ``reset``, the first call of every epoch."""

    def __init__(self, loader: Any) -> None:
        self.ori_loader = loader


# Perceptual loss


class VggFromFile:
    """Takes the place of torchvision's module in BasicSR's feature extractor."""

    def __getattr__(self, vgg_type: str) -> Any:
        from lightbsr_arch.losses.vgg_weights import load_vgg

        return lambda pretrained: load_vgg(vgg_type)


# Metrics

NIQE_BLOCK = 96


@wraps(basicsr.metrics.calculate_niqe)
def calculate_niqe(img: Any, crop_border: int, **kwargs: Any) -> float:
    rows, columns = ((side - 2 * crop_border) // NIQE_BLOCK for side in img.shape[:2])
    if rows * columns < 2:
        size = f"{img.shape[1]}x{img.shape[0]}"
        raise UserError(f"NIQE wants two blocks of {NIQE_BLOCK}x{NIQE_BLOCK} pixels, this picture has {size}")
    return basicsr.metrics.calculate_niqe(img, crop_border=crop_border, **kwargs)


# Pictures


class PictureWriter:
    """Saves restored pictures, as BasicSR's ``imwrite``, under names that stay where they are put.

    A second picture of the same name gets a number, so that none takes the place of another of the same run.
    """

    def __init__(self) -> None:
        self._written: Counter[str] = Counter()

    def __call__(self, img: Any, file_path: str) -> None:
        """Write H x W x 3 uint8, BGR, whole or not at all.

        Raises:
            UserError: the name is none for a file, or the file cannot be written.
        """
        path = Path(file_path)
        for part in path.parts[-2:]:
            fault = unsafe_name(part, LONGEST_PART)
            if fault is not None:
                raise UserError(f"a picture cannot be saved as {part[:200]!r}, which {fault}; give it another name")
        self._written[file_path] += 1
        if self._written[file_path] > 1:
            path = path.with_name(f"{path.stem}-{self._written[file_path]}{path.suffix}")
        unfinished = path.with_name(".unfinished.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(cv2.imencode(path.suffix, img)[1].tobytes())
            unfinished.replace(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
        finally:
            unfinished.unlink(missing_ok=True)


# Checkpoints


def load_network(
    self: Any, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
) -> None:
    """Load weights, under the key asked for or, where the file lacks it, under any that training programs use.

    ``load_path`` may name shipped weights; a ``.safetensors`` holds one set of weights and so no key. A network of
    ``archs/part.py`` takes its authors' published checkpoints, too.

    Raises:
        UserError: no such file, a damaged one, one with more than tensors in it, or weights of another network.
    """
    # These import BasicSR, as this module prepares it.
    from lightbsr_arch.archs.part import Network, add_kept_apart
    from lightbsr_arch.checkpoint import read_tensors
    from lightbsr_arch.stored_network import names_of

    found = read_tensors(find_weights(load_path), param_key)[0]
    net = self.get_bare_model(net)
    if isinstance(net, Network):
        found = names_of(net, found)
        add_kept_apart(found, net)
    wanted = net.state_dict()
    shapes = [{name: list(value.shape) for name, value in weights.items()} for weights in (wanted, found)]
    differing = [name for name in {**wanted, **found} if shapes[0].get(name) != shapes[1].get(name)]
    if differing:
        lines = [f"  {name}: wanted {shapes[0].get(name)}, found {shapes[1].get(name)}" for name in differing[:10]]
        message = f"{load_path}: {len(differing)} weights do not fit {type(net).__name__}; the first:\n"
        message += "\n".join(lines).replace("None", "none")
        if strict:
            raise UserError(message)
        get_root_logger().warning(message)
    net.load_state_dict({name: value for name, value in found.items() if name not in differing}, strict=strict)
    get_root_logger().info(f"Loaded {type(net).__name__} from {load_path}.")


@master_only
def save_network(self: Any, net: Any, net_label: str, current_iter: int, param_key: Any = "params") -> None:
    """Save one network, or several under one key each; ``current_iter`` -1 stands for the end of training."""
    nets, keys = (net, param_key) if isinstance(net, list) else ([net], [param_key])
    states = [self.get_bare_model(part).state_dict() for part in nets]
    content = {key: {name: value.cpu() for name, value in state.items()} for key, state in zip(keys, states)}
    name = f"{net_label}_{'latest' if current_iter == -1 else current_iter}.pth"
    _save_whole(content, Path(self.opt["path"]["models"], name))


@master_only
def save_training_state(self: Any, epoch: int, current_iter: int) -> None:
    """Save what a resumed run needs besides the networks."""
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


def _save_whole(content: Any, path: Path) -> None:
    """Write a file that is there whole or, whatever happens meanwhile, as it was before."""
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        with unfinished.open("wb") as file:
            torch.save(content, file)
            os.fsync(file.fileno())
        unfinished.replace(path)
    except (OSError, RuntimeError) as error:  # PyTorch raises another error on top of the system's
        raise UserError(f"{path}: cannot be saved: {error.__context__ or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


# Resuming


def load_resume_state(opt: Options) -> Options | None:
    """The training state to go on from, if any; sets the paths of the networks that belong to it.

    Raises:
        UserError: the state is damaged, or a network of its iteration is missing.
    """
    from lightbsr_arch.checkpoint import read_pth

    path = opt["path"]
    if opt["auto_resume"]:
        states = [file for file in Path(path["training_states"]).glob("*.state") if file.stem.isdecimal()]
        path["resume_state"] = str(max(states, key=lambda file: int(file.stem))) if states else None
    if not path.get("resume_state"):
        return None
    if not Path(path["resume_state"]).is_file():
        raise UserError(f"{path['resume_state']}: no such file")
    state = read_pth(path["resume_state"])
    check_state(state, path["resume_state"])
    _point_to_networks(opt, state["iter"])
    return state


def _point_to_networks(opt: Options, iteration: int) -> None:
    """BasicSR's ``check_resume``, but what training never saves, as a teacher, keeps its path and key."""
    path = opt["path"]
    models = Path(path["models"])
    names = [key.removeprefix("network_") for key in opt if key.startswith("network_")]
    ignored = path.get("ignore_resume_networks") or []
    saved = [name for name in names if any(models.glob(f"net_{name}_*.pth")) and f"network_{name}" not in ignored]
    for name in saved or ["g"]:
        if not (models / f"net_{name}_{iteration}.pth").is_file():
            missing = models / f"net_{name}_{iteration}.pth"
            raise UserError(f"{missing}: no such file, but {path['resume_state']} belongs to it")
    others = [name for name in names if name not in saved]
    keys = {f"param_key_{name}": path[f"param_key_{name}"] for name in others if f"param_key_{name}" in path}
    path["ignore_resume_networks"] = [f"network_{name}" for name in others]
    check_resume(opt, iteration)
    path.update(keys)


def follow_training(loop: "TrainingLoop") -> None:
    """Let ``loop`` see what BasicSR's ``train_pipeline`` keeps to itself: where it is, and in which data."""
    train.EnlargedSampler = loop.sampler_type
    train.load_resume_state = loop.load_resume_state  # BasicSR's wants a GPU, and unpickles anything
    train.build_dataset = build_dataset
    train.build_dataloader = loop.build_dataloader
    train.create_train_val_dataloader = partial(loop.create_dataloaders, CREATE_DATALOADERS)
    train.build_model = loop.build_model
    # BasicSR makes folders, and moves older ones away, before it knows whether it can train.
    train.make_exp_dirs = train.mkdir_and_rename = train.copy_opt_file = lambda *_: None
    train.get_root_logger = loop.folder.get_root_logger
    train.init_tb_loggers = loop.folder.init_tb_loggers


def follow_testing(folder: "RunFolder") -> None:
    """Have BasicSR's ``test_pipeline`` make its folder as late as its first picture."""

    def build_model(opt: Options) -> Any:
        model = basicsr.models.build_model(opt)
        validation = model.validation

        def validate(*args: Any, **kwargs: Any) -> None:
            folder.create()
            validation(*args, **kwargs)

        model.validation = validate
        return model

    test.make_exp_dirs = folder.claim
    test.get_root_logger = folder.get_root_logger
    test.build_dataset = build_dataset
    test.build_model = build_model


def build_dataset(dataset_opt: Options) -> Any:
    """BasicSR's step.

    Raises:
        UserError: a data set of BasicSR's finds something wrong, or there are no pictures in it.
    """
    where = f"data set {dataset_opt['name']}"
    try:
        dataset = basicsr.data.build_dataset(dataset_opt)
    except (AssertionError, ValueError, KeyError, OSError) as error:
        if not DATASET_REGISTRY.get(dataset_opt["type"]).__module__.startswith("basicsr."):
            raise
        raise UserError(f"{where}: {dataset_opt['type']} cannot be used: {error or type(error).__name__}") from error
    if not len(dataset):
        raise UserError(f"{where}: there are no pictures in it")
    return dataset
