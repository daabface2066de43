"""Options that are right one by one, and wrong together."""

import os
from pathlib import Path

import pytest

from tests.config.conftest import changes, problems, write
from tests.option_files import OPTIONS

PLAIN = """\
name: plain
model_type: SRModel
scale: 4
num_gpu: 0
datasets:
  train:
    name: Photos
    type: PairedImageDataset
    dataroot_gt: .
    dataroot_lq: .
    io_backend: {type: disk}
    gt_size: 96
    use_hflip: true
    use_rot: true
    num_worker_per_gpu: 0
    batch_size_per_gpu: 4
  val:
    name: Five
    type: PairedImageDataset
    dataroot_gt: .
    dataroot_lq: .
    io_backend: {type: disk}
network_g: {type: MSRResNet, num_in_ch: 3, num_out_ch: 3, num_block: 1, upscale: 4}
path: {pretrain_network_g: ~}
train:
  total_iter: 100
  optim_g: {type: Adam, lr: 1e-4}
  scheduler: {type: MultiStepLR, milestones: [50], gamma: 0.5}
  pixel_opt: {type: L1Loss}
val: {val_freq: 50, save_img: true, metrics: {psnr: {type: calculate_psnr, crop_border: 4}}}
logger: {print_freq: 10, save_checkpoint_freq: 50, use_tb_logger: false}
"""
VAL_SET = PLAIN[PLAIN.index("  val:\n") : PLAIN.index("network_g")]
MULTI_STEP = "{type: MultiStepLR, milestones: [50], gamma: 0.5}"
TEST = PLAIN[: PLAIN.index("  train:\n")] + VAL_SET.replace("val", "test_1") + PLAIN[PLAIN.index("network_g") :]
TEST = TEST[: TEST.index("train:\n  total")].replace("pretrain_network_g: ~", "pretrain_network_g: net.pth")

HR_ONLY = PLAIN.replace("SRModel", "BlindSRModel").replace(
    "PairedImageDataset\n    dataroot_gt: .\n    dataroot_lq: .", "GTDataset\n    dataroot_gt: .", 1
)

