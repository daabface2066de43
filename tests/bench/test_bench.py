"""``lightbsr bench``, from its options to its files."""

import csv
import json
import os
import sys
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.metrics import calculate_niqe, calculate_psnr, calculate_ssim
from basicsr.utils import tensor2img
from basicsr.utils.registry import ARCH_REGISTRY
from PIL import Image
from safetensors.torch import save_file

import lightbsr_arch
from lightbsr.commands import main
from lightbsr.errors import UserError
from lightbsr_arch.analysis.idr import factor, measure_use, read_idrs
from lightbsr_arch.analysis.measures import neighbour_accuracy, regression_r2
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.bench.config import read_config
from lightbsr_arch.bench.cost import count_macs, measure
from lightbsr_arch.bench.models import ModelSpec
from lightbsr_arch.bench.pairs import Pair
from lightbsr_arch.data import DegradedDataset
from lightbsr_arch.data.gt_source import GTSource
from lightbsr_arch.degradations import DEGRADATION_REGISTRY, Parameters, bicubic_resize
from lightbsr_arch.degradations.classical import Degraded
from lightbsr_arch.option_types.problems import OptionsError
from tests.bench.toys import EDSR, edsr, pictures, student
from tests.config.messages import codes
from tests.corpus import too_deep

BENCHMARKS = Path(__file__).resolve().parents[3] / "shared" / "data" / "benchmarks"
FRACTION = {"cost": False, "metrics": ["psnr_y", "ssim_y"], "crops": 1}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bench(config, *flags):
    """Run a bench with these options. Return the exit code and results.json."""
    Path("bench.yml").write_text(yaml.safe_dump({**FRACTION, **config}, sort_keys=False))
    code = main(["bench", "bench.yml", "-o", "out", *flags])
    return code, json.loads(Path("out/results.json").read_text())


def figures(summary, model):
    return {row["dataset"]: row for row in summary["rows"] if row["model"] == model and "published" not in row}


@pytest.mark.slow
def test_figures_are_basicsrs(folder):
    hr = pictures(folder / "hr", 10, side=208, grain=3)
    config = {"models": ["bicubic"], "datasets": {"toy": str(hr)}, "metrics": ["psnr_y", "ssim_y", "niqe"]}
    code, summary = bench({**config, "degradations": {"mine": [{"sigma": 2.0}, {"sigma": [3.0, 1.0], "noise": 10}]}})
    assert code == 0
    settings = [{"sigma": 2.0}, {"sigma": [3.0, 1.0], "noise": 10}]
    options = {"name": "toy", "dataroot_gt": str(hr), "io_backend": {"type": "disk"}, "scale": 4, "settings": settings}
    wanted = {}
    for item in DegradedDataset(options):
        sr, gt = tensor2img(bicubic_resize(item["lq"][None], 4)), tensor2img(item["gt"])
        wanted[item["gt_path"], item["lq_path"].partition("_")[2].removesuffix(".png")] = {
            "psnr_y": calculate_psnr(sr, gt, crop_border=4, test_y_channel=True),
            "ssim_y": calculate_ssim(sr, gt, crop_border=4, test_y_channel=True),
            "niqe": calculate_niqe(sr, crop_border=4),
        }
    found = {(row["image"], row["condition"]): row for row in summary["images"]}
    assert found.keys() == wanted.keys()
    assert len(found) == 20
    for key, values in wanted.items():
        for name, value in values.items():
            assert found[key][name] == pytest.approx(value, abs=1e-6)
    mean = sum(values["psnr_y"] for values in wanted.values()) / 20
    assert figures(summary, "bicubic")["toy"]["psnr_y"] == pytest.approx(mean, abs=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason=f"the benchmarks' HR pictures: no {BENCHMARKS}")
def test_bicubic_is_as_measured_elsewhere(folder):
    config = {"models": ["bicubic"], "datasets": {"Set5": str(BENCHMARKS / "Set5")}, "degradations": ["setting1"]}
    code, summary = bench({**config, "metrics": ["psnr_y"]})
    assert code == 0
    found = [each["psnr_y"] for each in figures(summary, "bicubic")["Set5"]["conditions"]]
    assert found == pytest.approx([28.43, 27.69, 25.99, 24.45], abs=0.02)
    dasr = next(row for row in summary["rows"] if row["model"] == "DASR")
    assert dasr["published"] == "DASR, CVPR 2021, table 2; SSIM-Y: CdCL, TIP 2025, table I"
    assert [each["psnr_y"] for each in dasr["conditions"]] == [31.99, 31.92, 31.75, 30.59]
    assert "| DASR (published) | 5.84 |" in Path("out/table.md").read_text()


