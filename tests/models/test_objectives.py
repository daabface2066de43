"""Models are composed of objectives, here one of a plug-in, and contrast without a teacher."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
import torch
from basicsr.utils.registry import MODEL_REGISTRY
from msgspec import Meta, Struct
from torch import nn

from lightbsr.errors import UserError
from lightbsr_arch.models import BlindSRModel
from lightbsr_arch.objectives import Knowledge, Losses, Objective
from lightbsr_arch.option_types.problems import Finding
from lightbsr_arch.option_types.sections import section
from lightbsr_arch.training_state import check_state
from tests.config.conftest import problems, write
from tests.config.test_cross_checks import HR_ONLY
from tests.models.helpers import batch, build, lightbsr, options, train
from tests.models.test_lightbsr import CONTRAST, patches
from tests.models.test_training import EDSR


class Level(Struct, kw_only=True, forbid_unknown_fields=True):
    weight: Annotated[float, Meta(ge=0, description="of the loss")] = 1.0


class Brightness(Objective):
    """Compares the mean of the output with a running mean of ground truth, scaled by a layer of its own."""

    option = "brightness_opt"
    of_image = True

    class TrainOptions(Struct, kw_only=True):
        brightness_opt: Annotated[Level | None, Meta(description="brightness of the output")] = None
        brightness_lr: Annotated[float, Meta(gt=0, description="rate of the scale")] = 0.1

    @classmethod
    def check(cls, options: dict[str, Any]) -> Iterator[Finding]:
        if not cls.asked(options) and "brightness_lr" in section(options, "train"):
            yield Finding(
                ("train", "brightness_lr"), "needs-brightness-loss", "is for brightness_opt, which is missing"
            )

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.net_scale = nn.Linear(1, 1)
        self.mean = torch.zeros(())

    def losses(self, known: Knowledge) -> Losses:
        level = self.net_scale(self.model.output.mean().view(1, 1)).squeeze()
        return {"l_brightness": self.opt.get("weight", 1.0) * (level - self.mean).abs()}

    def after_step(self, *, learnt: bool) -> str | None:
        self.mean = 0.9 * self.mean + 0.1 * self.model.gt.mean()
        return None

    def optimizers(self) -> list[torch.optim.Optimizer]:
        rate = self.model.opt["train"].get("brightness_lr", 0.1)
        return [torch.optim.SGD(self.net_scale.parameters(), rate)]

    def networks(self) -> dict[str, nn.Module]:
        return {"net_scale": self.net_scale}

    def state(self) -> dict[str, Any]:
        return {"brightness": self.mean}

    def load_state(self, state: dict[str, Any]) -> None:
        self.mean = state["brightness"]


@pytest.fixture(autouse=True)
def bright_model() -> Iterator[None]:
    class BrightModel(BlindSRModel):
        """Trains a network to restore images of the same brightness as the ground truth."""

        objective_types = (Brightness,)

    MODEL_REGISTRY.register(BrightModel)
    yield
    del MODEL_REGISTRY._obj_map["BrightModel"]


BRIGHT = (
    HR_ONLY.replace("BlindSRModel", "BrightModel")
    .replace("\npath:", "\ndegradation: {type: ClassicalDegradation}\npath:")
    .replace("  pixel_opt", "  brightness_opt: {weight: 0.5}\n  brightness_lr: 0.2\n  pixel_opt")
)
MISTAKES = [
    ("weight: 0.5", "wieght: 0.5", "train.brightness_opt.wieght: unknown-key"),
    ("weight: 0.5", "weight: -1", "train.brightness_opt.weight: invalid-value"),
    ("brightness_lr: 0.2", "brightness_lr: 0", "train.brightness_lr: invalid-value"),
    ("  brightness_opt: {weight: 0.5}\n", "", "train.brightness_lr: needs-brightness-loss"),
    (
        "MultiStepLR",
        "MultiStepLr",
        "train.scheduler.type: unknown-type",
    ),
    ("  pixel_opt: {type: L1Loss}\n", "", "train.pixel_opt: missing-key"),
]  # fmt: skip


def test_an_objective_of_a_plug_in_brings_its_options(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("a.yml", BRIGHT)
    assert problems("a.yml") == []
    write("a.yml", BRIGHT.replace("BrightModel", "BlindSRModel"))
    assert [line.partition(": ")[2] for line in problems("a.yml")] == [
        f"train.{key}: key-of-another-model" for key in ("brightness_opt", "brightness_lr")
    ]


@pytest.mark.parametrize(("right", "wrong", "refusal"), MISTAKES)
def test_its_options_are_checked(
    right: str, wrong: str, refusal: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert BRIGHT.count(right) == 1
    write("a.yml", BRIGHT.replace(right, wrong))
    assert [line.partition(": ")[2] for line in problems("a.yml")] == [refusal]


def test_an_objective_of_a_plug_in_trains_and_resumes(tmp_path: Any) -> None:
    opt = options(tmp_path, "BrightModel", EDSR, brightness_opt={"weight": 0.5}, ema_decay=0.9)
    model = build(opt)
    logs = train(model, 1, 3)
    assert [set(log) for log in logs] == [{"l_pix", "l_brightness"}] * 3
    model.save(0, 3)
    whole = train(model, 4, 6)
    again = build({**opt, "path": {**opt["path"], "pretrain_network_g": str(tmp_path / "net_g_3.pth")}}, seed=1)
    objective = again.objectives["brightness_opt"]
    saved = torch.load(tmp_path / "net_scale_3.pth", weights_only=True)["params"]
    objective.net_scale.load_state_dict(saved)
    state = torch.load(tmp_path / "3.state", weights_only=True)
    check_state(state, "3.state")
    again.resume_training(state)
    assert objective.mean == state["brightness"] > 0
    for ours, theirs in zip(train(again, 4, 6), whole, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-7)


def test_without_its_option_the_model_is_the_plain_one(tmp_path: Any) -> None:
    ours, theirs = (build(options(tmp_path, name, EDSR)) for name in ("BrightModel", "BlindSRModel"))
    assert ours.objectives == {}
    assert train(ours, 1, 2) == train(theirs, 1, 2)


@pytest.mark.parametrize(
    ("model_type", "key"),
    [
        ("BlindSRModel", "contrast_opt"),
        ("BlindSRModel", "estimator_iter"),
        ("BlindSRModel", "distill_opt"),
        ("BlindSRModel", "start_from_teacher"),
        ("KDTeacherModel", "gan_opt"),
        ("KDTeacherModel", "distill_opt"),
        ("ContrastiveSRModel", "start_from_teacher"),
        ("KDStudentModel", "contrast_opt"),
    ],
)
def test_an_option_of_other_models_is_refused(
    model_type: str, key: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        "contrast_opt": "{type: MomentumContrastLoss}",
        "distill_opt": "{type: KDSRDistillLoss}",
        "gan_opt": "{type: GANLoss, gan_type: vanilla}",
        "estimator_iter": "5",
        "start_from_teacher": "all",
    }
    monkeypatch.chdir(tmp_path)
    text = HR_ONLY.replace("BlindSRModel", model_type).replace("  pixel_opt", f"  {key}: {values[key]}\n  pixel_opt")
    write("a.yml", text)
    found = [line.partition(": ")[2] for line in problems("a.yml") if f"train.{key}" in line]
    assert found == [f"train.{key}: key-of-another-model"]


def test_contrast_needs_no_teacher(tmp_path: Any) -> None:
    network = lightbsr("teacher")
    network["estimator"] |= {"num_kernel_ch": 0, "num_noise_ch": 0}  # its only input is the low-quality image
    opt = options(tmp_path, "ContrastiveSRModel", network, contrast_opt=CONTRAST, estimator_iter=1)
    model = build(opt)
    assert [set(train(model, step, step, patches(step))[0]) for step in (1, 2)] == [
        {"l_contrast"}, {"l_pix", "l_contrast"}
    ]  # fmt: skip
    assert model.objectives["contrast_opt"].cri_contrast.position == 4


def test_objectives_must_share_degradations_alike(tmp_path: Any) -> None:
    class OfTwo(Brightness):
        option = "two_opt"
        num_patch = 2

    class OfThree(Brightness):
        option = "three_opt"
        num_patch = 3

    class ManyModel(BlindSRModel):
        objective_types = (OfTwo, OfThree)

    MODEL_REGISTRY.register(ManyModel)
    try:
        with pytest.raises(UserError, match=r"train.two_opt.num_patch and train.three_opt.num_patch must agree"):
            build(options(tmp_path, "ManyModel", EDSR, two_opt={}, three_opt={}))
        model = build(options(tmp_path, "ManyModel", lightbsr("student"), two_opt={}))
        (log,) = train(model, 1, 1, batch(4))
        assert model.output.shape[0] == 2
        assert set(log) == {"l_pix", "l_brightness"}
    finally:
        del MODEL_REGISTRY._obj_map["ManyModel"]
