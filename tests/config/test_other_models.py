"""Files for BasicSR's own models and for other plugins' pass through the same check."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY
from torch import nn

from lightbsr_arch.config.load import load_options
from tests.config.conftest import changes, problems, write
from tests.config.test_cross_checks import PLAIN, TEST

SRGAN = (
    PLAIN.replace("SRModel", "SRGANModel")
    .replace("path: {", "network_d: {type: VGGStyleDiscriminator, num_in_ch: 3, num_feat: 64}\npath: {param_key_g: ~, ")
    .replace(
        "  pixel_opt: {type: L1Loss}",
        """\
  optim_d: {type: Adam, lr: !!float 1e-4, weight_decay: 0, betas: [0.9, 0.99]}
  pixel_opt: {type: L1Loss, loss_weight: !!float 1e-2, reduction: mean}
  perceptual_opt:
    type: PerceptualLoss
    layer_weights: {'conv5_4': 1}
    vgg_type: vgg19
    use_input_norm: true
    range_norm: false
    perceptual_weight: 1.0
    style_weight: 0
    criterion: l1
  gan_opt: {type: GANLoss, gan_type: vanilla, real_label_val: 1.0, fake_label_val: 0.0, loss_weight: !!float 5e-3}
  net_d_iters: 1
  net_d_init_iters: 0""",
    )
    .replace("gt_size: 96", "gt_size: 128")
    .replace("val_freq: 50", "val_freq: !!float 5e3")
    .replace("logger: {", "dist_params: {backend: nccl, port: 29500}\nlogger: {wandb: {project: ~, resume_id: ~}, ")
)

REALESRNET = """\
name: realesrnet
model_type: RealESRNetModel
scale: 4
num_gpu: 4
manual_seed: 0
gt_usm: true
resize_prob: [0.2, 0.7, 0.1]
resize_range: [0.15, 1.5]
gaussian_noise_prob: 0.5
noise_range: [1, 30]
poisson_scale_range: [0.05, 3]
gray_noise_prob: 0.4
jpeg_range: [30, 95]
second_blur_prob: 0.8
resize_prob2: [0.3, 0.4, 0.3]
resize_range2: [0.3, 1.2]
gaussian_noise_prob2: 0.5
noise_range2: [1, 25]
poisson_scale_range2: [0.05, 2.5]
gray_noise_prob2: 0.4
jpeg_range2: [30, 95]
gt_size: 256
queue_size: 180
datasets:
  train:
    name: Photos
    type: RealESRGANDataset
    dataroot_gt: .
    meta_info: list.txt
    io_backend: {type: disk}
    blur_kernel_size: 21
    kernel_list: [iso, aniso]
    kernel_prob: [0.5, 0.5]
    sinc_prob: 0.1
    blur_sigma: [0.2, 3]
    betag_range: [0.5, 4]
    betap_range: [1, 2]
    blur_kernel_size2: 21
    kernel_list2: [iso, aniso]
    kernel_prob2: [0.5, 0.5]
    sinc_prob2: 0.1
    blur_sigma2: [0.2, 1.5]
    betag_range2: [0.5, 4]
    betap_range2: [1, 2]
    final_sinc_prob: 0.8
    gt_size: 256
    use_hflip: true
    use_rot: false
    use_shuffle: true
    num_worker_per_gpu: 5
    batch_size_per_gpu: 12
    dataset_enlarge_ratio: 1
    prefetch_mode: ~
network_g: {type: RRDBNet, num_in_ch: 3, num_out_ch: 3, num_feat: 64, num_block: 23, num_grow_ch: 32}
path: {pretrain_network_g: ~, param_key_g: params_ema, strict_load_g: true, resume_state: ~}
train:
  ema_decay: 0.999
  optim_g: {type: Adam, lr: !!float 2e-4, weight_decay: 0, betas: [0.9, 0.99]}
  scheduler: {type: MultiStepLR, milestones: [1000000], gamma: 0.5}
  total_iter: 1000000
  warmup_iter: -1
  pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}
logger: {print_freq: 100, save_checkpoint_freq: !!float 5e3, use_tb_logger: true, wandb: {project: ~, resume_id: ~}}
"""

EDVR = """\
name: edvr
model_type: EDVRModel
scale: 4
num_gpu: 8
datasets:
  train:
    name: REDS
    type: REDSDataset
    dataroot_gt: .
    dataroot_lq: .
    dataroot_flow: ~
    meta_info_file: list.txt
    val_partition: REDS4
    io_backend: {type: disk}
    num_frame: 5
    gt_size: 256
    interval_list: [1]
    random_reverse: false
    use_hflip: true
    use_rot: true
    num_worker_per_gpu: 3
    batch_size_per_gpu: 4
network_g: {type: EDVR, num_feat: 64, num_frame: 5, deformable_groups: 8, center_frame_idx: ~, with_tsa: true}
path: {pretrain_network_g: ~}
train:
  optim_g: {type: Adam, lr: !!float 4e-4}
  scheduler: {type: CosineAnnealingRestartLR, periods: [50000, 100000], restart_weights: [1, 1], eta_min: !!float 1e-7}
  total_iter: 150000
  tsa_iter: 5000
  dcn_lr_mul: 1
  pixel_opt: {type: CharbonnierLoss, loss_weight: 1.0, reduction: sum}
logger: {print_freq: 100, save_checkpoint_freq: 5000, use_tb_logger: true}
find_unused_parameters: true
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("list.txt", "a.png\n")


