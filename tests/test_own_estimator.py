"""The code of docs/add_your_own.md is examples/own_estimator.py, which trains, loads and upscales."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

import lightbsr_arch
from tests.config.conftest import problems, run_folder, write  # noqa: F401
from tests.models.helpers import build, kdsr, options, train

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/own_estimator.py"
PAGE = (ROOT / "docs/add_your_own.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """Return the page's first block of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0]


@pytest.fixture(autouse=True)
def plugged_in() -> Iterator[None]:
    """Import the example as ``basicsr`` imports a plug-in, and remove its class from the registry afterwards."""
    spec = importlib.util.spec_from_file_location("own_estimator", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    yield
    del ARCH_REGISTRY._obj_map["DetailEstimator"]


def test_the_page_shows_the_file() -> None:
    assert block("python") == EXAMPLE.read_text(encoding="utf-8")


def test_its_options_are_accepted(run_folder: Path) -> None:  # noqa: F811
    write("options/own.yml", block("yaml"))
    assert problems("options/own.yml") == []
    write("options/own.yml", block("yaml").replace("num_feat: 32", "num_feat: 31"))
    (problem,) = problems("options/own.yml")
    assert problem.endswith(": network_g: cannot-be-built")


def test_it_is_distilled_for_two_steps_then_loaded_and_upscales(tmp_path: Path) -> None:
    teacher = build(options(tmp_path, "KDTeacherModel", kdsr("teacher")))
    teacher.save_network(teacher.net_g, "teacher", 0)
    network = {**kdsr("student"), "estimator": {"type": "DetailEstimator", "num_feat": 8}}
    opt = options(tmp_path, "KDStudentModel", network, distill_opt={"type": "KDSRDistillLoss"})
    opt["train"]["start_from_teacher"] = "all"
    opt["network_teacher"] = kdsr("teacher")
    opt["path"] |= {"pretrain_network_teacher": str(tmp_path / "teacher_0.pth"), "param_key_teacher": "params"}
    model = build(opt)
    taught = teacher.net_g.estimator
    assert torch.equal(model.net_g.estimator.to_idr[0].weight, taught.to_idr[0].weight)
    assert torch.equal(model.net_g.estimator.mlp[2].weight, taught.mlp[2].weight)
    before = {key: value.clone() for key, value in model.net_g.estimator.state_dict().items()}
    assert [set(log) for log in train(model, 1, 2)] == [{"l_pix", "l_distill"}] * 2
    assert all(not torch.equal(value, before[key]) for key, value in model.net_g.estimator.state_dict().items())

    model.save_network(model.net_g, "net_g", 2)
    loaded = lightbsr_arch.load(tmp_path / "net_g_2.pth")
    assert loaded.config["estimator"] == {"type": "DetailEstimator", "num_feat": 8}
    lq = torch.rand(3, 37, 11)
    whole = loaded(lq[None])[0].clamp(0, 1)
    torch.testing.assert_close(lightbsr_arch.upscale(lq, loaded, tile=5), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (2, 9)])
def test_small_images_have_a_finite_idr(size: tuple[int, int]) -> None:
    assert ARCH_REGISTRY.get("DetailEstimator")(8)(torch.rand(2, 3, *size)).isfinite().all()
