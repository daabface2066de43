"""The registered names for ``type`` in each kind of section, and the structs of these sections."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import basicsr.archs
import basicsr.data
import basicsr.losses
import basicsr.metrics
import basicsr.models  # noqa: F401 - importing these fills the registries
import msgspec
import torch
from basicsr.models import lr_scheduler
from basicsr.models.base_model import BaseModel
from basicsr.utils import registry

from lightbsr_arch import option_types
from lightbsr_arch.config import basicsr_options
from lightbsr_arch.config.checks.type_check import nearest
from lightbsr_arch.config.signatures import arguments, package
from lightbsr_arch.degradations import DEGRADATION_REGISTRY
from lightbsr_arch.optim import optimizers
from lightbsr_arch.option_types import schema

REGISTRIES = {
    "network": registry.ARCH_REGISTRY,
    "dataset": registry.DATASET_REGISTRY,
    "model": registry.MODEL_REGISTRY,
    "loss": registry.LOSS_REGISTRY,
    "metric": registry.METRIC_REGISTRY,
    "degradation": DEGRADATION_REGISTRY,
}
SCHEDULERS = {
    "MultiStepLR": lr_scheduler.MultiStepRestartLR,
    "MultiStepRestartLR": lr_scheduler.MultiStepRestartLR,
    "CosineAnnealingRestartLR": lr_scheduler.CosineAnnealingRestartLR,
}


def registered(kind: str) -> dict[str, Callable[..., Any]]:
    """Return the valid values of ``type`` in a section of this kind, with their classes or functions."""
    if kind == "optimizer":
        return dict(optimizers())
    if kind == "scheduler":
        return dict(SCHEDULERS)
    names = dict(iter(REGISTRIES[kind]))
    # BasicSR registers a few names with a suffix, so that a plug-in can register the name without it.
    return {name.removesuffix("_basicsr"): entry for name, entry in names.items()} | names


def not_registered(kind: str, name: str) -> str:
    """Return the message for a ``type`` that does not exist."""
    match = nearest(name, registered(kind))
    if match is not None:
        return f"no {kind} is called {name}; did you mean {match}?"
    return (
        f"no {kind} is called {name}; if a plugin registers it, `pip install` that plugin into this environment "
        "(BasicSR plugins are found by the entry-point group basicsr.plugins)"
    )


def model_of(model_type: Any) -> Any:
    """Return the registered model class of this name, or None."""
    return registered("model").get(model_type) if isinstance(model_type, str) else None


def run_options(model_type: Any) -> type[msgspec.Struct]:
    """Return the struct of a whole options file, which is the attribute ``Options`` of its model class."""
    model = model_of(model_type)
    if model is None:
        return schema.OpenOptions
    by_name = basicsr_options.MODELS if package(model) == "basicsr" else {}
    return getattr(model, "Options", by_name.get(model.__name__, schema.OpenOptions))


def _only(names: list[str]) -> str:
    """Return a phrase such as ``Adam alone`` or ``Adam or SGD``."""
    return f"{names[0]} alone" if len(names) == 1 else " or ".join(names)


@cache
def _basicsr_optimizers() -> list[str]:
    """Return the names that BasicSR's ``get_optimizer`` accepts, Adam in 1.4.2 and several in later versions."""

    def takes(name: str) -> bool:
        try:
            BaseModel.get_optimizer(None, name, [torch.zeros(1, requires_grad=True)], 1e-4)
        except NotImplementedError:
            return False
        return True

    return [name for name in sorted(registered("optimizer")) if takes(name)]


class Resolver:
    """Finds the struct of a section in a run of a given model."""

    def __init__(self, model_type: Any) -> None:
        known = model_of(model_type)
        model = known or BaseModel
        # BasicSR's own get_optimizer supports a few optimisers, and its setup_schedulers three schedulers.
        self._own_optimizers = known is None or getattr(known, "get_optimizer", None) is not BaseModel.get_optimizer
        self._own_schedulers = package(model) != "basicsr" and not hasattr(model, "Options")

    def __call__(self, kind: str, name: str) -> type[msgspec.Struct] | str | None:
        if name in registered(kind):
            if kind == "optimizer" and not self._own_optimizers and name not in _basicsr_optimizers():
                return f"BasicSR takes {_only(_basicsr_optimizers())} for this model, found {name}"
            return section_type(kind, name)
        if kind == "scheduler" and self._own_schedulers:
            return None
        return not_registered(kind, name)


def section_type(kind: str, name: str) -> type[msgspec.Struct]:
    """Return the struct of a section with this registered ``type`` or, for a model, of a whole file."""
    return run_options(name) if kind == "model" else _struct_of(kind, registered(kind)[name])


@cache
def _struct_of(kind: str, entry: Any) -> type[msgspec.Struct]:
    if kind == "dataset":
        by_name = basicsr_options.DATASETS if package(entry) == "basicsr" else {}
        return getattr(entry, "Options", by_name.get(entry.__name__, schema.OpenDatasetOptions))
    if kind == "metric":
        return arguments(entry, without=("img", "img2"), better=Literal["higher", "lower"])
    if kind == "optimizer":
        return arguments(entry, without=("params", "lr"), lr=option_types.Positive)
    if kind == "scheduler":
        return arguments(entry, without=("optimizer", "last_epoch"))
    if kind == "degradation":
        return arguments(entry, without=("scale",))
    return arguments(entry)
