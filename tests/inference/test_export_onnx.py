"""onnxruntime returns the same outputs as PyTorch for exported networks, at any batch, height and width."""

import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import lightbsr_arch
from lightbsr.commands import main
from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import Checkpoint, load
from lightbsr_arch.inference import export_onnx, int8
from lightbsr_arch.inference.export import TOLERANCE
from tests.bench.toys import pictures
from tests.golden import golden, needs_golden
from tests.inference.exports import refused, save_teacher
from tests.inference.networks import network

pytestmark = pytest.mark.slow

SIZES = [(1, 16, 16), (2, 33, 21), (3, 5, 7), (1, 3, 50)]
NAMES = {"kdsr": "kdsr", "lightbsr": "lightbsr", "vector": "a vector guides LightBSRNet"}
CARD = {"summary": "a small network"}


@pytest.fixture(scope="module", autouse=True)
def _each_program_once():
    """Let PyTorch export equal networks once, because that takes seconds. The tests differ in the steps that follow."""
    programs, export = {}, export_onnx._program

    def program(graph, dtype, opset):
        weights = b"".join(value.numpy().tobytes() for value in graph.network.state_dict().values())
        key = (type(graph.network), *graph.inputs, graph.output, dtype, opset, hashlib.sha1(weights).digest())
        if key not in programs:
            programs[key] = export(graph, dtype, opset)
        return programs[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_onnx, "_program", program)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of networks and, with the same names, their ONNX files."""
    folder = tmp_path_factory.mktemp("networks")
    for name in NAMES:
        model = network(NAMES[name], num_block=1)  # an export takes seconds per block
        Checkpoint(model.state_dict(), model.config, CARD).save(folder / f"{name}.safetensors")
        export_onnx.export_onnx(folder / f"{name}.safetensors", folder / f"{name}.onnx")
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


@pytest.mark.parametrize("name", NAMES)
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
    assert 1e-5 < largest_difference(dst, load(src), SIZES) < TOLERANCE["fp16"]


@pytest.fixture(scope="module")
def halves(folder):
    """The two files of each network, by its name."""
    for name in ("kdsr", "lightbsr"):
        assert main(["export", str(folder / f"{name}.safetensors"), str(folder / f"{name}.onnx"), "--split"]) == 0
    return {
        name: tuple(
            onnxruntime.InferenceSession(str(folder / f"{name}_{part}.onnx"), providers=["CPUExecutionProvider"])
            for part in ("estimator", "restorer")
        )
        for name in ("kdsr", "lightbsr")
    }


@pytest.mark.parametrize("name", ["kdsr", "lightbsr"])
def test_the_halves_of_a_split_network(name, folder, halves):
    estimator, restorer = halves[name]
    assert [port.name for session in halves[name] for port in session.get_inputs()] == ["lq", "lq", "idr"]
    assert [port.name for session in halves[name] for port in session.get_outputs()] == ["idr", "sr"]
    model = load(folder / f"{name}.safetensors")
    for n, height, width in SIZES:
        lq = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            wanted_idr, wanted = model.estimator(lq), model(lq)
        (idr,) = estimator.run(None, {"lq": lq.numpy()})
        (sr,) = restorer.run(None, {"lq": lq.numpy(), "idr": idr})
        assert np.abs(idr - wanted_idr.numpy()).max() < 1e-4
        assert np.abs(sr - wanted.numpy()).max() < 1e-4
        (other,) = restorer.run(None, {"lq": lq.numpy(), "idr": idr + 1})
        assert np.abs(sr - other).max() > 1e-3
    metadata = [session.get_modelmeta().custom_metadata_map for session in halves[name]]
    assert [one["name"] for one in metadata] == [name, name]
    assert metadata[0]["output"] == metadata[1]["input"].split("; ")[1]


def test_tiles_under_the_whole_pictures_idr_have_no_seams(halves):
    estimator, restorer = halves["kdsr"]
    lq = torch.rand(1, 3, 70, 90, generator=torch.Generator().manual_seed(2)).numpy()

    def restored(pixels: np.ndarray, idr: np.ndarray) -> np.ndarray:
        return restorer.run(None, {"lq": pixels, "idr": idr})[0]

    (idr,) = estimator.run(None, {"lq": lq})
    whole = restored(lq, idr)
    halo, largest, under_another = 16, 0.0, 0.0
    for top in range(0, 70, 35):
        for left in range(0, 90, 30):
            above, before = min(top, halo), min(left, halo)
            tile = lq[:, :, top - above : top + 35 + halo, left - before : left + 30 + halo]
            place = np.s_[:, :, 4 * above : 4 * (above + 35), 4 * before : 4 * (before + 30)]
            wanted = whole[:, :, 4 * top : 4 * (top + 35), 4 * left : 4 * (left + 30)]
            largest = max(largest, np.abs(restored(tile, idr)[place] - wanted).max())
            under_another = max(under_another, np.abs(restored(tile, idr + 1)[place] - wanted).max())
    assert largest < 1e-4
    assert under_another > 1e-3


def test_a_split_in_half_precision(folder, tmp_path):
    exported = export_onnx.export_onnx(folder / "lightbsr.safetensors", tmp_path / "net.onnx", "fp16", split=True)
    assert [file.name for file in exported.files] == ["net_estimator.onnx", "net_restorer.onnx"]
    assert sorted(tmp_path.iterdir()) == sorted(exported.files)
    assert exported.bytes == sum(file.stat().st_size for file in exported.files)
    assert 1e-5 < exported.difference < TOLERANCE["fp16"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Return a folder of two low-quality pictures."""
    return pictures(tmp_path_factory.mktemp("int8") / "photos", 2, side=80)


