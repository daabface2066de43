"""Every stage in two processes on the CPU trains as one process would, and is saved, resumed and validated."""

import json
import re

import cv2
import pytest
import torch
import yaml
from basicsr.utils import tensor2img

from tests.commands import run_module
from tests.models.every_stage import ALONE, STAGES, STEPS
from tests.models.helpers import batch, lightbsr

pytestmark = pytest.mark.slow


def run_two(folder, *command):
    done = run_module(*command, cwd=folder, processes=2, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    run_two(folder, "tests.models.every_stage", folder)
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("stage", [" ".join(stage) for stage in STAGES])
def test_two_processes_train_as_one(report, stage):
    shared, alone = report[stage]["shared"], report[stage]["alone"]
    assert len(shared) == STEPS
    for step, (ours, theirs) in enumerate(zip(shared, alone, strict=True), 1):
        learns = step % 2 == 0 if stage == "kdsr gan" else stage == "kdsr teacher" or step > ALONE
        assert ("l_pix" in ours) == learns
        assert ("l_d_fake" in ours) == (stage == "kdsr gan")
        assert ours.keys() == theirs.keys()
        for name in ours:
            # Differences in rounding, 1e-9 in the first steps, grow fast in a discriminator.
            is_stable = step <= ALONE or not name.startswith(("out_d_", "l_d_", "l_gan"))
            assert ours[name] == pytest.approx(theirs[name], abs=1e-4 if is_stable else 0.01), (step, name)
    assert report[stage]["queues agree"]


def test_a_contrastive_teacher_resumes_and_validates(tmp_path):
    for name, image in zip("abcdefgh", batch(8, 48)["gt"], strict=True):
        (tmp_path / "photos").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"photos/{name}.png"), tensor2img(image))
    photos = {"name": "Photos", "dataroot_gt": "photos", "io_backend": {"type": "disk"}}
    options = {
        "name": "pair",
        "model_type": "KDTeacherModel",
        "scale": 2,
        "num_gpu": 0,
        "degradation": {"type": "ClassicalDegradation"},
        "datasets": {
            "train": {
                **photos, "type": "GTDataset", "gt_size": 32, "patches_per_item": 4, "batch_size_per_gpu": 2,
                "num_worker_per_gpu": 0,
            },
            "val": {**photos, "type": "DegradedDataset", "settings": [{"sigma": 1.0}]},
        },
        "network_g": lightbsr("teacher"),
        "path": {},
        "train": {
            "total_iter": 4,
            "estimator_iter": 1,
            "optim_g": {"type": "Adam", "lr": 1e-3},
            "scheduler": {"type": "MultiStepLR", "milestones": [100]},
            "pixel_opt": {"type": "L1Loss", "loss_weight": 255.0},
            "contrast_opt": {"type": "MomentumContrastLoss", "queue_size": 13},
        },
        "val": {"val_freq": 4, "save_img": False, "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 2}}},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False},
    }  # fmt: skip
    (tmp_path / "pair.yml").write_text(yaml.safe_dump(options))
    command = ("lightbsr_arch.training", "train", "-opt", "pair.yml", "--launcher", "pytorch")
    losses = r"iter: +(\d+),.*?\] ((?:l_\w+: \S+ ?)+)"

    whole = run_two(tmp_path, *command)
    assert [log.split(":")[0] for _, log in re.findall(losses, whole)] == ["l_contrast", "l_pix", "l_pix", "l_pix"]
    assert len(re.findall(r"# psnr: \d", whole)) >= 1
    states = tmp_path / "experiments/pair/training_states"
    end = torch.load(states / "4.state", weights_only=True)["contrast"]
    assert end["position"] == 4 * 4 % 13

    (states / "4.state").unlink()
    again = run_two(tmp_path, *command, "--auto_resume")
    assert re.findall(losses, again) == re.findall(losses, whole)[2:]
    assert torch.equal(torch.load(states / "4.state", weights_only=True)["contrast"]["queue"], end["queue"])
