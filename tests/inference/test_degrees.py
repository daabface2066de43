"""Degrees of blur and noise that the user sets."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import lightbsr_arch
from lightbsr.commands import main as lightbsr
from lightbsr.errors import UserError
from lightbsr.shipped import students_with
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.part import Network
from lightbsr_arch.checkpoint import Checkpoint, load
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.image_io import read_image
from lightbsr_arch.inference.degrees import with_degrees
from lightbsr_arch.inference.given_idr import estimate_idr
from tests.inference.networks import IDRDCRBNET, network

PHOTO = Path(__file__).parents[2] / "examples/photos/held_out/0c49a5cce349.webp"
LQ = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(0))
MMREALSRNET = {
    "type": "MMRealSRNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4, "num_embed": 8, "num_hidden": 8,
}  # fmt: skip


def controlled(restorer=IDRDCRBNET, idr_ch=16, num_degree=2):
    """Return a random network whose degrees affect the output."""
    torch.manual_seed(0)
    estimator = {"type": "DegreeEstimator", "num_feat": 8, "num_block": 1, "num_hidden": 16, "idr_ch": idr_ch}
    estimator |= {"num_degree": num_degree, "init": "pytorch"}
    model = BlindSR(estimator, {**restorer, "scale": 4}).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "to_idr" in name or "to_degree" in name:
                parameter.mul_(5)
            if "embed" in name or "mlp" in name:
                parameter.mul_(3)
    return model


@torch.inference_mode()
def read_degrees(model, lq):
    """Return the degrees that upscaling reads from 3 x H x W, exactly: its images are in channels-last memory."""
    return model.estimator.degrees(lq[None].contiguous(memory_format=torch.channels_last))[0].tolist()


@pytest.fixture(params=[(IDRDCRBNET, 16), (MMREALSRNET, 2)], ids=["a layer makes the IDR", "the IDR is the degrees"])
def model(request):
    return controlled(*request.param)


@torch.inference_mode()
def test_the_estimated_degrees_give_the_same_image(model):
    for lq in LQ:
        blur, noise = read_degrees(model, lq)
        usual = lightbsr_arch.upscale(lq, model)
        assert torch.equal(lightbsr_arch.upscale(lq, with_degrees(model, blur, noise)), usual)
        assert torch.equal(lightbsr_arch.upscale(lq, with_degrees(model, noise=noise)), usual)


@torch.inference_mode()
def test_other_degrees_change_the_image_and_only_the_one_that_is_set(model):
    read = model.estimator.degrees(LQ)
    usual = model(LQ)
    for kind, name in enumerate(("blur", "noise")):
        changed = with_degrees(model, **{name: 0.9})
        degrees = changed.estimator.estimate(LQ)[1]["degrees"]
        wanted = read.clone()
        wanted[:, kind] = 0.9
        assert torch.equal(degrees, wanted)
        torch.testing.assert_close(estimate_idr(changed, LQ), model.estimator.as_idr(wanted))
        assert (changed(LQ) - usual).abs().max() > 1e-3
    assert torch.equal(model(LQ), usual)  # the model itself is unchanged


@torch.inference_mode()
def test_the_estimator_does_not_run_for_degrees_that_are_set():
    model = with_degrees(controlled(), 0.0, 1.0)
    with torch.no_grad():
        model.estimator.estimator.first[0].weight.fill_(math.nan)
    assert torch.equal(model.estimator.estimate(LQ)[1]["degrees"], torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    assert model(LQ).isfinite().all()


def test_without_degrees_the_model_is_returned():
    for model in (controlled(), network("kdsr"), Network()):
        assert with_degrees(model) is model


@pytest.mark.parametrize("degree", [-0.01, 1.01, math.nan, math.inf])
def test_a_degree_out_of_range(degree):
    for kind in ("blur", "noise"):
        with pytest.raises(UserError, match=f"{kind} .*: expected 0 to 1, or auto"):
            with_degrees(controlled(), **{kind: degree})


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (network("kdsr"), "KDIDEStudent"),
        (network("lightbsr"), "LightIDEStudent"),
        (controlled(num_degree=3), "DegreeEstimator"),
        (Network(), "Network"),
    ],
)
def test_models_with_another_idr_are_refused(model, kind):
    with pytest.raises(UserError, match=f"a model with {kind} estimates no degrees of blur and noise") as error:
        with_degrees(model, 0.5)
    for name in students_with("DegreeEstimator"):
        assert name in str(error.value)


@pytest.fixture
def files(tmp_path):
    """A picture, and weights whose degrees can be set, in the current folder."""
    net = controlled()
    Checkpoint(net.state_dict(), net.config).save(tmp_path / "net.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    degrees = read_degrees(net, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)
    return tmp_path, [*map(str, degrees)]


def upscaled(folder, *options):
    arguments = ["upscale", str(folder / "in.png"), "-o", str(folder / "out.png"), "-q"]
    assert lightbsr([*arguments, "-m", str(folder / "net.safetensors"), *options]) == 0
    with Image.open(folder / "out.png") as picture:
        return np.asarray(picture).astype(int)


def test_the_command_sets_degrees(files):
    folder, (blur, noise) = files
    usual = upscaled(folder)
    assert (upscaled(folder, "--blur", blur, "--noise", noise) == usual).all()
    assert (upscaled(folder, "--blur", "auto", "--noise", "auto") == usual).all()
    assert np.abs(upscaled(folder, "--blur", "1") - usual).max() > 1
    assert np.abs(upscaled(folder, "--noise", "0") - usual).max() > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--blur", "0.5", "--strength", "0.5"], "--blur and --strength exclude each other"),
        (["--noise", "0", "--strength", "1.5"], "--noise and --strength exclude each other"),
        (["--noise", "0", "-m", "auto"], "--noise needs one model"),
        (["--blur", "0", "-m", "kdsr_s_x4_iso"], "a model with KDIDEStudent estimates no degrees"),
    ],
)
def test_the_command_refuses_in_one_line(files, options, message, capsys):
    folder, _ = files
    arguments = [str(folder / "in.png"), "-o", str(folder / "out.png"), "-q"]
    assert lightbsr(["upscale", *arguments, "-m", str(folder / "net.safetensors"), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lightbsr upscale: {message}")
    assert not (folder / "out.png").exists()


@pytest.mark.parametrize("degree", ["-0.1", "1.1", "nan", "high", ""])
def test_the_command_refuses_other_degrees(degree, capsys):
    for option in ("--blur", "--noise"):
        with pytest.raises(SystemExit) as stop:
            lightbsr(["upscale", "in.png", "-o", "out.png", f"{option}={degree}"])
        assert stop.value.code == 2
        assert f"argument {option}: {degree}: expected 0 to 1, or auto" in capsys.readouterr().err


@torch.inference_mode()
def test_shipped_models_sharpen_a_photo_with_blur_and_smooth_with_noise():
    photo = read_image(PHOTO)[:256, :256]
    lq = F.avg_pool2d(to_tensor(photo)[None], 4)

    def energies(model, kind):
        srs = [with_degrees(model, **{"blur": 0.5, "noise": 0.5, kind: degree})(lq) for degree in (0, 0.5, 1)]
        return [sum(sr.diff(dim=axis).square().mean().item() for axis in (2, 3)) for sr in srs]

    names = students_with("DegreeEstimator")
    assert names == ["kdsr_s_x4_control"]
    for model in map(load, names):
        assert all(more > less for less, more in pairwise(energies(model, "blur")))
        assert all(more < less for less, more in pairwise(energies(model, "noise")))
