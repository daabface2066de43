"""Every YAML in options/ is valid, builds its networks, and takes a training step at a reduced size."""

from pathlib import Path

import pytest
import torch
from basicsr.archs import build_network

from lightbsr_arch.config.check import load_options
from tests.models.helpers import batch, build, train

OPTIONS = Path(__file__).parents[1] / "options"
RECIPES = sorted([*OPTIONS.glob("*teacher.yml"), *OPTIONS.glob("*student.yml")])
PUBLISHED = [path for path in RECIPES if path.stem.startswith("kdsr_")]
MILLIONS = {"kdsr_m": {2: 5.647, 4: 5.795}, "kdsr_l": {2: 13.601, 4: 14.191}}  # x4: the paper, table 1


def options(path, data_folder):
    """The recipe's options, its data and teacher replaced by ones that exist."""
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
    """The same kind of network with 8 channels and one block a part."""
    for part in ("estimator", "restorer"):
        network[part].update(num_feat=8, num_block=1)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_builds_and_takes_a_step(path, data_folder, tmp_path):
    opt = options(path, data_folder)
    role, scale = path.stem.split("_")[-1], opt["scale"]
    with torch.device("meta"):
        full = build_network(opt["network_g"])
    assert full.scale == scale
    assert (full.privileged == "gt") == (role == "teacher")

    opt.update(is_train=True, dist=False, rank=0, world_size=1, num_gpu=0)
    for key in ("network_g", "network_teacher"):
        if key in opt:
            shrink(opt[key])
    opt["train"].pop("estimator_iter", None)
    if role == "student":
        teacher = tmp_path / "teacher.pth"
        torch.save({"params": build_network(opt["network_teacher"]).state_dict()}, teacher)
        opt["path"]["pretrain_network_teacher"] = str(teacher)
    model = build(opt)
    (log,) = train(model, 1, 1, batch(2, 16 * scale))
    assert set(log) == ({"l_pix"} if role == "teacher" else {"l_pix", "l_distill"})
    assert all(0 < value < 20 for value in log.values())
    (rate,) = model.get_current_learning_rate()
    assert rate == {"teacher": 1e-3, "student": 1e-3}.get(path.stem, 2e-4 if "noise_student" in path.stem else 1e-4)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
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
    assert opt["datasets"]["train"]["batch_size_per_gpu"] == 64
    assert opt["train"]["total_iter"] == {"teacher": 500_000, "student": 600_000}[role]
    assert opt["degradation"]["sigma"] == [0.2, 4.0]
    wanted = {"iso": ("iso", [0, 0]), "aniso_noise": ("aniso", [0, 25])}[setting]
    assert (opt["degradation"]["kernel"], opt["degradation"].get("noise", [0, 0])) == wanted


def test_published_recipes_are_complete():
    wanted = {
        f"kdsr_{size}_x{scale}_{setting}_{role}"
        for size in "ml" for scale in (2, 4) for setting in ("iso", "aniso_noise") for role in ("teacher", "student")
    }  # fmt: skip
    assert {path.stem for path in PUBLISHED} == wanted
