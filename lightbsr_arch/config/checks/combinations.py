"""Checks that involve several options.

Each check takes the options as they were read. Values of a wrong type are ignored here, because the type check reports
them.
"""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, get_args

from basicsr.models.realesrgan_model import RealESRGANModel
from basicsr.models.realesrnet_model import RealESRNetModel
from basicsr.models.sr_model import SRModel
from basicsr.models.srgan_model import SRGANModel
from basicsr.models.swinir_model import SwinIRModel
from basicsr.models.video_base_model import VideoBaseModel

from lightbsr.names import unsafe_name
from lightbsr_arch.config.checks.datasets import (
    CROPPING_DATASETS,
    HR_DATASETS,
    IMAGE_DATASETS,
    channels,
    dataset_checks,
    phase_of,
)
from lightbsr_arch.config.checks.networks import channel_checks, scale_checks
from lightbsr_arch.config.checks.type_check import unknown_key
from lightbsr_arch.config.registries import model_of
from lightbsr_arch.config.signatures import VggType
from lightbsr_arch.losses.vgg_weights import layers
from lightbsr_arch.objectives.gan import discriminator_checks
from lightbsr_arch.option_types.problems import Finding, KeyPath
from lightbsr_arch.option_types.sections import section, sections

# BasicSR reads these without a default, in training only.
TRAIN_LOADER_KEYS = ("batch_size_per_gpu", "num_worker_per_gpu")
MOST_WORKERS = max(64, 2 * (os.cpu_count() or 1))
TRAIN_CROP_KEYS = ("gt_size", "use_hflip", "use_rot")


def cross_checks(options: dict[str, Any], *, is_train: bool) -> Iterator[Finding]:
    yield from _names(options)
    yield from dataset_checks(options, is_train=is_train)
    yield from _training(options) if is_train else _testing(options)
    yield from _models(options)
    yield from _perceptual(options)
    yield from _scales(options)
    if (count := channels(options)) is not None:
        yield from channel_checks(options, count)
    yield from _scheduler(options)
    yield from _loggers(options)


def _names(options: dict[str, Any]) -> Iterator[Finding]:
    """Check the names of files and folders, for which BasicSR accepts any text."""
    keys = [("name",), ("val", "suffix"), *(("datasets", name, "name") for name in section(options, "datasets"))]
    for key in keys:
        value = section(options, *key[:-1]).get(key[-1])
        if isinstance(value, str) and value:
            yield from _unsafe(value, key, "the name")
    for name in section(options, "val", "metrics"):
        yield from _unsafe(name, ("val", "metrics", name), "the metric's name")
    for name in options:
        if name.startswith("network_"):
            yield from _unsafe(name, (name,), "the network's name")


def _unsafe(name: str, key: KeyPath, what: str) -> Iterator[Finding]:
    fault = unsafe_name(name)
    if fault is not None:
        yield Finding(key, "unsafe-name", f"{what} {fault}; it must be the name of one file or folder")