def test_a_second_run_computes_what_is_new_alone(folder, capsys):
    config = {"models": {"bicubic": "bicubic"}, "datasets": {"toy": str(pictures(folder / "hr", 3))}}
    assert bench(config)[0] == 0
    assert "24 pictures upscaled" in capsys.readouterr().out
    config["models"] |= {"ours": str(student(folder / "student.safetensors"))}
    _, both = bench(config)
    assert "24 pictures upscaled" in capsys.readouterr().out
    _, again = bench(config)
    assert "\n0 pictures upscaled" in capsys.readouterr().out
    assert again["rows"] == both["rows"]

    (folder / "hr" / "01.png").write_bytes((folder / "hr" / "00.png").read_bytes())  # a known picture replaces it
    bench(config)
    assert "\n0 pictures upscaled" in capsys.readouterr().out
    student(folder / "student.safetensors", seed=1)
    bench(config)
    assert "24 pictures upscaled" in capsys.readouterr().out


@ARCH_REGISTRY.register()
class ToyStopped(torch.nn.Module):
    """Presses Ctrl-C at the sixth picture of the process."""

    calls = count(1)

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, lq):
        if next(self.calls) == 6:
            raise KeyboardInterrupt
        return self.gain * lq.repeat_interleave(4, -1).repeat_interleave(4, -2)


def test_an_interrupted_run_goes_on(folder, capsys):
    torch.save({"params": {"gain": torch.ones(1)}}, "toy.pth")
    models = {"toy": {"network": {"type": "ToyStopped"}, "weights": "toy.pth"}}
    config = {"models": models, "datasets": {"toy": str(pictures(folder / "hr", 1))}}
    Path("bench.yml").write_text(yaml.safe_dump({**FRACTION, **config}))
    assert main(["bench", "bench.yml", "-o", "out"]) == 130
    assert "the same command continues from there" in capsys.readouterr().err
    code, summary = bench(config)
    assert code == 0
    upscaled = int(capsys.readouterr().out.rpartition(" pictures upscaled")[0].split()[-1])
    assert 3 <= upscaled < 8  # the last few may not have been measured yet
    assert len(summary["images"]) == 8


