"""The perceptual loss: its network, its layers, and the file of weights, which must be there before training starts."""

from pathlib import Path

import pytest

from lightbsr_arch.config.load import load_options
from tests.config.conftest import STUDENT, problems, write
from tests.config.test_mutations import line_of

LOSS = (
    "perceptual_opt: {type: PerceptualLoss, layer_weights: {conv1_2: 0.1, conv5_4: 1}, vgg_type: vgg19, criterion: l1}"
)
PERCEPTUAL = STUDENT.read_text().replace("\ntrain:\n", f"\ntrain:\n  {LOSS}\n")
LINE = f"options/student.yml:{line_of(LOSS, PERCEPTUAL)}: train.perceptual_opt"


@pytest.fixture(autouse=True)
def hub(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder of checkpoints."""
    monkeypatch.setenv("TORCH_HOME", str(run_folder / "home"))
    return run_folder / "home/hub/checkpoints"


def refusals(right: str = "", wrong: str = "", *overrides: str) -> list[str]:
    assert not right or LOSS.count(right) == 1
    write("options/student.yml", PERCEPTUAL.replace(LOSS, LOSS.replace(right, wrong) if right else LOSS))
    return problems("options/student.yml", *overrides)


def test_weights_that_are_missing(run_folder: Path, hub: Path) -> None:
    assert refusals() == [f"{LINE}: vgg-weights"]
    assert refusals("", "", "train:perceptual_opt=null") == []


def test_weights_that_are_damaged(run_folder: Path) -> None:
    write("experiments/pretrained_models/vgg16-397923af.pth", "half a download")
    assert refusals("vgg19", "vgg16", "train:perceptual_opt:layer_weights={conv5_3: 1}") == [f"{LINE}: vgg-weights"]


@pytest.mark.parametrize(
    ("right", "wrong", "refusal"),
    [
        ("conv5_4", "conv5_6", ".layer_weights.conv5_6: unknown-key"),
        ("conv5_4", "bn5_4", ".layer_weights.bn5_4: unknown-key"),
        ("vgg19", "vgg16", ".layer_weights.conv5_4: unknown-key"),
        ("vgg19", "vgg17", ".vgg_type: invalid-value"),
        ("criterion: l1", "criterion: l2", ".criterion: invalid-value"),
        ("layer_weights", "layer_weigths", ".layer_weigths: unknown-key"),
    ],
)  # fmt: skip
def test_refused_before_weights_are_read(hub: Path, right: str, wrong: str, refusal: str) -> None:
    for name in ("vgg16-397923af.pth", "vgg19-dcbb9e9d.pth"):
        write(str(hub / name), "half a download")
    assert refusals(right, wrong) == [LINE + refusal]


def test_testing_needs_no_weights(run_folder: Path) -> None:
    train, val = PERCEPTUAL.index("  train:\n    name"), PERCEPTUAL.index("  val:\n    name")
    text = PERCEPTUAL[:train] + PERCEPTUAL[val:].replace("  val:\n    name", "  test_1:\n    name", 1)
    text = text.replace("val:\n  val_freq", "val:\n  suffix: x\n  val_freq")
    text = text.replace("\npath:", "\npath:\n  pretrain_network_g: net.pth")
    write("net.pth", "")
    write("options/student.yml", text)
    assert load_options("options/student.yml", is_train=False)["train"]["perceptual_opt"]["vgg_type"] == "vgg19"


@pytest.mark.parametrize(
    ("option", "refusal"),
    [
        ("pixel_opt: {type: EfficientNetLoss}", "type: not-a-pixel-loss"),
        ("perceptual_opt: {type: L1Loss}", "type: not-a-perceptual-loss"),
        ("perceptual_opt: {type: EfficientNetLoss, shift: 40}", "shift: invalid-value"),
        ("perceptual_opt: {type: EfficientNetLoss, stage_weights: [1, 1]}", "stage_weights: invalid-value"),
    ],
)
def test_features_of_another_network(run_folder: Path, option: str, refusal: str) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra efficientnet")
    name, _, value = option.partition(": ")
    (line,) = problems("options/student.yml", f"train:{name}={value}")
    assert line.partition("_opt.")[2] == refusal
