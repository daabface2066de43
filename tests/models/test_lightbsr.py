"""Training of LightBSR: contrast, the teacher, distillation, the student, and mixed pairs."""

import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from lightbsr.errors import UserError
from tests.models.helpers import batch, build, kdsr, lightbsr, options, train

CONTRAST = {"type": "MomentumContrastLoss", "num_patch": 4, "queue_size": 24}
KDSR_LOSS, LIGHTBSR_LOSS = {"type": "KDSRDistillLoss"}, {"type": "LightBSRDistillLoss"}
L1_255 = {"type": "L1Loss", "loss_weight": 255.0}


def teacher_options(folder, **more):
    more = {"contrast_opt": CONTRAST, "estimator_iter": 3, "pixel_opt": L1_255, "ema_decay": 0.9, **more}
    return options(folder, "KDTeacherModel", lightbsr("teacher"), **more)


def patches(seed=0, images=2):
    """Return items of four patches each."""
    return {"gt": batch(4 * images, seed=seed)["gt"].view(images, 4, 3, 32, 32)}


def steps(model, first, last):
    return [train(model, number, number, patches(number))[0] for number in range(first, last + 1)]


def state(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(module, before):
    return {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Return a teacher after a phase of contrast and two joint steps, and its folder with iterations 4 and 5."""
    folder = tmp_path_factory.mktemp("teacher")
    model = build(teacher_options(folder))
    logs = steps(model, 1, 4)
    model.save(0, 4)
    logs += steps(model, 5, 5)
    model.save(0, 5)
    return model, logs, folder


def student_options(tmp_path, teacher, network, teachers_network, distill, **more):
    opt = options(tmp_path, "KDStudentModel", network, distill_opt=distill, **more)
    opt["network_teacher"] = teachers_network
    opt["path"]["pretrain_network_teacher"] = str(teacher)
    return opt


def lightbsr_student(tmp_path, teacher, **more):
    more = {"start_from_teacher": "all", "pixel_opt": L1_255, **more}
    file = teacher[2] / "net_g_5.pth"
    return student_options(tmp_path, file, lightbsr("student"), lightbsr("teacher"), LIGHTBSR_LOSS, **more)


def test_a_teacher_first_learns_by_contrast_alone(tmp_path):
    model = build(teacher_options(tmp_path))
    before, keys_before = state(model.net_g), state(model.objectives["contrast_opt"].net_key)
    logs = steps(model, 1, 3)
    assert [set(log) for log in logs] == [{"l_contrast"}] * 3
    touched = changed(model.net_g, before)
    assert touched
    assert all(key.startswith(("estimator.features.", "estimator.mlp.")) for key in touched)
    assert model.objectives["contrast_opt"].net_key.training  # keys are normalised by their own batch
    # The key encoder follows at 1 - momentum of the way.
    weight, start = "features.0.weight", keys_before["features.0.weight"]
    way = (model.objectives["contrast_opt"].net_key.state_dict()[weight] - start).norm() / (
        model.net_g.estimator.state_dict()[weight] - start
    ).norm()
    assert 0.0005 < way < 0.003
    (log,) = steps(model, 4, 4)
    assert set(log) == {"l_pix", "l_contrast"}
    assert any(key.startswith("restorer.") for key in changed(model.net_g, before))


@pytest.mark.parametrize("one_image", [True, False], ids=["one image", "different images"])
def test_neighbours_share_a_degradation(one_image, tmp_path):
    model = build(teacher_options(tmp_path))
    model.update_learning_rate(1)
    model.feed_data(patches() if one_image else {"gt": patches()["gt"].flatten(0, 1)})
    kernel = model.prior.kernel
    assert model.lq.shape == (8, 3, 16, 16)
    assert torch.equal(kernel[0], kernel[3])
    assert not torch.equal(kernel[3], kernel[4])
    with pytest.raises(UserError, match=r"a batch has 6 patches, no multiple of the 4 that are to share"):
        model.feed_data({"gt": torch.rand(6, 3, 32, 32)})


def test_contrast_is_learnt(tmp_path):
    model = build(teacher_options(tmp_path, estimator_iter=100))
    logs = [train(model, number, number, patches(images=6))[0]["l_contrast"] for number in range(1, 101)]
    # The loss rises to chance, the logarithm of 1 + 24, while similar keys fill the queue.
    assert 2.2 < max(logs[:30]) < 3.6
    assert sum(logs[-10:]) / 10 < 0.7 * max(logs[:30])


def test_a_skipped_step_changes_no_buffer(tmp_path):
    model = build(teacher_options(tmp_path, nan_loss="skip"))
    parts = vars(model.objectives["contrast_opt"]).values()
    modules = [model.net_g, *(part for part in parts if isinstance(part, nn.Module))]
    steps(model, 1, 1)
    before = [state(module) for module in modules]
    bad = patches()
    bad["gt"][:] = float("inf")
    train(model, 2, 2, bad)
    assert [changed(module, values) for module, values in zip(modules, before, strict=True)] == [set()] * len(modules)


def test_keys_enter_the_queue_in_a_ring(tmp_path):
    model = build(teacher_options(tmp_path))
    start = model.objectives["contrast_opt"].cri_contrast.queue.clone()
    steps(model, 1, 3)
    entered = (model.objectives["contrast_opt"].cri_contrast.queue != start).any(dim=0)
    assert entered.nonzero().flatten().tolist() == list(range(6))  # two degradations per step
    assert model.objectives["contrast_opt"].cri_contrast.position == 6
    bad = patches(4)
    bad["gt"][0, 0, 0, 0, 0] = torch.nan
    queue = model.objectives["contrast_opt"].cri_contrast.queue.clone()
    with pytest.raises(UserError, match="l_contrast is not finite"):
        train(model, 4, 4, bad)
    assert torch.equal(model.objectives["contrast_opt"].cri_contrast.queue, queue)


def test_a_resumed_teacher_is_the_uninterrupted_one(tmp_path, teacher):
    whole, logs, folder = teacher
    opt = teacher_options(tmp_path)
    opt["path"]["pretrain_network_g"] = str(folder / "net_g_4.pth")
    again = build(opt, seed=1)
    saved = torch.load(folder / "4.state", weights_only=True)
    again.resume_training(saved)
    (log,) = steps(again, 5, 5)
    assert log == pytest.approx(logs[4], abs=1e-6)
    assert torch.equal(
        again.objectives["contrast_opt"].cri_contrast.position, whole.objectives["contrast_opt"].cri_contrast.position
    )
    torch.testing.assert_close(
        again.objectives["contrast_opt"].cri_contrast.queue,
        whole.objectives["contrast_opt"].cri_contrast.queue,
        atol=1e-6,
        rtol=0,
    )
    torch.testing.assert_close(
        state(again.objectives["contrast_opt"].net_key),
        state(whole.objectives["contrast_opt"].net_key),
        atol=1e-6,
        rtol=0,
    )
    del saved["contrast"]
    with pytest.raises(UserError, match=r"train.contrast_opt must be that of the run that is resumed"):
        again.resume_training(saved)


def test_the_pca_is_fitted_once_and_travels_with_the_checkpoint(tmp_path, teacher):
    prior = teacher[0].net_g.estimator.prior
    assert prior.fitted
    opt = teacher_options(tmp_path)
    opt["manual_seed"] = 5
    assert not torch.equal(build(opt).net_g.estimator.prior.components, prior.components)
    opt["path"]["pretrain_network_g"] = str(teacher[2] / "net_g_5.pth")
    assert torch.equal(build(opt).net_g.estimator.prior.components, prior.components)
    student = build(lightbsr_student(tmp_path, teacher))
    assert torch.equal(student.objectives["distill_opt"].net_teacher.estimator.prior.components, prior.components)


def test_a_teacher_without_a_prior_sees_the_low_quality_image_alone(tmp_path):
    opt = teacher_options(tmp_path, estimator_iter=1)
    opt["network_g"]["estimator"] |= {"num_kernel_ch": 0, "num_noise_ch": 0}
    model = build(opt)
    assert [set(log) for log in steps(model, 1, 2)] == [{"l_contrast"}, {"l_pix", "l_contrast"}]
    lq, one, other = torch.rand(1, 3, 8, 8), torch.rand(1, 21, 21), torch.rand(1, 21, 21)
    net = model.net_g.eval()
    assert torch.equal(net(lq, (one, torch.zeros(1))), net(lq, (other, torch.ones(1))))


def test_a_student_starts_from_all_that_fits(tmp_path, teacher):
    student = build(lightbsr_student(tmp_path, teacher))
    theirs = torch.load(teacher[2] / "net_g_5.pth", weights_only=True)["params_ema"]
    fresh = {key for key, value in student.net_g.state_dict().items() if not torch.equal(value, theirs[key][:, :3] if
             key == "estimator.features.0.weight" else theirs[key])}  # fmt: skip
    assert fresh == {"estimator.features.0.weight"}


def test_a_student_first_distils_alone(tmp_path, teacher):
    model = build(lightbsr_student(tmp_path, teacher, estimator_iter=40))
    before, teacher_before = state(model.net_g), state(model.objectives["distill_opt"].net_teacher)
    logs = train(model, 1, 40, batch())
    assert [set(log) for log in logs] == [{"l_distill"}] * 40
    assert sum(log["l_distill"] for log in logs[-5:]) < 0.6 * sum(log["l_distill"] for log in logs[:5])
    touched = {key for key in changed(model.net_g, before) if not key.startswith("estimator.")}
    # The layers that compute the guides also learn. The rest of the restorer is frozen.
    assert touched == {
        "restorer.to_channel_guide.weight", "restorer.to_spatial_guide.weight", "restorer.to_spatial_guide.bias"
    }  # fmt: skip
    (log,) = train(model, 41, 41, batch())
    assert set(log) == {"l_pix", "l_distill"}
    assert "restorer.tail.weight" in changed(model.net_g, before)
    assert changed(model.objectives["distill_opt"].net_teacher, teacher_before) == set()


@pytest.mark.parametrize("more", [{"amp": "bf16"}, {"channels_last": True}], ids=str)
def test_the_fast_ways_agree_with_the_plain_one(more, tmp_path):
    plain, fast = (build(teacher_options(tmp_path, estimator_iter=1, **extra)) for extra in ({}, more))
    for ours, theirs in zip(steps(fast, 1, 3), steps(plain, 1, 3), strict=True):
        assert ours == pytest.approx(theirs, rel=0.05 if "amp" in more else 1e-3, abs=1e-4)


KDIDE_LIGHTBSR = {
    role: {"type": "BlindSR", "estimator": kdsr(role, num_feat=32)["estimator"], "restorer": lightbsr(role)["restorer"]}
    for role in ("teacher", "student")
}
LIGHTIDE_KDSR = {
    role: {"type": "BlindSR", "estimator": lightbsr(role)["estimator"], "restorer": kdsr(role, num_feat=32)["restorer"]}
    for role in ("teacher", "student")
}


@pytest.mark.parametrize(
    ("networks", "distill", "contrast"),
    [(KDIDE_LIGHTBSR, LIGHTBSR_LOSS, None), (KDIDE_LIGHTBSR, KDSR_LOSS, None), (LIGHTIDE_KDSR, KDSR_LOSS, CONTRAST)],
    ids=["KDIDE + LightBSRNet", "KDIDE + LightBSRNet, KDSR's loss", "LightIDE + IDRDCRBNet"],
)
def test_mixed_pairs_train(networks, distill, contrast, tmp_path):
    model = build(options(tmp_path, "KDTeacherModel", networks["teacher"], contrast_opt=contrast))
    (log,) = train(model, 1, 1)
    assert set(log) == ({"l_pix", "l_contrast"} if contrast else {"l_pix"})
    model.save(0, 1)
    opt = student_options(tmp_path, tmp_path / "net_g_1.pth", networks["student"], networks["teacher"], distill)
    (log,) = train(build(opt), 1, 1)
    assert log["l_pix"] > 0
    assert log["l_distill"] > 0


def test_what_does_not_fit_is_one_line(tmp_path, teacher):
    with pytest.raises(UserError, match=r"needs an estimator with an embedding: DASREncoder or LightIDETeacher"):
        build(options(tmp_path, "KDTeacherModel", kdsr("teacher"), contrast_opt=CONTRAST))
    with pytest.raises(UserError, match=r"estimator by contrast: train.contrast_opt is missing"):
        build(options(tmp_path, "KDTeacherModel", lightbsr("teacher"), estimator_iter=5))
    opt = teacher_options(tmp_path)
    opt["degradation"]["kernel_size"] = 15
    with pytest.raises(UserError, match=r"kernel_size is not degradation.kernel_size, 15"):
        build(opt)
    opt = lightbsr_student(tmp_path, teacher)
    opt["network_g"], opt["train"]["start_from_teacher"] = LIGHTIDE_KDSR["student"], "none"
    with pytest.raises(UserError, match=r"compares channel_guide and spatial_guide; network_g has idr, vector: choose"):
        build(opt)
    teacher[0].save_network(build_network(lightbsr("teacher")), "net_unfitted", 1)
    opt["path"]["pretrain_network_teacher"] = str(teacher[2] / "net_unfitted_1.pth")
    with pytest.raises(UserError, match=r"net_unfitted_1.pth: holds no PCA of blur kernels"):
        build(opt)
    model = build(teacher_options(tmp_path))
    model.feed_data({"lq": torch.rand(1, 3, 8, 8), "gt": torch.rand(1, 3, 16, 16)})
    with pytest.raises(UserError, match=r"needs the blur kernel and noise level of every image: use a DegradedDataset"):
        model.test()