def test_a_broken_model_and_a_broken_picture_are_reported_and_the_rest_goes_on(folder, capsys):
    hr = pictures(folder / "hr", 3)
    whole = (hr / "02.png").read_bytes()
    (hr / "02.png").write_bytes(whole[: len(whole) // 2])
    Path("broken.pth").write_bytes(b"no checkpoint")
    torch.save({"params": build_network({**EDSR, "upscale": 2}).state_dict()}, "x2.pth")
    models = {
        "bicubic": "bicubic",
        "broken": "broken.pth",
        "x2": {"network": {**EDSR, "upscale": 2}, "weights": "x2.pth"},
        "EDSR": {"network": EDSR, "weights": str(edsr(folder / "edsr.pth"))},
    }
    code, summary = bench({"models": models, "datasets": {"toy": str(hr)}, "degradations": ["bicubic"]})
    assert code == 1
    errors = {model: figures(summary, model)["toy"]["errors"] for model in models}
    assert len(errors["bicubic"]) == 1
    assert "02.png: cut short or damaged" in errors["bicubic"][0]
    assert errors["broken"][0] == "broken.pth: no checkpoint, or one that is cut short; get the file again"
    assert "00.png: returns a picture of 32x32, expected 64x64; its scale may differ" in errors["x2"]
    assert summary["datasets"] == {"toy": 3}
    assert {row["model"] for row in summary["images"]} == {"bicubic", "EDSR"}
    assert len(summary["images"]) == 4
    assert "02.png: cut short" in capsys.readouterr().err


def test_a_picture_of_any_size_is_measured_or_named(folder, capsys):
    hr = pictures(folder / "hr", 1)
    for name, size in {"3x3": (3, 3), "300x1": (300, 1), "8x8": (8, 8), "300x8": (300, 8), "16x16": (16, 16)}.items():
        Image.effect_noise(size, 60).convert("RGB").save(hr / f"{name}.png")
    code, summary = bench({"models": ["bicubic"], "datasets": {"toy": str(hr)}, "degradations": ["bicubic"]})
    assert code == 1
    errors = figures(summary, "bicubic")["toy"]["errors"]
    assert errors == [
        "300x1.png: 300x1 pixels, too small for x4; leave it out",
        "300x8.png: 300x8 pixels, not larger than a border of 4; leave it out",
        "3x3.png: 3x3 pixels, too small for x4; leave it out",
        "8x8.png: 8x8 pixels, not larger than a border of 4; leave it out",
    ]
    assert [(row["image"], "psnr_y" in row, "ssim_y" in row) for row in summary["images"]] == [
        ("00.png", True, True),
        ("16x16.png", True, False),
    ]
    assert summary["notes"] == ["SSIM needs 11x11 pixels inside a border of 4, this picture has 16x16"]


def test_whatever_a_picture_raises_is_named_and_the_rest_goes_on(folder, capsys):
    hr = pictures(folder / "hr", 2)
    too_deep(hr)
    config = {"models": ["bicubic"], "datasets": {"toy": str(hr)}, "degradations": {"odd": {"type": "ToyRaises"}}}
    code, summary = bench(config)
    assert code == 1
    raised, unread = figures(summary, "bicubic")["toy"]["errors"]
    assert raised.startswith("00.png: ZeroDivisionError: ")
    assert unread.endswith("d: cannot be listed (File name too long)")
    assert [row["image"] for row in summary["images"]] == ["01.png"]


@DEGRADATION_REGISTRY.register()
class ToyRaises:
    """Raises an unexpected error at the first picture of the process."""

    calls = count(0)

    def __init__(self, scale: int) -> None:
        self.scale = scale

    def __call__(self, gt, draws):
        1 % next(self.calls)
        return Degraded(bicubic_resize(gt, 1 / self.scale), None, gt, gt)


def strict_json(text):
    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_an_infinite_psnr_is_left_out_of_all_means_and_said(folder):
    hr = pictures(folder / "hr", 2)
    Image.new("RGB", (64, 64), (90, 90, 90)).save(hr / "flat.png")
    models = {"bicubic": "bicubic", "EDSR": {"network": EDSR, "weights": str(edsr(folder / "edsr.pth"))}}
    code, _ = bench({"models": models, "datasets": {"toy": str(hr)}, "degradations": ["bicubic"]})
    assert code == 0
    summary = strict_json(Path("out/results.json").read_text())
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert strict_json(page.partition('id="data">')[2].partition("</script>")[0])["rows"] == summary["rows"]
    psnr = {(row["model"], row["image"]): row["psnr_y"] for row in summary["images"]}
    assert psnr["bicubic", "flat.png"] is None
    assert psnr["EDSR", "flat.png"] > 0
    for model in models:
        mean = (psnr[model, "00.png"] + psnr[model, "01.png"]) / 2
        assert figures(summary, model)["toy"]["psnr_y"] == pytest.approx(mean)
    (note,) = summary["notes"]
    assert note.startswith("PSNR-Y of flat.png in toy is infinite")
    assert note in Path("out/table.md").read_text()


def test_nothing_but_flat_pictures_gives_a_report_too(folder):
    (folder / "hr").mkdir()
    Image.new("RGB", (64, 64), (90, 90, 90)).save(folder / "hr/flat.png")
    code, summary = bench({"models": ["bicubic"], "datasets": {"toy": "hr"}, "degradations": ["bicubic"]})
    assert code == 0
    assert [metric["name"] for metric in summary["metrics"]] == ["ssim_y"]
    assert "| bicubic | 1.0000 |" in Path("out/table.md").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere take UTF-8 alone")
def test_names_that_are_no_utf8(folder, capsys):
    data = (pictures(folder / "hr", 1) / "00.png").read_bytes()
    strange = Path(os.fsdecode(b"caf\xe9"))
    strange.mkdir()
    (strange / os.fsdecode(b"\xff.png")).write_bytes(data)
    (strange / os.fsdecode(b"\xfe.png")).write_bytes(data[:100])
    arguments = ["-m", "bicubic", "--images", str(strange), "--degradations", "bicubic", "--no-cost"]
    assert main(["bench", *arguments, "-o", str(strange / "out")]) == 1
    for name in ("table.md", "results.csv", "results.json", "report.html"):
        (strange / "out" / name).read_text(encoding="utf-8")
    summary = json.loads((strange / "out" / "results.json").read_text())
    assert summary["datasets"] == {r"caf\udce9": 2}
    assert [row["image"] for row in summary["images"]] == [r"\udcff.png"]
    assert r"caf\udce9/\udcfe.png: cut short or damaged" in summary["rows"][0]["errors"][0]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", r"a\|b"),
        ("<b>x<b>", r"\<b\>x\<b\>"),
        ("[x](y)", r"\[x\](y)"),
        ("*a* _b_ `c` ~d~ $e$ #f &amp;", r"\*a\* \_b\_ \`c\` \~d\~ \$e\$ \#f \&amp;"),
        ("two\nlines\r\n| x |", r"two\\nlines\\r\\n\| x \|"),
        ("back\\slash|", r"back\\slash\|"),
        ("kdsr_s_x4", "kdsr_s_x4"),
    ],
)
def test_names_of_pictures_are_shown_as_they_are_in_markdown(name, shown, folder, capsys):
    (pictures(folder / "hr", 1) / f"{name}.png").write_bytes(b"")
    code, _ = bench({"models": ["bicubic"], "datasets": {"toy": "hr"}, "degradations": ["bicubic"]})
    assert code == 1
    last = Path("out/table.md").read_text().splitlines()[-1]
    assert last.startswith(r"\* bicubic on toy, bicubic: ")
    assert last.endswith(f"/{shown}.png: empty file")
    assert capsys.readouterr().err.splitlines()[-1].startswith("bicubic on toy, bicubic: ")


