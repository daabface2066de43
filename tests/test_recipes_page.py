"""docs/recipes.md has all values of the files, and its ablations train."""

import re
import shlex
from copy import deepcopy
from fnmatch import fnmatch
from functools import cache
from itertools import product

import pytest
import torch
from basicsr.archs import build_network

from lightbsr_arch.config.load import load_options
from lightbsr_arch.config.merge import read_options
from lightbsr_arch.config.yaml_file import load_value
from tests.models.helpers import batch, build, train
from tests.option_files import OPTIONS

PAGE = (OPTIONS.parent / "docs/recipes.md").read_text(encoding="utf-8")
PUBLISHED = ("kdsr_[ml]_*", "kdsr_real_x4_*", "lightbsr_x*", "dasr_x*", "cdcl_x*", "mmrealsr_x*")
RECIPES = {path.stem: path for path in OPTIONS.glob("*.yml") if any(fnmatch(path.stem, each) for each in PUBLISHED)}
# These options do not affect the trained network, or the name of the recipe states them.
UNLISTED = (
    "name", "model_type", "scale", "num_gpu", "manual_seed", "path.*", "val.*", "datasets.val.*", "logger.*", "*.type",
    "*.scale", "network_teacher.*", "datasets.train.dataroot_gt", "datasets.train.io_backend.*",
    "datasets.train.num_worker_per_gpu", "datasets.train.pin_memory", "datasets.train.dataset_enlarge_ratio",
    "datasets.train.persistent_workers", "train.channels_last",
)  # fmt: skip


def table(*headings):
    """Return the rows of every table with these headings. Their cells have no backticks."""
    rows, inside = [], False
    for line in PAGE.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        if cells == list(headings):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("|---"):
            rows.append(tuple(cells))
    return rows


VALUES = table("recipes", "option", "ours", "paper", "code")
ABLATIONS = table("ablation", "recipe", "--force_yml")


def named(pattern):
    """Return the recipes that match a name with braces and stars."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    patterns = ["".join(choice) for choice in product(*parts)]
    return {stem for stem in RECIPES if any(fnmatch(stem, each) for each in patterns)}


def listed(options, key=""):
    """Yield the options of a file by dotted keys. A section that is one value of the page is not divided."""
    for name, value in options.items():
        path = f"{key}{name}"
        if any(fnmatch(path, pattern) for pattern in UNLISTED):
            continue
        if isinstance(value, dict) and not (key == "train." or path == "network_d"):
            yield from listed(value, f"{path}.")
        else:
            yield path, value


def test_every_value_is_on_the_page_once_and_is_that_of_the_file():
    stated = {}
    for pattern, option, ours, *published in VALUES:
        assert len(published) == 2
        assert named(pattern), pattern
        for stem in named(pattern):
            assert (stem, option) not in stated
            stated[stem, option] = load_value(ours, "docs/recipes.md")
    found = {
        (stem, option): value for stem, path in RECIPES.items() for option, value in listed(read_options(path).data)
    }
    assert stated == found


def test_a_student_s_teacher_is_the_network_of_its_recipe():
    students = [stem for stem, path in RECIPES.items() if "network_teacher" in read_options(path).data]
    assert len(students) == 20
    for stem in students:
        teacher = re.sub("(student|gan)$", "teacher", stem)
        assert read_options(RECIPES[stem]).data["network_teacher"] == read_options(RECIPES[teacher]).data["network_g"]


def test_the_page_names_every_recipe():
    first = PAGE[: PAGE.index("## Each value")]
    names = [name.removesuffix(".yml") for name in re.findall(r"`([\w{},]+\.yml)`", first)]
    assert set().union(*map(named, names)) == set(RECIPES)


def toy(network):
    """Reduce a network to the same kind with an IDR of 32 channels."""
    for part in network["estimator"], network["restorer"]:
        is_wide = part["type"].startswith(("KDIDE", "IDRDCRBNet"))
        part.update({key: 32 if key == "idr_ch" else 1 for key in ("idr_ch", "num_group", "num_block") if key in part})
        part["num_feat"] = 32 if is_wide else 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablations")
    (folder / "teacher.pth").touch()
    return folder


@cache  # a check of the options builds the networks in full size
def loaded(recipe, entries, folder):
    data = [f"datasets:{phase}:dataroot_gt={folder}" for phase in ("train", "val")]
    data += [f"datasets:{phase}:io_backend={{type: disk}}" for phase in ("train", "val")]
    data += [f"path:pretrain_network_teacher={folder}/teacher.pth"] if recipe.endswith("student") else []
    return load_options(RECIPES[recipe], is_train=True, overrides=[*shlex.split(entries), *data])


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "entries"), [row[1:] for row in ABLATIONS], ids=[row[0] for row in ABLATIONS])
def test_an_ablation_trains(recipe, entries, folder, tmp_path):
    is_student = recipe.endswith("student")
    opt = deepcopy(loaded(recipe, entries, folder))
    assert opt != loaded(recipe, "", folder)

    opt.update(is_train=True, dist=False, rank=0, world_size=1, num_gpu=0)
    for key in ("network_g", "network_teacher"):
        if key in opt:
            toy(opt[key])
    train_opt = opt["train"]
    alone = min(train_opt.get("estimator_iter", 0), 1)
    train_opt["estimator_iter"] = alone
    if is_student:
        teacher = build_network(opt["network_teacher"])
        if hasattr(teacher.estimator, "prior"):
            teacher.estimator.prior.fit(torch.rand(20, 21, 21))
        opt["path"]["pretrain_network_teacher"] = str(tmp_path / "teacher.pth")
        torch.save({"params": teacher.state_dict()}, tmp_path / "teacher.pth")
    elif "gt_usm" in opt["degradation"]:
        opt["degradation"] |= {"gt_size": 48, "queue_size": 8}
    model = build(opt)
    side = 80 if "gt_usm" in opt["degradation"] else 16 * opt["scale"]
    logs = train(model, 1, 2, batch(8, side))

    losses = {"distill_opt": "l_distill", "contrast_opt": "l_contrast", "ranking_opt": "l_ranking"}
    others = {loss for key, loss in losses.items() if train_opt.get(key)}
    assert [set(log) for log in logs] == [others if alone else {"l_pix", *others}, {"l_pix", *others}]
    is_off = is_student and train_opt["distill_opt"].get("loss_weight") == 0
    assert all((value == 0) == (is_off and name == "l_distill") for log in logs for name, value in log.items())
