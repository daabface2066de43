"""Training models of the published recipes with random weights and pictures, for benchmarks of a training step."""

import logging
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import lightbsr_arch  # noqa: F401  # before BasicSR, which it makes importable

# isort: split
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
from published import make_plain

from lightbsr_arch.archs.part import kept_apart
from lightbsr_arch.config.merge import read_options

OPTIONS = Path(__file__).parents[1] / "options"

TINY = {"num_feat": 8, "num_block": 1, "num_group": 1}
"""Sizes of networks for a dry run."""


@dataclass(frozen=True)
class Step:
    """A training step of a recipe.

    Attributes:
        recipe: name of a file in ``options``.
        changes: changes of its ``train`` section.
        data: changes of its ``datasets.train`` section.
    """

    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


PHASES = {"estimator_iter": 0, "scheduler_start": 0, "warmup_iter": -1, "start_from_teacher": "none"}
"""Values that leave out the first phase of LightBSR's recipes, in which the restorer is frozen."""

STEPS = {
    "KDSR-M teacher": Step("kdsr_m_x4_iso_teacher"),
    "KDSR-M student": Step("kdsr_m_x4_iso_student"),
    "KDSR-L student": Step("kdsr_l_x4_iso_student"),
    "LightBSR teacher": Step("lightbsr_x4_iso_teacher", PHASES),
    "LightBSR student": Step("lightbsr_x4_iso_student", PHASES),
    "KDSR-real student, second-order": Step("kdsr_real_x4_student"),
    # Without the perceptual loss, whose weights have to be downloaded.
    "KDSR-real GAN, second-order": Step("kdsr_real_x4_gan", {"perceptual_opt": None}),
}


_CPU_BATCH = {"batch_size_per_gpu": 4, "gt_size": 192}

CPU_STEPS = {
    "KDSR-M": Step("kdsr_m_x4_iso_student", data=_CPU_BATCH),
    "LightBSR": Step("lightbsr_x4_iso_student", PHASES, _CPU_BATCH),
    "kdsr_s_x4_iso": Step("weights/kdsr_s_x4_iso_student", PHASES),
    "lightbsr_s_x4_iso": Step("weights/lightbsr_s_x4_iso_student", PHASES),
    "kdsr_s_x4_real": Step("weights/kdsr_s_x4_real_student", PHASES),
}
"""Students of the published sizes with batches for a CPU, and students of the shipped weights."""


def options_of(step: Step, folder: Path, device: torch.device, tiny: bool, **train: Any) -> dict[str, Any]:
    """Return complete options of a training run with random weights, in the form that models expect.

    Args:
        step: the step.
        folder: folder for the weights of the teacher.
        device: the CPU or a CUDA device.
        tiny: whether to use small networks, for a dry run.
        train: further changes of the ``train`` section.
    """
    opt = deepcopy(read_options(OPTIONS / f"{step.recipe}.yml").data)
    opt.update(num_gpu=int(device.type == "cuda"), is_train=True, dist=False, rank=0, world_size=1)
    opt["train"].update({key: value for key, value in step.changes.items() if key in opt["train"]}, **train)
    opt["datasets"]["train"].update(step.data)
    opt["path"] = {"models": str(folder), "training_states": str(folder), "visualization": str(folder)}
    if opt["train"].get("perceptual_opt", "") is None:
        del opt["train"]["perceptual_opt"]
    if tiny:
        _shrink(opt)
    if teacher := opt.get("network_teacher"):
        file = folder / f"{Path(step.recipe).name}_teacher.pth"
        torch.save({"params": random_network(teacher).state_dict()}, file)
        opt["path"]["pretrain_network_teacher"] = str(file)
    if "network_teacher" not in opt and "contrast_opt" in opt["train"]:
        file = folder / f"{Path(step.recipe).name}_start.pth"  # otherwise the PCA of blur kernels is fitted first
        torch.save({"params": random_network(opt["network_g"]).state_dict()}, file)
        opt["path"]["pretrain_network_g"] = str(file)
    return opt


def build_step(opt: dict[str, Any], plain: bool = False) -> Any:
    """Return the model of complete options. ``plain`` is the plain form of its networks, see ``published``."""
    logging.getLogger("basicsr").setLevel(logging.ERROR)  # BasicSR prints every layer of every network
    torch.manual_seed(0)
    model = MODEL_REGISTRY.get(opt["model_type"])(opt)
    if plain:
        for net in networks_of(model):
            make_plain(net)
    return model


def networks_of(model: Any) -> list[Any]:
    """Return the network that a model trains, and its teacher if it has one."""
    distillation = model.objectives.get("distill_opt")
    return [model.get_bare_model(model.net_g), *([distillation.net_teacher] if distillation else [])]


def batch_of(opt: dict[str, Any], device: torch.device) -> dict[str, torch.Tensor]:
    """Return a batch of smooth random pictures in [0, 1] of the recipe's size on a device."""
    data = opt["datasets"]["train"]
    shape = [data["batch_size_per_gpu"]]
    if (patches := data.get("patches_per_item", 1)) > 1:
        shape.append(patches)
    count, size = torch.Size(shape).numel(), data["gt_size"]
    coarse = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    gt = torch.nn.functional.interpolate(coarse.to(device), (size, size), mode="bicubic").clamp(0, 1)
    return {"gt": gt.unflatten(0, shape)}


def run_step(model: Any, batch: dict[str, torch.Tensor], iteration: int) -> None:
    """Run one iteration, as in the training loop without validation and messages."""
    model.update_learning_rate(iteration, warmup_iter=-1)
    model.feed_data(dict(batch))
    model.optimize_parameters(iteration)


def random_network(section: dict[str, Any]) -> torch.nn.Module:
    """Build a network section. Tensors that checkpoints lack, such as a PCA of kernels, are small random numbers."""
    arguments = dict(section)
    torch.manual_seed(0)
    net: torch.nn.Module = ARCH_REGISTRY.get(arguments.pop("type"))(**arguments)
    state = net.state_dict()
    for name in kept_apart(net):
        state[name].normal_(std=0.1)
    return net


def _shrink(opt: dict[str, Any]) -> None:
    """Make networks, batch and pictures of a recipe small."""
    for name in ("network_g", "network_teacher"):
        for part in opt.get(name, {}).values():
            if isinstance(part, dict):
                part.update({key: value for key, value in TINY.items() if key in part})
                if "idr_ch" in part:
                    part.update(num_feat=16, idr_ch=4 * TINY["num_feat"])
    if "network_d" in opt:
        opt["network_d"]["num_feat"] = 8
    data, degradation = opt["datasets"]["train"], opt["degradation"]
    data.update(batch_size_per_gpu=2, gt_size=64)
    if "queue_size" in degradation:
        data["gt_size"] = 128
        degradation.update(gt_size=64, queue_size=4)
    if "contrast_opt" in opt["train"]:
        opt["train"]["contrast_opt"]["queue_size"] = 16