def test_names_of_ones_own_are_shown_as_they_are_in_markdown(folder):
    hr, name = pictures(folder / "hr", 1), "a|*b*"
    bench({"models": {name: "bicubic"}, "datasets": {name: str(hr)}, "degradations": {name: "bicubic"}})
    lines = Path("out/table.md").read_text().splitlines()
    assert lines[0] == r"## a\|\*b\*, x4"
    assert lines[2].endswith(r"| a\|\*b\* PSNR-Y | a\|\*b\* SSIM-Y |")
    assert lines[4].startswith(r"| a\|\*b\* | 40.")


def test_basicsrs_network_takes_the_moving_average(folder):
    spec = ModelSpec("EDSR", str(edsr(folder / "edsr.pth")), EDSR)
    net = build_network(dict(EDSR))
    net.load_state_dict(torch.load(folder / "edsr.pth")["params_ema"])
    loaded = spec.load(4, torch.device("cpu")).net.state_dict()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(loaded[name], value, rtol=0, atol=0)
    save_file(net.state_dict(), "edsr.safetensors")
    loaded = ModelSpec("EDSR", "edsr.safetensors", EDSR).load(4, torch.device("cpu")).net.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in net.state_dict().items())
    torch.save({"params": {name: value.to(torch.int8) for name, value in net.state_dict().items()}}, "int8.pth")
    with pytest.raises(UserError, match=r"int8\.pth: \w\S+ is of int8, expected floating-point numbers"):
        ModelSpec("EDSR", "int8.pth", EDSR).load(4, torch.device("cpu"))


def test_self_ensemble_is_an_option_of_a_model(folder):
    weights = str(edsr(folder / "edsr.pth"))
    models = {"EDSR": {"network": EDSR, "weights": weights}}
    models["EDSR+"] = {**models["EDSR"], "self_ensemble": True}
    models["teacher+"] = {"weights": "kdsr_s_x4_iso_teacher", "self_ensemble": True}
    config = {"models": models, "datasets": {"toy": str(pictures(folder / "hr", 1))}, "degradations": ["bicubic"]}
    code, summary = bench(config)
    assert code == 1
    assert "a teacher's extra input" in figures(summary, "teacher+")["toy"]["errors"][0]

    upscaler = ModelSpec("EDSR", weights, EDSR).load(4, torch.device("cpu"))
    hr = cv2.imread("hr/00.png")
    gt = torch.from_numpy(hr[:64, :64, ::-1].transpose(2, 0, 1).copy()).float()[None] / 255
    lq = bicubic_resize(gt, 0.25).mul(255).round().clamp(0, 255) / 255
    total = torch.zeros(1, 3, 64, 64)
    for k in range(4):
        for mirror in (False, True):
            turned = torch.rot90(lq.flip(-1) if mirror else lq, k, (-2, -1))
            back = torch.rot90(upscaler(Pair(turned, gt, None)), -k, (-2, -1))
            total += back.flip(-1) if mirror else back
    psnr = calculate_psnr(tensor2img(total / 8), tensor2img(gt), crop_border=4, test_y_channel=True)
    assert figures(summary, "EDSR+")["toy"]["psnr_y"] == pytest.approx(psnr, abs=1e-3)
    assert figures(summary, "EDSR")["toy"]["psnr_y"] != pytest.approx(psnr, abs=1e-3)


