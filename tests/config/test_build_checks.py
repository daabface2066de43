"""What the options describe is built, tried and thrown away before anything is created."""

from pathlib import Path

import pytest

from tests.config.conftest import problems, write
from tests.config.test_cross_checks import PLAIN

EDSR = "{type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 1, upscale: 4}"


NO_STEP = "cannot train a network of convolutions with this: "
SWINIR = (
    "{type: SwinIR, upscale: 4, in_chans: 3, img_size: 24, depths: [2], embed_dim: 12, num_heads: [2], mlp_ratio: 2, "
)
MISTAKES = [
    (
        "network_g:restorer:num_in_ch=1",
        "network_g.restorer.num_in_ch: is 1, but the data sets give RGB images: it must",
    ),
    ("network_g:restorer:num_block=0.5", "network_g.restorer.num_block: expected a whole number >= 0 and <= 1000"),
    ("train:optim_g={type: LBFGS, lr: 0.1}", f"train.optim_g: LBFGS {NO_STEP}"),
    ("train:optim_g={type: SparseAdam, lr: 0.1}", f"train.optim_g: SparseAdam {NO_STEP}"),
    ("train:optim_g:betas=[1.5, 0.9]", f"train.optim_g: Adam {NO_STEP}Invalid beta parameter at index 0: 1.5"),
    ("train:pixel_opt={type: CharbonnierLoss, eps: x}", "train.pixel_opt.eps: expected a number"),
    ("degradation:kernel_size=1001", "degradation.kernel_size: expected a whole number >= 1 and <= 255, found 1001"),
    ("degradation:kernel_size=255", "degradation: cannot degrade images of 96 x 96 pixels: 96 pixels are too few"),
    (
        "degradation={type: SecondOrderDegradation, kernel_prob: [0, 0, 0, 0, 0, 0]}",
        "degradation: cannot degrade images of 96 x 96 pixels: kernel_prob: all odds are 0",
    ),
    (
        "val:metrics:psnr_y={type: calculate_psnr_pt, crop_border: 4}",
        "val.metrics.psnr_y: calculate_psnr_pt cannot measure pictures: ",
    ),
    ("datasets:train:dataset_enlarge_ratio=1e30", "datasets.train.dataset_enlarge_ratio: expected a whole number"),
]
NETWORKS = [
    (EDSR.replace("upscale: 4", "upscale: 5"), "upscale: is 5, but scale is 4"),
    (EDSR.replace("EDSR", "RCAN").replace("8", "8, squeeze_factor: 0"), "cannot be built: "),
    (SWINIR + "window_size: 7, upsampler: pixelshuffledirect}", "cannot be built: shape "),
    (SWINIR + "window_size: 8, upsampler: none}", "makes images of 3 x 24 x 24, the training wants 3 x 96 x 96"),
    (EDSR.replace("num_in_ch: 3", "num_in_ch: 1"), "is 1, but the data sets give RGB images: it must be 3"),
]


@pytest.mark.parametrize(("override", "text"), MISTAKES)
def test_values_that_fit_nothing(run_folder: Path, override: str, text: str) -> None:
    (problem,) = problems("options/student.yml", override)
    assert problem.partition(": ")[2].startswith(text)


@pytest.mark.parametrize(("network", "text"), NETWORKS)
def test_networks_of_basicsr_are_given_an_image(run_folder: Path, network: str, text: str) -> None:
    write("a.yml", PLAIN)
    (found,) = [line for line in problems("a.yml", f"network_g={network}") if "network_g" in line]
    assert text in found


def test_grey_images_are_for_grey_networks(run_folder: Path) -> None:
    write("a.yml", PLAIN.replace("io_backend: {type: disk}", "io_backend: {type: disk}\n    color: y"))
    assert [line.partition(": ")[2] for line in problems("a.yml")] == [
        f"network_g.{name}: is 3, but the data sets give the luma alone (color: y): it must be 1"
        for name in ("num_in_ch", "num_out_ch")
    ]
    assert problems("a.yml", "network_g:num_in_ch=1", "network_g:num_out_ch=1") == []


def test_networks_larger_than_the_memory(run_folder: Path) -> None:
    wide = ["network_g:restorer:num_feat=8192", "network_g:estimator:num_feat=8192", "network_g:restorer:num_block=500"]
    (problem,) = problems(
        "options/student.yml", *wide, "path:pretrain_network_g=kdsr_s_x4_iso", "path:strict_load_g=false"
    )
    assert " GB, more than this machine's memory" in problem


def test_models_of_basicsr_get_what_they_train_with(run_folder: Path) -> None:
    write("a.yml", PLAIN)
    (problem,) = problems("a.yml", "model_type=SRGANModel")
    assert problem.endswith(": train.gan_opt: missing; SRGANModel trains with a discriminator")
    (first, second) = problems("a.yml", "model_type=EDVRModel")
    assert first.endswith("datasets.train.type: PairedImageDataset gives images, EDVRModel takes videos")
    assert ": datasets.val.type: " in second
