"""Validation on LR images without HR: the metrics that it allows, and no teacher."""

from pathlib import Path

import pytest

from tests.config.conftest import STUDENT, problems, write
from tests.config.test_cross_checks import PLAIN
from tests.config.test_mutations import line_of

REAL = "name: Real\n    type: SingleImageDataset\n    dataroot_lq: .\n    io_backend: {type: disk}\n"
BEFORE, AFTER = STUDENT.read_text().split("  val:\n    name: DemoHeldOut")
REST = AFTER[AFTER.index("\nnetwork_g") :]
ALONE = f"{BEFORE}  val:\n    {REAL}{REST}"
BESIDE = f"{BEFORE}  val:\n    name: DemoHeldOut{AFTER[: -len(REST)]}  val_2:\n    {REAL}{REST}"
KDIDE = "KDIDETeacher, num_feat: 32, num_block: 2, scale: 4"


def refusals(text: str) -> list[str]:
    write("options/student.yml", text)
    return [line.removeprefix("options/student.yml:") for line in problems()]


def test_metrics_that_compare(run_folder: Path) -> None:
    assert refusals(ALONE) == [
        f"{line_of('psnr_y:', ALONE)}: val.metrics.psnr_y: metric-needs-gt",
        f"{line_of('ssim_y:', ALONE)}: val.metrics.ssim_y: metric-needs-gt",
    ]
    niqe = ALONE[: ALONE.index("    psnr_y")] + "    niqe: {type: calculate_niqe, crop_border: 4, better: lower}\n"
    assert refusals(niqe + ALONE[ALONE.index("\nlogger:") :]) == []


def test_beside_pairs_they_are_of_use(run_folder: Path) -> None:
    assert refusals(BESIDE) == []


def test_beside_pairs_they_crash_basicsr_s_own_models(run_folder: Path) -> None:
    text = PLAIN.replace("\nnetwork_g:", f"\n  val_2:\n    {REAL}network_g:")
    write("a.yml", text)
    line = line_of("psnr:", text)
    assert problems("a.yml") == [f"a.yml:{line}: val.metrics.psnr: metric-needs-gt"]


@pytest.mark.parametrize("text", [ALONE, BESIDE], ids=["alone", "beside pairs"])
def test_teachers_must_see_hr(run_folder: Path, text: str) -> None:
    teacher = as_teacher(text)
    name = "val" if text is ALONE else "val_2"
    line = line_of("type: SingleImageDataset", teacher)
    assert f"{line}: datasets.{name}.type: dataset-lacks-input" in refusals(teacher)


@pytest.mark.parametrize("estimator", ["KDIDEStudent, num_feat: 32", "LightIDETeacher, num_feat: 8"])
def test_the_network_decides_what_a_data_set_must_have(run_folder: Path, estimator: str) -> None:
    text = as_teacher(BESIDE).replace("KDIDETeacher, num_feat: 32, num_block: 2, scale: 4", estimator)
    line = line_of("type: SingleImageDataset", text)
    expected = [f"{line}: datasets.val_2.type: dataset-lacks-input"] if "LightIDE" in estimator else []
    assert refusals(text) == expected


def as_teacher(text: str) -> str:
    """The same data for the training of the teacher."""
    text = text.replace("KDStudentModel", "KDTeacherModel").replace("KDIDEStudent, num_feat: 32, num_block: 2", KDIDE)
    left_out = ("pretrain_network_teacher", "param_key_teacher", "start_from_teacher", "estimator_iter", "distill_opt")
    text = text[: text.index("network_teacher:")] + text[text.index("path:\n") :].replace(
        "path:", "path:\n  pretrain_network_g: ~", 1
    )
    return "\n".join(line for line in text.split("\n") if not line.strip().startswith(left_out))
