"""Restore the progress and the running averages of a run from a training state. All else follows the options."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from basicsr.utils import get_root_logger

from lightbsr.errors import UserError

MOST_ITERATIONS = 10**10
LARGEST_SCALE = 2.0**64
# Progress comes from the state. The schedule comes from the options, which may have a lower rate or a longer run.
REACHED = ("last_epoch", "_step_count", "_last_lr")
# Keys of an optimiser's group that select an implementation and do not change its result.
COMPUTATION = {"params", "lr", "initial_lr", "foreach", "fused", "capturable", "differentiable", "maximize"}
# Averages that are never negative, because their square roots are taken.
NON_NEGATIVE = {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta", "exp_inf", "sum", "row_var", "col_var"}

# Entries of a training state that are checked one by one. Any other entry belongs to an objective.
KNOWN = {
    "epoch", "iter", "optimizers", "optimizer_types", "schedulers", "skipped_in_a_row", "degradation",
}  # fmt: skip

State = dict[str, Any]


# ------------------------------------------------------------------------------------------ contents of a file


def check_state(state: Any, source: str) -> None:
    """Check types and ranges of a training state.

    Raises:
        UserError: the state is invalid. The message names the ``source`` and the first fault.
    """
    if not isinstance(state, dict) or not {"epoch", "iter", "optimizers", "schedulers"} <= state.keys():
        raise UserError(f"{source}: no training state; expected a file training_states/ITERATION.state")

    def refuse(what: str, expected: str) -> UserError:
        return UserError(f"{source}: a damaged training state: {what} must be {expected}; resume from another one")

    if not _is_count(state["iter"]):
        raise refuse("iter", f"a whole number from 0 to {MOST_ITERATIONS}")
    if not (_is_count(state["epoch"]) and state["epoch"] <= state["iter"]):
        raise refuse("epoch", "a whole number from 0 to iter")
    for name, is_right in (("optimizers", _is_optimizer), ("schedulers", _is_scheduler)):
        if not (isinstance(state[name], list) and all(map(is_right, state[name]))):
            raise refuse(name, "a list of state dicts")
    types = state.get("optimizer_types", [])
    if not (isinstance(types, list) and all(isinstance(name, str) for name in types)):
        raise refuse("optimizer_types", "a list of names")
    if not _is_count(state.get("skipped_in_a_row", 0)):
        raise refuse("skipped_in_a_row", "a whole number >= 0")
    if not _is_pool(state.get("degradation") or {}):
        raise refuse("degradation", "the pool of pairs")
    for name, value in state.items():
        if name.startswith("scaler") and not _is_scaler(value):
            raise refuse(name, "the state dict of a GradScaler")
        if name not in KNOWN and not _is_plain(value):
            raise refuse(name, "made of finite numbers, texts and tensors")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_ITERATIONS


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_sound(value: Any) -> bool:
    """Return whether a value is a plain tensor of finite numbers on the CPU."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and not value.is_complex()
        and (not value.is_floating_point() or bool(value.isfinite().all()))
    )