def test_an_onnx_file(folder):
    onnx = pytest.importorskip("onnx", reason="writes an ONNX file")
    pytest.importorskip("onnxruntime", reason="runs an ONNX file")
    shape = [1, 3, "height", "width"]
    images = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("lq", "sr")]
    scales = onnx.helper.make_tensor("scales", onnx.TensorProto.FLOAT, [4], [1, 1, 4, 4])
    rounding = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    node = onnx.helper.make_node("Resize", ["lq", "", "scales"], ["sr"], **rounding)
    graph = onnx.helper.make_graph([node], "nearest", images[:1], images[1:], [scales])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), "nearest.onnx")
    lq = torch.rand(1, 3, 12, 10)
    pair = Pair(lq, torch.rand(1, 3, 48, 40), Parameters(torch.zeros(1, 21, 21), torch.zeros(1)))
    sr = ModelSpec("nearest", "nearest.onnx").load(4, torch.device("cpu"))(pair)
    assert torch.equal(sr, lq.repeat_interleave(4, -1).repeat_interleave(4, -2))
    Path("half.onnx").write_bytes(Path("nearest.onnx").read_bytes()[:50])
    with pytest.raises(UserError, match=r"half\.onnx: onnxruntime cannot load it"):
        ModelSpec("half", "half.onnx").load(4, torch.device("cpu"))


def test_learned_metrics_say_what_they_lack(folder, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(folder))
    config = {"models": ["bicubic"], "datasets": {"toy": str(pictures(folder / "hr", 1))}, "degradations": ["bicubic"]}
    code, summary = bench({**config, "metrics": ["psnr_y", "lpips", "dists"]})
    assert code == 0
    assert [metric["name"] for metric in summary["metrics"]] == ["psnr_y"]
    assert [note.partition(" is not available: ")[0] for note in summary["notes"]] == ["LPIPS", "DISTS"]


def test_cost_counts_what_edsr_does(folder):
    cost = measure(ModelSpec("EDSR", str(edsr(folder / "edsr.pth")), EDSR), 4, torch.device("cpu"))
    lr_pixels = 180 * 320
    body = (3 * 8 + 3 * 8 * 8 + 8 * 32) * 9  # head, a block and the convolution after it, and the first upsampling step
    assert cost["macs"] == lr_pixels * (body + 4 * 8 * 32 * 9 + 16 * 8 * 3 * 9)
    assert cost["parameters"] == sum(parameter.numel() for parameter in build_network(dict(EDSR)).parameters())
    assert cost["latency"] > 0


@pytest.mark.parametrize(
    ("estimator", "restorer", "giga"),
    [
        ({"type": "KDIDEStudent", "num_feat": 64, "num_block": 9},
         {"type": "IDRDCRBNet", "num_feat": 64, "num_block": 53, "scale": 4}, 228.7),
        ({"type": "LightIDEStudent"}, {"type": "LightBSRNet", "scale": 4}, 182.5),
    ],
    ids=["KDSR-M", "LightBSR"],
)  # fmt: skip
def test_multiply_adds_are_the_published_networks(estimator, restorer, giga):
    with torch.device("meta"):
        net = BlindSR(estimator, restorer).eval()
        pair = Pair(torch.empty(1, 3, 180, 320), torch.empty(1, 3, 720, 1280), Parameters(*torch.empty(2, 1)))
    # The tail is applied before the last pixel shuffle. This saves memory and costs 1.2 G.
    assert count_macs(net, pair) == pytest.approx(giga * 1e9, rel=6e-3)


@pytest.mark.slow
def test_cost_is_measured_apart_and_once(folder, capsys):
    config = {"models": {"bicubic": "bicubic"}, "datasets": {"toy": str(pictures(folder / "hr", 1))}, "cost": True}
    _, first = bench({**config, "degradations": ["bicubic"]})
    (model,) = first["models"]
    assert 10 * 2**20 < model["memory"] < 500 * 2**20
    assert model["parameters"] == 0
    _, second = bench({**config, "degradations": ["bicubic"]})
    assert second["models"] == first["models"]  # latencies would differ if they were measured again


