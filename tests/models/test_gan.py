"""The GAN stage equals BasicSR's, resumes exactly, and handles the same errors as the stages before it."""

import re

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.losses import build_loss
from basicsr.metrics import calculate_niqe
from basicsr.utils import tensor2img

from lightbsr.errors import UserError
from lightbsr_arch.basicsr_patches.vgg import patched_vgg
from tests.commands import run_module
from tests.losses.test_vgg_weights import LOSS as PERCEPTUAL
from tests.losses.test_vgg_weights import features, hub  # noqa: F401
from tests.models.helpers import batch, build, kdsr, options, train

DISTILL = {"type": "KDSRDistillLoss", "temperature": 0.15}
NETWORK_D = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 8}
GAN = {
    "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
    "optim_d": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
}
LOSSES_D = {"l_d_real", "l_d_fake", "out_d_real", "out_d_fake"}


@pytest.fixture(scope="module")
def student_file(tmp_path_factory):
    """Save a student of the stage before as BasicSR does, with its teacher beside it."""
    folder = tmp_path_factory.mktemp("student")
    build(options(folder, "KDTeacherModel", kdsr("teacher"))).save(0, 1)
    (folder / "net_g_1.pth").rename(folder / "teacher.pth")
    opt = options(folder, "KDStudentModel", kdsr("student"), distill_opt=DISTILL, ema_decay=0.9)
    opt["network_teacher"] = kdsr("teacher")
    opt["path"]["pretrain_network_teacher"] = str(folder / "teacher.pth")
    model = build(opt)
    train(model, 1, 3)
    model.save(0, 3)
    return folder / "net_g_3.pth"


def gan_options(tmp_path, student_file, **more):
    opt = options(tmp_path, "KDStudentModel", kdsr("student"), **{"distill_opt": DISTILL, **GAN, **more})
    opt |= {"network_teacher": kdsr("teacher"), "network_d": NETWORK_D}
    opt["path"] |= {
        "pretrain_network_teacher": str(student_file.with_name("teacher.pth")),
        "pretrain_network_g": str(student_file),
        "param_key_g": "params_ema",
    }
    return opt


