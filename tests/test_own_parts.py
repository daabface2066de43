"""docs/add_more.md: its code is examples/own_parts.py, whose classes train, load and upscale together."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY

import lightbsr_arch
from lightbsr_arch.degradations import DEGRADATION_REGISTRY, Draws
from tests.config.conftest import problems, run_folder, write  # noqa: F401
from tests.models.helpers import build, kdsr, options, train

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/own_parts.py"
PAGE = (ROOT / "docs/add_more.md").read_text(encoding="utf-8")
RESTORER = {"type": "GainRestorer", "num_feat": 6, "num_block": 2, "idr_ch": 8, "scale": 2}


def blocks(language: str) -> list[str]:
    """Return the page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def plugged_in() -> Iterator[ModuleType]:
    """Import the example as ``basicsr`` imports a plug-in, and take its classes out of the registries afterwards."""
    spec = importlib.util.spec_from_file_location("own_parts", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del ARCH_REGISTRY._obj_map["GainRestorer"]
    del LOSS_REGISTRY._obj_map["CosineDistillLoss"]
    del DEGRADATION_REGISTRY._obj_map["MotionBlur"]


def test_the_page_shows_the_file() -> None:
    assert "\n\n".join(blocks("python")) == EXAMPLE.read_text(encoding="utf-8")


def test_its_options_are_accepted(run_folder: Path) -> None:  # noqa: F811
    (text,) = blocks("yaml")
    write("options/own.yml", text)
    assert problems("options/own.yml") == []
    write("options/own.yml", text.replace("idr_ch: 32", "idr_ch: 31"))
    assert [line.partition(": ")[2] for line in problems("options/own.yml")] == ["network_g: cannot-be-built"]
    write("options/own.yml", text.replace("length:", "lenght:"))
    assert "degradation.lenght: unknown-key" in "\n".join(problems("options/own.yml"))


def test_they_train_for_two_steps_then_load_and_upscale(tmp_path: Path) -> None:
    teacher = build(options(tmp_path, "KDTeacherModel", kdsr("teacher")))
    teacher.save_network(teacher.net_g, "teacher", 0)
    opt = options(
        tmp_path, "KDStudentModel", {**kdsr("student"), "restorer": RESTORER}, distill_opt={"type": "CosineDistillLoss"}
    )
    opt["degradation"] = {"type": "MotionBlur", "length": [1, 12]}
    opt["train"]["start_from_teacher"] = "none"
    opt["network_teacher"] = kdsr("teacher")
    opt["path"] |= {"pretrain_network_teacher": str(tmp_path / "teacher_0.pth"), "param_key_teacher": "params"}
    model = build(opt)
    before = {key: value.clone() for key, value in model.net_g.state_dict().items()}
    assert [set(log) for log in train(model, 1, 2)] == [{"l_pix", "l_distill"}] * 2
    assert not torch.equal(model.net_g.restorer.to_gain.weight, before["restorer.to_gain.weight"])

    model.save_network(model.net_g, "net_g", 2)
    loaded = lightbsr_arch.load(tmp_path / "net_g_2.pth")
    assert loaded.config["restorer"] == RESTORER
    lq = torch.rand(3, 13, 11)
    whole = loaded(lq[None])[0].clamp(0, 1)
    torch.testing.assert_close(lightbsr_arch.upscale(lq, loaded, tile=5), whole, atol=1e-6, rtol=0)


def test_the_kernels_are_lines(plugged_in: ModuleType) -> None:
    level, upright = plugged_in.line_kernels(torch.tensor([9.0, 5.0]), torch.tensor([0.0, torch.pi / 2]))
    for kernel, length in ((level, 9), (upright.T, 5)):
        assert kernel.sum() == pytest.approx(1)
        row = kernel[10] / kernel[10, 10]
        assert [(each > 0.99).item() for each in row] == [abs(x - 10) <= length // 2 for x in range(21)]
        assert kernel[8].max() < 0.001 * kernel[10].max()


def test_the_loss_is_the_cosine_distance(plugged_in: ModuleType) -> None:
    loss = plugged_in.CosineDistillLoss(loss_weight=2.0)
    ours, theirs = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    assert loss({"idr": ours}, {"idr": theirs}).item() == pytest.approx(1.0)


def test_the_degradation_depends_only_on_its_generator(plugged_in: ModuleType) -> None:
    gt = torch.rand(2, 3, 32, 32)
    results = [plugged_in.MotionBlur(2)(gt, Draws(torch.Generator().manual_seed(seed))).lq for seed in (0, 0, 1)]
    assert results[0].shape == (2, 3, 16, 16)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
