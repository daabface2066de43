"""``lightbsr idr``, from pictures to figures, on toy networks."""

import json
import sys

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="extra idr")
pytest.importorskip("matplotlib", reason="extra idr")

from basicsr.metrics import calculate_psnr
from basicsr.utils import tensor2img

from lightbsr.commands import main
from lightbsr.errors import UserError
from lightbsr_arch.analysis.idr import factor, measure_use, read_idrs, untrained
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import Checkpoint
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.gt_source import GTSource
from lightbsr_arch.degradations import ClassicalDegradation, Draws, Setting
from lightbsr_arch.degradations.classical import degrade
from tests.models.helpers import kdsr, lightbsr

SMALL = ["--crop", "32", "--crops", "2", "--sigma", "0.5", "1.5", "4"]
NOISE = ["--factors", "noise", "--noise", "0", "20"]


def network(section: dict, seed: int = 0) -> BlindSR:
    torch.manual_seed(seed)
    model = BlindSR(section["estimator"], section["restorer"]).eval()
    if model.privileged == "prior":
        drawn = ClassicalDegradation(2).sample(200, Draws(torch.Generator().manual_seed(0)))
        model.estimator.prior.fit(drawn.kernel)
    return model


def save(model: BlindSR, path) -> str:
    Checkpoint(model.state_dict(), model.config).save(path)
    return str(path)


