"""Checkpoints in and out: what is read, what is refused, and that nothing in a file is ever executed."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import Checkpoint, convert, load
from lightbsr_arch.errors import UserError
from lightbsr_cli import main
from lightbsr_cli.shipped import find_weights


def network(scale: int = 2, teacher: bool = False) -> BlindSR:
    torch.manual_seed(0)
    estimator = {"type": "KDIDETeacher", "scale": scale} if teacher else {"type": "KDIDEStudent"}
    return BlindSR(
        {**estimator, "num_feat": 8, "num_block": 2},
        {"type": "IDRDCRBNet", "num_feat": 8, "num_block": 3, "scale": scale},
    ).eval()


def outputs_agree(one: BlindSR, other: BlindSR) -> bool:
    lq = torch.rand(1, 3, 8, 8)
    gt = [] if one.privileged is None else [torch.rand(1, 3, 8 * one.scale, 8 * one.scale)]
    return torch.equal(one(lq, *gt), other(lq, *gt))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("teacher", [False, True], ids=["student", "teacher"])
def test_basicsr_pth(scale, teacher, tmp_path):
    net = network(scale, teacher)
    torch.save({"params": {"module." + key: value for key, value in net.state_dict().items()}}, tmp_path / "net.pth")
    checkpoint = convert(tmp_path / "net.pth", tmp_path / "net.safetensors")
    assert checkpoint.network == net.config
    assert outputs_agree(load(tmp_path / "net.safetensors"), net)
    assert outputs_agree(load(tmp_path / "net.pth"), net)


def test_the_moving_average_is_preferred(tmp_path):
    net, average = network(), network()
    torch.nn.init.ones_(average.restorer.tail.bias)
    torch.save({"params": net.state_dict(), "params_ema": average.state_dict()}, tmp_path / "net.pth")
    assert outputs_agree(load(tmp_path / "net.pth"), average)


def test_configuration_and_card_travel_with_the_weights(tmp_path):
    net = network()
    path = tmp_path / "net.safetensors"
    Checkpoint(net.state_dict(), net.config, {"data": "my photos"}).save(path)
    again = convert(path, tmp_path / "again.safetensors")
    assert again.card == {"data": "my photos"}
    assert again.network == net.config
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["again.safetensors", "net.safetensors"]


def test_load_puts_the_network_where_it_is_asked_to(tmp_path):
    net = network()
    Checkpoint(net.state_dict(), net.config).save(tmp_path / "net.safetensors")
    loaded = load(tmp_path / "net.safetensors", dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert not loaded.training


class Evil:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('executed').touch()",)


class EvilShell:
    def __reduce__(self):
        return os.system, ("touch executed",)


def _write_bad(kind, path):
    """Write a file that is no checkpoint of ours; gives what the error has to say."""
    net = network()
    state = net.state_dict()
    if kind == "missing":
        return "no such file"
    if kind == "empty":
        path.write_bytes(b"")
        return "no checkpoint, or one that is cut short"
    if kind == "text":
        path.write_text("hello\n" * 100)
        return "no checkpoint, or one that is cut short"
    if kind == "cut short":
        torch.save({"params": state}, path)
        path.write_bytes(path.read_bytes()[:-1000])
        return "no checkpoint, or one that is cut short"
    if kind == "code":
        torch.save({"params": state, "extra": Evil()}, path)
        return "holds more than tensors .*nothing was executed"
    if kind == "a shell command":
        torch.save({"params": state, "extra": EvilShell()}, path)
        return r"holds more than tensors \(posix.system\); not loaded, nothing was executed"
    if kind == "code in an old pickle":
        path.write_bytes(pickle.dumps(Evil(), protocol=2))
        return "holds more than tensors .*nothing was executed"
    if kind == "an object":
        torch.save(net, path)
        return r"holds more than tensors \(lightbsr_arch"
    if kind == "training state":
        torch.save({"epoch": 3, "iter": 100, "optimizers": [], "schedulers": []}, path)
        return "epoch is a int, expected a tensor; is this a training state"
    if kind == "a tensor":
        torch.save(torch.rand(3), path)
        return "expected named tensors, found Tensor"
    if kind == "another network":
        torch.save({"params": {"conv_first.weight": torch.rand(3), "body.0.weight": torch.rand(3)}}, path)
        return r"weights of no network of this package \(it holds conv_first.weight, body.0.weight"
    if kind == "a missing tensor":
        del state["restorer.after_body.bias"]
        torch.save({"params": state}, path)
        return r"1 tensors do not fit its network: restorer.after_body.bias \(wanted \(8,\), found none\)"
    assert kind == "a wrong shape"
    state["restorer.tail.bias"] = torch.rand(4)
    torch.save({"params": state}, path)
    return r"1 tensors do not fit its network: restorer.tail.bias \(wanted \(3,\), found \(4,\)\)"


BAD = [
    "missing", "empty", "text", "cut short", "code", "a shell command", "code in an old pickle", "an object",
    "training state", "a tensor", "another network", "a missing tensor", "a wrong shape",
]  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_give_one_line_and_no_output(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said = _write_bad(kind, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=said):
        load(tmp_path / "bad.pth") if kind != "missing" else convert("bad.pth", "out.safetensors")
    assert main(["convert", "bad.pth", "out.safetensors"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lightbsr convert: bad.pth: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()
    assert not (tmp_path / "executed").exists()


def test_a_cut_short_or_foreign_safetensors(tmp_path):
    net = network()
    path = tmp_path / "net.safetensors"
    Checkpoint(net.state_dict(), net.config).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"net.safetensors: no safetensors file, or one that is cut short"):
        load(path)
    save_file({"a": torch.rand(2)}, path, {"network": json.dumps({"estimator": {"type": "Nothing"}, "restorer": {}})})
    with pytest.raises(UserError, match=r"net.safetensors: its network cannot be built"):
        load(path)


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    net = network()
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    assert main(["convert", str(tmp_path / "net.pth"), str(tmp_path / "net.safetensors")]) == 0
    size = sum(p.numel() for p in net.parameters())
    assert f"KDIDEStudent(num_feat=8, num_block=2) + IDRDCRBNet(num_feat=8, num_block=3, scale=2), {size:,}" in (
        capsys.readouterr().out
    )
    assert load_file(tmp_path / "net.safetensors").keys() == net.state_dict().keys()
    assert main(["convert", str(tmp_path / "net.pth"), str(tmp_path / "net.pt")]) == 2
    assert "must be named .safetensors" in capsys.readouterr().err


def test_a_name_that_is_nothing():
    with pytest.raises(UserError, match=r"kdsr_x9: no such file, and no shipped weights of that name"):
        find_weights("kdsr_x9")
