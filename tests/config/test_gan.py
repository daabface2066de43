"""Options of the GAN stage that are right one by one, and wrong together."""

from pathlib import Path

import pytest

from tests.config.conftest import STUDENT, problems, write
from tests.config.test_mutations import line_of

NETWORK_D = "network_d: {type: UNetDiscriminatorSN, num_in_ch: 3, num_feat: 8}"
GAN_OPT = "gan_opt: {type: GANLoss, gan_type: vanilla, loss_weight: 0.1}"
OPTIM_D = "optim_d: {type: Adam, lr: 1e-4, betas: [0.9, 0.99]}"
MORE = "net_d_iters: 1\n  net_d_init_iters: 0\n  gan_gt_usm: false"
GAN = STUDENT.read_text()
GAN = GAN.replace("\npath:\n", f"\n{NETWORK_D}\npath:\n")
GAN = GAN.replace("\ntrain:\n", f"\ntrain:\n  {GAN_OPT}\n  {OPTIM_D}\n  {MORE}\n")

MISTAKES = [  # what stands in the file, what the mistake makes of it, the key in whose line it is reported, how
    (NETWORK_D, "#", None, "network_d: missing-key"),
    (OPTIM_D, "#", None, "train.optim_d: missing-key"),
    ("vanilla", "wgan_gp", "gan_opt", "train.gan_opt.gan_type: invalid-value"),
    ("3, num_feat: 8", "3, num_feats: 8", "network_d", "network_d.num_feats: unknown-key"),
    ("gan_gt_usm", "gan_gt_ums", "gan_gt_usm", "train.gan_gt_ums: unknown-key"),
    ("UNetDiscriminatorSN, num_in_ch: 3,", "VGGStyleDiscriminator, num_in_ch: 3, input_size: 9,",
     "network_d", "network_d: cannot-be-built"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(run_folder: Path) -> Path:
    return run_folder


def refusals(text: str) -> list[str]:
    write("options/student.yml", text)
    return [line.removeprefix("options/student.yml:") for line in problems()]


def test_a_gan_stage_is_accepted() -> None:
    assert refusals(GAN) == []


@pytest.mark.parametrize(("right", "wrong", "place", "refusal"), MISTAKES)
def test_refused(right: str, wrong: str, place: str | None, refusal: str) -> None:
    assert GAN.count(right) == 1
    (found,) = refusals(GAN.replace(right, wrong))
    assert found.partition(": ")[2] == refusal
    if place is not None:
        assert found == f"{line_of(f'{place}:', GAN)}: {refusal}"


def test_a_discriminator_without_its_loss() -> None:
    text = GAN.replace(f"  {GAN_OPT}\n", "").replace(
        "\npath:\n", "\npath:\n  pretrain_network_d: options/student.yml\n"
    )
    assert refusals(text) == [
        f"{line_of(NETWORK_D, text)}: network_d: needs-gan-loss",
        f"{line_of('pretrain_network_d:', text)}: path.pretrain_network_d: needs-gan-loss",
        f"{line_of('optim_d:', text)}: train.optim_d: needs-gan-loss",
    ]


def test_teachers_have_no_gan_stage() -> None:
    text = GAN.replace("KDStudentModel", "KDTeacherModel")
    found = refusals(text)
    for key in ("network_d", "train.gan_opt", "train.optim_d", "train.net_d_iters", "train.gan_gt_usm"):
        line = line_of(f"{key.rpartition('.')[2]}: ", text)
        assert f"{line}: {key}: key-of-another-model" in found


def test_a_gan_alone_is_not_enough() -> None:
    text = "\n".join(line for line in GAN.splitlines() if "pixel_opt" not in line)
    line = line_of("\ntrain:", text)
    assert refusals(text) == [f"{line}: train.pixel_opt: missing-key"]


@pytest.mark.parametrize("network", ["UNetDiscriminatorSN", "VGGStyleDiscriminator"])
def test_a_discriminator_must_take_the_training_s_size(network: str) -> None:
    text = GAN.replace("UNetDiscriminatorSN", network).replace("  gt_size: ", "  gt_size: 100 # ")
    assert refusals(text) == [f"{line_of('network_d: {type', text)}: network_d: images-refused"]


def test_a_degradation_may_cut_to_another_size() -> None:
    text = GAN.replace("UNetDiscriminatorSN,", "VGGStyleDiscriminator, input_size: 128,")
    text = text.replace("  gt_size: 96", "  gt_size: 160")
    before, after = text.split("  type: ClassicalDegradation\n  kernel: iso\n  sigma: [0.2, 4.0]\n")
    cut = "  type: SecondOrderDegradation\n  gt_size: {}\n"
    assert refusals(before + cut.format(128) + after) == []
    assert refusals(before + cut.format(96) + after)[0].endswith(": network_d: images-refused")
