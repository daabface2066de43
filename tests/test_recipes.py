"""Every YAML in options/ is valid, builds its networks, and takes a training step at a reduced size."""

import pytest
import torch
from basicsr.archs import build_network
from torch.nn import functional

from lightbsr_arch.config.load import load_options
from lightbsr_arch.models import BlindSRModel
from tests import option_files
from tests.models.helpers import batch, build, train
from tests.option_files import OPTIONS

REAL = sorted(OPTIONS.glob("kdsr_real_*.yml"))  # tests/test_real_recipes.py
FAMILY = sorted(OPTIONS.glob("mrda_*.yml"))  # tests/test_family_recipes.py
PUBLISHED = sorted({*OPTIONS.glob("*teacher.yml"), *OPTIONS.glob("*student.yml")} - {*REAL, *FAMILY})
RECIPES = [*PUBLISHED, *option_files.WEIGHTS]
BASELINES = sorted((OPTIONS / "baselines").glob("*.yml"))
KDSR = [path for path in PUBLISHED if path.stem.startswith("kdsr_")]
LIGHTBSR = [path for path in PUBLISHED if path.stem.startswith("lightbsr_x")]
RATES = {"teacher": 3e-3, "student": 3e-3, "kdsr_s_x4_real_teacher": 5e-4, "kdsr_s_x4_real_student": 7e-4}
SCALES = (2, 3, 4)
# The values for x4 are in table 1 of the paper.
MILLIONS = {"kdsr_m": {2: 5.647, 3: 5.832, 4: 5.795}, "kdsr_l": {2: 13.601, 3: 14.339, 4: 14.191}}
BASELINE_MILLIONS = {"edsr": 1.518, "msrresnet": 1.518, "rcan": 15.592, "swinir_light": 0.930}
SETTINGS = {"iso": ("iso", [0, 0]), "aniso_noise": ("aniso", [0, 25])}


def options(path, data_folder):
    """Return the options of a recipe, with existing data and an existing teacher."""
    overrides = [f"path:pretrain_network_teacher={data_folder}/teacher.pth"] if "student" in path.stem else []
    for phase in ("train", "val"):
        overrides += [f"datasets:{phase}:dataroot_gt={data_folder}", f"datasets:{phase}:io_backend={{type: disk}}"]
    return load_options(path, is_train=True, overrides=overrides)


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "teacher.pth").touch()
    return folder


def shrink(network):
    """Return the same kind of network with 8 channels and one block per part."""
    for part in network["estimator"], network["restorer"]:
        part.update({key: 1 if "num_" in key else 32 for key in ("num_block", "num_group", "idr_ch") if key in part})
        part["num_feat"] = 8


def learning_rates(opt, unit):
    """Return the rate of every step of a run whose length and schedule are shorter by the factor ``unit``."""
    steps = ("total_iter", "scheduler_start", "warmup_iter")
    train_opt = {key: value // unit for key, value in opt["train"].items() if key in steps}
    lists = ("periods", "milestones", "restarts")
    train_opt["scheduler"] = {
        key: [step // unit for step in value] if key in lists else value
        for key, value in opt["train"]["scheduler"].items()
    }
    model = BlindSRModel.__new__(BlindSRModel)
    model.opt, model.schedulers = {"train": train_opt}, []
    model.optimizers = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], opt["train"]["optim_g"]["lr"])]
    model.setup_schedulers()
    rates = []
    for step in range(1, train_opt["total_iter"] + 1):
        model.optimizers[0].step()
        model.update_learning_rate(step, train_opt.get("warmup_iter", -1))
        rates += model.get_current_learning_rate()
    return rates


