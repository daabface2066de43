"""Checkpoints of published LightBSR teachers, and training steps compared with those of the published code."""

import pytest
import torch
from scipy.io import savemat

from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.degradation_prior import DegradationPrior, published_kernels
from lightbsr_arch.checkpoint import convert, load
from lightbsr_arch.degradations import Parameters
from tests.golden import golden, needs_golden
from tests.models.helpers import build, lightbsr, options

NAME = "lightbsr_teacher_steps"
NETWORK = {
    "type": "BlindSR",
    "estimator": {"type": "LightIDETeacher", "prior": "published"},
    "restorer": {"type": "LightBSRNet", "scale": 4},
}


def published_files(folder) -> tuple[str, str]:
    """Save a checkpoint as the authors do, with the momentum copy of the encoder, and their PCA."""
    weights = golden(NAME, "w")
    copy = {key.replace("encoder_q", "encoder_k"): value for key, value in weights.items() if "encoder_q" in key}
    torch.save({**weights, **copy}, folder / "published.pt")
    savemat(folder / "pca.mat", {"pca": golden(NAME, "")["pca"].numpy()})
    return str(folder / "published.pt"), str(folder / "pca.mat")


def published_teacher(folder, lr: float, estimator_iter: int):
    """Return a model of this package with the published weights, queue and PCA."""
    weights, pca = published_files(folder)
    convert(weights, folder / "teacher.safetensors", pca)
    opt = options(
        folder,
        "KDTeacherModel",
        NETWORK,
        contrast_opt={"type": "MomentumContrastLoss"},
        estimator_iter=estimator_iter,
        optim_g={"type": "Adam", "lr": lr, "betas": [0.9, 0.99]},
        pixel_opt={"type": "L1Loss", "loss_weight": 255.0},
    )
    opt["scale"] = 4
    opt["path"]["pretrain_network_g"] = str(folder / "teacher.safetensors")
    model = build(opt)
    model.objectives["contrast_opt"].net_key.load_state_dict(model.net_g.estimator.state_dict())
    model.objectives["contrast_opt"].cri_contrast.queue.copy_(golden(NAME, "w")["E.queue"])
    return model


def step(model, number: int) -> dict[str, torch.Tensor]:
    given = golden(NAME, f"step{number}")
    kernel = given["kernel"].repeat_interleave(4, dim=0)
    lq, hr = given["lq"].flatten(0, 1), given["hr"].flatten(0, 1)
    model.update_learning_rate(number + 1)
    model.feed_data({"lq": lq, "gt": hr.float() / 255, "degradation": Parameters(kernel, torch.zeros(len(kernel)))})
    model.optimize_parameters(number + 1)
    return model.logged


@pytest.mark.slow
@needs_golden
@pytest.mark.parametrize(("phase", "estimator_iter", "lr"), [("alone", 3, 0), ("joint", 0, 1)], ids=["alone", "joint"])
def test_three_steps_give_the_published_losses(phase, estimator_iter, lr, tmp_path):
    recorded = golden(NAME, phase)
    model = published_teacher(tmp_path, golden(NAME, "")["lr"][lr].item(), estimator_iter)
    losses = []
    for number in range(3):
        losses.append(sum(step(model, number).values()).item())
        if number == 0:
            gradient = model.net_g.estimator.features[0].weight.grad
            torch.testing.assert_close(gradient, recorded["grad_first_conv"], atol=1e-4, rtol=1e-3)
    assert losses == pytest.approx(recorded["losses"].tolist(), rel=1e-4, abs=1e-4)


@needs_golden
def test_a_published_teacher_starts_trainings_without_conversion(tmp_path):
    weights, pca = published_files(tmp_path)
    student = {"type": "BlindSR", "estimator": {"type": "LightIDEStudent"}, "restorer": NETWORK["restorer"]}
    opt = options(tmp_path, "KDStudentModel", student, distill_opt={"type": "LightBSRDistillLoss"})
    opt["scale"], opt["network_teacher"] = 4, NETWORK
    opt["path"]["pretrain_network_teacher"] = weights
    with pytest.raises(UserError, match=r"published.pt: holds no PCA of blur kernels, .*lightbsr convert SRC"):
        build(opt)
    convert(weights, tmp_path / "teacher.safetensors", pca)
    opt["path"]["pretrain_network_teacher"] = str(tmp_path / "teacher.safetensors")
    assert torch.equal(
        build(opt).objectives["distill_opt"].net_teacher.estimator.prior.components, golden(NAME, "")["pca"].T
    )
    opt["path"]["pretrain_network_g"] = str(tmp_path / "student.pt")
    of_student = golden("lightbsr_student_x4", "w")
    torch.save(of_student, tmp_path / "student.pt")
    assert torch.equal(build(opt).net_g.estimator.features[0].weight, of_student["E.E.0.weight"].float())