def snapshot(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(module, before):
    return {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}


def without_a_teacher(tmp_path, student_file, **more):
    opt = options(tmp_path, "BlindSRModel", kdsr("student"), **GAN, **more)
    opt["network_d"] = NETWORK_D
    opt["path"] |= {"pretrain_network_g": str(student_file), "param_key_g": "params_ema"}
    return opt


@pytest.mark.parametrize("teacher", [True, False], ids=["distilled", "without a teacher"])
def test_steps_are_those_of_basicsr(teacher, tmp_path, student_file):
    more = {"net_d_iters": 2, "net_d_init_iters": 3}
    if teacher:
        opt = gan_options(tmp_path, student_file, distill_opt={**DISTILL, "loss_weight": 0.0}, **more)
    else:
        opt = without_a_teacher(tmp_path, student_file, **more)
    ours = build(opt)
    theirs = build({**gan_options(tmp_path, student_file, **more), "model_type": "SRGANModel"})
    theirs.net_d.load_state_dict(ours.objectives["gan_opt"].net_d.state_dict())
    for current_iter in range(1, 9):
        learns = current_iter in (4, 6, 8)
        (log,) = train(ours, current_iter, current_iter)
        theirs.update_learning_rate(current_iter)
        theirs.feed_data({"lq": ours.lq, "gt": ours.gt})
        theirs.optimize_parameters(current_iter)
        expected = {key.replace("l_g_", "l_"): value for key, value in theirs.get_current_log().items()}
        assert log.pop("l_distill", None) == (0 if teacher and learns else None)
        assert set(log) == LOSSES_D | ({"l_pix", "l_gan"} if learns else set())
        assert log == pytest.approx(expected, abs=1e-6)
    for net_ours, net_theirs in ((ours.net_g, theirs.net_g), (ours.objectives["gan_opt"].net_d, theirs.net_d)):
        torch.testing.assert_close(net_ours.state_dict(), net_theirs.state_dict(), rtol=0, atol=1e-5)


def test_it_starts_from_the_student_before(tmp_path, student_file):
    model = build(gan_options(tmp_path, student_file, ema_decay=0.9))
    saved = torch.load(student_file, weights_only=True)["params_ema"]
    for net in (model.net_g, model.net_g_ema):
        assert changed(net, saved) == set()


def test_the_gan_begins_where_the_estimator_s_phase_ends(tmp_path, student_file):
    model = build(gan_options(tmp_path, student_file, estimator_iter=2, net_d_init_iters=1))
    before = snapshot(model.objectives["gan_opt"].net_d)
    assert [set(log) for log in train(model, 1, 2)] == [{"l_distill"}] * 2
    assert changed(model.objectives["gan_opt"].net_d, before) == set()
    generator = snapshot(model.net_g)
    (log,) = train(model, 3, 3)
    assert set(log) == LOSSES_D
    assert changed(model.net_g, generator) == set()
    assert "conv9.weight" in changed(model.objectives["gan_opt"].net_d, before)
    (log,) = train(model, 4, 4)
    assert set(log) == {"l_pix", "l_gan", "l_distill"} | LOSSES_D
    assert any(key.startswith("restorer.") for key in changed(model.net_g, generator))


def test_each_of_the_two_gains_when_the_other_rests(tmp_path, student_file):
    at_rest = {"type": "Adam", "lr": 1e-9}
    logs = train(build(gan_options(tmp_path, student_file, optim_g=at_rest)), 1, 30, batch())
    first, last = (log["out_d_real"] - log["out_d_fake"] for log in (logs[0], logs[-1]))
    assert abs(first) < 0.1
    assert last > 0.2
    pixel_opt = {"type": "L1Loss", "loss_weight": 0.0}
    model = build(gan_options(tmp_path, student_file, optim_d=at_rest, pixel_opt=pixel_opt))
    logs = train(model, 1, 30, batch())
    assert logs[-1]["out_d_fake"] > logs[0]["out_d_fake"] + 0.02


@pytest.mark.usefixtures("features")
def test_all_losses_of_the_published_stage(tmp_path, student_file):
    model = build(gan_options(tmp_path, student_file, perceptual_opt=PERCEPTUAL))
    first = train(model, 1, 1, batch())[0]
    assert set(first) == {"l_pix", "l_percep", "l_gan", "l_distill"} | LOSSES_D
    with patched_vgg():
        perceptual, _ = build_loss(PERCEPTUAL)(model.output.detach(), model.gt)
    assert first["l_percep"] == pytest.approx(perceptual.item(), rel=1e-5)
    last = train(model, 2, 15, batch())[-1]
    assert last["l_percep"] < 0.9 * first["l_percep"]


@pytest.mark.parametrize("sharpened", [False, True])
def test_what_is_real_may_be_sharpened(sharpened, tmp_path, student_file):
    model = build(gan_options(tmp_path, student_file, gan_gt_usm=sharpened))
    model.update_learning_rate(1)
    model.feed_data(batch())
    model.gt_plain = model.gt * 0.5
    judge = snapshot(model.objectives["gan_opt"].net_d)
    model.optimize_parameters(1)
    model.objectives["gan_opt"].net_d.load_state_dict(judge)
    model.objectives["gan_opt"].net_d(
        model.output.detach()
    )  # one step of spectral normalisation, as before the real images
    verdict = model.objectives["gan_opt"].net_d(model.gt if sharpened else model.gt_plain)
    assert model.log_dict["out_d_real"] == pytest.approx(verdict.mean().item(), abs=1e-6)


@pytest.mark.usefixtures("features")
def test_losses_of_texture_teach_nothing_in_smooth_areas(tmp_path, student_file):
    none = {"pixel_opt": {"type": "L1Loss", "loss_weight": 0.0}, "distill_opt": None, "perceptual_opt": PERCEPTUAL}
    for texture_std, learns in ((1.0, False), (None, True)):
        model = build(gan_options(tmp_path, student_file, **none, texture_std=texture_std))
        before = snapshot(model.net_g)
        (log,) = train(model, 1, 1, batch())
        assert (log["l_percep"] > 0) == learns
        assert bool(changed(model.net_g, before)) == learns


def test_pairs_are_real_as_they_are(tmp_path, student_file):
    model = build(gan_options(tmp_path, student_file))
    gt = batch()["gt"]
    (log,) = train(model, 1, 1, {"lq": gt[..., ::2, ::2], "gt": gt})
    assert set(log) == {"l_pix", "l_gan", "l_distill"} | LOSSES_D
    assert model.gt_plain is model.gt


def test_a_run_in_two_parts_is_the_uninterrupted_one(tmp_path, student_file):
    more = {
        "ema_decay": 0.9,
        "net_d_iters": 2,
        "scheduler": {"type": "MultiStepLR", "milestones": [4, 9], "gamma": 0.3},
    }
    opt = gan_options(tmp_path, student_file, **more)
    model = build(opt)
    whole = train(model, 1, 16)
    average = snapshot(model.net_g_ema)
    model = build(opt)
    train(model, 1, 6)
    model.save(0, 6)
    paths = {f"pretrain_network_{name}": str(tmp_path / f"net_{name}_6.pth") for name in "gd"}
    again = build({**opt, "path": {**opt["path"], **paths, "param_key_g": "params"}}, seed=1)
    again.resume_training(torch.load(tmp_path / "6.state", weights_only=True))
    assert again.objectives["gan_opt"].optimizer_d.param_groups[0]["lr"] == pytest.approx(0.3e-3)
    for ours, theirs in zip(train(again, 7, 16), whole[6:], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    torch.testing.assert_close(snapshot(again.net_g_ema), average, rtol=0, atol=1e-6)


def test_a_state_of_the_stage_before_is_no_state_of_this_one(tmp_path, student_file):
    model = build(gan_options(tmp_path, student_file))
    state = torch.load(student_file.with_name("3.state"), weights_only=True)
    with pytest.raises(UserError, match=r"state is of 1 networks that learn, the options describe 2: network_d must"):
        model.resume_training(state)


@pytest.mark.parametrize("more", [{"amp": "bf16"}, {"amp": "fp16"}, {"channels_last": True}], ids=str)
def test_the_fast_ways_agree_with_the_plain_one(more, tmp_path, student_file):
    plain, fast = (build(gan_options(tmp_path, student_file, **extra)) for extra in ({}, more))
    fast.objectives["gan_opt"].net_d.load_state_dict(plain.objectives["gan_opt"].net_d.state_dict())
    for one, other in zip(train(fast, 1, 3), train(plain, 1, 3), strict=True):
        assert one == pytest.approx(other, rel=0.05 if "amp" in more else 1e-4, abs=1e-2)
    if "channels_last" in more:
        assert fast.objectives["gan_opt"].net_d.conv0.weight.is_contiguous(memory_format=torch.channels_last)


def test_scaler_of_the_discriminator_is_resumed(tmp_path, student_file):
    model = build(gan_options(tmp_path, student_file, amp="fp16"))
    train(model, 1, 1)
    model.objectives["gan_opt"].scaler_d.update(1024.0)
    model.save(0, 1)
    again = build(gan_options(tmp_path, student_file, amp="fp16"))
    again.resume_training(torch.load(tmp_path / "1.state", weights_only=True))
    assert again.objectives["gan_opt"].scaler_d.get_scale() == 1024
    assert again.scaler.get_scale() == 65536


def test_the_generator_s_gradients_are_clipped_and_no_others(tmp_path, student_file):
    model = build(gan_options(tmp_path, student_file, grad_clip=1e-4))
    train(model, 1, 1)
    norms = [
        torch.stack([p.grad.norm() for p in net.parameters() if p.grad is not None]).norm().item()
        for net in (model.net_g, model.objectives["gan_opt"].net_d)
    ]
    assert norms[0] == pytest.approx(1e-4, rel=1e-2)
    assert norms[1] > 1e-2


def with_nan_to_judge(model, current_iter):
    """Run an iteration whose real images are NaN for the discriminator only."""
    model.update_learning_rate(current_iter)
    model.feed_data(batch())
    model.gt_plain = model.gt * float("nan")
    model.optimize_parameters(current_iter)


def test_nan_of_either_network_stops(tmp_path, student_file):
    model = build(gan_options(tmp_path, student_file))
    with pytest.raises(UserError, match=r"iter 1: loss l_d_real is not finite; start again, with a lower"):
        with_nan_to_judge(model, 1)
    with torch.no_grad():
        model.objectives["gan_opt"].net_d.conv9.bias.fill_(float("nan"))
    before = snapshot(model.objectives["gan_opt"].net_d)
    with pytest.raises(UserError, match=r"iter 2: loss l_gan is not finite"):
        train(model, 2, 2)
    assert changed(model.objectives["gan_opt"].net_d, before) <= {
        key for key in before if key.endswith(("_u", "_v")) or "conv9" in key
    }


def test_nan_of_the_discriminator_is_skipped_but_not_for_ever(tmp_path, student_file):
    model = build(gan_options(tmp_path, student_file, nan_loss="skip"))
    before = {name: value.clone() for name, value in model.objectives["gan_opt"].net_d.named_parameters()}
    for current_iter in range(1, 11):
        with_nan_to_judge(model, current_iter)
    assert all(torch.equal(value, before[name]) for name, value in model.objectives["gan_opt"].net_d.named_parameters())
    train(model, 11, 11)
    assert not torch.equal(model.objectives["gan_opt"].net_d.conv9.weight, before["conv9.weight"])
    assert model.skipped_in_a_row == 0
    for current_iter in range(12, 22):
        with_nan_to_judge(model, current_iter)
    with pytest.raises(UserError, match=r"iter 22: loss l_d_real is not finite"):
        with_nan_to_judge(model, 22)


def test_a_trained_discriminator_to_start_from(tmp_path, student_file):
    model = build(gan_options(tmp_path, student_file))
    train(model, 1, 2)
    model.save(0, 2)
    opt = gan_options(tmp_path, student_file)
    opt["path"]["pretrain_network_d"] = str(tmp_path / "net_d_2.pth")
    assert changed(build(opt, seed=1).objectives["gan_opt"].net_d, snapshot(model.objectives["gan_opt"].net_d)) == set()
    opt["network_d"] = {**NETWORK_D, "num_feat": 4}
    with pytest.raises(UserError, match=r"net_d_2.pth: \d+ weights do not fit UNetDiscriminatorSN"):
        build(opt)


@pytest.mark.slow
def test_the_command_trains_validates_saves_and_resumes(tmp_path, student_file):
    """Validate on pairs, and on LR pictures without HR, for which only NIQE is computed."""
    for folder, images in (("photos", batch(2, 200)["gt"]), ("real", batch(2, 100, seed=1)["gt"])):
        (tmp_path / folder).mkdir()
        for index, image in enumerate(images):
            noise = np.random.default_rng(index).normal(0, 10, (*image.shape[1:], 3))
            picture = (tensor2img(image) + noise).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(tmp_path / folder / f"{index}.png"), picture)
    photos = {"dataroot_gt": "photos", "io_backend": {"type": "disk"}}
    opt = gan_options(tmp_path, student_file, total_iter=4, ema_decay=0.9)
    opt["datasets"] = {
        "train": {
            **photos, "name": "Photos", "type": "GTDataset", "gt_size": 32, "batch_size_per_gpu": 2,
            "num_worker_per_gpu": 0,
        },
        "val": {**photos, "name": "Pairs", "type": "DegradedDataset", "settings": "bicubic"},
        "val_2": {"name": "Real", "type": "SingleImageDataset", "dataroot_lq": "real", "io_backend": {"type": "disk"}},
    }  # fmt: skip
    metrics = {name: {"type": f"calculate_{name}", "crop_border": 2} for name in ("niqe", "psnr")}
    opt["val"] = {"val_freq": 4, "save_img": True, "metrics": metrics}
    opt["logger"] = {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False}
    for key in ("is_train", "dist", "rank", "world_size"):  # BasicSR adds these keys itself
        del opt[key]
    for key in ("models", "training_states", "visualization"):
        del opt["path"][key]
    (tmp_path / "gan.yml").write_text(yaml.safe_dump(opt))

    whole = run_command(tmp_path)
    run = tmp_path / "experiments/toy"
    assert {f"net_{name}_{when}.pth" for name in "gd" for when in (2, 4, "latest")} == {
        path.name for path in run.glob("models/*")
    }
    logs = re.findall(r"iter: +(\d),.*?\] ((?:\w+: \S+ ?)+)", whole)
    assert [number for number, _ in logs] == ["1", "2", "3", "4"]
    assert {*re.findall(r"(\w+):", logs[0][1])} == {"l_pix", "l_gan", "l_distill"} | LOSSES_D
    figures = re.findall(r"Validation (\S+)\n((?:\t # \w+: \S+.*\n)+)", whole)
    assert {name: re.findall(r"# (\w+):", text) for name, text in figures} == {
        "Pairs/sigma0": ["niqe", "psnr"], "Pairs": ["niqe", "psnr"], "Real": ["niqe"],
    }  # fmt: skip
    saved = [cv2.imread(str(run / f"visualization/{index}/{index}_4.png")) for index in (0, 1)]
    assert saved[0].shape == (200, 200, 3)
    by_hand = np.mean([calculate_niqe(picture, crop_border=2) for picture in saved])
    assert float(re.findall(r"niqe: (\S+)", figures[-1][1])[0]) == pytest.approx(by_hand, abs=1e-4)

    (run / "training_states/4.state").unlink()
    again = run_command(tmp_path, "--auto_resume", "--force_yml", "val:save_img=false", "val:metrics=null")
    assert re.findall(r"iter: +(\d),.*?\] ((?:\w+: \S+ ?)+)", again) == logs[2:]


def run_command(folder, *flags):
    done = run_module("lightbsr_arch.training", "train", "-opt", "gan.yml", *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stderr
