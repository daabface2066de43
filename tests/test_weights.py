"""The shipped weights have correct cards, estimate the blur, and restore pictures that were not used in training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_psnr
from basicsr.utils import tensor2img
from PIL import Image

import lightbsr_arch
from lightbsr import shipped
from lightbsr.commands import main as lightbsr
from lightbsr_arch.checkpoint import read_checkpoint
from lightbsr_arch.config.merge import read_options
from lightbsr_arch.data import DegradedDataset
from lightbsr_arch.degradations import bicubic_resize

ROOT = Path(__file__).parents[1]
SET5 = ROOT.parent / "shared/data/benchmarks/Set5"
BLUR: list[dict[str, float]] = [{"sigma": 2.2}]
SETTINGS: dict[str, str | list[dict[str, float]]] = {
    "kdsr_s_x4_iso": BLUR,
    "kdsr_srmd_x4_iso": BLUR,
    "lightbsr_s_x4_iso": BLUR,
    "kdsr_s_x4_real": "second-order",
    "kdsr_s_x4_texture": "second-order",
    "kdsr_s_x4_control": "second-order",
    "kdsr_s_x4_photo": [{"sigma": 1.2, "noise": 4, "jpeg": 80}],
    "kdsr_s_x2_iso": [{"sigma": 1.2}],
    "kdsr_s_x2_photo": [{"sigma": 0.6, "noise": 4, "jpeg": 80}],
}
TEACHER = "kdsr_s_x4_iso_teacher"
GAIN = {
    "kdsr_s_x4_iso": 3.5,
    "kdsr_srmd_x4_iso": 4.0,
    "lightbsr_s_x4_iso": 3.5,
    "kdsr_s_x4_real": 0.5,
    "kdsr_s_x4_texture": 0.5,
    "kdsr_s_x4_control": 0.3,
    "kdsr_s_x4_photo": 0.9,
    "kdsr_s_x2_iso": 3.5,
    "kdsr_s_x2_photo": 0.5,
}
"""Smallest gain over bicubic in dB on Set5, under the degradation that each is for."""


def test_the_shipped_weights_are_these() -> None:
    assert shipped.names() == sorted([*GAIN, TEACHER])
    assert shipped.default_name() == "kdsr_s_x4_photo"
    names = ["kdsr_s_x2_photo", "kdsr_s_x2_photo", "kdsr_s_x4_photo", "kdsr_s_x4_photo", "kdsr_s_x4_photo"]
    assert [shipped.default_name(outscale) for outscale in (1.5, 2, 2.1, 4, 7.5)] == names


@pytest.mark.parametrize("name", [*GAIN, TEACHER])
def test_card_is_true(name: str) -> None:
    path = shipped.find_weights(name)
    assert path.stat().st_size <= 12_000_000
    checkpoint = read_checkpoint(path)
    card = checkpoint.card
    assert {value.dtype for value in checkpoint.state.values() if value.dim()} == {torch.float16}
    assert card["params"] == sum(p.numel() for p in checkpoint.build().parameters())

    recipe = read_options(ROOT / card["recipe"]).data
    recipe["network_g"]["estimator"].pop("init", None)  # irrelevant for trained weights
    assert {"type": "BlindSR", **checkpoint.network} == recipe["network_g"]
    assert card["degradation"] == recipe["degradation"]
    assert list(card["iterations"].values())[-1] == recipe["train"]["total_iter"]
    if "pretrain_network_teacher" in recipe["path"]:
        stage_before = name.replace("texture", "real")
        assert recipe["path"]["pretrain_network_teacher"].split("/")[1] == f"weights_{stage_before}_teacher"

    text = path.with_suffix(".md").read_text(encoding="utf-8")
    figures = card["psnr_y"]["gaussian8"]
    assert [*figures] == ["Set5", "Set14", "BSD100"]
    table = text.partition("\ngaussian8 (")[2].partition("\nsetting1 (")[0].splitlines()
    assert "| | Set5 | Set14 | BSD100 |" in table
    assert f"| {name} | {' | '.join(f'{figure:.2f}' for figure in figures.values())} |" in table
    assert "CC BY-SA 4.0" in text


@pytest.mark.parametrize("name", [name for name in GAIN if "_x4_" in name])
def test_readme_shows_the_figures_of_the_cards(name: str) -> None:
    card = read_checkpoint(shipped.find_weights(name)).card["psnr_y"]
    blur = " / ".join(f"{figure:.2f}" for figure in card["gaussian8"].values())
    real = " / ".join(f"{figures[0]:.2f}" for figures in card["second-order"].values())
    lines = (ROOT / "README.md").read_text(encoding="utf-8").replace("**", "").splitlines()
    [line] = [line for line in lines if line.startswith(f"| `{name}`")]
    assert line.split("|")[3:5] == [f" {blur} ", f" {real} "]


def gain(name: str, pictures: Path, side: int | None = None, settings: Any = None) -> float:
    """Return the mean gain over bicubic in dB for a folder, with ``side`` x ``side`` pixels of each picture or all."""
    model = lightbsr_arch.load(name)
    scale = model.scale
    options = {"name": pictures.name, "dataroot_gt": str(pictures), "io_backend": {"type": "disk"}, "scale": scale}
    dataset = DegradedDataset({**options, "settings": settings or SETTINGS[name]})
    gains = []
    for item in (dataset[index] for index in range(len(dataset))):
        small = side and side // scale
        lq, gt = item["lq"][None, :, :small, :small], item["gt"][None, :, :side, :side]
        with torch.inference_mode():
            images = [tensor2img(image) for image in (model(lq), bicubic_resize(lq, scale), gt)]
        ours, bicubic = (calculate_psnr(image, images[2], scale, test_y_channel=True) for image in images[:2])
        gains.append(ours - bicubic)
    return sum(gains) / len(gains)


@pytest.mark.slow
@pytest.mark.parametrize("name", GAIN)
def test_photos_of_the_demo_gain(name: str) -> None:
    least = 2 if GAIN[name] > 1 else 0.3  # blur alone is easier to remove
    assert gain(name, ROOT / "examples/photos/held_out", 128) > least


@pytest.mark.slow
@pytest.mark.parametrize("name", GAIN)
def test_unseen_pictures_gain(name: str) -> None:
    if not SET5.is_dir():
        pytest.skip(f"{SET5} holds no Set5 here")
    assert gain(name, SET5) > GAIN[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kdsr_s_x4_iso", "kdsr_s_x4_iso_teacher", "kdsr_srmd_x4_iso", "lightbsr_s_x4_iso"])
def test_the_idr_tells_blurs_apart_and_the_restorer_uses_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = ["--images", str(ROOT / "examples/photos/held_out"), "--crops", "2", "-o", str(tmp_path / "idr.png")]
    sigmas = ["--factors", "sigma", "--sigma", "0.5", "1.5", "2.5", "3.5"]
    assert lightbsr(["idr", name, *photos, *sigmas, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["models"][name]["figures"]["sigma"]
    assert figures["knn"] > 0.5  # chance is 0.25
    assert figures["r2"] > 0.8
    assert figures["mean_costs"] > 0.3
    assert figures["wrong_costs"] > 1


@pytest.mark.parametrize("name", GAIN)
def test_dithered_pictures_give_images(name: str) -> None:
    """Without a limit of the IDR's norm, the outputs of four of the networks are far outside of these bounds."""
    photo = Image.open(sorted((ROOT / "examples/photos/held_out").iterdir())[0]).convert("RGB")
    dithered = photo.resize((64, 64), Image.Resampling.LANCZOS).convert("1")
    lq = torch.from_numpy(np.array(dithered, np.float32)).expand(1, 3, -1, -1)
    with torch.inference_mode():
        sr = lightbsr_arch.load(name)(lq)
    assert -1.5 < sr.min() < 0.2
    assert 0.8 < sr.max() < 2.5