def _is_plain(value: Any) -> bool:
    """Return whether a value consists of finite numbers, texts and sound tensors."""
    if isinstance(value, dict | list | tuple):
        return all(map(_is_plain, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, bool | str) or _is_number(value) or _is_sound(value)


def _is_optimizer(saved: Any) -> bool:
    if not isinstance(saved, dict) or not isinstance(saved.get("state"), dict):
        return False
    groups = saved.get("param_groups")
    return isinstance(groups, list) and all(
        isinstance(group, dict)
        and isinstance(group.get("params"), list)
        and all(_is_count(number) for number in group["params"])
        and _is_number(group.get("lr"))
        and group["lr"] >= 0
        and _is_number(group.get("initial_lr", 1.0))
        and group.get("initial_lr", 1.0) > 0
        for group in groups
    )


def _is_scheduler(saved: Any) -> bool:
    if not isinstance(saved, dict):
        return False
    rates = saved.get("_last_lr", [])
    return (
        isinstance(rates, list)
        and all(map(_is_number, rates))
        and _is_count(saved.get("last_epoch"))
        and _is_count(saved.get("_step_count", 0))
    )


def _is_scaler(saved: Any) -> bool:
    if not isinstance(saved, dict):
        return False
    scale: Any = saved.get("scale")
    return not saved or (_is_number(scale) and 0 < scale <= LARGEST_SCALE and _is_count(saved.get("_growth_tracker")))


def _is_pool(saved: Any) -> bool:
    if not saved:
        return isinstance(saved, dict)
    if not isinstance(saved, dict) or not isinstance(saved.get("parts"), list):
        return False
    order: Any = saved.get("order")
    parts, filled = saved["parts"], saved.get("filled")
    if not (_is_sound(order) and order.dtype is torch.long and order.dim() == 1):
        return False
    return (
        bool((order.sort().values == torch.arange(len(order))).all())
        and all(_is_sound(part) and part.dim() > 0 and 0 < len(part) == len(order) for part in parts)
        and _is_count(filled)
    )


# ------------------------------------------------------------------------------------------ contents that a run uses


def resume_training(model: Any, state: State) -> None:
    """Restore the optimisers and schedulers of a BasicSR model from a state that ``check_state`` has accepted.

    Only progress comes from the state. Weight decay, betas and similar settings come from the options. The learning
    rate is that of the options, multiplied by the factor by which the schedule had changed the saved rate. If the
    options name another optimiser, or one with other averages, the averages are reset and the log says so.

    Raises:
        UserError: the state belongs to other networks.
    """
    saved_count, count = len(state["optimizers"]), len(model.optimizers)
    if saved_count != count or len(state["schedulers"]) != len(model.schedulers):
        raise UserError(
            f"the training state is of {saved_count} networks that learn, the options describe {count}: "
            "network_d must be that of the run that is resumed"
        )
    types = state.get("optimizer_types") or [None] * count
    for optimizer, saved, saved_type in zip(model.optimizers, state["optimizers"], types):
        _resume_optimizer(optimizer, saved, saved_type)
    for scheduler, saved in zip(model.schedulers, state["schedulers"]):
        scheduler.load_state_dict({key: saved[key] for key in REACHED if key in saved})


def resume_scaler(scaler: torch.amp.GradScaler, saved: State) -> None:
    """Restore the scale of fp16 from a checked state, which is empty unless the saved run used fp16."""
    if saved and scaler.is_enabled():
        scaler.load_state_dict({**scaler.state_dict(), **{key: saved[key] for key in ("scale", "_growth_tracker")}})


def _resume_optimizer(optimizer: torch.optim.Optimizer, saved: State, saved_type: str | None) -> None:
    sizes, saved_sizes = (
        [len(group["params"]) for group in groups] for groups in (optimizer.param_groups, saved["param_groups"])
    )
    if sizes != saved_sizes:
        raise UserError(
            f"the training state is of a network with {sum(saved_sizes)} tensors that learn, that of the options has "
            f"{sum(sizes)}"
        )
    rates = [
        before["lr"] * (group["initial_lr"] / before.get("initial_lr", before["lr"] or 1.0))
        for group, before in zip(optimizer.param_groups, saved["param_groups"])
    ]
    name = type(optimizer).__name__
    averages = None if _is_other(optimizer, saved, saved_type) else _averages(optimizer, saved)
    if averages is None:
        get_root_logger().warning(
            f"The training state is of {saved_type or 'another optimiser'}, or of another form of it, the options say "
            f"{name}: its running averages start afresh."
        )
    else:
        optimizer.load_state_dict({**optimizer.state_dict(), "state": averages})
    for group, rate in zip(optimizer.param_groups, rates):
        group["lr"] = rate


def _is_other(optimizer: torch.optim.Optimizer, saved: State, saved_type: str | None) -> bool:
    """Return whether a state belongs to another class of optimiser. BasicSR's states do not name their class."""
    if saved_type is not None:
        return saved_type != type(optimizer).__name__
    return any(
        group.keys() - COMPUTATION != before.keys() - COMPUTATION
        or group.get("decoupled_weight_decay") != before.get("decoupled_weight_decay")
        for group, before in zip(optimizer.param_groups, saved["param_groups"])
    )


def _averages(optimizer: torch.optim.Optimizer, saved: State) -> dict[int, State] | None:
    """Return the averages of each parameter by its index, or None if the saved run had other averages.

    Raises:
        UserError: the averages have another size than the parameters, or are not finite.
    """
    wanted_of: dict[tuple[int, torch.Size], State] = {}
    found: dict[int, State] = {}
    place = 0
    for number, (group, before) in enumerate(zip(optimizer.param_groups, saved["param_groups"])):
        for parameter, key in zip(group["params"], before["params"]):
            kept = saved["state"].get(key)
            if kept is not None:  # a parameter that was never updated has no averages
                which = (number, parameter.shape)
                if which not in wanted_of:
                    wanted_of[which] = _expected_averages(type(optimizer), group, parameter)
                wanted = wanted_of[which]
                if not isinstance(kept, dict) or kept.keys() != wanted.keys():
                    return None
                found[place] = {name: _checked(kept[name], wanted[name], name, parameter) for name in wanted}
            place += 1
    return found


def _expected_averages(cls: Callable[..., torch.optim.Optimizer], group: State, parameter: torch.Tensor) -> State:
    """Return the averages that an optimiser stores for a parameter after one step."""
    of_a_gpu = ("params", "fused", "capturable")
    known = inspect.signature(cls).parameters
    arguments = {key: value for key, value in group.items() if key in known and key not in of_a_gpu}
    trial = torch.nn.Parameter(torch.zeros(parameter.shape))
    trial.grad = torch.zeros_like(trial)
    optimizer = cls([trial], **arguments)
    optimizer.step()
    return dict(optimizer.state.get(trial, {}))


def _checked(kept: Any, wanted: Any, name: str, parameter: torch.Tensor) -> Any:
    shape = tuple(parameter.shape)
    if wanted is None or (kept is None and name == "momentum_buffer"):  # SGD without momentum
        return None
    if _is_number(kept) and wanted.dim() == 0:
        kept = torch.tensor(float(kept))  # older versions of PyTorch count steps with a number
    if not _is_sound(kept) or ((wanted.dim() == 0 or name in NON_NEGATIVE) and bool((kept < 0).any())):
        raise UserError(f"the training state is damaged: {name} of a {shape} tensor has impossible values")
    if kept.shape != wanted.shape:
        raise UserError(
            f"the training state is of another network: {name} of a {shape} tensor has the shape {tuple(kept.shape)}"
        )
    return kept.clone()  # the tensors of a file may share memory
