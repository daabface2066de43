"""The three stages for real photos have the published values, and train in turn at toy size, interrupted or not."""

import json

import pytest
import torch
from basicsr.archs import build_network

from lightbsr_arch.config.load import load_options
from lightbsr_arch.config.merge import read_options
from tests.models.helpers import build, train
from tests.option_files import OPTIONS
from tests.test_recipes import REAL, shrink

ROLES = ("teacher", "student", "gan")
LOSSES = {
    "teacher": {"l_pix"},
    "student": {"l_pix", "l_distill"},
    "gan": {"l_pix", "l_distill", "l_gan", "l_d_real", "l_d_fake", "out_d_real", "out_d_fake"},
}


def options(path, folder, *overrides):
    overrides = [*overrides, f"datasets:train:dataroot_gt={folder}", f"datasets:val:dataroot_gt={folder}"]
    overrides += [f"datasets:{phase}:io_backend={{type: disk}}" for phase in ("train", "val")]
    if not path.stem.endswith("teacher"):
        (folder / "teacher.pth").touch()
        overrides.append(f"path:pretrain_network_teacher={folder}/teacher.pth")
    if path.stem.endswith("gan"):
        (folder / "student.pth").touch()
        overrides += [f"path:pretrain_network_g={folder}/student.pth", "train:perceptual_opt=null"]
    return load_options(path, is_train=True, overrides=overrides)


def toy(role, folder):
    """Return the small recipe with tiny networks and pictures. The weights of earlier stages are FOLDER/ROLE.pth."""
    path = OPTIONS / f"kdsr_real_s_x4_{role}.yml"
    networks = {key: value for key, value in read_options(path).data.items() if key in ("network_g", "network_teacher")}
    for network in networks.values():
        shrink(network)
    opt = options(path, folder, *(f"{key}={json.dumps(value)}" for key, value in networks.items()))
    if role == "gan":
        opt["network_d"]["num_feat"] = 8
    opt["degradation"] |= {"gt_size": 48, "queue_size": 8}
    opt["train"]["optim_g"]["lr"] = 4e-3 if role == "teacher" else 1e-3
    opt["path"] |= {"models": str(folder), "training_states": str(folder)}
    opt.update(is_train=True, dist=False, rank=0, world_size=1, num_gpu=0)
    return opt


def pictures(step):
    generator = torch.Generator().manual_seed(step)
    coarse = torch.rand(4, 3, 8, 8, generator=generator)
    return {"gt": torch.nn.functional.interpolate(coarse, (80, 80), mode="bicubic").clamp(0, 1)}


def steps(model, first, last):
    return [train(model, step, step, pictures(step))[0] for step in range(first, last + 1)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of a trained toy teacher and student, and their logs."""
    folder = tmp_path_factory.mktemp("real")
    logs = {}
    for role in ("teacher", "student"):
        opt = toy(role, folder)
        model = build(opt)
        logs[role] = steps(model, 1, 40)
        model.save_network([model.net_g, model.net_g_ema], "net_g", 40, ["params", "params_ema"])
        (folder / "net_g_40.pth").rename(folder / f"{role}.pth")
    return folder, logs


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_recipes_are_those_of_one_system(path, tmp_path):
    (tmp_path / "data").mkdir()
    opt = options(path, tmp_path)
    role, is_small = path.stem.split("_")[-1], "_s_" in path.stem
    assert opt["name"] == path.stem
    with torch.device("meta"):
        networks = {key: build_network(opt[key]) for key in opt if key.startswith("network_")}
    assert networks["network_g"].privileged == ("gt" if role == "teacher" else None)
    assert ("network_d" in networks) == (role == "gan")
    if role != "teacher":
        assert opt["network_teacher"]["restorer"] == opt["network_g"]["restorer"]
    assert opt["datasets"]["train"]["gt_size"] * 0.15 > 11  # required by the second blur
    if is_small:
        return
    assert opt["network_g"]["restorer"] == {"type": "IDRDCRBNet", "num_feat": 128, "num_block": 42, "scale": 4}
    assert (opt["network_g"]["estimator"]["num_feat"], opt["network_g"]["estimator"]["num_block"]) == (128, 6)
    assert opt["degradation"] == {
        "type": "SecondOrderDegradation", "gt_size": 256, "gt_usm": False, "queue_size": 180,
    }  # fmt: skip
    assert opt["train"]["total_iter"] == (400_000 if role == "gan" else 1_000_000)
    assert opt["train"]["optim_g"]["lr"] == (2e-4 if role == "student" else 1e-4)
    milestone = {"teacher": 1_000_000, "student": 600_000, "gan": 400_000}[role]  # milestones at the end have no effect
    assert opt["train"]["scheduler"] == {"type": "MultiStepLR", "milestones": [milestone], "gamma": 0.5}
    assert opt["datasets"]["train"]["batch_size_per_gpu"] == 9
    if role == "gan":
        assert opt["train"]["gan_opt"] == {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 1.0}
    assert opt["train"]["ema_decay"] == 0.999


def test_there_are_three_stages_of_each():
    assert [path.stem for path in REAL] == sorted(f"kdsr_real_{size}x4_{role}" for size in ("", "s_") for role in ROLES)


@pytest.mark.slow
def test_losses_fall_from_stage_to_stage(trained):
    _, logs = trained
    assert all(set(stage[0]) == LOSSES[role] for role, stage in logs.items())
    begun, taught, learnt = (
        sum(log["l_pix"] for log in part) / 10
        for part in (logs["teacher"][:10], logs["teacher"][-10:], logs["student"][-10:])
    )
    assert taught < 0.85 * begun
    assert learnt < 0.85 * begun


@pytest.mark.slow
def test_the_gan_stage_in_two_parts_is_the_uninterrupted_one(trained):
    folder, _ = trained
    whole = build(toy("gan", folder))
    expected = steps(whole, 1, 16)
    assert all(set(log) == LOSSES["gan"] for log in expected)

    first = build(toy("gan", folder))
    steps(first, 1, 6)
    first.save(0, 6)
    opt = toy("gan", folder)
    opt["path"] |= {
        "pretrain_network_g": str(folder / "net_g_6.pth"),
        "pretrain_network_d": str(folder / "net_d_6.pth"),
        "param_key_g": "params",
    }
    resumed = build(opt)
    resumed.resume_training(torch.load(folder / "6.state", weights_only=True))
    for log, log_of_whole in zip(steps(resumed, 7, 16), expected[6:], strict=True):
        assert log == pytest.approx(log_of_whole, abs=1e-5)