def changes(rates):
    """Return the steps at which the rate changes, and the new rates."""
    return {step: rate for step, rate in enumerate(rates) if step == 0 or rate != rates[step - 1]}


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(OPTIONS).as_posix())
def test_builds_and_takes_a_step(path, data_folder, tmp_path):
    opt = options(path, data_folder)
    role, scale = path.stem.split("_")[-1], opt["scale"]
    with torch.device("meta"):
        full = build_network(opt["network_g"])
    assert full.scale == scale
    is_lightbsr = path.stem.startswith("lightbsr")
    assert full.privileged == (("prior" if is_lightbsr else "gt") if role == "teacher" else None)

    opt.update(is_train=True, dist=False, rank=0, world_size=1, num_gpu=0)
    for key in ("network_g", "network_teacher"):
        if key in opt:
            shrink(opt[key])
    opt["train"].pop("estimator_iter", None)
    if role == "student":
        teacher = tmp_path / "teacher.pth"
        net = build_network(opt["network_teacher"])
        if is_lightbsr:
            net.estimator.prior.fit(torch.rand(20, 21, 21))
        torch.save({"params": net.state_dict()}, teacher)
        opt["path"]["pretrain_network_teacher"] = str(teacher)
    opt["path"]["pretrain_network_g"] = None  # weights of another size
    model = build(opt)
    side = opt["datasets"]["train"]["gt_size"] if "real" in path.stem else 16 * scale  # small once degraded
    (log,) = train(model, 1, 1, batch(4, side))
    others = {"student": {"l_distill"}, "teacher": {"l_contrast"} if is_lightbsr else set()}[role]
    assert set(log) == {"l_pix", *others}
    assert all(0 < value < (255 if is_lightbsr and name == "l_pix" else 20) for name, value in log.items())
    (rate,) = model.get_current_learning_rate()
    if len(path.stem.split("_")) < 4 or path in option_files.WEIGHTS:  # the small recipes
        assert rate == RATES.get(path.stem, 1e-3)
    else:
        assert rate == (2e-4 if is_lightbsr or "noise_student" in path.stem else 1e-4)


@pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
def test_baseline_differs_in_its_network_alone_and_trains(path, data_folder):
    opt, ours = options(path, data_folder), options(OPTIONS / "kdsr_m_x4_iso_teacher.yml", data_folder)
    own = ("name", "model_type", "network_g")
    assert {key: value for key, value in opt.items() if key not in own} == {
        key: value for key, value in ours.items() if key not in own
    }
    assert (opt["name"], opt["model_type"]) == (path.stem, "BlindSRModel")
    full = build_network(dict(opt["network_g"]))
    millions = sum(parameter.numel() for parameter in full.parameters()) / 1e6
    assert millions == pytest.approx(BASELINE_MILLIONS[path.stem.removesuffix("_x4_iso")], abs=5e-4)

    small = {"num_feat": 16, "num_group": 1, "num_block": 1, "embed_dim": 12, "depths": [2], "num_heads": [2]}
    opt["network_g"].update({key: value for key, value in small.items() if key in opt["network_g"]})
    opt.update(is_train=True, dist=False, rank=0, world_size=1, num_gpu=0)
    opt["train"]["optim_g"]["lr"] = 2e-3
    model = build(opt)
    losses = [log["l_pix"] for log in train(model, 1, 12, batch(2, 64))]
    assert losses[-1] < 0.7 * losses[0]

    lq = torch.rand(1, 3, 13, 18)  # a picture like those of validation, not a multiple of SwinIR's window
    model.feed_data({"lq": lq})
    model.test()
    padded = functional.pad(lq, (0, 6, 0, 3), "reflect") if "swinir" in path.stem else lq
    with torch.inference_mode():
        torch.testing.assert_close(model.output, model.net_g.eval()(padded)[..., :52, :72])


