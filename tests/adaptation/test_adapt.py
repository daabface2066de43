"""Weights are tuned to pictures without ground truth."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lightbsr_arch
from lightbsr.commands import main as lightbsr
from lightbsr.errors import UserError
from lightbsr_arch.adaptation import KernelEstimator, adapt
from lightbsr_arch.adaptation.adapt import degraded_again, detail_weights
from lightbsr_arch.adaptation.kernel_estimator import KERNEL_SIZE, sigmas
from lightbsr_arch.checkpoint import read_checkpoint
from lightbsr_arch.data import DegradedDataset
from lightbsr_arch.degradations.kernels import gaussian_kernels

PHOTOS = Path(__file__).parents[2] / "examples/photos/held_out"
ODD_BLUR = {"sigma": [3.5, 1.2], "theta": 30}


class Told(nn.Module):
    """Returns a kernel that is known."""

    def __init__(self, kernel: torch.Tensor) -> None:
        super().__init__()
        self.known = kernel

    def kernel(self, lq: torch.Tensor) -> torch.Tensor:
        return self.known


def degraded(blur: dict[str, object], count: int = 1) -> list[dict[str, torch.Tensor]]:
    options = {"name": "photos", "dataroot_gt": str(PHOTOS), "io_backend": {"type": "disk"}, "scale": 4}
    dataset = DegradedDataset({**options, "settings": [blur]})
    return [dataset[index] for index in range(count)]


def psnr(model: nn.Module, lq: torch.Tensor, gt: torch.Tensor) -> float:
    with torch.inference_mode():
        error = (model(lq[None])[0].clamp(0, 1) - gt)[:, 4:-4, 4:-4]
    return float(-10 * error.square().mean().log10())


def test_the_degradation_of_the_ground_truth_is_the_picture() -> None:
    (item,) = degraded(ODD_BLUR)
    again = degraded_again(item["gt"][None], item["degradation"].kernel[None], 4)
    # The picture was rounded to 8 bit after the blur and after the downsampling.
    assert 255 * (again[0] - item["lq"]).abs().max() < 1.01
    assert 255 * (again[0] - item["lq"]).abs().mean() < 0.3


def test_detail_weighs_more_and_the_mean_weight_is_one() -> None:
    lq = torch.zeros(1, 3, 16, 16)
    lq[..., 8:] = 1
    weights = detail_weights(lq)
    assert weights.mean().item() == pytest.approx(1)
    assert weights[0, 0, 5, 2].item() == pytest.approx(0.5)
    assert weights[0, 0, 5, 8] > 3


def test_kernels_are_positive_and_strips_change_nothing() -> None:
    model = KernelEstimator.load()
    lq = torch.rand(1, 3, 50, 33, generator=torch.Generator().manual_seed(0))
    kernel = model.kernel(lq, rows=7)
    assert kernel.shape == (KERNEL_SIZE, KERNEL_SIZE)
    assert kernel.min() >= 0
    assert kernel.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(kernel, model(lq)[0].view(KERNEL_SIZE, KERNEL_SIZE), atol=1e-6)


@pytest.mark.parametrize(("sigma", "other"), [([1.2, 1.2], [3.0, 3.0]), ([3.5, 1.2], [1.2, 3.5])])
def test_the_estimate_is_nearer_to_the_blur_than_to_another(sigma: list[float], other: list[float]) -> None:
    item = degraded({"sigma": sigma})[0]
    kernel = KernelEstimator.load().kernel(item["lq"][None])
    right, wrong = (
        gaussian_kernels(*(torch.tensor([side]) for side in sigmas), torch.zeros(1), KERNEL_SIZE)[0]
        for sigmas in (sigma, other)
    )
    assert (kernel - right).abs().sum() < 0.7 * (kernel - wrong).abs().sum()


@pytest.mark.slow
@pytest.mark.parametrize("told", [True, False])
def test_a_blur_unlike_that_of_the_training_gains(told: bool) -> None:
    item = degraded(ODD_BLUR)[0]
    lq, gt = item["lq"][:, :64, :64], item["gt"][:, :256, :256]
    model = lightbsr_arch.load("kdsr_s_x4_iso")
    before = psnr(model, lq, gt)
    estimator = Told(item["degradation"].kernel) if told else KernelEstimator.load()
    done = adapt(model, [lq], estimator, steps=24)
    assert done.after < 0.8 * done.before
    assert psnr(model, lq, gt) > before + (0.1 if told else 0.05)


def test_the_same_seed_gives_the_same_weights() -> None:
    lq = degraded(ODD_BLUR)[0]["lq"][:, :24, :24]
    first = lightbsr_arch.load("kdsr_s_x4_iso")
    second = copy.deepcopy(first)
    for model in (first, second):
        adapt(model, [lq], KernelEstimator.load(), steps=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_small_picture_does_not_shrink_the_crops_of_others() -> None:
    (item,) = degraded(ODD_BLUR)
    seen: list[tuple[int, int]] = []
    model = lightbsr_arch.load("kdsr_s_x4_iso")
    model.register_forward_pre_hook(lambda _, inputs: seen.append((len(inputs[0]), inputs[0].shape[-1])))
    adapt(model, [item["lq"][:, :60, :60], item["lq"][:, :30, :24]], Told(item["degradation"].kernel), steps=6)
    crops = [side for count, side in seen for _ in range(count)]
    assert {*crops} == {24, 40}
    assert len(crops) == 6 * 4
    assert crops.count(40) > crops.count(24)  # pictures are chosen by their area


def write_lq(folder: Path, count: int = 1) -> None:
    folder.mkdir()
    for index, item in enumerate(degraded(ODD_BLUR, count)):
        pixels = (item["lq"][:, :40, :40].permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(folder / f"{index}.png")


def test_the_command_writes_weights_that_upscale_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lq(tmp_path / "in", 2)
    (tmp_path / "in/broken.png").write_bytes(b"no picture")
    Image.new("RGB", (15, 40)).save(tmp_path / "in/small.png")
    out = tmp_path / "mine.safetensors"
    assert lightbsr(["adapt", str(tmp_path / "in"), "-o", str(out), "--steps", "2"]) == 1
    said = capsys.readouterr()
    assert "broken.png: " in said.err
    assert "small.png: 15 x 40 pixels; expected sides of at least 16" in said.err
    assert re.search(
        r"adapted to 2 of 4 pictures; blur of sigma 3\.\d and 1\.\d pixels along its axes; reproduction error \d",
        said.out,
    )
    card = read_checkpoint(out).card
    assert card["adapted"] == {"from": "kdsr_s_x4_iso", "pictures": 2, "steps": 2}
    assert "psnr_y" not in card
    sr = lightbsr_arch.upscale(np.asarray(Image.open(tmp_path / "in/0.png")), str(out))
    plain = lightbsr_arch.upscale(np.asarray(Image.open(tmp_path / "in/0.png")), "kdsr_s_x4_iso")
    assert 0 < np.abs(sr.astype(int) - plain).max() < 64


def test_isotropic_blur_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = (degraded({"sigma": 3})[0]["lq"].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    out = str(tmp_path / "mine.safetensors")
    assert lightbsr(["adapt", str(tmp_path / "photo.png"), "-o", out, "--steps", "1"]) == 0
    assert "the blur is about the same along both axes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sides", "theta"),
    [((1.0, 3.0), 0.0), ((2.0, 2.0), 0.4)],
)
def test_the_widths_of_a_kernel_are_its_sigmas(sides: tuple[float, float], theta: float) -> None:
    kernel = gaussian_kernels(*(torch.tensor([side]) for side in sides), torch.tensor([theta]), KERNEL_SIZE)
    assert sigmas(kernel)[0].tolist() == pytest.approx(sorted(sides), abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-o", "x.pth"], "x.pth: the file of the weights must be named .safetensors"),
        (["-o", "none/x.safetensors"], "none/x.safetensors: no such folder: none"),
        (["-o", "x.safetensors", "--steps", "0"], "--steps takes 1 to 100000"),
        (["-o", "x.safetensors", "-m", "kdsr_s_x4_iso_teacher"], "kdsr_s_x4_iso_teacher"),
        (["-o", "x.safetensors", "-m", "nothing"], "nothing: no such file"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lq(tmp_path / "in")
    assert lightbsr(["adapt", "in", *arguments]) == 2
    (said,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("lightbsr")]
    assert line in said
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_missing_or_damaged_estimator_is_one_line(tmp_path: Path) -> None:
    for content in (None, b"no archive"):
        path = tmp_path / "estimator.npz"
        if content:
            path.write_bytes(content)
        with pytest.raises(UserError, match=r"estimator.npz: .*fit_kernel_estimator.py makes it"):
            KernelEstimator.load(path)
