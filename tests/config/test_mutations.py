"""Every mistake in a student's options file is one line that names the line and the key."""

import re
from pathlib import Path

import pytest

from lightbsr_arch.config.load import load_options
from lightbsr_arch.option_types.problems import OptionsError
from tests.config.conftest import STUDENT, changes, problems, write

# What stands in the file and what the mistake makes of its last line; below it the key and the code.
MISTAKES = r"""
name: kdsr_s_x4_iso_student -> nmae: kdsr_s_x4_iso_student
  nmae: unknown-key
model_type: KDStudentModel -> model_type: KDStudntModel
  model_type: unknown-type
\nscale: 4 -> \nscale: four
  scale: invalid-value
num_gpu: auto -> num_gpu: all
  num_gpu: invalid-value
manual_seed: -> manual_sed:
  manual_sed: unknown-key
manual_seed: -> manual_seed: -1 #
  manual_seed: invalid-value
type: ClassicalDegradation -> type: ClasicalDegradation
  degradation.type: unknown-type
kernel: iso -> kernl: iso
  degradation.kernl: unknown-key
kernel: iso -> kernel: isotropic
  degradation.kernel: invalid-value
sigma: -> sigma: 4.0 #
  degradation.sigma: invalid-value
datasets:\n  train: -> datasets:\n  trian:
  datasets.trian: unknown-key
type: GTDataset -> type: GTDatset
  datasets.train.type: unknown-type
gt_size: -> gt_sise:
  datasets.train.gt_sise: unknown-key
gt_size: -> gt_size: 98 #
  datasets.train.gt_size: not-divisible
use_hflip: -> use_hflip: 'yes' #
  datasets.train.use_hflip: invalid-value
train.lmdb\n    io_backend: {type: lmdb} -> train.lmdb\n    io_backend: {type: lmbd}
  datasets.train.io_backend.type: invalid-value
batch_size_per_gpu: -> batch_size_per_gpu: 0 #
  datasets.train.batch_size_per_gpu: invalid-value
settings: -> setings:
  datasets.val.setings: unknown-key
{type: KDIDEStudent, num_feat: -> {type: KDIDEStudent, num_feats:
  network_g.estimator.num_feats: unknown-key
{type: KDIDEStudent, -> {type: KDIDEStuden,
  network_g.estimator.type: unknown-type
{type: KDIDEStudent, num_feat: 32, -> {type: KDIDEStudent, num_feat: 32.5,
  network_g.estimator.num_feat: invalid-value
num_block: 2, scale: 4 -> num_block: 2, scale: 2
  network_teacher.estimator.scale: scale-mismatch
{type: KDIDETeacher, -> {tpye: KDIDETeacher,
  network_teacher.estimator.tpye: unknown-key
pretrain_network_teacher: -> pretrain_network_teacher: ~ #
  path.pretrain_network_teacher: missing-key
pretrain_network_teacher: -> pretrain_network_techer:
  path.pretrain_network_techer: unknown-key
total_iter: -> total_itr:
  train.total_itr: unknown-key
total_iter: -> total_iter: two thousand #
  train.total_iter: invalid-value
optim_g: {type: ConvMuon, lr: -> optim_g: {type: ConvMuon, lr: 0, eps:
  train.optim_g.lr: invalid-value
optim_g: {type: ConvMuon, -> optim_g: {type: Adan,
  train.optim_g.type: unknown-type
lr: 3e-3 -> lr: 3e-3, betas: [0.9, big]
  train.optim_g.betas[1]: invalid-value
type: CosineAnnealingRestartLR -> type: CosineAnealingRestartLR
  train.scheduler.type: unknown-type
periods: [ -> perods: [
  train.scheduler.perods: unknown-key
pixel_opt: {type: L1Loss, loss_weight: -> pixel_opt: {type: L1Loss, los_weight:
  train.pixel_opt.los_weight: unknown-key
pixel_opt: {type: L1Loss, -> pixel_opt: {type: L1Loss, reduction: average,
  train.pixel_opt.reduction: invalid-value
temperature: -> temprature:
  train.distill_opt.temprature: unknown-key
print_freq: -> print_freq: 1e30 #
  logger.print_freq: too-large
total_iter: -> total_iter: 1:30 #
  train.total_iter: invalid-value
lr: 3e-3 -> lr: 3e-3, betas: [0.9, .nan]
  train.optim_g.betas[1]: not-finite
eta_min: 1e-6 -> eta_min: .inf
  train.scheduler.eta_min: not-finite
grad_clip: -> grad_clip: -.inf #
  train.grad_clip: invalid-value
grad_clip: -> grad_clip: 0 #
  train.grad_clip: invalid-value
val_freq: -> val_freq: ~ #
  val.val_freq: invalid-value
psnr_y: {type: calculate_psnr, -> psnr_y: {type: calculate_pnsr,
  val.metrics.psnr_y.type: unknown-type
ssim_y: {type: calculate_ssim, crop_border: 4, test_y -> ssim_y: {type: calculate_ssim, crop_border: 4, y
  val.metrics.ssim_y.y_channel: unknown-key
print_freq: -> print_feq:
  logger.print_feq: unknown-key
use_tb_logger: -> use_tb_logger: maybe #
  logger.use_tb_logger: invalid-value
"""
# The line that is taken out, the section that lacks the key then, the key.
OMISSIONS = [
    ("model_type: .*", "name: kdsr", "model_type"),
    ("    name: DemoPhotos", "  train:\n", "datasets.train.name"),
    ("    batch_size_per_gpu: .*", "  train:\n", "datasets.train.batch_size_per_gpu"),
    ("  total_iter: .*", "\ntrain:", "train.total_iter"),
    ("  distill_opt: .*", "\ntrain:", "train.distill_opt"),
    ("  val_freq: .*", "\nval:", "val.val_freq"),
    ("  save_img: .*", "\nval:", "val.save_img"),
    ("  print_freq: .*", "\nlogger:", "logger.print_freq"),
]


