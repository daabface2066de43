"""Every command that reads a network imports the installed plug-ins first."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

from lightbsr.commands import main
from lightbsr_arch.archs import BlindSR
from tests.config.test_cross_checks import PLAIN
from tests.models.helpers import kdsr
from tests.training.test_command import make_plugin

EXAMPLE = Path(__file__).parents[2] / "examples/own_estimator.py"
NETWORK = {key: value for key, value in kdsr("student").items() if key != "type"}
NETWORK["estimator"] = {"type": "DetailEstimator", "num_feat": 8}


def forget() -> None:
    """Make the plug-in one that nothing has imported yet."""
    sys.modules.pop("own_estimator", None)
    ARCH_REGISTRY._obj_map.pop("DetailEstimator", None)


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlindSR]:
    """The network of ``net.pth``, whose estimator belongs to an installed plug-in; ``photos`` holds three pictures."""
    monkeypatch.chdir(tmp_path)
    site = tmp_path / "site"
    site.mkdir()
    make_plugin(site, "own_estimator", EXAMPLE.read_text(encoding="utf-8"))
    monkeypatch.syspath_prepend(site)
    forget()
    import_module("own_estimator")
    torch.manual_seed(0)
    network = BlindSR(**NETWORK).eval()
    torch.save({"params": network.state_dict()}, "net.pth")
    Path("photos").mkdir()
    for number in range(3):
        cv2.imwrite(f"photos/{number}.png", np.random.default_rng(number).integers(0, 256, (48, 40, 3), np.uint8))
    forget()
    yield network
    forget()


def test_upscale(network: BlindSR) -> None:
    assert main(["upscale", "photos/0.png", "-o", "out.png", "-m", "net.pth", "--device", "cpu", "-q"]) == 0
    lq = torch.from_numpy(cv2.imread("photos/0.png")[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        expected = (network(lq)[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()[..., ::-1]
    assert np.abs(cv2.imread("out.png").astype(int) - expected).max() <= 1


def test_convert(network: BlindSR, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "net.pth", "net.safetensors"]) == 0
    assert capsys.readouterr().out.startswith("net.safetensors: DetailEstimator(num_feat=8) + IDRDCRBNet(")


def test_idr(network: BlindSR, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="extra idr")
    pytest.importorskip("matplotlib", reason="extra idr")
    levels = ["--factors", "sigma", "--sigma", "0.5", "4", "--crop", "32", "--crops", "2"]
    assert main(["idr", "net.pth", "--images", "photos", *levels]) == 0
    assert "PSNR-Y" in capsys.readouterr().out
    assert Path("idr.json").is_file()


def test_export(network: BlindSR) -> None:
    pytest.importorskip("onnxscript", reason="extra onnx")
    assert main(["export", "net.pth", "net.onnx"]) == 0
    assert Path("net.onnx").is_file()


def test_bench(network: BlindSR, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["-m", "net.pth", "--images", "photos", "--degradations", "bicubic", "--scale", "2", "--no-cost"]
    assert main(["bench", *flags, "--device", "cpu"]) == 0
    assert "net" in Path("results/bench/results.csv").read_text(encoding="utf-8")


def test_options(network: BlindSR, capsys: pytest.CaptureFixture[str]) -> None:
    section = "network_g: {type: BlindSR, estimator: {type: DetailEstimator, num_feat: wide}}\n"
    Path("a.yml").write_text(PLAIN.replace(PLAIN[PLAIN.index("network_g:") : PLAIN.index("path:")], section))
    assert main(["options", "a.yml"]) == 1
    assert "network_g.estimator.num_feat: expected a whole number, found the text 'wide'" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["upscale photos/0.png -o out.png", "convert net.pth net.safetensors"])
def test_a_plug_in_that_cannot_be_imported_is_named(
    command: str, network: BlindSR, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("site/own_estimator.py").write_text("import nothing_of_this_name\n")
    assert main(command.split()) == 2
    assert "BasicSR plugin own_estimator of own_estimator 1.2 cannot be imported: " in capsys.readouterr().err