@needs_golden
def test_the_kernels_of_the_prior_span_the_authors_pca():
    prior = DegradationPrior(15, 0, 21, "published")
    prior.fit(published_kernels(21, torch.Generator().manual_seed(0)))
    cosines = torch.linalg.svdvals(prior.components @ golden(NAME, "")["pca"])
    assert cosines.min() > 0.97
    # The two largest components, which are the last ones, agree individually.
    assert (prior.components[-2:] @ golden(NAME, "")["pca"][:, -2:]).diagonal().abs().min() > 0.995


def test_a_teacher_with_the_published_prior_is_recognised_by_it(tmp_path):
    torch.manual_seed(0)
    section = lightbsr("teacher")
    net = BlindSR({**section["estimator"], "prior": "published", "num_noise_ch": 3}, section["restorer"]).eval()
    net.estimator.prior.fit(published_kernels(21, torch.Generator().manual_seed(0)))
    state = {
        key.replace("estimator.features", "E.encoder_q.E").replace("estimator.mlp", "E.encoder_q.mlp"): value
        for key, value in net.state_dict().items()
    }
    state |= {"E.encoder_k.E.0.weight": torch.zeros(1), "E.queue": torch.zeros(4, 8), "E.queue_ptr": torch.zeros(1)}
    torch.save({"params": state}, tmp_path / "net.pth")
    again = load(tmp_path / "net.pth")
    assert again.config["estimator"]["prior"] == "published"
    lq, kernel, noise = torch.rand(2, 3, 8, 8), torch.rand(2, 21, 21), torch.tensor([0.0, 20.0])
    torch.testing.assert_close(again(lq, (kernel, noise)), net(lq, (kernel, noise)))


def test_published_noise_maps_hold_the_level_itself():
    kernel, noise = torch.rand(1, 21, 21), torch.tensor([20.0])
    for form, held in (("published", 20.0), ("standardised", 0.8)):
        prior = DegradationPrior(15, 3, 21, form)
        prior.fit(published_kernels(21, torch.Generator().manual_seed(0)))
        assert prior((kernel, noise))[0, 15:].tolist() == pytest.approx([held] * 3)


def test_a_pca_that_does_not_fit_is_one_line(tmp_path):
    net = BlindSR(**{key: part for key, part in lightbsr("student").items() if key != "type"})
    torch.save({"params": net.state_dict()}, tmp_path / "student.pth")
    torch.save({"pca": torch.rand(441, 15)}, tmp_path / "pca.pth")
    with pytest.raises(UserError, match=r"student.pth: a LightIDEStudent takes no PCA of blur kernels"):
        convert(tmp_path / "student.pth", tmp_path / "out.safetensors", tmp_path / "pca.pth")
    teacher = BlindSR(**{key: part for key, part in lightbsr("teacher").items() if key != "type"})
    torch.save({"params": teacher.state_dict()}, tmp_path / "teacher.pth")
    torch.save({"pca": torch.rand(225, 15)}, tmp_path / "small.pth")
    with pytest.raises(UserError, match=r"small.pth: .* has shape \(225, 15\), expected \(441, 15\)"):
        convert(tmp_path / "teacher.pth", tmp_path / "out.safetensors", tmp_path / "small.pth")
    (tmp_path / "text.mat").write_text("no matrix")
    with pytest.raises(UserError, match=r"text.mat: cannot be read as a MATLAB file"):
        convert(tmp_path / "teacher.pth", tmp_path / "out.safetensors", tmp_path / "text.mat")
    assert not (tmp_path / "out.safetensors").exists()