@pytest.mark.parametrize("text", [PLAIN, SRGAN, REALESRNET, EDVR], ids=["MSRResNet", "SRGAN", "RealESRNet", "EDVR"])
def test_basicsr_files_are_accepted(text: str) -> None:
    write("a.yml", text)
    assert problems("a.yml", "train:perceptual_opt=null") == []


def test_weights_of_the_perceptual_loss_are_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    write("a.yml", SRGAN)
    (refusal,) = problems("a.yml")
    assert refusal.endswith(": train.perceptual_opt: vgg-weights")


def test_a_basicsr_file_for_testing_is_accepted() -> None:
    swinir = TEST.replace(
        "MSRResNet, num_in_ch: 3, num_out_ch: 3, num_block: 1", "SwinIR, window_size: 8, img_size: 48"
    )
    write("a.yml", swinir + "val: {save_img: true, suffix: ~}\n")
    write("net.pth", "")
    assert problems("a.yml", is_train=False) == []


MISTAKES = [
    (SRGAN, "gan_type:", "gan_typ:", "train.gan_opt.gan_typ: unknown-key"),
    (SRGAN, "net_d_iters:", "net_d_iter:", "train.net_d_iter: unknown-key"),
    (SRGAN, "num_feat: 64}", "num_fea: 64}", "network_d.num_fea: unknown-key"),
    (
        REALESRNET,
        "second_blur_prob:",
        "second_blur_pro:",
        "second_blur_pro: unknown-key",
    ),
    (REALESRNET, " sinc_prob:", " sinc_pro:", "datasets.train.sinc_pro: unknown-key"),
    (EDVR, "with_tsa:", "with_tse:", "network_g.with_tse: unknown-key"),
    (EDVR, " sum", " add", "train.pixel_opt.reduction: invalid-value"),
]


@pytest.mark.parametrize(("text", "right", "wrong", "refusal"), MISTAKES)
def test_mistakes_in_them_are_refused(text: str, right: str, wrong: str, refusal: str) -> None:
    assert text.count(right) == 1
    write("a.yml", text.replace(right, wrong))
    assert [line.partition(": ")[2] for line in problems("a.yml", "train:perceptual_opt=null")] == [refusal]


class PluginNet(nn.Module):
    def __init__(self, width: int, upscale: int = 2, sizes: list[int] | None = None) -> None:
        super().__init__()


class PluginLoss(nn.Module):
    def __init__(self, loss_weight: float = 1.0, **options: Any) -> None:
        super().__init__()


class PluginModel(SRModel):
    pass


class PluginDataset:
    def __init__(self, opt: dict[str, Any]) -> None:
        pass


@pytest.fixture
def plugin() -> Iterator[str]:
    """A file for a plugin that registers one class of each kind."""
    classes = {
        ARCH_REGISTRY: PluginNet,
        LOSS_REGISTRY: PluginLoss,
        MODEL_REGISTRY: PluginModel,
        DATASET_REGISTRY: PluginDataset,
    }
    for registry, cls in classes.items():
        registry.register(cls)
    yield (
        PLAIN.replace("SRModel", "PluginModel")
        .replace("PairedImageDataset", "PluginDataset", 1)
        .replace("gt_size: 96", "gt_size: 96\n    blur_of_its_own: 3")
        .replace("{type: MSRResNet, num_in_ch: 3, num_out_ch: 3, num_block: 1", "{type: PluginNet, width: 8")
        .replace(
            "path: {", "network_prior: {type: PluginNet, width: 4, upscale: 4}\npath: {pretrain_network_prior: ~, "
        )
        .replace("  pixel_opt", "  warm_prior: 5\n  prior_opt: {type: PluginLoss, of_its_own: 1}\n  pixel_opt")
        .replace("val: {val_freq", "prior_size: 3\nval: {prior_freq: 2, val_freq")
    )
    for registry, cls in classes.items():
        del registry._obj_map[cls.__name__]


def test_other_plugins_read_keys_of_their_own(plugin: str) -> None:
    write("a.yml", plugin)
    assert problems("a.yml") == []
    write("a.yml", plugin + "degradation: {type: DegradationOfItsOwn, sigma: [0.2, 4.0]}\n")
    assert problems("a.yml") == []


PLUGIN_MISTAKES = """
width: 8 -> widht: 8
    network_g.widht: unknown-key
width: 4 -> width: wide
    network_prior.width: invalid-value
width: 4 -> width: 4, sizes: [1, x]
    network_prior.sizes[1]: invalid-value
of_its_own: 1 -> loss_weight: much
    train.prior_opt.loss_weight: invalid-value
type: PluginDataset -> type: PluginDatset
    datasets.train.type: unknown-type
total_iter: 100 -> total_iter: x
    train.total_iter: invalid-value
"""


@pytest.mark.parametrize(("right", "wrong", "refusal"), changes(PLUGIN_MISTAKES))
def test_what_a_plugin_s_signatures_say_is_checked(plugin: str, right: str, wrong: str, refusal: str) -> None:
    assert plugin.count(right) == 1
    write("a.yml", plugin.replace(right, wrong))
    assert [line.partition(": ")[2] for line in problems("a.yml")] == [refusal]


def test_the_check_takes_a_moment() -> None:
    write("a.yml", REALESRNET)
    start = time.process_time()
    load_options("a.yml", is_train=True)
    assert time.process_time() - start < 0.5
