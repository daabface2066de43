"""The use of a training state by a resumed run, and its refusal."""

from typing import Any

import pytest
import torch
from basicsr.models.base_model import BaseModel
from torch import nn

from lightbsr.errors import UserError
from lightbsr_arch.optim import optimizers
from lightbsr_arch.training_state import check_state, resume_scaler, resume_training


def trained(name: str = "Adam", width: int = 3, steps: int = 3, **arguments: Any) -> BaseModel:
    """Return a model with a single layer that was trained for some steps, the last ones at half the rate."""
    torch.manual_seed(0)
    model = BaseModel({"num_gpu": 0, "is_train": True, "dist": False, "train": {}})
    net = nn.Linear(2, width)
    model.optimizers = [optimizers()[name](net.parameters(), **{"lr": 0.1, **arguments})]
    model.opt["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [2], "gamma": 0.5}
    model.setup_schedulers()
    for _ in range(steps):
        net(torch.ones(1, 2)).sum().backward()
        model.optimizers[0].step()
        model.schedulers[0].step()
    return model


def state_of(model: BaseModel, **more: Any) -> dict[str, Any]:
    return {
        "epoch": 1,
        "iter": 3,
        "optimizers": [optimizer.state_dict() for optimizer in model.optimizers],
        "optimizer_types": [type(optimizer).__name__ for optimizer in model.optimizers],
        "schedulers": [scheduler.state_dict() for scheduler in model.schedulers],
        **more,
    }


def averages(model: BaseModel) -> list[Any]:
    return list(model.optimizers[0].state_dict()["state"].values())


def step_along_ones(model: BaseModel) -> None:
    """Take a step with a gradient of ones."""
    for parameter in model.optimizers[0].param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    model.optimizers[0].step()


def test_the_options_decide_but_for_progress() -> None:
    saved = trained(weight_decay=0, betas=(0.9, 0.99))
    state = state_of(saved)
    check_state(state, "3.state")
    resumed = trained(steps=0, lr=0.04, weight_decay=0.1, betas=(0.5, 0.6))
    resume_training(resumed, state)
    (group,) = resumed.optimizers[0].param_groups
    assert (group["weight_decay"], group["betas"], group["initial_lr"]) == (0.1, (0.5, 0.6), 0.04)
    assert group["lr"] == pytest.approx(0.02)
    assert resumed.schedulers[0].last_epoch == 3
    torch.testing.assert_close(averages(resumed), averages(saved), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"name": "Adam"}, {"name": "SGD", "momentum": 0.9}),
        ({"name": "Adam"}, {"name": "AdamW"}),
        ({"name": "SGD", "momentum": 0.9}, {"name": "Adam"}),
        ({"name": "Adam"}, {"name": "Adam", "amsgrad": True}),
        ({"name": "RMSprop"}, {"name": "RMSprop", "centered": True}),
        ({"name": "Adam"}, {"name": "RMSprop"}),
        ({"name": "Adam"}, {"name": "ConvMuon"}),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_another_optimiser_starts_afresh_and_keeps_on(
    before: dict[str, Any], now: dict[str, Any], named: bool, caplog: pytest.LogCaptureFixture
) -> None:
    state = state_of(trained(**before))
    if not named:
        del state["optimizer_types"]  # as BasicSR saves it
    check_state(state, "3.state")
    resumed = trained(**now, steps=0)
    resume_training(resumed, state)
    assert averages(resumed) == []
    assert resumed.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.05)
    step_along_ones(resumed)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "ConvMuon"])
def test_the_averages_of_other_optimisers_are_resumed(name: str) -> None:
    saved = trained(name, momentum=0.9)
    resumed = trained(name, steps=0, momentum=0.9)
    resume_training(resumed, state_of(saved))
    assert averages(saved)
    torch.testing.assert_close(averages(resumed), averages(saved), rtol=0, atol=0)
    step_along_ones(resumed)


def test_a_state_of_other_networks_is_refused() -> None:
    state = state_of(trained(width=4))
    with pytest.raises(UserError, match=r"of another network: exp_avg of a \(3, 2\) tensor has the shape \(4, 2\)"):
        resume_training(trained(steps=0), state)
    two = state_of(trained())
    two["optimizers"] *= 2
    with pytest.raises(UserError, match="of 2 networks that learn, the options describe 1"):
        resume_training(trained(steps=0), {**two, "schedulers": two["schedulers"] * 2})
    state["optimizers"][0]["param_groups"][0]["params"] = [0]
    with pytest.raises(UserError, match="a network with 1 tensors that learn, that of the options has 2"):
        resume_training(trained(steps=0), state)


