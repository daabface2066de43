"""``lightbsr models`` and the default weights."""

import json
import subprocess
import sys

import pytest

from lightbsr import shipped
from lightbsr.commands import main
from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import Checkpoint
from tests.inference.networks import IDRDCRBNET, network


def card(scale: int, set5: float) -> dict[str, object]:
    return {
        "summary": "KDSR, small",
        "scale": scale,
        "params": 617123,
        "data": "41 photos",
        "licence": "Unsplash licence",
        "degradation": {"type": "ClassicalDegradation", "kernel": "iso", "sigma": [0.2, 4.0]},
        "psnr_y": {"gaussian8": {"Set5": set5, "Set14": 26.5}, "setting1": {"Set5": [30.1, 29.5, 28.25, 27.0]}},
    }


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def three(weights):
    for name, scale, set5 in (("good_x4", 4, 28.9), ("poor_x4", 4, 27.0), ("good_x2", 2, 33.3)):
        net = network("kdsr", scale)
        Checkpoint(net.state_dict(), net.config, card(scale, set5)).save(weights / f"{name}.safetensors")
    teacher = BlindSR({"type": "KDIDETeacher", "num_feat": 16}, IDRDCRBNET)
    Checkpoint(teacher.state_dict(), teacher.config, card(4, 40.0)).save(weights / "teacher_x4.safetensors")
    return weights


def test_the_default_is_the_best_student_of_the_largest_scale(three):
    assert shipped.students() == ["good_x2", "good_x4", "poor_x4"]
    assert shipped.default_name() == "good_x4"


def test_weights_for_real_pictures_go_before_those_for_blur_alone(three):
    net = network("kdsr", 4)
    for_real = {**card(4, 26.0), "degradation": {"type": "SecondOrderDegradation", "gt_usm": True}}
    Checkpoint(net.state_dict(), net.config, for_real).save(three / "real_x4.safetensors")
    assert shipped.default_name() == "real_x4"
    parts = [{"type": "ClassicalDegradation", "sigma": [0.2, 4.0]}, {"type": "SecondOrderDegradation"}]
    for_all = {**card(4, 25.0), "degradation": {"type": "MixedDegradation", "prob": [1, 3], "parts": parts}}
    Checkpoint(net.state_dict(), net.config, for_all).save(three / "mixed_x4.safetensors")
    assert shipped.default_name() == "mixed_x4"
    phrase = "MixedDegradation of 25% ClassicalDegradation, 75% SecondOrderDegradation"
    assert shipped.degradation_text(for_all["degradation"]) == phrase


def test_weights_without_figures_come_last(weights):
    net = network("kdsr", 4)
    Checkpoint(net.state_dict(), net.config).save(weights / "a.safetensors")
    Checkpoint(net.state_dict(), net.config, card(4, 20.0)).save(weights / "b.safetensors")
    assert shipped.default_name() == "b"


def test_as_text(three, capsys):
    assert main(["models"]) == 0
    size = (three / "good_x4.safetensors").stat().st_size / 1e6
    text = capsys.readouterr().out
    assert (
        f"good_x4 (default): KDSR, small\n"
        f"  x4, 0.62 M parameters, {size:.1f} MB\n"
        "  degradation: ClassicalDegradation, kernel iso, sigma 0.2 to 4.0\n"
        "  data: 41 photos\n"
        "  licence: Unsplash licence\n"
        "  PSNR-Y, gaussian8: Set5 28.90, Set14 26.50\n"
        "  PSNR-Y, setting1: Set5 30.10/29.50/28.25/27.00\n"
    ) in text
    assert text.count("(default)") == 1


def test_as_json(three, capsys):
    assert main(["models", "--json"]) == 0
    models = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert list(models) == ["good_x2", "good_x4", "poor_x4", "teacher_x4"]
    assert models["good_x2"]["bytes"] == (three / "good_x2.safetensors").stat().st_size
    assert models["good_x2"]["psnr_y"]["gaussian8"]["Set5"] == 33.3
    assert models["good_x4"]["network"] == network("kdsr", 4).config
    assert [name for name, model in models.items() if model["default"]] == ["good_x4"]


def test_nothing_shipped(weights, capsys):
    assert main(["models"]) == 0
    assert capsys.readouterr().out == "no weights are shipped with this installation\n"
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    with pytest.raises(UserError, match="no weights are shipped"):
        shipped.default_name()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["models"], ["models", "--json"], ["models", "--help"]], ids=" ".join
)
def test_starts_without_pytorch(arguments):
    program = (
        f"import sys; from lightbsr.commands import main\ntry: code = main({arguments})\nexcept SystemExit: code = 0\n"
        "assert code == 0\nassert not {'torch', 'basicsr', 'numpy'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_ends_early_is_no_error() -> None:
    command = f"{sys.executable} -m lightbsr models | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", f"trap '' PIPE; {command}"], capture_output=True, text=True)
    assert done.returncode in (0, 141)
    assert done.stderr == ""