@pytest.fixture
def images(tmp_path):
    """Write four pictures of 64x48 pixels with noise, from rough to smooth."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(4):
        coarse = np.random.default_rng(i).integers(0, 255, (48 >> i % 3, 64 >> i % 3, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, (64, 48)))
    return folder


def test_default_levels():
    sigma, angle, noise, jpeg = (factor(name, 4) for name in ("sigma", "angle", "noise", "jpeg"))
    assert sigma.levels == (1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2)
    assert sigma.settings[0] == Setting(sigma=1.8)
    assert factor("sigma", 2).levels[-1] == 1.6
    assert angle.settings[1] == Setting(sigma=(4.0, 1.5), theta=45)
    assert noise.settings[-1] == Setting(sigma=2.6, noise=20)
    assert jpeg.settings[0] == Setting(sigma=2.6, jpeg=30)


@pytest.mark.parametrize(
    ("name", "levels"), [("sigma", {"sigma": [2]}), ("angle", {"angle": [0, 180]}), ("noise", {"noise": [-1, 5]})]
)
def test_levels_that_cannot_be(name, levels):
    with pytest.raises(UserError, match=f"^{name} .*: expected at least two different levels"):
        factor(name, 4, **levels)
    with pytest.raises(UserError, match=r"^jpeg 0 50: qualities are whole numbers, 1 to 100"):
        factor("jpeg", 4, jpeg=[50, 0])
    with pytest.raises(UserError, match=r"^sigma -1 2: expected at least two different levels .*, all >= 0"):
        factor("sigma", 4, sigma=[-1, 2])
    for name, given in (("angle", {"widths": [4, -1]}), ("noise", {"sigma": [-3, -1]})):
        with pytest.raises(UserError, match=r"-1.*: standard deviations of a blur are at least 0|^-1: standard"):
            factor(name, 4, **given)


def test_widths_of_the_command_line():
    assert factor("angle", 4, widths=[3.0, 1.0]).settings[0] == Setting(sigma=(3.0, 1.0), theta=0)


def test_what_an_idr_is_worth(images):
    section = kdsr("student")
    section["estimator"]["init"] = "detail"
    model = network(section)
    for block in model.restorer.body:  # the output depends on the IDR
        torch.nn.init.normal_(block.ddc.kernel[2].weight, std=2.0)
    levels = factor("sigma", 2, sigma=[0.5, 1.5, 4])
    readings = read_idrs({"": model}, [levels], GTSource(str(images), "disk"), size=32, crops_per_image=1)
    vectors = readings.vectors[""]["sigma"]
    use = measure_use(model, levels, readings.crops, vectors)
    own, mean, wrong = [], [], []
    for gt in readings.crops.values():
        lqs = [degrade(gt, Setting(sigma=sigma).parameters(), scale=2) for sigma in levels.levels]
        with torch.inference_mode():
            idrs = [model.estimator(lq) for lq in lqs]
            for level, lq in enumerate(lqs):
                for psnrs, idr in (
                    (own, idrs[level]),
                    (mean, torch.from_numpy(vectors.mean(axis=(0, 1))[None]).float()),
                    (wrong, idrs[(level + 1) % 3]),
                ):
                    sr = model.restorer(lq, {"vector": idr})
                    psnrs.append(calculate_psnr(tensor2img(sr), tensor2img(gt), 2, test_y_channel=True))
    assert use.psnr == pytest.approx(np.mean(own), abs=1e-3)
    assert use.mean_costs == pytest.approx(np.mean(own) - np.mean(mean), abs=1e-3)
    assert use.wrong_costs == pytest.approx(np.mean(own) - np.mean(wrong), abs=1e-3)
    assert abs(use.wrong_costs) > 1e-3


def test_teachers_are_told_what_they_were_told_in_training(images):
    models = {section["estimator"]["type"]: network(section) for section in (kdsr("teacher"), lightbsr("teacher"))}
    levels = factor("sigma", 2, sigma=[0.5, 4])
    readings = read_idrs(models, [levels], GTSource(str(images), "disk"), size=32, crops_per_image=1)
    assert readings.images.tolist() == [0, 1, 2, 3]
    gt = to_tensor(cv2.imread(str(images / "2.png")))[None, :, :32, :32]
    told = Setting(sigma=4.0).parameters()
    lq = degrade(gt, told, scale=2)
    with torch.inference_mode():
        of_kdsr = models["KDIDETeacher"].estimator(lq, gt)[0].double()
        of_lightbsr = models["LightIDETeacher"].estimator(lq, (told.kernel, told.noise)).mean(dim=(2, 3))[0].double()
    np.testing.assert_allclose(readings.vectors["KDIDETeacher"]["sigma"][2, 1], of_kdsr, atol=1e-6)
    np.testing.assert_allclose(readings.vectors["LightIDETeacher"]["sigma"][2, 1], of_lightbsr, atol=1e-6)


def test_crops_are_spread_over_the_image(images):
    source = GTSource(str(images), "disk")
    models, levels = {"student": network(kdsr("student"))}, [factor("noise", 2, noise=[0, 20])]
    # 48x64 pixels in crops of 32 with steps of 16: two rows of three.
    every = read_idrs(models, levels, source, 32, 100).vectors["student"]["noise"]
    some = read_idrs(models, levels, source, 32, 3).vectors["student"]["noise"]
    assert every.shape == (24, 2, 8)
    np.testing.assert_allclose(some[:3, 0], every[[0, 2, 4], 0], atol=1e-6)


def test_an_untrained_network_is_the_same_each_time_and_knows_its_prior():
    model = network(lightbsr("teacher"), seed=7)
    one, two = untrained(model), untrained(model)
    weight = "estimator.features.0.weight"
    assert torch.equal(one.state_dict()[weight], two.state_dict()[weight])
    assert not torch.equal(one.state_dict()[weight], model.state_dict()[weight])
    assert torch.equal(one.estimator.prior.components, model.estimator.prior.components)
    assert not one.training


def test_the_command(images, tmp_path, capsys):
    student = save(network(kdsr("student")), tmp_path / "student.safetensors")
    teacher = save(network(lightbsr("teacher")), tmp_path / "teacher.safetensors")
    out = tmp_path / "new" / "analysis.png"
    given = ["idr", teacher, student, "--images", str(images), "-o", str(out), "--untrained", *SMALL]
    given += ["--factors", "sigma", "angle"]
    assert main([*given, "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed == out.with_suffix(".json").read_text()
    report = json.loads(printed)
    assert report["images"] == {"from": str(images), "used": 4, "left_out": []}
    assert report["crops"] == {"number": 8, "size": 32}
    assert report["factors"]["sigma"] == {
        "levels": [0.5, 1.5, 4], "degradations": ["sigma0.5", "sigma1.5", "sigma4"], "chance": pytest.approx(1 / 3),
    }  # fmt: skip
    assert [*report["models"]] == ["teacher", "student", "teacher, untrained", "student, untrained"]
    assert report["models"]["teacher"]["sees"] == ["lq", "prior"]
    assert report["models"]["student"]["sees"] == ["lq"]
    # The IDR of this network depends on the blur kernel, its input, whether it is trained or not.
    sigma = report["models"]["teacher"]["figures"]["sigma"]
    assert sigma["probe"] == 1
    assert sigma["degradation"] > 0.5 > sigma["content"]
    assert sigma["cka_to_first"] == pytest.approx(1)
    assert report["models"]["student"]["figures"]["angle"]["r2"] is None
    for of_model in report["models"].values():
        for figures in of_model["figures"].values():
            assert figures["degradation"] + figures["content"] <= 1 + 1e-9
    height, width = cv2.imread(str(out)).shape[:2]
    assert width > 2 * 400  # two factors
    assert height > 4 * 300  # four models


def test_a_broken_picture_is_reported_and_the_rest_goes_on(images, tmp_path, capsys):
    student = save(network(kdsr("student")), tmp_path / "student.safetensors")
    given = ["idr", student, "--images", str(images), "-o", str(tmp_path / "a.png"), *SMALL, *NOISE]
    assert main(given) == 0
    before = capsys.readouterr().out
    assert "| model | 5-NN | linear probe |" in before
    assert "noise: sigma1.5, sigma1.5_noise20; chance 50.0%" in before
    (images / "z.png").write_bytes((images / "1.png").read_bytes()[:100])
    cv2.imwrite(str(images / "zz.png"), np.zeros((16, 16, 3), np.uint8))
    assert main(given) == 1
    said = capsys.readouterr()
    assert said.out == before  # the figures are also the same in a second run
    assert f"left out: {images / 'z.png'}: cut short or damaged" in said.err
    assert "left out: zz.png: 16x16 pixels, less than a crop of 32x32" in said.err
    assert json.loads((tmp_path / "a.json").read_text())["images"]["left_out"][1].startswith("zz.png")


def refused(capsys, *given) -> str:
    assert main(["idr", *map(str, given)]) == 2
    return capsys.readouterr().err


def test_refusals(images, tmp_path, capsys, monkeypatch):
    x2 = save(network(kdsr("student")), tmp_path / "x2.safetensors")
    x3 = save(network(kdsr("student", scale=3)), tmp_path / "x3.safetensors")
    section = lightbsr("teacher")
    unfitted = save(BlindSR(section["estimator"], section["restorer"]), tmp_path / "unfitted.safetensors")
    diverged = network(kdsr("student"))
    torch.nn.init.constant_(diverged.estimator.mlp[0].weight, 1e38)
    torch.nn.init.constant_(diverged.estimator.mlp[2].weight, 1e38)
    diverged = save(diverged, tmp_path / "diverged.safetensors")
    here = ["--images", images, "-o", tmp_path / "a.png", *SMALL, *NOISE]
    assert "models of scale 2 and 3: analyse those of one scale" in refused(capsys, x2, x3, *here)
    assert "unfitted: holds no PCA of blur kernels" in refused(capsys, unfitted, *here)
    assert "diverged: its IDR holds NaN" in refused(capsys, diverged, *here)
    assert "the plot must be named .png" in refused(capsys, x2, *here, "-o", "a.jpg")
    assert "--crop 8: the smallest is 32" in refused(capsys, x2, *here, "--crop", 8)
    assert "no such file, and no shipped weights" in refused(capsys, "nothing", *here)
    assert "gone: no such folder" in refused(capsys, x2, *here, "--images", tmp_path / "gone")
    for name in ("2.png", "3.png"):
        (images / name).unlink()
    assert "2 of 2 images can be used, at least 3 are needed" in refused(capsys, x2, *here)
    monkeypatch.setitem(sys.modules, "sklearn", None)  # as if it were not installed
    assert refused(capsys, x2, *here).endswith("the analysis needs scikit-learn: pip install scikit-learn\n")
    assert not (tmp_path / "a.png").exists()


def test_short_names_are_those_of_experiments_where_these_differ(images, tmp_path, capsys):
    paths = []
    for name in ("one", "two"):
        models = tmp_path / name / "models"
        models.mkdir(parents=True)
        torch.save({"params": network(kdsr("student")).state_dict()}, models / "net_g_latest.pth")
        paths.append(str(models / "net_g_latest.pth"))
    given = ["idr", *paths, "--images", str(images), "-o", str(tmp_path / "a.png"), *SMALL, *NOISE]
    assert main([*given, "--json"]) == 0
    assert [*json.loads(capsys.readouterr().out)["models"]] == ["one", "two"]
