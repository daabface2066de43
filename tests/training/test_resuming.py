"""The training state from which a run continues, and its networks."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from lightbsr.errors import UserError
from lightbsr_arch.training.resuming import load_resume_state, refuse_weights_of_this_run


class Trap:
    """Runs a program when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


def resume_options(folder: Path, **path: Any) -> dict[str, Any]:
    for name in ("models", "training_states"):
        (folder / name).mkdir(exist_ok=True)
    known = {"models": str(folder / "models"), "training_states": str(folder / "training_states")}
    return {"auto_resume": True, "network_g": {}, "network_teacher": {}, "path": {**known, **path}}


def save_state(folder: Path, iteration: int, network: bool = True) -> None:
    state = {"epoch": 1, "iter": iteration, "optimizers": [], "schedulers": []}
    torch.save(state, folder / "training_states" / f"{iteration}.state")
    if network:
        torch.save({"params": {}}, folder / "models" / f"net_g_{iteration}.pth")


def test_auto_resume_takes_the_last_state_and_its_networks(tmp_path: Path) -> None:
    opt = resume_options(
        tmp_path, pretrain_network_teacher="t.pth", param_key_teacher="params_ema", param_key_g="params_ema"
    )
    assert load_resume_state(opt) is None
    for iteration in (8, 12, 9):
        save_state(tmp_path, iteration)
    (tmp_path / "training_states/.20.state.tmp").touch()
    state = load_resume_state(opt)
    assert state is not None
    assert state["iter"] == 12
    assert opt["path"]["resume_state"] == str(tmp_path / "training_states/12.state")
    assert opt["path"]["pretrain_network_g"] == str(tmp_path / "models/net_g_12.pth")
    assert opt["path"]["param_key_g"] == "params"
    # Training never saves the teacher, so its path is still that of the options.
    assert opt["path"]["pretrain_network_teacher"] == "t.pth"
    assert opt["path"]["param_key_teacher"] == "params_ema"


def test_auto_resume_without_a_state_takes_that_of_the_options(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    resume_options(other)
    save_state(other, 4)
    opt = resume_options(tmp_path, resume_state=str(other / "training_states/4.state"))
    torch.save({"params": {}}, tmp_path / "models/net_g_4.pth")
    state = load_resume_state(opt)
    assert state is not None
    assert state["iter"] == 4


def test_a_new_run_takes_no_weights_of_the_folder_that_it_renames(tmp_path: Path) -> None:
    weights = tmp_path / "experiments/run/models/net_g_latest.pth"
    opt = {"name": "run", "path": {"experiments_root": str(tmp_path / "experiments/run")}}
    opt["path"]["pretrain_network_g"] = str(weights)
    with pytest.raises(UserError, match=r"path.pretrain_network_g: .*is in the folder of the older run"):
        refuse_weights_of_this_run(opt)
    opt["path"]["pretrain_network_g"] = str(weights).replace("/run/", "/run_before/")
    refuse_weights_of_this_run(opt)


def test_networks_may_be_kept_out_of_the_resume(tmp_path: Path) -> None:
    opt = resume_options(tmp_path, pretrain_network_d="d.pth", ignore_resume_networks=["network_d"])
    opt["network_d"] = {}
    save_state(tmp_path, 8)
    torch.save({"params": {}}, tmp_path / "models/net_d_4.pth")
    assert load_resume_state(opt) is not None
    assert opt["path"]["pretrain_network_d"] == "d.pth"


@pytest.mark.parametrize("others", [True, False])
def test_resume_without_the_network_is_refused(tmp_path: Path, others: bool) -> None:
    opt = resume_options(tmp_path)
    save_state(tmp_path, 12, network=False)
    if others:
        save_state(tmp_path, 8)
    way_on = "delete this .state to continue from an earlier one"
    with pytest.raises(UserError, match=rf"net_g_12.pth: no such file, but .*12.state belongs to it; {way_on}"):
        load_resume_state(opt)


def test_resume_from_what_is_no_state(tmp_path: Path) -> None:
    opt = {**resume_options(tmp_path, resume_state=str(tmp_path / "net.pth")), "auto_resume": False}
    with pytest.raises(UserError, match=r"net.pth: no such file"):
        load_resume_state(opt)
    torch.save({"params": {}}, tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"net.pth: no training state"):
        load_resume_state(opt)


def test_nothing_in_a_state_is_executed(tmp_path: Path) -> None:
    trap = {"params": Trap(tmp_path / "proof"), "epoch": 0, "iter": 8, "optimizers": [], "schedulers": []}
    opt = resume_options(tmp_path)
    torch.save(trap, tmp_path / "training_states/8.state")
    with pytest.raises(UserError, match=r"8\.state: "):
        load_resume_state(opt)
    assert not (tmp_path / "proof").exists()