def test_tables_hold_every_row(folder):
    config = {"models": {"a|b": "bicubic"}, "datasets": {"toy": str(pictures(folder / "hr", 2))}}
    bench({**config, "degradations": ["gaussian8", "bicubic"]})
    lines = list(csv.DictReader(Path("out/results.csv").read_text().splitlines()))
    sigmas = ("1.8", "2", "2.2", "2.4", "2.6", "2.8", "3", "3.2")
    wanted = [("gaussian8", "mean"), *(("gaussian8", f"sigma{sigma}") for sigma in sigmas)]
    wanted += [("bicubic", "mean"), ("bicubic", "sigma0")]
    assert [(line["degradation"], line["condition"]) for line in lines] == wanted
    mean = sum(float(line["psnr_y"]) for line in lines[1:9]) / 8
    assert float(lines[0]["psnr_y"]) == pytest.approx(mean)
    assert f"| a\\|b | {mean:.2f} |" in Path("out/table.md").read_text()  # no columns for costs that were not measured


def test_a_published_model_of_some_conditions_has_no_row_but_a_line(folder):
    pictures(Path("Set14"), 1)
    bench({"models": ["bicubic"], "datasets": {"Set14": "Set14"}, "degradations": ["setting1"], "published": True})
    text = Path("out/table.md").read_text()
    assert "| DASR (published) | 5.84 | 28.17 |" in text
    (line,) = (line for line in text.splitlines() if line.startswith("Published for some of the conditions only"))
    assert "MRDA" in line
    assert "MRDA (published)" not in text