def _training(options: dict[str, Any]) -> Iterator[Finding]:
    for name in ("train", "logger"):
        if name not in options:
            yield Finding((name,), "missing-key", "missing; training needs this section")
    datasets = section(options, "datasets")
    if "train" not in datasets:
        yield Finding(("datasets", "train"), "missing-key", "missing; training needs this data set")
    train = section(datasets, "train")
    keys = TRAIN_LOADER_KEYS + (TRAIN_CROP_KEYS if train.get("type") in CROPPING_DATASETS else ())
    for key in keys if train else ():
        if key not in train:
            yield Finding(("datasets", "train", key), "missing-key", "missing; training needs it")
    workers = train.get("num_worker_per_gpu")
    if isinstance(workers, int) and workers > MOST_WORKERS:
        yield Finding(
            ("datasets", "train", "num_worker_per_gpu"),
            "too-many-workers",
            f"{workers} loader processes, but this machine has {os.cpu_count()} cores; expected at most {MOST_WORKERS}",
        )
    for key in ("optim_g", "optim_d"):
        optimizer = section(options, "train", key)
        if optimizer and "lr" not in optimizer:
            yield Finding(("train", key, "lr"), "missing-key", "missing; training needs a learning rate")
    given, left = train.get("gt_size"), section(options, "degradation").get("gt_size")
    if isinstance(given, int) and isinstance(left, int) and given < left:
        yield Finding(
            ("datasets", "train", "gt_size"),
            "crop-mismatch",
            f"{given} is less than degradation.gt_size, {left}, to which the degraded images are cut",
        )
    if train.get("prefetch_mode") == "cuda" and train.get("pin_memory") is not True:
        yield Finding(
            ("datasets", "train", "prefetch_mode"), "needs-pin-memory", "cuda needs `pin_memory: true` beside it"
        )
    if train.get("prefetch_mode") == "cpu" and workers == 0:
        yield Finding(
            ("datasets", "train", "num_worker_per_gpu"),
            "too-few-workers",
            "0 with `prefetch_mode: cpu` draws samples in a thread of the training process, whose random numbers they "
            "would change; expected at least 1",
        )
    val_sets = [name for name in datasets if phase_of(name) == "val"]
    if val_sets and options.get("val") is None:
        yield Finding(
            ("val",),
            "missing-key",
            f"missing; datasets.{val_sets[0]} needs a `val` section with val_freq, save_img and metrics",
        )
    elif options.get("val") is not None:
        if not val_sets and options.get("model_type") != "StyleGAN2Model":
            yield Finding(
                ("val",),
                "no-validation-set",
                "there is no datasets.val to validate on; add one, or remove this section",
            )
        if "val_freq" not in section(options, "val"):
            yield Finding(("val", "val_freq"), "missing-key", "missing; training needs it")


def _testing(options: dict[str, Any]) -> Iterator[Finding]:
    val = section(options, "val")
    if "network_g" in options and section(options, "path").get("pretrain_network_g") is None:
        yield Finding(("path", "pretrain_network_g"), "missing-key", "missing; testing needs the weights of network_g")
    if options.get("val") is None:
        yield Finding(("val",), "missing-key", "missing; testing needs a `val` section with save_img and metrics")
    elif val.get("save_img") is True and "suffix" not in val:
        yield Finding(
            ("val", "suffix"), "missing-key", "missing; testing with `save_img: true` needs it (null: the run's name)"
        )


def _models(options: dict[str, Any]) -> Iterator[Finding]:
    """Run the check of the model, or the rules for BasicSR's models, which have none."""
    model = model_of(options.get("model_type"))
    if hasattr(model, "check"):
        yield from model.check(options)
        return
    train = section(options, "train")
    if train.get("gan_opt") is not None:
        yield from discriminator_checks(options)
    elif train and _is_kind(model, SRGANModel):
        yield Finding(
            ("train", "gan_opt"), "missing-key", f"missing; {options['model_type']} trains with a discriminator"
        )
    if _is_kind(model, SwinIRModel) and "window_size" not in section(options, "network_g"):
        text = f"missing; {options['model_type']} pads images to multiples of it: choose SwinIR or another model_type"
        yield Finding(("network_g", "window_size"), "missing-key", text)
    degrades = _is_kind(model, RealESRNetModel) or _is_kind(model, RealESRGANModel)
    if _is_kind(model, SRModel) and model.__module__.startswith("basicsr.") and not degrades:
        for name, dataset in sections(options, "datasets"):
            if phase_of(name) == "train" and dataset.get("type") in HR_DATASETS:
                text = f"{dataset['type']} has no LR images, which {options['model_type']} needs: "
                text += "use a PairDataset, or model_type BlindSRModel, which degrades HR images"
                yield Finding(("datasets", name, "type"), "dataset-lacks-input", text)
    if _is_kind(model, VideoBaseModel):
        for name, dataset in sections(options, "datasets"):
            if dataset.get("type") in IMAGE_DATASETS:
                text = f"{dataset['type']} has images, but {options['model_type']} needs videos"
                yield Finding(("datasets", name, "type"), "dataset-without-videos", text)


