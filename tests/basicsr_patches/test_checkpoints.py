"""Safe reading and atomic writing of networks and training states."""

import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.models.base_model import BaseModel
from safetensors.torch import save_file
from torch import nn

from lightbsr.errors import UserError
from lightbsr_arch import load
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.basicsr_patches.checkpoints import CheckpointMethods


class Trap:
    """Runs a program when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


class PatchedModel(CheckpointMethods, BaseModel):
    """BasicSR's model with the patched methods."""


def model(folder: Path, **opt: Any) -> PatchedModel:
    path = {"models": str(folder), "training_states": str(folder)}
    return PatchedModel({"num_gpu": 0, "is_train": True, "dist": False, "rank": 0, "path": path, **opt})


# Loading


@pytest.mark.parametrize("wrapper", ["params", "params_ema", "state_dict", "model", None])
def test_weights_are_found_under_any_key(tmp_path: Path, wrapper: str | None) -> None:
    net, other = nn.Linear(2, 3), nn.Linear(2, 3)
    state = {f"module.{name}": value for name, value in other.state_dict().items()}
    torch.save({wrapper: state} if wrapper else state, tmp_path / "net.pth")
    model(tmp_path).load_network(net, str(tmp_path / "net.pth"))
    torch.testing.assert_close(net.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_key_asked_for_comes_first(tmp_path: Path) -> None:
    net, plain, average = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save({"params": plain.state_dict(), "params_ema": average.state_dict()}, tmp_path / "net.pth")
    model(tmp_path).load_network(net, str(tmp_path / "net.pth"), True, "params_ema")
    assert torch.equal(net.weight, average.weight)


def test_shipped_weights_by_name(tmp_path: Path) -> None:
    shipped = load("kdsr_s_x4_iso")
    net = BlindSR(**shipped.config)
    model(tmp_path).load_network(net, "kdsr_s_x4_iso")
    torch.testing.assert_close(net.state_dict(), shipped.state_dict(), rtol=0, atol=0)


def test_another_package_s_safetensors_start_a_basicsr_network(tmp_path: Path) -> None:
    net, other = nn.Linear(2, 3), nn.Linear(2, 3)
    save_file(
        {f"module._orig_mod.{name}": value for name, value in other.state_dict().items()}, tmp_path / "w.safetensors"
    )
    model(tmp_path).load_network(net, str(tmp_path / "w.safetensors"))
    torch.testing.assert_close(net.state_dict(), other.state_dict(), rtol=0, atol=0)
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-3])
    with pytest.raises(UserError, match=r"w.safetensors: no safetensors file, or one that is cut short"):
        model(tmp_path).load_network(net, str(tmp_path / "w.safetensors"))


def test_other_network_names_its_first_ten_weights(tmp_path: Path) -> None:
    torch.save({"params": nn.Linear(2, 4).state_dict()}, tmp_path / "net.pth")
    net = nn.Sequential(*[nn.Linear(2, 3) for _ in range(8)])
    with pytest.raises(UserError, match=r"net.pth: 18 weights do not fit Sequential") as caught:
        model(tmp_path).load_network(net, str(tmp_path / "net.pth"))
    named = str(caught.value).partition("Sequential: ")[2].split("; ")
    assert len(named) == 10
    assert named[0] == "0.weight (wanted (3, 2), found none)"


def test_other_network_is_used_as_far_as_it_fits_if_not_strict(tmp_path: Path) -> None:
    other = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 9))
    torch.save({"params": other.state_dict()}, tmp_path / "net.pth")
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    model(tmp_path).load_network(net, str(tmp_path / "net.pth"), strict=False)
    assert torch.equal(net[0].weight, other[0].weight)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut short", "text"])
def test_damaged_weights_give_one_line(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "net.pth"
    torch.save({"params": nn.Linear(2, 4).state_dict()}, file)
    content = {"empty": b"", "cut short": file.read_bytes()[:700], "text": b"hello"}
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content[damage])
    with pytest.raises(UserError) as caught:
        model(tmp_path).load_network(nn.Linear(2, 4), str(file))
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_other_content_gives_one_line(tmp_path: Path) -> None:
    for content in ([1, 2], {"params": 3}, {"iter": 3}, {}):
        torch.save(content, tmp_path / "net.pth")
        with pytest.raises(UserError, match=r"net.pth: "):
            model(tmp_path).load_network(nn.Linear(2, 4), str(tmp_path / "net.pth"))


def test_nothing_in_a_network_file_is_executed(tmp_path: Path) -> None:
    torch.save({"params": Trap(tmp_path / "proof")}, tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"net\.pth: holds more than tensors"):
        model(tmp_path).load_network(nn.Linear(2, 4), str(tmp_path / "net.pth"))
    assert not (tmp_path / "proof").exists()


# Saving


def test_save_leaves_networks_and_state_alone_in_their_folder(tmp_path: Path) -> None:
    net, average = nn.Linear(2, 3), nn.Linear(2, 3)
    base = model(tmp_path)
    base.optimizers = [torch.optim.Adam(net.parameters())]
    base.save_network([net, average], "net_g", -1, ["params", "params_ema"])
    base.save_training_state(3, 7)
    base.save_training_state(3, -1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["7.state", "net_g_latest.pth"]
    saved = torch.load(tmp_path / "net_g_latest.pth", weights_only=True)
    assert torch.equal(saved["params_ema"]["weight"], average.weight)
    state = torch.load(tmp_path / "7.state", weights_only=True)
    assert (state["epoch"], state["iter"], len(state["optimizers"])) == (3, 7, 1)


def test_failed_save_is_an_error_and_spares_the_old_file(tmp_path: Path) -> None:
    base, net = model(tmp_path), nn.Linear(100, 100)
    base.save_network(net, "net_g", -1)
    before = (tmp_path / "net_g_latest.pth").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"net_g_latest.pth: cannot be saved: .*File too large"):
            base.save_network(net, "net_g", -1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == ["net_g_latest.pth"]
    assert (tmp_path / "net_g_latest.pth").read_bytes() == before


# Resuming


def test_resumed_optimiser_keeps_the_settings_of_the_options(tmp_path: Path) -> None:
    saved, resumed = model(tmp_path), model(tmp_path)
    for base, decay in ((saved, 0.0), (resumed, 0.5)):
        group = {"params": list(nn.Linear(2, 3).parameters()), "initial_lr": 0.1}  # a scheduler adds this key
        base.optimizers = [torch.optim.Adam([group], lr=0.1, weight_decay=decay)]
    saved.save_training_state(0, 5)
    resumed.resume_training(torch.load(tmp_path / "5.state", weights_only=True))
    assert resumed.optimizers[0].param_groups[0]["weight_decay"] == 0.5
