"""BasicSR mended: files in and out, resuming, several processes."""

import os
import resource
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric, niqe
from basicsr.models.base_model import BaseModel
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import Dataset

from lightbsr.errors import UserError
from lightbsr_arch import compat, load
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.cli.stop import SIGNALS


class Trap:
    """Runs a program when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


def model(folder: Path, **opt: Any) -> BaseModel:
    path = {"models": str(folder), "training_states": str(folder)}
    return BaseModel({"num_gpu": 0, "is_train": True, "dist": False, "rank": 0, "path": path, **opt})


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
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert lines[1] == "  0.weight: wanted [3, 2], found none"


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


def test_nothing_is_executed(tmp_path: Path) -> None:
    trap = {"params": Trap(tmp_path / "proof"), "epoch": 0, "iter": 8, "optimizers": [], "schedulers": []}
    opt = resume_options(tmp_path)
    state = tmp_path / "training_states/8.state"
    torch.save(trap, state)
    with pytest.raises(UserError, match=r"8\.state: "):
        model(tmp_path).load_network(nn.Linear(2, 4), str(state))
    with pytest.raises(UserError, match=r"8\.state: "):
        compat.load_resume_state(opt)
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


def test_auto_resume_takes_the_last_state_and_its_networks(tmp_path: Path) -> None:
    opt = resume_options(
        tmp_path, pretrain_network_teacher="t.pth", param_key_teacher="params_ema", param_key_g="params_ema"
    )
    assert compat.load_resume_state(opt) is None
    for iteration in (8, 12, 9):
        save_state(tmp_path, iteration)
    (tmp_path / "training_states/.20.state.tmp").touch()
    state = compat.load_resume_state(opt)
    assert state is not None
    assert state["iter"] == 12
    assert opt["path"]["resume_state"] == str(tmp_path / "training_states/12.state")
    assert opt["path"]["pretrain_network_g"] == str(tmp_path / "models/net_g_12.pth")
    assert opt["path"]["param_key_g"] == "params"
    # Training never saves the teacher, so it is still read from where the options say.
    assert opt["path"]["pretrain_network_teacher"] == "t.pth"
    assert opt["path"]["param_key_teacher"] == "params_ema"


def test_networks_may_be_kept_out_of_the_resume(tmp_path: Path) -> None:
    opt = resume_options(tmp_path, pretrain_network_d="d.pth", ignore_resume_networks=["network_d"])
    opt["network_d"] = {}
    save_state(tmp_path, 8)
    torch.save({"params": {}}, tmp_path / "models/net_d_4.pth")
    assert compat.load_resume_state(opt) is not None
    assert opt["path"]["pretrain_network_d"] == "d.pth"


@pytest.mark.parametrize("others", [True, False])
def test_resume_without_the_network_is_refused(tmp_path: Path, others: bool) -> None:
    opt = resume_options(tmp_path)
    save_state(tmp_path, 12, network=False)
    if others:
        save_state(tmp_path, 8)
    with pytest.raises(UserError, match=r"net_g_12.pth: no such file, but .*12.state"):
        compat.load_resume_state(opt)


def test_resume_from_what_is_no_state(tmp_path: Path) -> None:
    opt = {**resume_options(tmp_path, resume_state=str(tmp_path / "net.pth")), "auto_resume": False}
    with pytest.raises(UserError, match=r"net.pth: no such file"):
        compat.load_resume_state(opt)
    torch.save({"params": {}}, tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"net.pth: no training state"):
        compat.load_resume_state(opt)


# Processes


def test_slurm_job_in_the_words_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "unset")  # so that monkeypatch puts back what was there
        monkeypatch.delenv(name)
    job = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_NODELIST": "n[1-2]"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(compat.subprocess, "check_output", lambda *_, **__: "n1\nn2\n")
    compat._describe_slurm_job(None)
    found = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")]
    assert found == ["5", "8", "1", "n1", "29500"]


@pytest.mark.parametrize(("launcher", "start"), [("pytorch", "torchrun"), ("slurm", "srun")])
def test_launcher_without_its_processes(monkeypatch: pytest.MonkeyPatch, launcher: str, start: str) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(UserError, match=f"--launcher {launcher} is for processes that {start} starts"):
        compat.init_dist(launcher)


def test_workers_leave_ctrl_c_to_the_trainer() -> None:
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    try:
        compat.worker_init_fn(0, 1, 0, 0)
        assert {signum.name: signal.getsignal(signum) for signum in SIGNALS} == {
            "SIGINT": signal.SIG_IGN,
            "SIGUSR1": signal.SIG_IGN,
            "SIGHUP": signal.SIG_IGN,
            "SIGTERM": signal.SIG_DFL,
        }
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def test_error_of_the_thread_that_loads_ahead_reaches_the_trainer() -> None:
    class Broken(Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> int:
            if index == 2:
                raise UserError("picture 2 is broken")
            return index

    options = {"phase": "val", "prefetch_mode": "cpu"}
    batches = iter(compat.basicsr.data.build_dataloader(Broken(), options))
    assert [next(batches).item() for _ in range(2)] == [0, 1]
    with pytest.raises(UserError, match="picture 2"):
        next(batches)


def test_prefetcher_starts_its_workers_once() -> None:
    started = []
    loader = type("Loader", (), {"__iter__": lambda self: started.append(1) or iter("ab")})()
    prefetcher = compat.train.CPUPrefetcher(loader)
    prefetcher.reset()
    assert [prefetcher.next() for _ in range(3)] == ["a", "b", None]
    assert len(started) == 1


# Metrics


@pytest.mark.parametrize(("width", "enough"), [(200, True), (199, False)])
def test_niqe_says_what_it_wants(width: int, enough: bool) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (104, width, 3), np.uint8)
    metric = {"type": "calculate_niqe", "crop_border": 4}
    if enough:
        value = calculate_metric({"img": picture, "img2": picture}, metric)
        assert value == niqe.calculate_niqe(picture, crop_border=4) > 10
    else:
        with pytest.raises(UserError, match=r"NIQE wants two blocks of 96x96 pixels, this picture has 199x104"):
            calculate_metric({"img": picture}, metric)


# Pictures


@pytest.mark.parametrize("name", ["../0_9.png", "a\0/0.png", "a/a\nb.png", "a/" + "x" * 300 + ".png"])
def test_pictures_are_saved_in_their_folder_alone(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="a picture cannot be saved as"):
        compat.PictureWriter()(np.zeros((4, 4, 3), np.uint8), f"{tmp_path}/visualization/{name}")
    assert list(tmp_path.iterdir()) == []


def test_a_second_picture_of_a_name_does_not_replace_the_first(tmp_path: Path) -> None:
    write = compat.PictureWriter()
    for grey in (10, 20):
        write(np.full((4, 4, 3), grey, np.uint8), str(tmp_path / "v/a_x4.png"))
    assert {path.name: cv2.imread(str(path))[0, 0, 0] for path in (tmp_path / "v").iterdir()} == {
        "a_x4.png": 10,
        "a_x4-2.png": 20,
    }