def line_of(fragment: str, text: str) -> int:
    """The line on which a fragment that occurs once ends."""
    assert text.count(fragment) == 1
    return text[: text.index(fragment) + len(fragment.rstrip())].count("\n") + 1


def test_student_is_accepted_as_it_is(run_folder: Path) -> None:
    options = load_options("options/student.yml", is_train=True)
    assert options["train"]["optim_g"] == {"type": "ConvMuon", "lr": 3e-3}
    assert options["train"].keys() <= set(STUDENT.read_text().replace(":", " ").split())  # no defaults filled in


@pytest.mark.parametrize(("right", "wrong", "refusal"), changes(MISTAKES))
def test_a_mistake_is_refused(run_folder: Path, right: str, wrong: str, refusal: str) -> None:
    student = STUDENT.read_text()
    write("options/student.yml", student.replace(right, wrong))
    assert problems() == [f"options/student.yml:{line_of(right, student)}: {refusal}"]


def test_the_user_reads_place_key_and_text(run_folder: Path) -> None:
    student = STUDENT.read_text()
    write("options/student.yml", student.replace("total_iter:", "total_itr:"))
    with pytest.raises(OptionsError) as error:
        load_options("options/student.yml", is_train=True)
    line = line_of("total_iter:", student)
    assert str(error.value) == f"options/student.yml:{line}: train.total_itr: unknown key; did you mean total_iter?"


def test_there_are_mistakes_at_every_level() -> None:
    keys = [refusal.partition(":")[0] for _, _, refusal in changes(MISTAKES)]
    assert len(keys) >= 30
    assert {key.partition(".")[0] for key in keys} >= {
        "scale", "degradation", "datasets", "network_g", "network_teacher", "path", "train", "val", "logger"
    }  # fmt: skip


@pytest.mark.parametrize(("line", "section", "key"), OMISSIONS)
def test_what_is_missing_is_named(run_folder: Path, line: str, section: str, key: str) -> None:
    student, count = re.subn(f"^{line}$", "", STUDENT.read_text(), flags=re.MULTILINE)
    assert count == 1
    write("options/student.yml", student)
    assert problems() == [f"options/student.yml:{line_of(section, student)}: {key}: missing-key"]


def test_an_estimator_that_does_not_fit_its_restorer(run_folder: Path) -> None:
    student = STUDENT.read_text()
    write("options/student.yml", student.replace("KDIDEStudent, num_feat: 32,", "KDIDEStudent, num_feat: 48,"))
    assert problems() == [f"options/student.yml:{line_of('network_g:', student)}: network_g: cannot-be-built"]


def test_an_empty_section(run_folder: Path) -> None:
    student = STUDENT.read_text()
    before, after = student[: student.index("datasets:")], student[student.index("network_g:") :]
    write("options/student.yml", f"{before}datasets: {{}}\n{after}")
    line = before.count("\n") + 1
    assert f"options/student.yml:{line}: datasets: invalid-value" in problems()


def test_all_mistakes_are_reported_in_the_order_of_the_file(run_folder: Path) -> None:
    student = STUDENT.read_text()
    for right, wrong in (("print_freq:", "print_freq: 0 #"), ("num_gpu:", "num_gpu: -1 #"), ("lr:", "lr: x, eps:")):
        student = student.replace(right, wrong)
    write("options/student.yml", student)
    assert [problem.partition(":")[2] for problem in problems()] == [
        f"{line_of('num_gpu: -1', student)}: num_gpu: invalid-value",
        f"{line_of('lr: x', student)}: train.optim_g.lr: invalid-value",
        f"{line_of('print_freq: 0', student)}: logger.print_freq: invalid-value",
    ]
