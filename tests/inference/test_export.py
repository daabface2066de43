"""onnxruntime returns the same outputs as PyTorch for exported networks, at any batch, height and width."""

import json
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch

import lightbsr_arch
from lightbsr.commands import main
from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import Checkpoint, load
from lightbsr_arch.inference import export
from tests.golden import golden, needs_golden
from tests.inference.networks import network

pytestmark = pytest.mark.slow

SIZES = [(1, 16, 16), (2, 33, 21), (3, 5, 7), (1, 3, 50)]
CARD = {"summary": "a small network"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of networks and, with the same names, their ONNX files."""
    folder = tmp_path_factory.mktemp("networks")
    for name in ("kdsr", "lightbsr"):
        model = network(name)
        Checkpoint(model.state_dict(), model.config, CARD).save(folder / f"{name}.safetensors")
        export.export_onnx(folder / f"{name}.safetensors", folder / f"{name}.onnx")
    return folder


def largest_difference(onnx: Path, model: BlindSR, sizes: list[tuple[int, int, int]]) -> float:
    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    largest = 0.0
    for n, height, width in sizes:
        lq = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            sr = model(lq)
        assert sr.std() > 0.01  # otherwise errors would not be visible
        (given,) = session.run(None, {"lq": lq.numpy()})
        assert given.shape == (n, 3, height * model.scale, width * model.scale)
        largest = max(largest, (torch.from_numpy(given) - sr).abs().max().item())
    return largest


@pytest.mark.parametrize("name", ["kdsr", "lightbsr"])
def test_any_size(name, folder):
    assert largest_difference(folder / f"{name}.onnx", load(folder / f"{name}.safetensors"), SIZES) < 1e-4
    assert {file.suffix for file in folder.iterdir()} == {".safetensors", ".onnx"}


def test_a_user_finds_what_the_file_wants_in_it(folder):
    session = onnxruntime.InferenceSession(str(folder / "kdsr.onnx"))
    (lq,), (sr,) = session.get_inputs(), session.get_outputs()
    assert [(port.name, port.type) for port in (lq, sr)] == [("lq", "tensor(float)"), ("sr", "tensor(float)")]
    assert [isinstance(size, str) for size in lq.shape] == [True, False, True, True]
    metadata = session.get_modelmeta().custom_metadata_map
    wanted = {"name": "kdsr", "scale": "4", "value_range": "[0, 1]", "dtype": "fp32", "opset": "18"}
    assert {key: metadata[key] for key in wanted} == wanted
    assert BlindSR(**json.loads(metadata["network"])).config == load(folder / "kdsr.safetensors").config
    assert json.loads(metadata["card"]) == CARD
    assert str(Path(lightbsr_arch.__file__).parent).encode() not in (folder / "kdsr.onnx").read_bytes()


def test_half_precision_takes_the_place_of_the_full_one(folder, tmp_path, capsys, monkeypatch):
    src, dst = folder / "lightbsr.safetensors", tmp_path / "half.onnx"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    assert main(["export", str(src), str(dst), "--dtype", "fp16", "--opset", "20"]) == 0
    said = capsys.readouterr().out
    assert "half.onnx: opset 20, fp16, " in said
    assert "not compared with PyTorch: onnxruntime is not installed" in said
    monkeypatch.undo()
    assert dst.stat().st_size < 0.8 * (folder / "lightbsr.onnx").stat().st_size
    assert 1e-5 < largest_difference(dst, load(src), SIZES) < export.TOLERANCE["fp16"]


@needs_golden
def test_published_weights(tmp_path):
    weights = tmp_path / "net.pth"
    torch.save(golden("kdsr_student_x4_f16b3r2", "w"), weights)
    exported = export.export_onnx(weights, tmp_path / "net.onnx")
    assert exported.difference < 1e-4
    assert largest_difference(tmp_path / "net.onnx", load(weights), SIZES) < 1e-4


def refused(args: list[str], capsys) -> str:
    assert main(["export", *args]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("lightbsr export: ")
    return error


def test_what_is_refused(folder, tmp_path, capsys, monkeypatch):
    teacher = BlindSR(
        {"type": "KDIDETeacher", "num_feat": 8, "num_block": 1}, {"type": "IDRDCRBNet", "num_feat": 8, "num_block": 1}
    )
    Checkpoint(teacher.state_dict(), teacher.config).save(tmp_path / "teacher.safetensors")
    out, kdsr = str(tmp_path / "out.onnx"), str(folder / "kdsr.safetensors")
    assert "teacher.safetensors: the weights of a teacher, which also sees the gt" in refused(
        [str(tmp_path / "teacher.safetensors"), out], capsys
    )
    assert "must be named .onnx" in refused([kdsr, str(tmp_path / "out.pt")], capsys)
    assert "there is no folder" in refused([kdsr, str(tmp_path / "none" / "out.onnx")], capsys)
    assert "opset 17: PyTorch writes 18 and later" in refused([kdsr, out, "--opset", "17"], capsys)
    assert "nothing: no such file" in refused(["nothing", out], capsys)
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as if it were not installed
    assert "pip install 'lightbsr-arch[onnx]'" in refused([kdsr, out], capsys)
    assert [file.name for file in tmp_path.iterdir()] == ["teacher.safetensors"]


def test_a_file_that_differs_is_not_written(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(export.TOLERANCE, "fp32", 0.0)
    with pytest.raises(UserError, match=r"out.onnx: not written: onnxruntime differs from PyTorch by \d"):
        export.export_onnx(folder / "kdsr.safetensors", tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())