@pytest.mark.parametrize(
    "tensor",
    [torch.full((3, 2), torch.nan), torch.zeros(3, 2).to_sparse(), torch.zeros(3, 2, device="meta"),
     torch.zeros(3, 2, dtype=torch.complex64), "text", None, [0.0] * 6, 0.5],
    ids=["nan", "sparse", "meta", "complex", "text", "none", "list", "number"],
)  # fmt: skip
def test_averages_that_are_none_are_refused(tensor: Any) -> None:
    state = state_of(trained())
    state["optimizers"][0]["state"][0]["exp_avg"] = tensor
    with pytest.raises(UserError, match="the training state is damaged: exp_avg of a"):
        resume_training(trained(steps=0), state)


@pytest.mark.parametrize(("name", "value"), [("step", torch.tensor(-1.0)), ("exp_avg_sq", torch.full((3, 2), -1.0))])
def test_negative_counts_and_squares_are_refused(name: str, value: torch.Tensor) -> None:
    state = state_of(trained())
    state["optimizers"][0]["state"][0][name] = value
    with pytest.raises(UserError, match=f"the training state is damaged: {name} of a"):
        resume_training(trained(steps=0), state)


def test_momentum_may_begin_with_a_resume() -> None:
    resumed = trained("SGD", steps=0, momentum=0.9)
    resume_training(resumed, state_of(trained("SGD")))
    step_along_ones(resumed)
    for kept in averages(resumed):
        torch.testing.assert_close(kept["momentum_buffer"], torch.ones_like(kept["momentum_buffer"]))
    assert len(averages(resumed)) == 2


def test_averages_that_share_memory_get_their_own() -> None:
    state = state_of(trained())
    state["optimizers"][0]["state"][0]["exp_avg"] = torch.zeros(1).expand(3, 2)
    resumed = trained(steps=0)
    resume_training(resumed, state)
    step_along_ones(resumed)
    assert averages(resumed)[0]["exp_avg"].unique().tolist() == pytest.approx([0.1])


WRONG: list[tuple[str, Any]] = [
    *(("iter", value) for value in (-1, 1.5, "3", True, None, 10**11, float("nan"), [3], torch.tensor(3))),
    *(("epoch", value) for value in (-1, 4, 0.5, "1", None, {})),
    *(("optimizers", value) for value in ({}, [{}], [[]], [{"state": {}, "param_groups": [{}]}], None, [None])),
    ("optimizers", [{"state": [], "param_groups": []}]),
    ("optimizers", [{"state": {}, "param_groups": [{"params": ["a"], "lr": 1}]}]),
    ("optimizers", [{"state": {}, "param_groups": [{"params": [0], "lr": float("nan")}]}]),
    ("optimizers", [{"state": {}, "param_groups": [{"params": [0], "lr": 0.1, "initial_lr": 0}]}]),
    ("optimizer_types", [3]),
    *(("schedulers", value) for value in ([{}], [{"last_epoch": -5}], [{"last_epoch": 1.5}], [None], 3)),
    ("schedulers", [{"last_epoch": 3, "_last_lr": ["x"]}]),
    *(("scaler", {"scale": value, "_growth_tracker": 0}) for value in (0, -1, float("inf"), 1e30, "x", None)),
    ("scaler", {"scale": 2.0}),
    ("scaler_d", 3),
    ("skipped_in_a_row", -1),
    ("net_key", {"weight": torch.full((2,), torch.inf)}),
    ("degradation", {"parts": [torch.zeros(3, 1)], "order": torch.tensor([0, 0, 1]), "filled": 3}),
    ("degradation", {"parts": [torch.zeros(2, 1)], "order": torch.arange(3), "filled": 3}),
    ("degradation", [1]),
    ("of_a_plugin", {"level": [float("inf")]}),
    ("of_a_plugin", {"level": torch.full((2,), torch.nan)}),
    ("of_a_plugin", object()),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_wrong_types_and_ranges_are_one_line(key: str, value: Any) -> None:
    state = state_of(trained(), **{key: value})
    with pytest.raises(UserError, match=rf"^3\.state: a damaged training state: {key} must be ") as caught:
        check_state(state, "3.state")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", [None, [], {}, {"params": {}}, {"iter": 1, "epoch": 0}])
def test_what_is_no_state(state: Any) -> None:
    with pytest.raises(UserError, match=r"3\.state: no training state"):
        check_state(state, "3.state")


def test_a_scaler_takes_its_scale_alone() -> None:
    scaler = torch.amp.GradScaler("cpu", growth_interval=7)
    resume_scaler(scaler, {"scale": 8.0, "growth_factor": -1, "growth_interval": 0, "_growth_tracker": 2})
    assert (scaler.get_scale(), scaler.get_growth_factor(), scaler.get_growth_interval()) == (8.0, 2.0, 7)
