"""What the options describe is built, tried and thrown away before anything is created."""

from pathlib import Path

import pytest

from tests.config.conftest import problems, write
from tests.config.test_cross_checks import PLAIN

EDSR = "{type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 1, upscale: 4}"


SWINIR = (
    "{type: SwinIR, upscale: 4, in_chans: 3, img_size: 24, depths: [2], embed_dim: 12, num_heads: [2], mlp_ratio: 2, "
)
MISTAKES = [
    ("network_g:restorer:num_in_ch=1", "network_g.restorer.num_in_ch: channel-mismatch"),
    ("network_g:restorer:num_block=0.5", "network_g.restorer.num_block: invalid-value"),
    ("train:optim_g={type: LBFGS, lr: 0.1}", "train.optim_g: optimizer-fails"),
    ("train:optim_g={type: SparseAdam, lr: 0.1}", "train.optim_g: optimizer-fails"),
    ("train:optim_g={type: Adam, lr: 0.1, betas: [1.5, 0.9]}", "train.optim_g: optimizer-fails"),
    ("train:optim_g:momentum=1.5", "train.optim_g: optimizer-fails"),
    ("train:pixel_opt={type: CharbonnierLoss, eps: x}", "train.pixel_opt.eps: invalid-value"),
    ("degradation:kernel_size=1001", "degradation.kernel_size: invalid-value"),
    ("degradation:kernel_size=255", "degradation: degradation-fails"),
    ("degradation:kernel_size=20", "degradation: degradation-fails"),
    ("degradation={type: SecondOrderDegradation, kernel_prob: [0, 0, 0, 0, 0, 0]}", "degradation: degradation-fails"),
    ("val:metrics:psnr_y={type: calculate_psnr_pt, crop_border: 4}", "val.metrics.psnr_y: metric-fails"),
    ("datasets:train:dataset_enlarge_ratio=1e30", "datasets.train.dataset_enlarge_ratio: invalid-value"),
]
NETWORKS = [
    (EDSR.replace("upscale: 4", "upscale: 5"), "upscale: scale-mismatch"),
    (EDSR.replace("EDSR", "RCAN").replace("8", "8, squeeze_factor: 0"), "network_g: cannot-be-built"),
    (SWINIR + "window_size: 7, upsampler: pixelshuffledirect}", "network_g: cannot-be-built"),
    (SWINIR + "window_size: 8, upsampler: none}", "network_g: output-size-mismatch"),
    (EDSR.replace("num_in_ch: 3", "num_in_ch: 1"), "network_g.num_in_ch: channel-mismatch"),
]


@pytest.mark.parametrize(("override", "refusal"), MISTAKES)
def test_values_that_fit_nothing(run_folder: Path, override: str, refusal: str) -> None:
    (problem,) = problems("options/student.yml", override)
    assert problem.partition(": ")[2] == refusal


def test_degraded_images_need_not_be_cropped(run_folder: Path) -> None:
    assert problems("options/student.yml", "degradation={type: SecondOrderDegradation, gt_size: null}") == []


@pytest.mark.parametrize(("network", "refusal"), NETWORKS)
def test_networks_of_basicsr_are_given_an_image(run_folder: Path, network: str, refusal: str) -> None:
    write("a.yml", PLAIN)
    (found,) = [line for line in problems("a.yml", f"network_g={network}") if "network_g" in line]
    assert found.endswith(refusal)


def test_grey_images_are_for_grey_networks(run_folder: Path) -> None:
    write("a.yml", PLAIN.replace("io_backend: {type: disk}", "io_backend: {type: disk}\n    color: y"))
    assert [line.partition(": ")[2] for line in problems("a.yml")] == [
        f"network_g.{name}: channel-mismatch" for name in ("num_in_ch", "num_out_ch")
    ]
    assert problems("a.yml", "network_g:num_in_ch=1", "network_g:num_out_ch=1") == []


def test_networks_larger_than_the_memory(run_folder: Path) -> None:
    wide = ["network_g:restorer:num_feat=8192", "network_g:estimator:num_feat=8192", "network_g:restorer:num_block=500"]
    (problem,) = problems(
        "options/student.yml", *wide, "path:pretrain_network_g=kdsr_s_x4_iso", "path:strict_load_g=false"
    )
    assert problem.endswith(": network_g: too-much-memory")


def test_models_of_basicsr_get_what_they_train_with(run_folder: Path) -> None:
    write("a.yml", PLAIN)
    (problem,) = problems("a.yml", "model_type=SRGANModel")
    assert problem.endswith(": train.gan_opt: missing-key")
    (first, second) = problems("a.yml", "model_type=EDVRModel")
    assert first.endswith("datasets.train.type: dataset-without-videos")
    assert second.endswith("datasets.val.type: dataset-without-videos")
