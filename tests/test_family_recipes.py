"""The recipes of systems other than KDSR and LightBSR train, and their schedules are the published ones."""

import json
import re

import pytest
import torch
from basicsr.archs import build_network

from lightbsr.errors import UserError
from lightbsr_arch.config.load import load_options
from tests.bench.toys import pictures
from tests.commands import run_module
from tests.models.helpers import build, train
from tests.option_files import OPTIONS
from tests.test_recipes import changes, learning_rates

DASR = [f"dasr_x{scale}_{setting}" for scale in (2, 4) for setting in ("iso", "aniso_noise")]
SETTINGS = {"iso": ("iso", [0, 0]), "aniso_noise": ("aniso", [0, 25])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    pictures(folder / "pictures", 8, side=96)
    return folder


def recipe(name, folder, *overrides, phases=("train", "val")):
    """Return the options of a recipe with the pictures of ``folder`` as its data."""
    data = [f"datasets:{phase}:dataroot_gt={folder}/pictures" for phase in phases]
    data += [f"datasets:{phase}:io_backend={{type: disk}}" for phase in phases]
    return load_options(OPTIONS / f"{name}.yml", is_train=True, overrides=[*data, *overrides])


def toy(opt, estimator_iter=0):
    """Return the model of a recipe with few channels and layers, as in BasicSR's pipeline."""
    opt.update(is_train=True, dist=False, rank=0, world_size=1, num_gpu=0)
    for key in ("network_g", "network_teacher"):
        for part in opt.get(key, {}).values():
            if isinstance(part, dict):
                part.update({name: 1 for name in ("num_group", "num_block") if name in part})
                part.update({"idr_ch": 32} if "idr_ch" in part else {})
                part["num_feat"] = 8
    if opt["train"].get("estimator_iter"):
        opt["train"]["estimator_iter"] = estimator_iter
    return build(opt)


def items(number, patches, side):
    """Return a batch of random smooth pictures or, for several patches, of items of patches."""
    coarse = torch.rand(number * patches, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    gt = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return {"gt": gt.unflatten(0, (number, patches)) if patches > 1 else gt}


def run(folder, name, *overrides, resume=False):
    """Train the small recipe ``name`` by the command. Return the log."""
    data = [f"datasets:{phase}:dataroot_gt=pictures" for phase in ("train", "val")]
    data += [f"datasets:{phase}:io_backend={{type: disk}}" for phase in ("train", "val")]
    data += ["datasets:train:gt_size=64", "datasets:val:settings=[{sigma: 2.6}]", "logger:print_freq=1", *overrides]
    arguments = ["train", "-opt", OPTIONS / f"{name}.yml", *["--auto_resume"] * resume, "--force_yml", *data]
    done = run_module("lightbsr_arch.training", *arguments, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def logged(log, name):
    """Return the values of a loss by iteration."""
    found = re.findall(rf"iter: +([\d,]+), .*{name}: (\S+)", log)
    return {int(step.replace(",", "")): float(value) for step, value in found}


# ------------------------------------------------------------------------------------------ DASR


@pytest.mark.parametrize("name", DASR)
def test_dasr_has_the_published_schedule(name, folder):
    opt = recipe(name, folder)
    scale, (kernel, noise) = opt["scale"], SETTINGS[name[8:]]
    assert opt["name"] == name
    with torch.device("meta"):
        net = build_network(opt["network_g"])
    assert net.scale == scale == int(name[6])
    if scale == 4:
        millions = sum(p.numel() for key, p in net.named_parameters() if "mlp" not in key.split(".")[:2]) / 1e6
        assert millions == pytest.approx(5.84, abs=0.005)
    assert (opt["degradation"]["kernel"], opt["degradation"].get("noise", [0, 0])) == (kernel, noise)
    assert opt["datasets"]["train"]["gt_size"] == 48 * scale
    epoch = 970
    assert opt["train"]["estimator_iter"] == 100 * epoch
    assert opt["train"]["total_iter"] == 600 * epoch
    # A tenth of an epoch is a step here; 22.5 tenths would not be whole.
    rates = changes(learning_rates(opt, unit=epoch // 2))
    expected = {0: 1e-3, 2 * 60: 1e-4, 2 * 225: 5e-5, 2 * 350: 2.5e-5, 2 * 475: 1.25e-5}
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("name", [*DASR, "dasr_s"])
def test_dasr_contrasts_first_then_restores(name, folder):
    opt = recipe(name, folder)
    model = toy(opt, estimator_iter=1)
    data = items(4, 2, 16 * opt["scale"])
    first, second = train(model, 1, 2, data)
    assert set(first) == {"l_contrast"}
    assert set(second) == {"l_pix", "l_contrast"}
    assert 1 < second["l_pix"] < 255
    assert model.output.shape[0] == 4


@pytest.mark.slow
def test_dasr_trains_and_resumes_by_the_command(folder):
    short = ["train:estimator_iter=12", "logger:save_checkpoint_freq=20", "val:val_freq=100"]
    whole = run(folder, "dasr_s", *short, "name=whole", "train:total_iter=30")
    contrast, l1 = logged(whole, "l_contrast"), logged(whole, "l_pix")
    assert list(contrast) == [*range(1, 31)]
    assert list(l1) == [*range(13, 31)]
    assert sum(l1[step] for step in range(27, 31)) < 0.6 * sum(l1[step] for step in range(13, 17))
    assert re.search(r"# psnr_y: \d\d\.\d+", whole)

    run(folder, "dasr_s", *short, "name=parts", "train:total_iter=20")
    again = run(folder, "dasr_s", *short, "name=parts", "train:total_iter=30", resume=True)
    for name, losses in (("l_contrast", contrast), ("l_pix", l1)):
        expected = {step: value for step, value in losses.items() if step > 20}
        assert logged(again, name) == pytest.approx(expected, rel=1e-3)


# ------------------------------------------------------------------------------------------ MRDA


def test_mrda_has_the_published_schedule(folder):
    (folder / "trained.pth").touch()
    stages = {}
    for stage, starts_from in (("net", None), ("meta", "g"), ("teacher", "meta"), ("student", "teacher")):
        path = [f"path:pretrain_network_{starts_from}={folder}/trained.pth"] if starts_from else []
        stages[stage] = recipe(f"mrda_x4_iso_{stage}", folder, *path)
        assert stages[stage]["datasets"]["train"]["gt_size"] == 256
    assert [opt["degradation"].get("per") for opt in stages.values()] == [None, "sample", "batch", "batch"]
    assert stages["net"]["degradation"]["sigma"] == [0, 0]
    assert [opt["train"]["total_iter"] for opt in stages.values()] == [600 * 1000, 600 * 240, 500 * 1500, 600 * 800]
    assert [opt["datasets"]["train"]["batch_size_per_gpu"] for opt in stages.values()] == [64, 16, 16, 16]
    halved = {"net": (1000, 125, 4), "meta": (240, 150, 3), "teacher": (1500, 125, 3)}
    for stage, (epoch, every, times) in halved.items():
        expected = {every * number: 1e-4 * 0.5**number for number in range(times + 1)}
        assert changes(learning_rates(stages[stage], unit=epoch)) == pytest.approx(expected)
    rates = changes(learning_rates(stages["student"], unit=800))
    assert rates == pytest.approx({0: 1e-4, 60: 1e-5, 100: 1e-4, 225: 5e-5, 350: 2.5e-5, 475: 1.25e-5})
    assert stages["student"]["train"]["estimator_iter"] == 100 * 800
    assert stages["meta"]["network_g"] == stages["net"]["network_g"]
    assert stages["student"]["network_teacher"] == stages["teacher"]["network_g"]


def test_mrda_s_meta_learns_adapts_and_is_imitated(folder, tmp_path):
    opt = recipe("mrda_s_meta", folder, "datasets:train:batch_size_per_gpu=4")
    opt["network_g"] |= {"num_feat": 8, "num_block": 1}
    opt.update(is_train=True, dist=False, rank=0, world_size=1, num_gpu=0)
    meta = build(opt)
    (log,) = train(meta, 1, 1, items(4, 1, 64))
    assert set(log) == {"l_meta"}
    (folder / "trained.pth").touch()
    files = {name: tmp_path / f"{name}.pth" for name in ("meta", "teacher")}
    torch.save({"params": meta.net_g.state_dict()}, files["meta"])

    opt = recipe("mrda_s_teacher", folder, f"path:pretrain_network_meta={folder}/trained.pth")
    opt["path"]["pretrain_network_meta"] = str(files["meta"])
    opt["network_g"]["estimator"]["num_meta_feat"] = 8
    teacher = toy(opt)
    (log,) = train(teacher, 1, 1, items(4, 1, 64))
    assert set(log) == {"l_pix"}
    torch.save({"params": teacher.net_g.state_dict()}, files["teacher"])

    opt = recipe("mrda_s_student", folder, f"path:pretrain_network_teacher={folder}/trained.pth")
    assert opt["train"]["distill_opt"] == {
        "type": "KDSRDistillLoss", "loss_weight": 1.0, "temperature": 0.15, "l1_weight": 0.1,
    }  # fmt: skip
    opt["path"]["pretrain_network_teacher"] = str(files["teacher"])
    opt["network_teacher"]["estimator"]["num_meta_feat"] = 8
    student = toy(opt, estimator_iter=10)
    ours, theirs = student.net_g.state_dict(), teacher.net_g.state_dict()
    fresh = [key for key in ours if key not in theirs or not torch.equal(ours[key], theirs[key])]
    assert fresh == ["estimator.features.0.weight"]
    logs = train(student, 1, 11, items(4, 1, 64))
    assert [set(log) for log in logs] == [{"l_distill"}] * 10 + [{"l_pix", "l_distill"}]
    assert logs[9]["l_distill"] < 0.8 * logs[0]["l_distill"]


# ------------------------------------------------------------------------------------------ SRMD


@pytest.mark.parametrize("name", ["srmd_x4_iso", "srmd_x4_aniso_noise", "srmd_s"])
def test_srmd_learns_with_the_kernel_that_degraded(name, folder):
    opt = recipe(name, folder)
    with torch.device("meta"):
        net = build_network(opt["network_g"])
    assert (net.extra_input, net.is_teacher) == ("prior", False)
    if name != "srmd_s":
        assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(1.55, abs=0.005)
    opt["network_g"]["restorer"] |= {"num_feat": 16, "num_block": 3}
    opt.update(is_train=True, dist=False, rank=0, world_size=1, num_gpu=0)
    opt["train"]["optim_g"]["lr"] = 5e-3
    model = build(opt)
    assert model.net_g.missing() is None
    losses = [log["l_pix"] for log in train(model, 1, 15, items(4, 1, 64))]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_srmd_trains_and_is_measured_by_the_commands_but_does_not_upscale_photos(folder):
    log = run(folder, "srmd_s", "train:total_iter=6", "val:val_freq=6")
    assert list(logged(log, "l_pix")) == [*range(1, 7)]
    assert re.search(r"# psnr_y: \d+\.\d+", log)
    weights = "experiments/srmd_s_x4_iso/models/net_g_latest.pth"
    done = run_module("lightbsr", "upscale", "pictures", "-o", "out", "--model", weights, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        f"lightbsr upscale: {weights}: this network also needs the blur kernel and noise level of every image, which "
        "cannot be given here"
    ]

    (folder / "bench.yml").write_text(
        f"{{scale: 4, models: {{srmd: {weights}}}, datasets: {{toy: pictures}}, "
        "degradations: {blur: [{sigma: 2.6}]}, metrics: [psnr_y], cost: false, crops: 1}"
    )
    done = run_module("lightbsr", "bench", "bench.yml", "-o", "bench", cwd=folder)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((folder / "bench/results.json").read_text())["rows"]
    (trained,) = re.findall(r"Validation DemoHeldOut\n\t # psnr_y: (\d+\.\d+)", log)
    assert row["psnr_y"] == pytest.approx(float(trained), abs=0.01)


# ------------------------------------------------------------------------------------------ CdCL


def test_cdcl_has_the_published_schedule(folder):
    epoch = 970
    first = recipe("cdcl_x4_iso_estimator", folder, phases=("train",))
    assert first["train"]["total_iter"] == first["train"]["estimator_iter"] == 100 * epoch
    assert changes(learning_rates(first, unit=epoch)) == pytest.approx({0: 1e-3, 60: 2e-4})
    (folder / "estimator.pth").touch()
    second = recipe("cdcl_x4_iso", folder, f"path:pretrain_network_g={folder}/estimator.pth")
    assert second["train"]["total_iter"] == 600 * epoch
    rates = learning_rates(second, unit=epoch // 10)
    assert rates[:50] == pytest.approx([2e-4 * step / 50 for step in range(1, 51)])
    assert rates[50] == 2e-4
    assert rates[-1] == pytest.approx(1e-6, rel=1e-3)
    assert first["network_g"] == second["network_g"]
    assert second["train"]["optim_g"] == {"type": "AdamW", "lr": 2e-4, "weight_decay": 0.01, "betas": [0.9, 0.999]}


def test_cdcl_contrasts_over_the_cyclic_shift_then_restores(folder):
    model = toy(recipe("cdcl_s", folder), estimator_iter=2)
    data = items(5, 1, 64)
    logs = train(model, 1, 3, data)
    assert [set(log) for log in logs] == [{"l_cyclic"}] * 2 + [{"l_pix", "l_cyclic"}]
    assert 0 < logs[0]["l_cyclic"] < 5
    assert model.output.shape == (5, 3, 64, 64)
    views = model.gt.unflatten(0, (5, 4))
    assert torch.equal(views[:, 0], data["gt"])
    shifts = [next(s for s in range(5) if torch.equal(views[:, i], data["gt"].roll(s, 0))) for i in range(4)]
    assert shifts[0] == 0
    assert len({*shifts}) == 4
    generator, numbers = torch.Generator().manual_seed(0), torch.arange(40)
    extended = [model.objectives["cyclic_opt"].extend(numbers, generator).view(40, 4) for _ in range(50)]
    assert {40 - shifted for views in extended for shifted in views[0, 1:].tolist()} == {*range(1, 16)}
    kernels = model.prior.kernel.unflatten(0, (5, 4))
    assert torch.equal(kernels, kernels[:, :1].expand_as(kernels))
    assert not torch.equal(kernels[0], kernels[1])


def test_cdcl_resumes_and_refuses_what_does_not_fit(folder, tmp_path):
    def fresh(**path):
        opt = recipe("cdcl_s", folder)
        opt["path"] |= {"models": str(tmp_path), "training_states": str(tmp_path), **path}
        return toy(opt, estimator_iter=1)

    model = fresh()
    train(model, 1, 2, items(4, 1, 64))
    model.save(0, 2)
    whole = train(model, 3, 4, items(4, 1, 64))
    again = fresh(pretrain_network_g=str(tmp_path / "net_g_2.pth"), param_key_g="params")
    again.resume_training(torch.load(tmp_path / "2.state", weights_only=True))
    for ours, theirs in zip(train(again, 3, 4, items(4, 1, 64)), whole, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    with pytest.raises(UserError, match=r"a batch has 3 images; train.cyclic_opt shifts it 3 times"):
        train(again, 5, 5, items(3, 1, 64))
    with pytest.raises(UserError, match=r"no average of this estimator"):
        again.objectives["cyclic_opt"].load_state({})