@pytest.mark.parametrize("path", KDSR, ids=lambda path: path.stem)
def test_published_recipes_are_the_papers(path, data_folder):
    opt = options(path, data_folder)
    size, scale, setting, role = path.stem[:6], opt["scale"], path.stem[10:-8], path.stem.split("_")[-1]
    if role == "student":
        with torch.device("meta"):
            millions = sum(p.numel() for p in build_network(opt["network_g"]).parameters()) / 1e6
        assert millions == pytest.approx(MILLIONS[size][scale], abs=5e-4)
        assert opt["network_teacher"]["restorer"] == opt["network_g"]["restorer"]
    assert opt["name"] == path.stem
    assert opt["datasets"]["train"]["gt_size"] == 64 * scale
    assert (opt["num_gpu"], opt["datasets"]["train"]["batch_size_per_gpu"]) == (1, 64)
    is_two_phase = (setting, role) == ("aniso_noise", "student")
    epochs = 600 if (setting, role) == ("iso", "student") else 500
    assert opt["train"]["total_iter"] == epochs * 1000
    assert opt["train"].get("estimator_iter", 0) == (100_000 if is_two_phase else 0)
    assert opt["train"]["optim_g"]["betas"] == [0.9, 0.999]
    if is_two_phase:
        expected = {0: 2e-4, 60: 2e-5, 100: 1e-4, 225: 5e-5, 350: 2.5e-5, 475: 1.25e-5}
    else:
        expected = {quarter * epochs // 4: 1e-4 / 2**quarter for quarter in range(4)}
    assert changes(learning_rates(opt, unit=1000)) == pytest.approx(expected)
    assert opt["degradation"]["sigma"] == [0.2, 4.0]
    assert (opt["degradation"]["kernel"], opt["degradation"].get("noise", [0, 0])) == SETTINGS[setting]


@pytest.mark.parametrize("path", LIGHTBSR, ids=lambda path: path.stem)
def test_lightbsr_recipes_are_the_papers(path, data_folder):
    opt = options(path, data_folder)
    scale, setting, role = opt["scale"], path.stem[12:-8], path.stem.split("_")[-1]
    train_set, train_opt = opt["datasets"]["train"], opt["train"]
    with torch.device("meta"):
        networks = {key: build_network(opt[key]) for key in ("network_g", "network_teacher") if key in opt}
    if role == "student":
        millions = sum(p.numel() for p in networks["network_g"].parameters()) / 1e6
        assert millions == pytest.approx({2: 3.112, 3: 3.297, 4: 3.260}[scale], abs=5e-4)  # x4: as published
        assert train_opt["start_from_teacher"] == "all"
    else:
        assert train_opt["contrast_opt"]["num_patch"] == train_set["patches_per_item"] == 4
    assert networks["network_g" if role == "teacher" else "network_teacher"].estimator.prior.num_ch == {
        "iso": 15, "aniso_noise": 18,
    }[setting]  # fmt: skip
    assert (opt["degradation"]["kernel"], opt["degradation"].get("noise", [0, 0])) == SETTINGS[setting]
    assert opt["name"] == path.stem
    assert train_set["gt_size"] == 64 * scale
    assert (opt["num_gpu"], train_set["batch_size_per_gpu"]) == (1, 64)
    assert train_opt["optim_g"]["betas"] == [0.9, 0.99]
    epoch = 970
    assert train_opt["total_iter"] == 700 * epoch
    assert train_opt["estimator_iter"] == 100 * epoch
    rates = learning_rates(opt, unit=epoch // 10)
    assert set(rates[: 100 * 10]) == {2e-4}
    assert rates[100 * 10 : 105 * 10] == pytest.approx([2e-4 * step / 50 for step in range(1, 51)])
    assert rates[105 * 10] == 2e-4
    assert rates[105 * 10 + 2975] == pytest.approx((2e-4 + 1e-6) / 2)
    assert rates[-1] == pytest.approx(1e-6, rel=1e-3)
    assert train_opt["pixel_opt"]["loss_weight"] == 255


def test_published_recipes_are_complete():
    wanted = {
        f"kdsr_{size}_x{scale}_{setting}_{role}"
        for size in "ml" for scale in SCALES for setting in ("iso", "aniso_noise") for role in ("teacher", "student")
    }  # fmt: skip
    assert {path.stem for path in KDSR} == wanted
    assert {path.stem for path in LIGHTBSR} == {
        f"lightbsr_x{scale}_{setting}_{role}"
        for scale in SCALES for setting in SETTINGS for role in ("teacher", "student")
    }  # fmt: skip
