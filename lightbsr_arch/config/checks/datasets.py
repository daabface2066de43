"""Checks of the data sets: phases, inputs that the networks need, and images of HR alone."""

from collections.abc import Iterator
from typing import Any

from lightbsr_arch.config.checks.networks import networks_in
from lightbsr_arch.config.checks.type_check import unknown_key
from lightbsr_arch.config.registries import model_of, registered
from lightbsr_arch.degradations.kernels import KERNEL_SIZE
from lightbsr_arch.degradations.settings import SecondOrderSetting
from lightbsr_arch.models.validation import compares_with_gt
from lightbsr_arch.option_types.problems import Finding
from lightbsr_arch.option_types.sections import section, sections

PHASES = ("train", "val", "test")
IMAGE_DATASETS = (
    "DegradedDataset",
    "FFHQDataset",
    "GTDataset",
    "PairDataset",
    "PairedImageDataset",
    "RealESRGANDataset",
    "RealESRGANPairedDataset",
    "SingleImageDataset",
)
HR_DATASETS = ("GTDataset", "RealESRGANDataset")
"""Data sets of HR images alone, which training degrades."""
CROPPING_DATASETS = ("PairedImageDataset", "RealESRGANPairedDataset")


def dataset_checks(options: dict[str, Any], *, is_train: bool) -> Iterator[Finding]:
    yield from _phases(options, is_train)
    yield from _without_gt(options)
    yield from _privileged(options)
    yield from _normalisation(options)


def phase_of(dataset: str) -> str:
    """Return a phase without its number: ``val_2`` -> ``val``."""
    return dataset.partition("_")[0]


def channels(options: dict[str, Any]) -> int | None:
    """Return the channels of the images of all data sets; None if they differ or a data set is of another kind."""
    found = set()
    for _, dataset in sections(options, "datasets"):
        if dataset.get("type") not in IMAGE_DATASETS:
            return None
        found.add(1 if dataset.get("color") == "y" else 3)
    return found.pop() if len(found) == 1 else None


def _phases(options: dict[str, Any], is_train: bool) -> Iterator[Finding]:
    for name in section(options, "datasets"):
        if phase_of(name) not in PHASES:
            yield unknown_key(("datasets", name), PHASES)
        elif is_train and phase_of(name) == "test":
            yield Finding(
                ("datasets", name),
                "test-set-in-training",
                "training takes train and val data sets; use `basicsr test` for this file",
            )


def _without_gt(options: dict[str, Any]) -> Iterator[Finding]:
    """Check validation on LR images without HR."""
    types = {name: data.get("type") for name, data in sections(options, "datasets") if phase_of(name) != "train"}
    blind = [name for name, dataset_type in types.items() if dataset_type == "SingleImageDataset"]
    by_dataset = getattr(model_of(options.get("model_type")), "metrics_by_dataset", False)
    if not blind or (by_dataset and len(blind) < len(types)):
        return
    for name, metric in sections(options, "val", "metrics"):
        measure = registered("metric").get(str(metric.get("type")))
        if measure is not None and compares_with_gt(measure):
            yield Finding(
                ("val", "metrics", name),
                "metric-needs-gt",
                f"{metric['type']} compares with HR images, which datasets.{blind[0]} lacks; take calculate_niqe, or "
                "a data set that has them",
            )


def _privileged(options: dict[str, Any]) -> Iterator[Finding]:
    """Find validation and test sets that lack the extra input of ``network_g``."""
    parts = [network for key, network in networks_in(options) if key[0] == "network_g"]
    names = [str(network.get("type")) for network in parts]
    needed = [getattr(registered("network").get(name), "extra_input", None) for name in names]
    for name, dataset in sections(options, "datasets"):
        kind = dataset.get("type")
        if phase_of(name) not in ("val", "test") or kind not in IMAGE_DATASETS:
            continue
        if kind in HR_DATASETS:
            text = f"{kind} has no LR images, which are upscaled here: use a DegradedDataset"
            yield Finding(("datasets", name, "type"), "dataset-lacks-input", text)
        elif "gt" in needed and kind == "SingleImageDataset":
            yield Finding(
                ("datasets", name, "type"), "dataset-lacks-input", f"{kind} has no HR images, which a teacher must see"
            )
        elif "prior" in needed and kind != "DegradedDataset":
            text = f"{kind} has no blur kernels, which the estimator of network_g needs: use a DegradedDataset"
            yield Finding(("datasets", name, "type"), "dataset-lacks-input", text)
        elif "prior" in needed:
            yield from _prior_of(dataset, name, [network.get("kernel_size", KERNEL_SIZE) for network in parts])


def _prior_of(dataset: dict[str, Any], name: str, kernel_sizes: list[Any]) -> Iterator[Finding]:
    """Check that a DegradedDataset has the blur kernels that an estimator needs."""
    if dataset.get("settings") == SecondOrderSetting.name:
        text = "no single blur kernel describes this degradation, and the estimator of network_g needs it"
        yield Finding(("datasets", name, "settings"), "dataset-lacks-input", text)
    elif other := [size for size in kernel_sizes if size != KERNEL_SIZE]:
        text = f"its kernels have {KERNEL_SIZE} x {KERNEL_SIZE} pixels, but kernel_size of network_g is {other[0]}: "
        text += f"train with kernel_size: {KERNEL_SIZE}, or validate without this data set"
        yield Finding(("datasets", name, "type"), "kernel-mismatch", text)


def _normalisation(options: dict[str, Any]) -> Iterator[Finding]:
    """Check ``mean`` and ``std`` of BasicSR's data sets."""
    count = channels(options)
    for name, dataset in sections(options, "datasets"):
        mean, std = dataset.get("mean"), dataset.get("std")
        if (mean is None) != (std is None):
            yield Finding(
                ("datasets", name, "mean" if std is None else "std"), "mean-without-std", "mean and std go together"
            )
        for key_, values in (("mean", mean), ("std", std)):
            if count is not None and isinstance(values, list) and len(values) != count:
                yield Finding(
                    ("datasets", name, key_),
                    "channel-mismatch",
                    f"has {len(values)} numbers, the images have {count} channels",
                )
        if isinstance(std, list) and 0 in std:
            yield Finding(("datasets", name, "std"), "zero-std", "0 divides the image")