MISTAKES = r"""
upscale: 4 -> upscale: 2
    23: network_g.upscale: scale-mismatch
\nscale: 4 -> \nscale: 2
    23: network_g.upscale: scale-mismatch
gt_size: 96 -> gt_size: 95
    12: datasets.train.gt_size: not-divisible
gt_size: 96 -> # gt_size
    6: datasets.train.gt_size: missing-key
model_type: SRModel -> model_type: SwinIRModel
    23: network_g.window_size: missing-key
num_worker_per_gpu: 0 -> # num_worker_per_gpu
    6: datasets.train.num_worker_per_gpu: missing-key
gt_size: 96 -> gt_size: 96\n    prefetch_mode: cuda
    13: datasets.train.prefetch_mode: needs-pin-memory
gt_size: 96 -> gt_size: 96\n    prefetch_mode: cpu
    16: datasets.train.num_worker_per_gpu: too-few-workers
scale: 4\nnum_gpu -> num_gpu
    1: scale: missing-key
pixel_opt: {type: L1Loss} -> pixel_opt: {type: DegreeRankingLoss}
    29: train.pixel_opt.type: not-a-pixel-loss
pixel_opt: {type: L1Loss} -> pixel_opt: {type: MomentumContrastLoss}
    29: train.pixel_opt.type: not-a-pixel-loss
\n  val: -> \n  test:
    17: datasets.test: test-set-in-training
\n  val: -> \n  vla:
    17: datasets.vla: unknown-key
\n  train: -> \n  val_1:
    5: datasets.train: missing-key
\nval: -> \n# val:
    1: val: missing-key
val_freq: 50, -> pbar: true,
    30: val.val_freq: missing-key
\nlogger: -> \n# logger:
    1: logger: missing-key
{type: Adam, lr: 1e-4} -> {type: Adam}
    27: train.optim_g.lr: missing-key
pixel_opt: {type: L1Loss} -> gan_opt: {type: GANLoss, gan_type: vanilla}
    1: network_d: missing-key
pixel_opt: {type: L1Loss} -> gan_opt: {type: GANLoss, gan_type: vanila}
    29: train.gan_opt.gan_type: invalid-value
MULTI_STEP -> {type: CosineAnnealingRestartLR, periods: [99]}
    28: train.scheduler.periods: periods-too-short
MULTI_STEP -> {type: CosineAnnealingRestartLR, periods: [50, 50]}
    28: train.scheduler.restart_weights: restart-weights-mismatch
use_tb_logger: false -> use_tb_logger: false, wandb: {project: p}
    31: logger.wandb.project: needs-tensorboard
path: {pretrain_network_g: ~} -> path:
    24: path: invalid-value
pretrain_network_g: ~ -> strict_load_g: 1
    24: path.strict_load_g: invalid-value
num_block: 1, -> num_block: 1, windows: 8,
    23: network_g.windows: unknown-key
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusals(text: str, *, is_train: bool = True) -> list[str]:
    write("a.yml", text)
    return [line.removeprefix("a.yml:") for line in problems("a.yml", is_train=is_train)]


def test_a_plain_file_is_accepted() -> None:
    assert refusals(PLAIN) == []


@pytest.mark.parametrize(("right", "wrong", "refusal"), changes(MISTAKES))
def test_refused(right: str, wrong: str, refusal: str) -> None:
    right = right.replace("MULTI_STEP", MULTI_STEP)
    assert PLAIN.count(right) == 1
    assert refusal in refusals(PLAIN.replace(right, wrong))


def test_validation_needs_lr_images() -> None:
    hr_only = VAL_SET.replace("PairedImageDataset", "GTDataset").replace("dataroot_lq: .", "gt_size: 96")
    assert refusals(PLAIN.replace(VAL_SET, hr_only)) == ["19: datasets.val.type: dataset-lacks-input"]


def test_basicsr_s_own_models_need_lr_images() -> None:
    text = PLAIN.replace("PairedImageDataset", "GTDataset", 1)
    assert "8: datasets.train.type: dataset-lacks-input" in refusals(text)


@pytest.mark.parametrize(
    ("overrides", "refusal"),
    [
        (["degradation:kernel_size=15", "network_g:estimator:kernel_size=15"], "datasets.val.type: kernel-mismatch"),
        (["datasets:val:settings=second-order"], "datasets.val.settings: dataset-lacks-input"),
    ],
)
def test_validation_has_the_kernels_of_the_teacher(overrides: list[str], refusal: str) -> None:
    found = problems(str(OPTIONS / "lightbsr_x4_iso_teacher.yml"), *overrides)
    assert [line for line in found if line.endswith(refusal)]
    assert not [line for line in problems(str(OPTIONS / "lightbsr_x4_iso_teacher.yml")) if line.endswith(refusal)]


def test_more_loader_processes_than_a_machine_can_start_in_seconds() -> None:
    most = max(64, 2 * (os.cpu_count() or 1))
    assert refusals(PLAIN.replace("num_worker_per_gpu: 0", "num_worker_per_gpu: 1024")) == [
        "15: datasets.train.num_worker_per_gpu: too-many-workers"
    ]
    assert refusals(PLAIN.replace("num_worker_per_gpu: 0", f"num_worker_per_gpu: {most}")) == []


def test_basicsr_s_own_models_take_the_optimizers_that_basicsr_knows() -> None:
    assert refusals(PLAIN.replace("type: Adam,", "type: Adadelta,")) == ["27: train.optim_g.type: unknown-type"]


def test_what_is_degraded_is_not_smaller_than_what_is_left_of_it() -> None:
    text = HR_ONLY.replace("path:", "degradation: {type: SecondOrderDegradation, gt_size: 128}\npath:")
    assert refusals(text) == ["11: datasets.train.gt_size: crop-mismatch"]
    assert refusals(text.replace("gt_size: 96", "gt_size: 160")) == []


def test_a_val_section_needs_a_data_set() -> None:
    assert refusals(PLAIN.replace(VAL_SET, "")) == ["24: val: no-validation-set"]


def test_two_periods_with_their_weights() -> None:
    cosine = "{type: CosineAnnealingRestartLR, periods: [50, 50], restart_weights: [1, 0.5]}"
    assert refusals(PLAIN.replace(MULTI_STEP, cosine)) == []


def test_periods_and_warm_up_count_from_the_start_of_the_scheduler() -> None:
    def delayed(start: int, warmup: int, period: int) -> list[str]:
        cosine = f"{{type: CosineAnnealingRestartLR, periods: [{period}]}}\n  scheduler_start: {start}\n"
        text = PLAIN.replace("SRModel", "BlindSRModel").replace(MULTI_STEP, f"{cosine}  warmup_iter: {warmup}")
        return refusals(text)

    assert delayed(40, 40, 60) == []
    assert delayed(40, 40, 59) == ["28: train.scheduler.periods: periods-too-short"]
    assert delayed(40, 41, 60) == ["30: train.warmup_iter: warmup-too-long"]


def test_a_name_that_is_near_no_other_may_be_a_plugin_s() -> None:
    assert refusals(PLAIN.replace("MSRResNet", "Nonesuch")) == ["23: network_g.type: unknown-type"]


def test_a_network_that_leaves_its_scale_out_has_the_default() -> None:
    text = PLAIN.replace(", upscale: 4", "").replace("scale: 4\n", "scale: 2\n")
    assert refusals(text) == ["23: network_g.upscale: scale-mismatch"]


@pytest.mark.parametrize(
    ("val", "refusal"),
    [
        ("val: {save_img: true, suffix: ~}", None),
        ("val: {save_img: false}", None),
        (
            "val: {save_img: true}",
            "14: val.suffix: missing-key",
        ),
        ("val: {save_img: false}\n# no weights", "13: path.pretrain_network_g: missing-key"),
        ("", "1: val: missing-key"),
    ],
)
def test_testing_needs_other_options_than_training(val: str, refusal: str | None) -> None:
    write("net.pth", "")
    text = TEST.replace("net.pth", "~") if "no weights" in val else TEST
    assert refusals(text + val, is_train=False) == ([] if refusal is None else [refusal])


def test_the_idr_of_a_neighbour_needs_an_idr_and_no_other_objective() -> None:
    text = PLAIN.replace("SRModel", "BlindSRModel").replace("  pixel_opt", "  idr_of: neighbour\n  pixel_opt")
    assert any(line.endswith(": train.idr_of: needs-idr") for line in refusals(text))
    student = (OPTIONS / "student.yml").read_text().replace("  pixel_opt", "  idr_of: neighbour\n  pixel_opt")
    assert any(line.endswith(": train.idr_of: objectives-conflict") for line in refusals(student))


@pytest.mark.parametrize(
    ("option", "refusal"),
    [
        ("contrast_opt: {type: MomentumContrastLoss}", "datasets.train.type: dataset-unfit"),
        ("cyclic_opt: {type: FastMoCoLoss}", "datasets.train.type: dataset-unfit"),
        ("idr_of: neighbour", "datasets.train.type: dataset-unfit"),
        ("grad_clip: 1.0", None),
    ],
)
def test_what_needs_lr_images_of_the_model_refuses_pairs(option: str, refusal: str | None) -> None:
    text = PLAIN.replace("SRModel", "ContrastiveSRModel").replace("  pixel_opt", f"  {option}\n  pixel_opt")
    text = text.replace("path:", "degradation: {type: ClassicalDegradation, kernel: iso, sigma: [0.2, 4.0]}\npath:")
    found = refusals(text)
    assert found == [] if refusal is None else any(line.endswith(f": {refusal}") for line in found)


def test_hr_images_alone_need_a_degradation() -> None:
    student = (OPTIONS / "student.yml").read_text()
    start, end = student.index("degradation:\n"), student.index("datasets:\n")
    found = refusals(student[:start] + student[end:])
    assert any(": degradation: missing-key" in line for line in found), found
