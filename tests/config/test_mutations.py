"""Every mistake in a student's options file is one line that names the line and the key."""

import re
from pathlib import Path

import pytest

from lightbsr_arch.config.load import load_options
from tests.config.conftest import STUDENT, changes, problems, write

# What stands in the file and what the mistake makes of its last line; below it the key and what the user reads.
MISTAKES = r"""
name: kdsr_s_x4_iso_student -> nmae: kdsr_s_x4_iso_student
  nmae: unknown key; did you mean name?
model_type: KDStudentModel -> model_type: KDStudntModel
  model_type: no model is called KDStudntModel; did you mean KDStudentModel?
\nscale: 4 -> \nscale: four
  scale: expected 2 or 3 or 4, found the text 'four'
num_gpu: auto -> num_gpu: all
  num_gpu: expected a whole number >= 0 and <= 1024 or auto, found the text 'all'
manual_seed: -> manual_sed:
  manual_sed: unknown key; did you mean manual_seed?
manual_seed: -> manual_seed: -1 #
  manual_seed: expected a whole number >= 0 and <= 4294966271 or null, found -1
type: ClassicalDegradation -> type: ClasicalDegradation
  degradation.type: no degradation is called ClasicalDegradation; did you mean ClassicalDegradation?
kernel: iso -> kernl: iso
  degradation.kernl: unknown key; did you mean kernel?
kernel: iso -> kernel: isotropic
  degradation.kernel: expected aniso or iso, found the text 'isotropic'
sigma: -> sigma: 4.0 #
  degradation.sigma: expected a list of 2: a number >= 0, a number >= 0, found 4.0
datasets:\n  train: -> datasets:\n  trian:
  datasets.trian: unknown key; did you mean train?
type: GTDataset -> type: GTDatset
  datasets.train.type: no dataset is called GTDatset; did you mean GTDataset?
gt_size: -> gt_sise:
  datasets.train.gt_sise: unknown key; did you mean gt_size?
gt_size: -> gt_size: 98 #
  datasets.train.gt_size: 98 is not divisible by scale, 4; the nearest below is 96
use_hflip: -> use_hflip: 'yes' #
  datasets.train.use_hflip: expected true or false, found the text 'yes'
train.lmdb\n    io_backend: {type: lmdb} -> train.lmdb\n    io_backend: {type: lmbd}
  datasets.train.io_backend.type: expected disk or lmdb or memcached, found the text 'lmbd'
batch_size_per_gpu: -> batch_size_per_gpu: 0 #
  datasets.train.batch_size_per_gpu: expected a whole number >= 1 and <= 65536, found 0
settings: -> setings:
  datasets.val.setings: unknown key; did you mean settings?
{type: KDIDEStudent, num_feat: -> {type: KDIDEStudent, num_feats:
  network_g.estimator.num_feats: unknown key; did you mean num_feat?
{type: KDIDEStudent, -> {type: KDIDEStuden,
  network_g.estimator.type: no network is called KDIDEStuden; did you mean KDIDEStudent?
{type: KDIDEStudent, num_feat: 32, -> {type: KDIDEStudent, num_feat: 32.5,
  network_g.estimator.num_feat: expected a whole number >= 1 and <= 8192, found 32.5
num_block: 2, scale: 4 -> num_block: 2, scale: 2
  network_teacher.estimator.scale: is 2, but scale is 4; they must agree
{type: KDIDETeacher, -> {tpye: KDIDETeacher,
  network_teacher.estimator.tpye: unknown key; did you mean type?
pretrain_network_teacher: -> pretrain_network_teacher: ~ #
  path.pretrain_network_teacher: missing; KDStudentModel needs a trained teacher
pretrain_network_teacher: -> pretrain_network_techer:
  path.pretrain_network_techer: unknown key; did you mean pretrain_network_teacher?
total_iter: -> total_itr:
  train.total_itr: unknown key; did you mean total_iter?
total_iter: -> total_iter: two thousand #
  train.total_iter: expected a whole number >= 1, found the text 'two thousand'
optim_g: {type: Adam, lr: -> optim_g: {type: Adam, lr: 0, eps:
  train.optim_g.lr: expected a number > 0, found 0
optim_g: {type: Adam, -> optim_g: {type: Adan,
  train.optim_g.type: no optimizer is called Adan; did you mean Adam?
betas: [0.9, 0.99] -> betas: [0.9, big]
  train.optim_g.betas[1]: expected a number, found the text 'big'
type: CosineAnnealingRestartLR -> type: CosineAnealingRestartLR
  train.scheduler.type: no scheduler is called CosineAnealingRestartLR; did you mean CosineAnnealingRestartLR?
periods: [ -> perods: [
  train.scheduler.perods: unknown key; did you mean periods?
pixel_opt: {type: L1Loss, loss_weight: -> pixel_opt: {type: L1Loss, los_weight:
  train.pixel_opt.los_weight: unknown key; did you mean loss_weight?
pixel_opt: {type: L1Loss, -> pixel_opt: {type: L1Loss, reduction: average,
  train.pixel_opt.reduction: expected mean or none or sum, found the text 'average'
temperature: -> temprature:
  train.distill_opt.temprature: unknown key; did you mean temperature?
print_freq: -> print_freq: 1e30 #
  logger.print_freq: expected a number of at most 10000000000, found 1e+30
total_iter: -> total_iter: 1:30 #
  train.total_iter: expected a whole number >= 1, found the text '1:30'
betas: [0.9, 0.99] -> betas: [0.9, .nan]
  train.optim_g.betas[1]: expected a finite number, found nan
eta_min: 1e-6 -> eta_min: .inf
  train.scheduler.eta_min: expected a finite number, found inf
grad_clip: -> grad_clip: -.inf #
  train.grad_clip: expected a number > 0 or null, found -inf
grad_clip: -> grad_clip: 0 #
  train.grad_clip: expected a number > 0 or null, found 0
val_freq: -> val_freq: ~ #
  val.val_freq: expected a whole number >= 1, found nothing (null)
psnr_y: {type: calculate_psnr, -> psnr_y: {type: calculate_pnsr,
  val.metrics.psnr_y.type: no metric is called calculate_pnsr; did you mean calculate_psnr?
ssim_y: {type: calculate_ssim, crop_border: 4, test_y -> ssim_y: {type: calculate_ssim, crop_border: 4, y
  val.metrics.ssim_y.y_channel: unknown key; did you mean test_y_channel?
print_freq: -> print_feq:
  logger.print_feq: unknown key; did you mean print_freq?
use_tb_logger: -> use_tb_logger: maybe #
  logger.use_tb_logger: expected true or false, found the text 'maybe'
"""
# The line that is taken out, the section that lacks the key then, the key, what the user reads.
OMISSIONS = [
    ("model_type: .*", "name: kdsr", "model_type", "missing; expected text"),
    ("    name: DemoPhotos", "  train:\n", "datasets.train.name", "missing; expected text"),
    ("    batch_size_per_gpu: .*", "  train:\n", "datasets.train.batch_size_per_gpu", "missing; training needs it"),
    ("  total_iter: .*", "\ntrain:", "train.total_iter", "missing; expected a whole number >= 1"),
    ("  distill_opt: .*", "\ntrain:", "train.distill_opt", "missing; KDStudentModel needs a distillation loss"),
    ("  val_freq: .*", "\nval:", "val.val_freq", "missing; training needs it"),
    ("  save_img: .*", "\nval:", "val.save_img", "missing; expected true or false"),
    ("  print_freq: .*", "\nlogger:", "logger.print_freq", "missing; expected a whole number >= 1"),
]