def _is_kind(model: Any, base: type) -> bool:
    return isinstance(model, type) and issubclass(model, base)


def _perceptual(options: dict[str, Any]) -> Iterator[Finding]:
    for name, vgg_type in perceptual_losses(options):
        known = layers(vgg_type)
        for layer in section(options, "train", name, "layer_weights"):
            if layer not in known:
                yield unknown_key(("train", name, "layer_weights", layer), known)


def perceptual_losses(options: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield BasicSR's losses on features of a VGG network: their keys within ``train``, and the network."""
    for name, loss in sections(options, "train"):
        vgg_type = loss.get("vgg_type", "vgg19")
        if loss.get("type") == "PerceptualLoss" and vgg_type in get_args(VggType):
            yield name, vgg_type


def _scales(options: dict[str, Any]) -> Iterator[Finding]:
    if "scale" not in options:
        cropping = [name for name, data in sections(options, "datasets") if data.get("type") in CROPPING_DATASETS]
        if cropping:
            name = cropping[0]
            yield Finding(
                ("scale",),
                "missing-key",
                f"missing; the {options['datasets'][name]['type']} of datasets.{name} needs it",
            )
    scale = options.get("scale")
    if not isinstance(scale, int) or scale < 1:
        return
    yield from scale_checks(options, scale)
    for key in (("gt_size",), *(("datasets", name, "gt_size") for name, _ in sections(options, "datasets"))):
        gt_size = section(options, *key[:-1]).get("gt_size")
        if isinstance(gt_size, int) and gt_size % scale:
            yield Finding(
                key,
                "not-divisible",
                f"{gt_size} is not divisible by scale, {scale}; the nearest below is {gt_size - gt_size % scale}",
            )


def _scheduler(options: dict[str, Any]) -> Iterator[Finding]:
    scheduler = section(options, "train", "scheduler")
    steps = scheduler.get("periods", scheduler.get("restarts", [0]))
    weights = scheduler.get("restart_weights", [1])
    if isinstance(steps, list) and isinstance(weights, list) and len(steps) != len(weights):
        key = ("train", "scheduler", "restart_weights")
        yield Finding(
            key,
            "restart-weights-mismatch",
            f"expected {len(steps)} weights, as many as periods or restarts, found {len(weights)}",
        )
    periods: Any = scheduler.get("periods")
    train = section(options, "train")
    total_iter: Any = train.get("total_iter")
    start: Any = train.get("scheduler_start", 0)
    warmup: Any = train.get("warmup_iter", -1)
    if _is_numbers(periods) and _is_numbers([total_iter, start]) and start + sum(periods) < total_iter:
        key = ("train", "scheduler", "periods")
        yield Finding(
            key, "periods-too-short", f"end after {start + sum(periods)} steps, before train.total_iter, {total_iter}"
        )
    if _is_numbers([start, warmup]) and 0 < start < warmup:
        yield Finding(
            ("train", "warmup_iter"),
            "warmup-too-long",
            f"{warmup} is more than train.scheduler_start, {start}, whose last steps are the warm-up: lower it",
        )


def _is_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, int | float) for value in values)


def _loggers(options: dict[str, Any]) -> Iterator[Finding]:
    logger = section(options, "logger")
    if section(logger, "wandb").get("project") is None:
        return
    if logger.get("use_tb_logger") is not True:
        yield Finding(
            ("logger", "wandb", "project"), "needs-tensorboard", "Weights & Biases needs `use_tb_logger: true`"
        )
    elif find_spec("wandb") is None:
        yield Finding(
            ("logger", "wandb", "project"), "not-installed", "Weights & Biases is not installed: pip install wandb"
        )