@pytest.mark.slow
def test_the_default_keeps_good_photos() -> None:
    """Weights for very poor photos lose to bicubic here."""
    for setting in ({"sigma": 0}, {"sigma": 0, "jpeg": 90}, {"sigma": 0, "noise": 4}):
        assert gain(shipped.default_name(), ROOT / "examples/photos/held_out", 128, [setting]) > 0.25
    # Here kdsr_s_x4_real gains more than 0.3 dB.
    assert gain(shipped.default_name(), ROOT / "examples/photos/held_out", 128, "second-order") > 0.15


@pytest.mark.slow
@pytest.mark.parametrize(("name", "knn", "costs"), [("kdsr_s_x4_real", 0.2, 0.1), ("kdsr_s_x4_photo", 0.4, 0.2)])
def test_the_idr_of_real_photos_tells_second_order_degradations_apart(
    name: str, knn: float, costs: float, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = ["--images", str(ROOT / "examples/photos/held_out"), "--crops", "2", "-o", str(tmp_path / "idr.png")]
    assert lightbsr(["idr", name, *photos, "--factors", "second-order", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["models"][name]["figures"]["second-order"]
    assert figures["knn"] > knn  # chance is 0.125
    assert figures["degradation"] > 0.1  # 0.000 for a dead IDR
    assert figures["wrong_costs"] > costs