def line_of(fragment: str, text: str) -> int:
    """The line on which a fragment that occurs once ends."""
    assert text.count(fragment) == 1
    return text[: text.index(fragment) + len(fragment.rstrip())].count("\n") + 1


def test_student_is_accepted_as_it_is(run_folder: Path) -> None:
    options = load_options("options/student.yml", is_train=True)
    assert options["train"]["optim_g"] == {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]}
    assert options["train"].keys() <= set(STUDENT.read_text().replace(":", " ").split())  # no defaults filled in


@pytest.mark.parametrize(("right", "wrong", "refusal"), changes(MISTAKES))
def test_a_mistake_is_refused(run_folder: Path, right: str, wrong: str, refusal: str) -> None:
    student = STUDENT.read_text()
    write("options/student.yml", student.replace(right, wrong))
    assert problems() == [f"options/student.yml:{line_of(right, student)}: {refusal}"]


def test_there_are_mistakes_at_every_level() -> None:
    keys = [refusal.partition(":")[0] for _, _, refusal in changes(MISTAKES)]
    assert len(keys) >= 30
    assert {key.partition(".")[0] for key in keys} >= {
        "scale", "degradation", "datasets", "network_g", "network_teacher", "path", "train", "val", "logger"
    }  # fmt: skip


@pytest.mark.parametrize(("line", "section", "key", "text"), OMISSIONS)
def test_what_is_missing_is_named(run_folder: Path, line: str, section: str, key: str, text: str) -> None:
    student, count = re.subn(f"^{line}$", "", STUDENT.read_text(), flags=re.MULTILINE)
    assert count == 1
    write("options/student.yml", student)
    assert problems() == [f"options/student.yml:{line_of(section, student)}: {key}: {text}"]


def test_an_estimator_that_does_not_fit_its_restorer(run_folder: Path) -> None:
    student = STUDENT.read_text()
    write("options/student.yml", student.replace("KDIDEStudent, num_feat: 32,", "KDIDEStudent, num_feat: 48,"))
    text = "KDIDEStudent gives an IDR of 48 channels, IDRDCRBNet takes 32: make their sizes agree"
    assert problems() == [f"options/student.yml:{line_of('network_g:', student)}: network_g: cannot be built: {text}"]


def test_an_empty_section(run_folder: Path) -> None:
    student = STUDENT.read_text()
    before, after = student[: student.index("datasets:")], student[student.index("network_g:") :]
    write("options/student.yml", f"{before}datasets: {{}}\n{after}")
    line = before.count("\n") + 1
    assert f"options/student.yml:{line}: datasets: expected a section, found an empty section" in problems()


def test_all_mistakes_are_reported_in_the_order_of_the_file(run_folder: Path) -> None:
    student = STUDENT.read_text()
    for right, wrong in (("print_freq:", "print_freq: 0 #"), ("num_gpu:", "num_gpu: -1 #"), ("lr:", "lr: x, eps:")):
        student = student.replace(right, wrong)
    write("options/student.yml", student)
    assert [problem.partition(":")[2] for problem in problems()] == [
        f"{line_of('num_gpu: -1', student)}: num_gpu: expected a whole number >= 0 and <= 1024 or auto, found -1",
        f"{line_of('lr: x', student)}: train.optim_g.lr: expected a number > 0, found the text 'x'",
        f"{line_of('print_freq: 0', student)}: logger.print_freq: expected a whole number >= 1, found 0",
    ]
