"""Options that are right one by one, and wrong together."""

import os
from pathlib import Path

import pytest

from lightbsr_arch.basicsr_patches.distribution import basicsr_distribution
from tests.config.conftest import OPTIONS, changes, problems, write

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
TEST = TEST[: TEST.index("train:\n  total")]

MISTAKES = r"""
upscale: 4 -> upscale: 2
    23: network_g.upscale: is 2, but scale is 4; they must agree
\nscale: 4 -> \nscale: 2
    23: network_g.upscale: is 4, but scale is 2; they must agree
gt_size: 96 -> gt_size: 95
    12: datasets.train.gt_size: 95 is not divisible by scale, 4; the nearest below is 92
gt_size: 96 -> # gt_size
    6: datasets.train.gt_size: missing; training needs it
num_worker_per_gpu: 0 -> # num_worker_per_gpu
    6: datasets.train.num_worker_per_gpu: missing; training needs it
gt_size: 96 -> gt_size: 96\n    prefetch_mode: cuda
    13: datasets.train.prefetch_mode: cuda needs `pin_memory: true` beside it
scale: 4\nnum_gpu -> num_gpu
    1: scale: missing; the PairedImageDataset of datasets.train needs it
pixel_opt: {type: L1Loss} -> pixel_opt: {type: DegreeRankingLoss}
    29: train.pixel_opt.type: DegreeRankingLoss is not a pixel loss; choose another one
pixel_opt: {type: L1Loss} -> pixel_opt: {type: MomentumContrastLoss}
    29: train.pixel_opt.type: MomentumContrastLoss is not a pixel loss; choose another one
\n  val: -> \n  test:
    17: datasets.test: training takes train and val data sets; use `basicsr test` for this file
\n  val: -> \n  vla:
    17: datasets.vla: unknown key; did you mean val?
\n  train: -> \n  val_1:
    5: datasets.train: missing; training needs this data set
\nval: -> \n# val:
    1: val: missing; datasets.val needs a `val` section with val_freq, save_img and metrics
val_freq: 50, -> pbar: true,
    30: val.val_freq: missing; training needs it
\nlogger: -> \n# logger:
    1: logger: missing; training needs this section
{type: Adam, lr: 1e-4} -> {type: Adam}
    27: train.optim_g.lr: missing; training needs a learning rate
pixel_opt: {type: L1Loss} -> gan_opt: {type: GANLoss, gan_type: vanilla}
    1: network_d: missing; train.gan_opt needs a discriminator
pixel_opt: {type: L1Loss} -> gan_opt: {type: GANLoss, gan_type: vanila}
    29: train.gan_opt.gan_type: expected hinge or lsgan or vanilla or wgan or wgan_softplus, found the text 'vanila'
MULTI_STEP -> {type: CosineAnnealingRestartLR, periods: [99]}
    28: train.scheduler.periods: end after 99 steps, before train.total_iter, 100
MULTI_STEP -> {type: CosineAnnealingRestartLR, periods: [50, 50]}
    28: train.scheduler.restart_weights: expected 2 weights, as many as periods or restarts, found 1
use_tb_logger: false -> use_tb_logger: false, wandb: {project: p}
    31: logger.wandb.project: Weights & Biases needs `use_tb_logger: true`
path: {pretrain_network_g: ~} -> path:
    24: path: expected a section, found nothing (null)
pretrain_network_g: ~ -> strict_load_g: 1
    24: path.strict_load_g: expected true or false, found 1
num_block: 1, -> num_block: 1, windows: 8,
    23: network_g.windows: unknown key; valid here: type, num_in_ch, num_out_ch, num_feat, num_block, upscale
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


def test_more_loader_processes_than_a_machine_can_start_in_seconds() -> None:
    cores = os.cpu_count() or 1
    most = max(64, 2 * cores)
    assert refusals(PLAIN.replace("num_worker_per_gpu: 0", "num_worker_per_gpu: 1024")) == [
        f"15: datasets.train.num_worker_per_gpu: 1024 loader processes, but this machine has {cores} cores; "
        f"expected at most {most}"
    ]
    assert refusals(PLAIN.replace("num_worker_per_gpu: 0", f"num_worker_per_gpu: {most}")) == []


def test_basicsr_s_own_models_take_the_optimizers_that_basicsr_knows() -> None:
    # BasicSR 1.4.2 knows one, its later state these:
    later = "ASGD or Adam or AdamW or Adamax or RMSprop or Rprop or SGD"
    known = "Adam alone" if basicsr_distribution() == "basicsr" else later
    refusal = f"27: train.optim_g.type: BasicSR takes {known} for this model, found Adadelta"
    assert refusals(PLAIN.replace("type: Adam,", "type: Adadelta,")) == [refusal]


def test_what_is_degraded_is_not_smaller_than_what_is_left_of_it() -> None:
    text = PLAIN.replace("SRModel", "BlindSRModel").replace(
        "path:", "degradation: {type: SecondOrderDegradation, gt_size: 128}\npath:"
    )
    assert refusals(text) == [
        "12: datasets.train.gt_size: 96 is less than degradation.gt_size, 128, to which the degraded images are cut"
    ]
    assert refusals(text.replace("gt_size: 96", "gt_size: 160")) == []


def test_a_val_section_needs_a_data_set() -> None:
    text = "there is no datasets.val to validate on; add one, or remove this section"
    assert refusals(PLAIN.replace(VAL_SET, "")) == [f"24: val: {text}"]


def test_two_periods_with_their_weights() -> None:
    cosine = "{type: CosineAnnealingRestartLR, periods: [50, 50], restart_weights: [1, 0.5]}"
    assert refusals(PLAIN.replace(MULTI_STEP, cosine)) == []


def test_periods_and_warm_up_count_from_the_start_of_the_scheduler() -> None:
    def delayed(start: int, warmup: int, period: int) -> list[str]:
        cosine = f"{{type: CosineAnnealingRestartLR, periods: [{period}]}}\n  scheduler_start: {start}\n"
        text = PLAIN.replace("SRModel", "BlindSRModel").replace(MULTI_STEP, f"{cosine}  warmup_iter: {warmup}")
        return refusals(text)

    assert delayed(40, 40, 60) == []
    assert delayed(40, 40, 59) == ["28: train.scheduler.periods: end after 99 steps, before train.total_iter, 100"]
    assert delayed(40, 41, 60) == [
        "30: train.warmup_iter: 41 is more than train.scheduler_start, 40, whose last steps are the warm-up: lower it"
    ]


def test_a_name_that_is_near_no_other_may_be_a_plugin_s() -> None:
    assert refusals(PLAIN.replace("MSRResNet", "Nonesuch")) == [
        "23: network_g.type: no network is called Nonesuch; if a plugin registers it, `pip install` that plugin into "
        "this environment (BasicSR plugins are found by the entry-point group basicsr.plugins)"
    ]


def test_a_network_that_leaves_its_scale_out_has_the_default() -> None:
    text = PLAIN.replace(", upscale: 4", "").replace("scale: 4\n", "scale: 2\n")
    assert refusals(text) == ["23: network_g.upscale: missing; it is 4 then, but scale is 2"]


@pytest.mark.parametrize(
    ("val", "refusal"),
    [
        ("val: {save_img: true, suffix: ~}", None),
        ("val: {save_img: false}", None),
        (
            "val: {save_img: true}",
            "14: val.suffix: missing; testing with `save_img: true` needs it (null: the run's name)",
        ),
        ("", "1: val: missing; testing needs a `val` section with save_img and metrics"),
    ],
)
def test_testing_needs_other_options_than_training(val: str, refusal: str | None) -> None:
    assert refusals(TEST + val, is_train=False) == ([] if refusal is None else [refusal])


def test_the_idr_of_a_neighbour_needs_an_idr_and_no_other_objective() -> None:
    text = PLAIN.replace("SRModel", "BlindSRModel").replace("  pixel_opt", "  idr_of: neighbour\n  pixel_opt")
    assert any("train.idr_of: neighbour needs a network_g with an IDR" in line for line in refusals(text))
    student = (OPTIONS / "student.yml").read_text().replace("  pixel_opt", "  idr_of: neighbour\n  pixel_opt")
    assert any("train.idr_of: neighbour cannot be combined with distill_opt" in line for line in refusals(student))


def test_hr_images_alone_need_a_degradation() -> None:
    student = (OPTIONS / "student.yml").read_text()
    start, end = student.index("degradation:\n"), student.index("datasets:\n")
    found = refusals(student[:start] + student[end:])
    assert any(": degradation: missing; GTDataset has no LR images, which it makes" in line for line in found), found
