"""Networks in files, derived from tensors or described in metadata, with checks before they are built."""

import inspect
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch

from lightbsr.errors import UserError
from lightbsr_arch.archs.part import Arguments, Network, Part, State, in_our_names, registered
from lightbsr_arch.weight_files import shown

OLDEST_TYPE = "BlindSR"
"""Type of the network in older files, which do not state it."""

MOST_BLOCKS = 1000
"""Largest number of repeated layers. The published networks have at most 64."""

_REPEATS = ("num_block", "num_group")
"""Arguments that repeat layers. All other numbers are sizes, which occur in the shape of a tensor."""


class Found(NamedTuple):
    """A network derived from its tensors: registered name, arguments, and tensors by the names of its state dict."""

    type: str
    network: Arguments
    state: State


# ------------------------------------------------------------------------------------------ building


def class_of(name: str, base: type[Part] = Network) -> Any:
    """Return a registered class by name.

    Raises:
        UserError: no registered class of this name derives from ``base``.
    """
    known = registered(base)
    if name not in known:
        raise UserError(f"the type of its network is {shown(name)}, expected {' or '.join(known)}")
    return known[name]


def on_meta(kind: str, network: Arguments) -> Network:
    """Build a network without memory for its tensors."""
    with torch.device("meta"):
        net: Network = class_of(kind)(**network)
    return net


# ------------------------------------------------------------------------------------------ recognising


def read_off_shapes(state: Mapping[str, torch.Tensor]) -> Found | None:
    """Return the registered network whose tensors fit best, with its own or published names, or None."""
    found = []
    for name, cls in registered(Network).items():
        parts = {part: _best_part(state, base, part) for part, base in cls.parts.items()}
        if cls.parts and all(parts.values()):
            network: Arguments = {}
            renamed: Mapping[str, torch.Tensor] = state
            for part, (type_name, arguments) in parts.items():  # type: ignore[misc]
                network[part] = {"type": type_name, **arguments}
                renamed = in_our_names(renamed, class_of(type_name, cls.parts[part]), part)
            found.append(Found(name, network, dict(renamed)))
        elif not cls.parts and (arguments_of := _read(cls, own := in_our_names(state, cls))) is not None:
            found.append(Found(name, arguments_of, own))
    if len(found) < 2:
        return found[0] if found else None
    return max(found, key=lambda one: _fit(class_of(one.type), one.network, one.state))


def names_of(net: Network, state: Mapping[str, torch.Tensor]) -> State:
    """Rename published tensors for a network that is already known."""
    for part in net.parts:
        state = in_our_names(state, type(getattr(net, part)), part)
    return in_our_names(state, type(net))


def _best_part(state: Mapping[str, torch.Tensor], base: type[Part], part: str) -> tuple[str, Arguments] | None:
    """Find the registered part whose tensors fit best."""
    found = []
    for name, cls in registered(base).items():
        renamed = in_our_names(state, cls, part)
        own = {key.removeprefix(f"{part}."): value for key, value in renamed.items() if key.startswith(f"{part}.")}
        arguments = _read(cls, own)
        if arguments is not None:
            found.append((name, arguments, own))
    if len(found) > 1:
        found.sort(key=lambda one: _fit(class_of(one[0], base), one[1], one[2]), reverse=True)
    return found[0][:2] if found else None


def _read(cls: type[Part], state: State) -> Arguments | None:
    with suppress(KeyError, IndexError, ValueError, TypeError, ArithmeticError):
        return cls.from_state(state)
    return None


def _fit(cls: type[Part], arguments: Arguments, state: State) -> float:
    """Return the number of tensors that fit a class with these arguments, minus the number of those that differ."""
    try:
        if not cls.__dict__.get("parts"):
            _check_arguments(cls, arguments, state)
        with torch.device("meta"):
            wanted = cls(**arguments).state_dict()
    except Exception:  # networks raise any exception
        return -math.inf
    keys = wanted.keys() | state.keys()
    fitting = sum(key in wanted and key in state and wanted[key].shape == state[key].shape for key in keys)
    fit: float = 2 * fitting - len(keys)
    return fit


# ------------------------------------------------------------------------------------------ checking


def check_network(kind: str, network: Mapping[str, Any], state: State) -> None:
    """Accept only registered networks and parts with valid arguments, whose sizes occur among the tensors.

    Args:
        kind: name of the network.
        network: its arguments, of any types.
        state: tensors of the file.

    Raises:
        UserError: there is a fault. The message names the first one in one line.
    """
    parts = class_of(kind).parts
    if not parts:
        _check_arguments(class_of(kind), network, state)
        return
    if network.keys() != parts.keys():
        raise UserError(f"expected {' and '.join(parts)}, found {shown(', '.join(map(str, network)) or 'nothing')}")
    for part, base in parts.items():
        options, known = network[part], registered(base)
        name = options.get("type") if isinstance(options, Mapping) else None
        if not isinstance(name, str) or name not in known:
            raise UserError(f"the type of its {part} is {shown(name)}, expected {' or '.join(known)}")
        _check_arguments(known[name], {key: value for key, value in options.items() if key != "type"}, state)


def _check_arguments(cls: type[Part], arguments: Mapping[str, Any], state: State) -> None:
    name = cls.__name__
    most_blocks = min(len(state), MOST_BLOCKS)
    largest = max((max(value.shape, default=1) for value in state.values()), default=0)
    kinds = get_type_hints(cls.__init__)
    parameters = inspect.signature(cls).parameters
    for key, value in arguments.items():
        if key not in parameters:
            raise UserError(f"{name} has no argument {shown(key)}")
        least = 0 if key in cls.may_be_zero else 1
        if expected := _misfit(key, value, kinds[key], least, most_blocks if key in _REPEATS else largest):
            raise UserError(f"{key} of {name} is {shown(value)}, expected {expected}")
    blocks = {key: arguments.get(key, parameters[key].default) for key in _REPEATS if key in parameters}
    if math.prod(blocks.values()) > most_blocks:
        text = " x ".join(f"{key} {value}" for key, value in blocks.items())
        raise UserError(f"{text} of {name} are more blocks than the file has tensors for")


def _misfit(key: str, value: Any, kind: Any, least: int, most: int) -> str | None:
    """Return a description of the expected value, or None if the value is valid."""
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return None if type(value) is str and value in choices else " or ".join(choices)
    if kind is bool:
        return None if type(value) is bool else "true or false"
    if kind == float | None:
        fits = value is None or (type(value) in (int, float) and 0 < value < math.inf)
        return None if fits else "a number above 0, or null"
    assert kind is int, f"{key}: only numbers, flags and choices are read from files"
    fits = type(value) is int and least <= value <= most
    return None if fits else f"a whole number from {least} to {most}, as the file has the tensors for"