def test_a_registered_degradation_draws_the_same_every_time(folder, capsys):
    section = {"type": "ClassicalDegradation", "kernel": "aniso", "sigma": [0.5, 3.0], "noise": [5, 20]}
    config = {"models": ["bicubic"], "datasets": {"toy": str(pictures(folder / "hr", 2))}}
    _, first = bench({**config, "degradations": {"wild": section}})
    Path("out/cache.sqlite").unlink()
    _, second = bench({**config, "degradations": {"wild": section}})
    assert first["rows"] == second["rows"]
    assert len({row["psnr_y"] for row in first["images"]}) == 2


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("models: {a: missing.pth}", "2: models.a: unusable-model"),
        ("models: [bicubic, bicubic]", "2: models[1]: duplicate-name"),
        ("models: {a: {network: {type: EDSSR}, weights: x.pth}}", "2: models.a.network.type: unknown-type"),
        ("models: [bicubic]\ndatasets: {Set5: nowhere}", "3: datasets.Set5: unusable-dataset"),
        ("models: [bicubic]\ndatasets: {hr: hr}\nmetric: [psnr_y]", "4: metric: unknown-key"),
        ("models: [bicubic]\ndatasets: {hr: hr}\nscale: 5", "4: scale: invalid-value"),
        (
            "models: [bicubic]\ndatasets: {hr: hr}\ndegradations: {a: [{sigmas: 2}]}",
            "4: degradations.a[0].sigmas: unknown-key",
        ),
        ("models: !!python/object/apply:os.getcwd []", "2: forbidden-tag"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(folder, line, refusal):
    pictures(folder / "hr", 1)
    Path("bench.yml").write_text(f"# a bench\n{line}\n" + ("datasets: {hr: hr}\n" if "datasets" not in line else ""))
    with pytest.raises(OptionsError) as caught:
        read_config("bench.yml")
    assert codes(caught.value) == [f"bench.yml:{refusal}"]


def test_flags_and_file_exclude_each_other(folder, capsys):
    assert main(["bench", "bench.yml", "-m", "bicubic"]) == 2
    assert "bench.yml cannot be combined with flags (models)" in capsys.readouterr().err


def test_flags_alone(folder, capsys):
    pictures(folder / "hr", 1)
    run = folder / "experiments" / "my_run" / "models"
    run.mkdir(parents=True)
    torch.save({"params": lightbsr_arch.load(student(folder / "toy.safetensors")).state_dict()}, run / "net_g_5.pth")
    flags = ["-m", "bicubic", "experiments/my_run/models/net_g_5.pth", "--images", "hr", "--degradations", "setting1"]
    assert main(["bench", *flags, "--no-cost", "-o", "out"]) == 0
    summary = json.loads(Path("out/results.json").read_text())
    assert [model["name"] for model in summary["models"]] == ["bicubic", "my_run"]
    assert [each["sigma"] for each in summary["degradations"]["setting1"]] == [0.0, 1.2, 2.4, 3.6]
    assert "NIQE needs" in capsys.readouterr().out


def test_the_demo_photos_unless_told_otherwise(folder):
    assert main(["bench", "-m", "bicubic", "--no-cost", "-o", "out"]) == 0
    summary = json.loads(Path("out/results.json").read_text())
    assert summary["datasets"] == {"demo photos": 8}
    assert figures(summary, "bicubic")["demo photos"]["psnr_y"] == pytest.approx(25.02, abs=0.005)  # as in make demo


def test_the_documented_example_lacks_nothing_but_its_weights(folder):
    (folder / "datasets").mkdir()
    for name in ("Set5", "Set14"):
        pictures(folder / "datasets" / name, 1)
    real_pairs(folder)
    (folder / "datasets/DIV2KRK").mkdir()
    for name in ("gt", "lr_x4"):
        (folder / name).rename(folder / "datasets/DIV2KRK" / name)
    text = (Path(__file__).parents[2] / "docs" / "bench.md").read_text(encoding="utf-8")
    Path("bench.yml").write_text(text.partition("```yaml\n")[2].partition("```")[0])
    with pytest.raises(OptionsError) as caught:
        read_config("bench.yml")
    assert [problem.code for problem in caught.value.problems] == ["unusable-model"] * 4


def real_pairs(folder):
    """Write two x4 pairs with the names of DIV2KRK, whose LR pictures differ from all degradations here."""
    generator = np.random.default_rng(0)
    for number, (height, width) in {1: (48, 64), 2: (50, 66)}.items():
        coarse = generator.integers(0, 256, (6, 8, 3), np.uint8)
        hr = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        lr = hr[: height // 4 * 4 : 4, : width // 4 * 4 : 4] // 2 + 60
        for path, picture in ((f"gt/img_{number}_gt.png", hr), (f"lr_x4/im_{number}.png", lr)):
            (folder / path).parent.mkdir(exist_ok=True)
            cv2.imwrite(str(folder / path), picture)
    return {"gt": "gt", "lq": "lr_x4", "filename_tmpl": "im_{}", "gt_tmpl": "img_{}_gt"}


def test_real_pairs_are_measured_beside_made_ones(folder, capsys):
    config = {
        "models": ["bicubic"],
        "datasets": {"toy": str(pictures(folder / "hr", 1)), "DIV2KRK": real_pairs(folder)},
    }
    code, summary = bench({**config, "degradations": ["bicubic"]})
    assert code == 0
    wanted = []
    for number in (1, 2):
        hr, lr = (cv2.imread(path) for path in (f"gt/img_{number}_gt.png", f"lr_x4/im_{number}.png"))
        lq = torch.from_numpy(lr[..., ::-1].transpose(2, 0, 1).copy()).float()[None] / 255
        wanted.append(
            calculate_psnr(tensor2img(bicubic_resize(lq, 4)), hr[:48, :64], crop_border=4, test_y_channel=True)
        )
    found = {row["image"]: row["psnr_y"] for row in summary["images"] if row["dataset"] == "DIV2KRK"}
    assert found == pytest.approx({"img_1_gt.png": wanted[0], "img_2_gt.png": wanted[1]}, abs=1e-9)
    assert [(row["dataset"], row["degradation"]) for row in summary["rows"] if row["model"] == "bicubic"] == [
        ("toy", "bicubic"),
        ("DIV2KRK", "given LR"),
    ]
    assert figures(summary, "bicubic")["DIV2KRK"]["psnr_y"] == pytest.approx(sum(wanted) / 2, abs=1e-9)
    (dan,) = (row for row in summary["rows"] if row["model"] == "DANv2")
    assert (dan["psnr_y"], dan["ssim_y"]) == (28.74, 0.7893)

    capsys.readouterr()
    cv2.imwrite("lr_x4/im_1.png", np.zeros((12, 16, 3), np.uint8))  # the cache key depends on LR pixels
    _, changed = bench({**config, "degradations": ["bicubic"]})
    assert "\n1 pictures upscaled" in capsys.readouterr().out
    assert figures(changed, "bicubic")["DIV2KRK"]["psnr_y"] < sum(wanted) / 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"filename_tmpl": "{}"}, "img_1_gt.png has no LR picture 1.png in lr_x4; "),
        ({"gt_tmpl": "{}"}, "img_1_gt.png has no LR picture im_img_1_gt.png in lr_x4; "),
        ({"lq": "gone"}, "gone: no such folder"),
        ({"filename_tmpl": "im"}, "filename_tmpl: expected a file name with one {}"),
        ({"scale": 2}, "img_1_gt.png: HR 64x48 and LR 16x12, expected LR 32x24 for x2; "),
    ],
)
def test_pairs_that_do_not_match_are_named(change, text, folder):
    section = real_pairs(folder)
    scale = change.pop("scale", 4)
    config = {"scale": scale, "models": ["bicubic"], "datasets": {"DIV2KRK": {**section, **change}}}
    Path("bench.yml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError) as caught:
        read_config("bench.yml")
    (line,) = str(caught.value).splitlines()
    assert text in line
    assert line.startswith("bench.yml:")


def test_another_metric_needs_pyiqa_which_is_named_with_its_licence(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)  # as if it were not installed
    pictures(folder / "hr", 1)
    Path("bench.yml").write_text("models: [bicubic]\ndatasets: {hr: hr}\nmetrics: [psnr_y, musiq]\n")
    with pytest.raises(UserError) as caught:
        read_config("bench.yml")
    assert str(caught.value) == (
        "bench.yml:3: metrics[1]: musiq is not one of psnr_y, ssim_y, niqe, lpips, dists; pyiqa has more, for "
        "non-commercial use only (PolyForm Noncommercial 1.0.0): pip install pyiqa"
    )


def test_metrics_of_pyiqa_have_its_direction_and_its_figures(folder):
    pytest.importorskip("pyiqa", reason="metrics of pyiqa: pip install pyiqa")
    config = {"models": ["bicubic"], "datasets": {"toy": str(pictures(folder / "hr", 1))}, "degradations": ["bicubic"]}
    code, summary = bench({**config, "metrics": ["psnr_y", "psnr", "gmsd"]})  # neither metric has weights
    assert code == 0
    assert [(each["name"], each["better"]) for each in summary["metrics"]] == [
        ("psnr_y", "higher"), ("psnr", "higher"), ("gmsd", "lower"),
    ]  # fmt: skip
    assert "by pyiqa, on whole pictures; for non-commercial use only" in summary["notes"][0]
    assert 5 < figures(summary, "bicubic")["toy"]["psnr"] < 60


@pytest.mark.slow
def test_idrs_of_our_models_stand_in_the_report(folder):
    pytest.importorskip("sklearn", reason="figures of IDRs: pip install scikit-learn")
    hr = pictures(folder / "hr", 3, side=136)
    models = {"bicubic": "bicubic", "ours": str(student(folder / "student.safetensors"))}
    config = {"models": models, "datasets": {"toy": str(hr)}, "degradations": ["bicubic"], "idr": True}
    code, summary = bench(config)
    assert code == 0
    (idr,) = summary["idrs"]
    assert (idr["model"], idr["dataset"], idr["chance"]) == ("ours", "toy", 1 / 8)

    net, widths = lightbsr_arch.load(models["ours"]), factor("sigma", 4)
    readings = read_idrs({"ours": net}, [widths], GTSource(str(hr), "disk"), 128, 8)
    vectors = readings.vectors["ours"]["sigma"]
    use = measure_use(net, widths, readings.crops, vectors)
    assert idr["knn"] == neighbour_accuracy(vectors, readings.images)
    assert idr["r2"] == pytest.approx(regression_r2(vectors, readings.images, widths.levels))
    assert (idr["psnr_y"], idr["wrong_costs"]) == pytest.approx((use.psnr, use.wrong_costs))
    row = f"| ours | {use.psnr:.2f} | {idr['knn']:.0%} | {idr['r2']:.2f} | {use.wrong_costs:.2f} |"
    assert row in Path("out/table.md").read_text()
    assert bench(config)[1]["idrs"] == summary["idrs"]

    (hr / "02.png").unlink()
    code, summary = bench(config)
    assert (code, summary["idrs"]) == (0, [])
    assert summary["notes"] == [
        "IDR of ours: 2 of 2 images can be used, at least 3 are needed for training and testing of the classifiers"
    ]
