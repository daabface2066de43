"""ncnn returns the same outputs as PyTorch for exported networks, at any height and width."""

import sys

import pytest
import torch
from torch.nn import functional as F

from lightbsr.commands import main
from lightbsr.errors import UserError
from lightbsr_arch.checkpoint import Checkpoint, load
from lightbsr_arch.inference import export, export_ncnn
from lightbsr_arch.inference.export_ncnn import run_net
from tests.inference.exports import refused, save_teacher
from tests.inference.networks import network

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")
pytestmark = pytest.mark.slow

SIZES = [(24, 32), (5, 7), (50, 33), (3, 64)]


def photo(height: int, width: int) -> torch.Tensor:
    """Return a picture with the smooth areas and contours of a photo, 1 x 3 x height x width."""
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(height))
    smooth = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return torch.where(smooth[:, :1] > 0.6, 0.5 * smooth + 0.5, smooth)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of networks and, with the same names, their files for ncnn, whole and split."""
    folder = tmp_path_factory.mktemp("networks")
    for name in ("kdsr", "lightbsr"):
        model = network(name, scale=3, **({"max_norm": 2.0} if name == "kdsr" else {}))
        Checkpoint(model.state_dict(), model.config).save(folder / f"{name}.safetensors")
        for split in ([], ["--split"]):
            assert main(["export", str(folder / f"{name}.safetensors"), str(folder / f"{name}.param"), *split]) == 0
    return folder


@pytest.mark.parametrize("name", ["kdsr", "lightbsr"])
def test_any_size(name, folder):
    model = load(folder / f"{name}.safetensors")
    for size in SIZES:
        lq = photo(*size)
        with torch.inference_mode():
            sr = model(lq)
        assert sr.std() > 0.01
        torch.testing.assert_close(run_net(folder / f"{name}.param", {"data": lq}, "output"), sr, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["kdsr", "lightbsr"])
def test_the_halves_of_a_split_network(name, folder):
    model = load(folder / f"{name}.safetensors")
    estimator, restorer = (folder / f"{name}_{part}.param" for part in ("estimator", "restorer"))
    for size in SIZES:
        lq = photo(*size)
        with torch.inference_mode():
            wanted_idr, wanted = model.estimator(lq), model(lq)
        idr = run_net(estimator, {"data": lq}, "idr")
        torch.testing.assert_close(idr.reshape(wanted_idr.shape), wanted_idr, rtol=1e-4, atol=1e-4)
        sr = run_net(restorer, {"data": lq, "idr": idr}, "output")
        torch.testing.assert_close(sr, wanted, rtol=0, atol=1e-4)
        assert (run_net(restorer, {"data": lq, "idr": idr + 1}, "output") - sr).abs().max() > 1e-3


def test_only_the_two_files_of_each_network_are_written(folder):
    names = {f"{name}{part}" for name in ("kdsr", "lightbsr") for part in ("", "_estimator", "_restorer")}
    wanted = {f"{name}{ending}" for name in names for ending in (".param", ".bin")}
    assert {file.name for file in folder.iterdir()} == wanted | {"kdsr.safetensors", "lightbsr.safetensors"}


def test_weights_in_half_precision(folder, tmp_path, capsys, monkeypatch):
    src, dst = folder / "kdsr.safetensors", tmp_path / "half.param"
    monkeypatch.setitem(sys.modules, "ncnn", None)  # as if it were not installed
    assert main(["export", str(src), str(dst), "--dtype", "fp16"]) == 0
    said = capsys.readouterr().out
    assert "half.param" in said
    assert "ncnn, fp16, " in said
    assert "not compared with PyTorch: ncnn is not installed" in said
    monkeypatch.undo()
    assert dst.with_suffix(".bin").stat().st_size < 0.6 * (folder / "kdsr.bin").stat().st_size
    lq = photo(24, 32)
    with torch.inference_mode():
        difference = (run_net(dst, {"data": lq}, "output") - load(src)(lq)).abs().max()
    assert 1e-6 < difference < export.TOLERANCE["fp16"]


def test_what_is_refused(folder, tmp_path, capsys, monkeypatch):
    save_teacher(tmp_path / "teacher.safetensors")
    out, kdsr = str(tmp_path / "out.param"), str(folder / "kdsr.safetensors")
    assert "the weights of a teacher" in refused([str(tmp_path / "teacher.safetensors"), out], capsys)
    assert "must be named .onnx, or .param for ncnn" in refused([kdsr, str(tmp_path / "out.bin")], capsys)
    assert "there is no folder" in refused([kdsr, str(tmp_path / "none" / "out.param")], capsys)
    assert "--opset is a version of ONNX" in refused([kdsr, out, "--opset", "18"], capsys)
    (tmp_path / "taken.param").mkdir()
    assert "taken.param: a folder" in refused([kdsr, str(tmp_path / "taken.param")], capsys)
    monkeypatch.setitem(sys.modules, "pnnx", None)  # as if it were not installed
    assert "pip install 'lightbsr-arch[ncnn]'" in refused([kdsr, out], capsys)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["taken.param", "teacher.safetensors"]


def test_a_file_that_differs_is_not_written(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(export_ncnn.TOLERANCE, "fp32", 0.0)
    with pytest.raises(UserError, match=r"out.param: not written: ncnn differs from PyTorch by \d"):
        export_ncnn.export_ncnn(folder / "kdsr.safetensors", tmp_path / "out.param")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pnnx.Expression e 1 1 1 2", "ncnn has no layer for pnnx.Expression of this network"),
        (None, "pnnx cannot convert this network: it is odd"),
    ],
)
def test_a_network_that_cannot_be_converted(folder, tmp_path, monkeypatch, line, message):
    """A stand-in for pnnx writes a layer that ncnn lacks, or ends with an error."""
    program = tmp_path / "pnnx"
    text = f"7767517\n1 1\n{line}\n"
    body = f"printf '{text}' > net.param; : > net.bin" if line else "echo 'it is odd' >&2; exit 1"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    import pnnx

    monkeypatch.setattr(pnnx, "EXEC_PATH", str(program))
    with pytest.raises(UserError, match=message):
        export_ncnn.export_ncnn(folder / "kdsr.safetensors", tmp_path / "out.param")
    assert [file.name for file in tmp_path.iterdir()] == ["pnnx"]
