"""The network that a file says it holds, checked before anything of it is built."""

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import nn

from lightbsr.errors import UserError
from lightbsr_arch.archs import (
    BlindSR,
    IDRDCRBNet,
    KDIDEStudent,
    KDIDETeacher,
    LightBSRNet,
    LightIDEStudent,
    LightIDETeacher,
)

PARTS: dict[str, tuple[type[nn.Module], ...]] = {
    "estimator": (KDIDEStudent, KDIDETeacher, LightIDEStudent, LightIDETeacher),
    "restorer": (IDRDCRBNet, LightBSRNet),
}
"""The arguments of ``BlindSR``, and what each may be in a file."""

MOST_BLOCKS = 1000
"""The published networks have 64 at most."""

_REPEATS = ("num_block", "num_group")
"""The arguments that say how often layers are repeated; all other numbers are sizes, which show in a tensor's shape."""
_MAY_BE_ZERO = ("num_block", "num_kernel_ch", "num_noise_ch")


def refuse_teacher(model: BlindSR, source: str | Path) -> None:
    """Raise `UserError`, which names the ``source``, for a network that also needs a privileged input."""
    if model.privileged is not None:
        raise UserError(
            f"{source}: the weights of a teacher, which also sees the {model.privileged}; use its student's"
        )


def check_network(network: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
    """Only our estimators and restorers, with the arguments that they take, of sizes that occur among the tensors.

    Args:
        network: the arguments of ``BlindSR``, of any types.
        state: the tensors of the file.

    Raises:
        UserError: in one line, the first fault.
    """
    if network.keys() != PARTS.keys():
        raise UserError(f"expected {' and '.join(PARTS)}, found {shown(', '.join(map(str, network)) or 'nothing')}")
    most_blocks = min(len(state), MOST_BLOCKS)
    largest = max((max(value.shape, default=1) for value in state.values()), default=0)
    for part, classes in PARTS.items():
        options = network[part]
        known = {cls.__name__: cls for cls in classes}
        name = options.get("type") if isinstance(options, Mapping) else None
        if not isinstance(name, str) or name not in known:
            raise UserError(f"the type of its {part} is {shown(name)}, expected {' or '.join(known)}")
        kinds = get_type_hints(known[name].__init__)
        parameters = inspect.signature(known[name]).parameters
        for key, value in options.items():
            if key == "type":
                continue
            if key not in parameters:
                raise UserError(f"{name} has no argument {shown(key)}")
            if expected := _misfit(key, value, kinds[key], most_blocks if key in _REPEATS else largest):
                raise UserError(f"{key} of {name} is {shown(value)}, expected {expected}")
        blocks = {key: options.get(key, parameters[key].default) for key in _REPEATS if key in parameters}
        if math.prod(blocks.values()) > most_blocks:
            text = " x ".join(f"{key} {value}" for key, value in blocks.items())
            raise UserError(f"{text} of {name} are more blocks than the file has tensors for")


def _misfit(key: str, value: Any, kind: Any, most: int) -> str | None:
    """What is expected instead of a value; None where it fits."""
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return None if type(value) is str and value in choices else " or ".join(choices)
    assert kind is int, f"{key}: only whole numbers and choices are read from files"
    least = 0 if key in _MAY_BE_ZERO else 1
    fits = type(value) is int and least <= value <= most
    return None if fits else f"a whole number from {least} to {most}, as the file has the tensors for"


def shown(text: Any) -> str:
    """Text out of a file, fit for one line of a message."""
    text = str(text)
    short = text if len(text) <= 80 else f"{text[:77]}..."
    return short if short.isprintable() else ascii(short)