def test_int8_replaces_the_3x3_convolutions_of_the_body(folder, photos, tmp_path, capsys):
    dst, name = tmp_path / "int8.onnx", "kdsr"
    assert main(["export", str(folder / f"{name}.safetensors"), str(dst), "--int8", str(photos)]) == 0
    said = capsys.readouterr().out
    assert "int8.onnx: opset 18, int8, " in said
    psnr = float(re.search(r"PSNR (\S+) dB relative to PyTorch in fp32", said)[1])
    (photo, _) = int8.calibration_crops(photos)
    assert photo.shape == (1, 3, 83, 80)
    session = onnxruntime.InferenceSession(str(dst), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        sr = load(folder / f"{name}.safetensors")(photo)
    (given,) = session.run(None, {"lq": photo.numpy()})
    assert -10 * np.log10(np.mean((given - sr.numpy()) ** 2)) == pytest.approx(psnr, abs=3)
    assert 35 < psnr < 90  # above 90, nothing would be quantised
    assert session.get_modelmeta().custom_metadata_map["dtype"] == "int8"
    weights = {one.name: one for one in onnx.load(str(dst)).graph.initializer}
    quantised = [one for name, one in weights.items() if name.endswith("_quantized") and len(one.dims) == 4]
    expected = [
        layer
        for layer in load(folder / f"{name}.safetensors").restorer.body.modules()
        if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3) and layer.groups == 1
    ]
    assert len(quantised) == len(expected) > 0
    assert {one.data_type for one in quantised} == {onnx.TensorProto.INT8}
    assert dst.stat().st_size < (folder / f"{name}.onnx").stat().st_size


def test_int8_of_a_split_network_is_in_the_restorer(folder, photos, tmp_path):
    exported = export_onnx.export_onnx(folder / "lightbsr.safetensors", tmp_path / "net.onnx", split=True, int8=photos)
    assert (exported.difference, 35 < exported.psnr < 90) == (None, True)
    types = [{node.op_type for node in onnx.load(str(file)).graph.node} for file in exported.files]
    assert ["QuantizeLinear" in one for one in types] == [False, True]


def test_int8_far_from_fp32_is_not_written(folder, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, "LEAST_PSNR", 100.0)
    with pytest.raises(UserError, match=r"out.onnx: not written: the PSNR of int8 relative to fp32 is \d\d\.\d dB"):
        export_onnx.export_onnx(folder / "kdsr.safetensors", tmp_path / "out.onnx", int8=photos)
    assert not [*tmp_path.iterdir()]


@needs_golden
def test_published_weights(tmp_path):
    weights = tmp_path / "net.pth"
    torch.save(golden("kdsr_student_x4_f16b3r2", "w"), weights)
    exported = export_onnx.export_onnx(weights, tmp_path / "net.onnx")
    assert exported.difference < 1e-4
    assert largest_difference(tmp_path / "net.onnx", load(weights), SIZES) < 1e-4


def test_what_is_refused(folder, photos, tmp_path, capsys, monkeypatch):
    save_teacher(tmp_path / "teacher.safetensors")
    out, kdsr = str(tmp_path / "out.onnx"), str(folder / "kdsr.safetensors")
    assert "teacher.safetensors: the weights of a teacher, which also sees the gt" in refused(
        [str(tmp_path / "teacher.safetensors"), out], capsys
    )
    assert "must be named .onnx" in refused([kdsr, str(tmp_path / "out.pt")], capsys)
    assert "there is no folder" in refused([kdsr, str(tmp_path / "none" / "out.onnx")], capsys)
    assert "opset 17: PyTorch writes 18 and later" in refused([kdsr, out, "--opset", "17"], capsys)
    assert "nothing: no such file" in refused(["nothing", out], capsys)
    assert "int8 replaces fp32 only; leave fp16 out" in refused([kdsr, out, "--dtype", "fp16", "--int8", kdsr], capsys)
    assert "out.param: --int8 writes ONNX" in refused([kdsr, str(tmp_path / "out.param"), "--int8", kdsr], capsys)
    srmd = {"type": "SRMDNet", "num_feat": 8, "num_block": 3, "idr_ch": 8}
    srmd = BlindSR({"type": "KDIDEStudent", "num_feat": 8, "num_block": 1}, srmd)
    Checkpoint(srmd.state_dict(), srmd.config).save(tmp_path / "srmd.safetensors")
    with pytest.raises(UserError, match="its restorer has no body of 3x3 convolutions for int8; leave int8 out"):
        export_onnx.export_onnx(tmp_path / "srmd.safetensors", out, int8=photos)
    (tmp_path / "srmd.safetensors").unlink()
    assert "none: no such" in refused([kdsr, out, "--int8", str(tmp_path / "none")], capsys)
    (tmp_path / "taken_estimator.onnx").mkdir()
    assert "taken_estimator.onnx: a folder" in refused([kdsr, str(tmp_path / "taken.onnx"), "--split"], capsys)
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as if it were not installed
    assert "pip install 'lightbsr-arch[onnx]'" in refused([kdsr, out], capsys)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["taken_estimator.onnx", "teacher.safetensors"]


def test_a_file_that_differs_is_not_written(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(TOLERANCE, "fp32", 0.0)
    with pytest.raises(UserError, match=r"out.onnx: not written: onnxruntime differs from PyTorch by \d"):
        export_onnx.export_onnx(folder / "kdsr.safetensors", tmp_path / "out.onnx")
    assert not [*tmp_path.iterdir()]
