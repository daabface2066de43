"""Training steps of the three models: falling losses, the trained layers of each phase, and errors."""

import copy

import pytest
import torch
from basicsr.archs import build_network
from basicsr.utils import get_root_logger

from lightbsr.errors import UserError
from tests.models.helpers import batch, build, kdsr, options, train

EDSR = {
    "type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 2, "upscale": 2, "img_range": 1.0,
    "rgb_mean": [0.4488, 0.4371, 0.4040],
}  # fmt: skip
DISTILL = {"type": "KDSRDistillLoss", "loss_weight": 1.0, "temperature": 0.15}


def snapshot(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(module, before):
    return {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    """Train a teacher for a few steps and save it as BasicSR does."""
    folder = tmp_path_factory.mktemp("teacher")
    model = build(options(folder, "KDTeacherModel", kdsr("teacher"), ema_decay=0.9))
    train(model, 1, 5)
    model.save(0, 5)
    return str(folder / "net_g_5.pth")


def student_options(tmp_path, teacher_file, **more):
    opt = options(tmp_path, "KDStudentModel", kdsr("student"), distill_opt=DISTILL, **more)
    opt["network_teacher"] = kdsr("teacher")
    opt["path"]["pretrain_network_teacher"] = teacher_file
    return opt


@pytest.mark.parametrize("kind", ["baseline", "teacher", "student"])
def test_losses_fall(kind, tmp_path, teacher_file):
    if kind == "student":
        opt = student_options(tmp_path, teacher_file)
    else:
        model_type, network = {"baseline": ("BlindSRModel", EDSR), "teacher": ("KDTeacherModel", kdsr("teacher"))}[kind]
        opt = options(tmp_path, model_type, network)
    logs = train(build(opt), 1, 60, batch())
    for name in ["l_pix", "l_distill"] if kind == "student" else ["l_pix"]:
        start, end = (sum(log[name] for log in part) / 5 for part in (logs[:5], logs[-5:]))
        assert end < 0.6 * start, name


def test_the_teacher_uses_its_privileged_input(tmp_path):
    model = build(options(tmp_path, "KDTeacherModel", kdsr("teacher")))
    before = snapshot(model.net_g)
    train(model, 1, 2)
    first_conv = "estimator.features.0.weight"
    assert first_conv in changed(model.net_g, before)
    difference = model.net_g.state_dict()[first_conv] - before[first_conv]
    assert difference[:, 3:].abs().sum() > 0  # the channels of the ground truth


def test_the_student_starts_from_the_teacher_and_leaves_it_alone(tmp_path, teacher_file):
    model = build(student_options(tmp_path, teacher_file))
    saved = torch.load(teacher_file, weights_only=True)["params_ema"]
    for key, value in model.net_g.restorer.state_dict().items():
        assert torch.equal(value, saved[f"restorer.{key}"])
    assert not torch.equal(
        model.net_g.estimator.state_dict()["features.2.body.0.weight"], saved["estimator.features.2.body.0.weight"]
    )
    before = snapshot(model.objectives["distill_opt"].net_teacher)
    train(model, 1, 2)
    assert changed(model.objectives["distill_opt"].net_teacher, before) == set()


def test_a_student_may_start_from_nothing_of_the_teacher(tmp_path, teacher_file):
    opt = student_options(tmp_path, teacher_file, start_from_teacher="none")
    model = build(opt, seed=3)
    torch.manual_seed(3)
    fresh = build_network(dict(opt["network_g"])).state_dict()
    assert all(torch.equal(value, fresh[key]) for key, value in model.net_g.state_dict().items())
    opt["network_g"]["restorer"]["num_block"] = 3  # the restorer may then have another size
    (log,) = train(build(opt), 1, 1)
    assert set(log) == {"l_pix", "l_distill"}


def test_the_first_phase_trains_the_estimator_alone(tmp_path, teacher_file):
    model = build(student_options(tmp_path, teacher_file, estimator_iter=3))
    before = snapshot(model.net_g)
    logs = train(model, 1, 3)
    assert [set(log) for log in logs] == [{"l_distill"}] * 3
    touched = changed(model.net_g, before)
    assert touched
    # The distilled vector is the input of `to_idr`, which learns with the restorer.
    assert all(key.startswith(("estimator.features.", "estimator.mlp.")) for key in touched)
    (log,) = train(model, 4, 4)
    assert set(log) == {"l_pix", "l_distill"}
    assert any(key.startswith("restorer.") for key in changed(model.net_g, before))


def test_a_student_whose_restorer_differs_is_told(tmp_path, teacher_file):
    opt = student_options(tmp_path, teacher_file)
    opt["network_g"]["restorer"]["num_block"] = 3
    with pytest.raises(UserError, match=r"network_g.restorer is not network_teacher.restorer"):
        build(opt)


def test_a_run_in_two_parts_is_the_uninterrupted_one(tmp_path):
    opt = options(tmp_path, "KDTeacherModel", kdsr("teacher"), ema_decay=0.9)
    whole = train(build(opt), 1, 8)
    model = build(opt)
    train(model, 1, 4)
    model.save(0, 4)
    again = build({**opt, "path": {**opt["path"], "pretrain_network_g": str(tmp_path / "net_g_4.pth")}}, seed=1)
    again.resume_training(torch.load(tmp_path / "4.state", weights_only=True))
    for ours, theirs in zip(train(again, 5, 8), whole[4:], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-7)


def test_pairs_need_no_degradation_to_be_saved_and_resumed(tmp_path):
    opt = options(tmp_path, "BlindSRModel", {"type": "MSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2})
    del opt["degradation"]
    gt = batch()["gt"]
    pairs = {"lq": gt[..., ::2, ::2], "gt": gt}
    model = build(opt)
    whole = train(model, 1, 2, pairs)
    model.save(0, 2)
    whole += train(model, 3, 4, pairs)
    again = build({**opt, "path": {**opt["path"], "pretrain_network_g": str(tmp_path / "net_g_2.pth")}}, seed=1)
    again.resume_training(torch.load(tmp_path / "2.state", weights_only=True))
    assert train(again, 3, 4, pairs) == whole[2:]


@pytest.mark.parametrize(
    ("schedule", "longer"),
    [
        (
            {"type": "CosineAnnealingRestartLR", "periods": [4], "eta_min": 0},
            {"type": "CosineAnnealingRestartLR", "periods": [4, 6], "restart_weights": [1, 0.5], "eta_min": 0},
        ),
        (
            {"type": "MultiStepLR", "milestones": [2], "gamma": 0.5},
            {"type": "MultiStepLR", "milestones": [2, 6], "gamma": 0.5},
        ),
    ],
)
def test_a_resumed_run_takes_its_rate_and_its_length_from_the_options(schedule, longer, tmp_path):
    opt = options(tmp_path, "BlindSRModel", EDSR)
    whole = build({**opt, "train": {**opt["train"], "scheduler": longer, "total_iter": 10}})
    expected = [rate_after(whole, step) for step in range(1, 11)]
    first = build({**opt, "train": {**opt["train"], "scheduler": schedule, "total_iter": 4}})
    train(first, 1, 4)
    first.save(0, 4)
    state = torch.load(tmp_path / "4.state", weights_only=True)

    rate = opt["train"]["optim_g"]["lr"]
    for factor in (1, 0.25):
        train_opt = {**opt["train"], "scheduler": longer, "optim_g": {**opt["train"]["optim_g"], "lr": rate * factor}}
        longer_run = build({**opt, "train": train_opt})
        longer_run.resume_training(copy.deepcopy(state))
        rates = [rate_after(longer_run, step) for step in range(5, 11)]
        assert rates == pytest.approx([factor * each for each in expected[4:]], rel=1e-6, abs=1e-15)


def rate_after(model, step, warmup_iter=-1):
    model.update_learning_rate(step, warmup_iter=warmup_iter)
    model.feed_data(batch())
    model.optimize_parameters(step)
    return model.get_current_learning_rate()[0]


def test_the_rate_after_a_warm_up_is_that_of_the_optimiser(tmp_path):
    multi_step = {"type": "MultiStepLR", "milestones": [6], "gamma": 0.1}
    model = build(options(tmp_path, "BlindSRModel", EDSR, total_iter=8, scheduler=multi_step))
    rates = [rate_after(model, step, warmup_iter=4) for step in range(1, 9)]
    assert rates == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4])


COSINE = {"type": "CosineAnnealingRestartLR", "periods": [4], "eta_min": 0}
# Four steps with a constant rate, four of warm-up, then four from 1e-3 to 0.
DELAYED = [1e-3, 1e-3, 1e-3, 1e-3, 2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 8.53553e-4, 5e-4, 1.46447e-4]


def test_the_scheduler_begins_after_constant_steps_and_the_warm_up(tmp_path):
    opt = options(tmp_path, "BlindSRModel", EDSR, scheduler_start=8, total_iter=12, scheduler=COSINE)
    model = build(opt)
    assert [rate_after(model, step, 4) for step in range(1, 13)] == pytest.approx(DELAYED, rel=1e-5)
    opt["train"]["scheduler"] = {
        "type": "MultiStepLR", "restarts": [0, 3], "restart_weights": [2, 1], "milestones": [1], "gamma": 0.1,
    }  # fmt: skip
    model = build({**opt, "train": {**opt["train"], "scheduler_start": 3}})
    rates = [rate_after(model, step) for step in range(1, 9)]
    assert rates == pytest.approx([2e-3, 2e-3, 2e-3, 2e-3, 2e-4, 2e-4, 1e-3, 1e-3])


@pytest.mark.parametrize("last", [2, 6, 8, 9, 10])
def test_a_resumed_run_goes_on_in_a_delayed_schedule(last, tmp_path):
    opt = options(tmp_path, "BlindSRModel", EDSR, scheduler_start=8, total_iter=12, scheduler=COSINE)
    model = build(opt)
    for step in range(1, last + 1):
        rate_after(model, step, 4)
    model.save(0, last)
    again = build({**opt, "train": {**opt["train"], "optim_g": {**opt["train"]["optim_g"], "lr": 2e-3}}})
    again.resume_training(torch.load(tmp_path / f"{last}.state", weights_only=True))
    rates = [rate_after(again, step, 4) for step in range(last + 1, 13)]
    assert rates == pytest.approx([2 * rate for rate in DELAYED[last:]], rel=1e-5)


def test_degradations_differ_from_step_to_step(tmp_path):
    model = build(options(tmp_path, "BlindSRModel", EDSR))
    seen = []
    for current_iter in (1, 2, 1):
        model.update_learning_rate(current_iter)
        model.feed_data(batch())
        seen.append(model.lq.clone())
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])


def test_the_average_follows_parameters_and_buffers(tmp_path):
    model = build(options(tmp_path, "BlindSRModel", EDSR, ema_decay=0.9))
    model.net_g.register_buffer("count", torch.zeros(()))
    model.net_g_ema.register_buffer("count", torch.zeros(()))
    model.net_g.count.fill_(7)
    before = snapshot(model.net_g_ema)["conv_first.weight"]
    train(model, 1, 1)
    now = model.net_g.state_dict()["conv_first.weight"]
    torch.testing.assert_close(model.net_g_ema.state_dict()["conv_first.weight"], 0.9 * before + 0.1 * now)
    assert model.net_g_ema.count == 7


def test_gradients_are_clipped(tmp_path):
    model = build(options(tmp_path, "BlindSRModel", EDSR, grad_clip=1e-3))
    train(model, 1, 1)
    norm = torch.stack([p.grad.norm() for p in model.net_g.parameters()]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("more", [{"amp": "bf16"}, {"amp": "fp16"}, {"channels_last": True}], ids=str)
def test_the_fast_ways_agree_with_the_plain_one(more, tmp_path, teacher_file):
    plain, fast = (build(student_options(tmp_path, teacher_file, **extra)) for extra in ({}, more))
    ours, theirs = train(fast, 1, 3), train(plain, 1, 3)
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=0.05 if "amp" in more else 1e-4)
    if "channels_last" in more:
        assert fast.net_g.restorer.head.weight.is_contiguous(memory_format=torch.channels_last)
        assert not fast.output.is_contiguous()
    else:
        assert fast.net_g.restorer.head.weight.dtype == torch.float32


def poison(model):
    """Set weights whose output is NaN."""
    with torch.no_grad():
        model.net_g.conv_last.bias.fill_(float("nan"))


def test_a_gradient_that_is_not_finite_changes_no_weights(tmp_path):
    model = build(options(tmp_path, "BlindSRModel", EDSR))
    model.net_g.conv_last.weight.register_hook(lambda gradient: gradient * float("nan"))
    before = snapshot(model.net_g)
    with pytest.raises(UserError, match="iter 1: the gradient is not finite; start again"):
        train(model, 1, 1)
    torch.testing.assert_close(snapshot(model.net_g), before, rtol=0, atol=0)


def test_nan_stops_with_iteration_and_checkpoint(tmp_path):
    model = build(options(tmp_path, "BlindSRModel", EDSR))
    train(model, 1, 2)
    with pytest.raises(UserError, match=r"iter 3: loss l_pix is not finite; start again, with a lower"):
        poison(model) or train(model, 3, 3)
    (tmp_path / "2.state").touch()
    (tmp_path / "10.state").touch()
    with pytest.raises(UserError, match=r"iter 11: loss l_pix is not finite; continue with --auto_resume from iter 10"):
        train(model, 11, 11)
    with pytest.raises(UserError, match=r"iter 1: loss l_pix is not finite; start again"):  # the states are older ones
        train(model, 1, 1)


def test_nan_is_skipped_where_the_yaml_says_so_but_not_for_ever(tmp_path):
    model = build(options(tmp_path, "BlindSRModel", EDSR, nan_loss="skip", ema_decay=0.9))
    good = batch()
    bad = copy.deepcopy(good)
    bad["gt"][0, 0, 0, 0] = float("nan")
    before = snapshot(model.net_g)
    train(model, 1, 10, bad)
    assert changed(model.net_g, before) == set()
    train(model, 11, 11, good)
    assert changed(model.net_g, before)
    train(model, 12, 21, bad)
    with pytest.raises(UserError, match=r"iter 22: loss l_pix is not finite"):
        train(model, 22, 22, bad)


@pytest.mark.parametrize("shipped_name", [False, True])
def test_weights_from_safetensors(tmp_path, teacher_file, monkeypatch, shipped_name):
    from lightbsr import shipped
    from lightbsr_arch.checkpoint import convert

    convert(teacher_file, tmp_path / "teacher.safetensors")
    monkeypatch.setattr(shipped, "folder", lambda: tmp_path)
    model = build(student_options(tmp_path, "teacher" if shipped_name else str(tmp_path / "teacher.safetensors")))
    saved = torch.load(teacher_file, weights_only=True)["params_ema"]
    assert torch.equal(
        model.objectives["distill_opt"].net_teacher.state_dict()["restorer.head.weight"], saved["restorer.head.weight"]
    )


def test_an_image_may_be_restored_under_the_idr_of_its_neighbour(tmp_path):
    opt = options(tmp_path, "KDTeacherModel", kdsr("teacher"), idr_of="neighbour")
    opt["degradation"]["type"] = "ClassicalDegradation"
    model = build(opt)
    model.update_learning_rate(1)
    model.feed_data(batch())
    kernel = model.prior.kernel
    assert torch.equal(kernel[0::2], kernel[1::2])  # neighbours share a degradation
    assert not torch.equal(kernel[0], kernel[2])
    net = model.net_g
    with torch.no_grad():
        idr = net.estimator.estimate(model.lq, model.gt)[0]
        guides = net.restorer.guides(idr[[1, 0, 3, 2]], *model.lq.shape[-2:])
        expected = net.restorer(model.lq, guides)
    log = train(model, 1, 1, batch())[0]
    assert torch.allclose(model.output, expected, atol=1e-6)
    assert log["l_pix"] == pytest.approx((expected - model.gt).abs().mean().item(), rel=1e-5)


def test_checkpointed_activations_do_not_change_a_training(tmp_path):
    plain, checkpointed = (
        build(options(tmp_path, "BlindSRModel", kdsr("student"), checkpoint_activations=asked))
        for asked in (False, True)
    )
    assert checkpointed.net_g.restorer.checkpoint_activations
    assert not plain.net_g.restorer.checkpoint_activations
    logs = [train(model, 1, 3, batch()) for model in (plain, checkpointed)]
    for wanted, found in zip(*logs, strict=True):
        assert found["l_pix"] == pytest.approx(wanted["l_pix"], rel=1e-5)
    assert logs[0][2]["l_pix"] != logs[0][0]["l_pix"]


def test_checkpointed_activations_of_another_network_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"^train.checkpoint_activations: EDSR does not support it; set it to false$"):
        build(options(tmp_path, "BlindSRModel", EDSR, checkpoint_activations=True))


@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="this version of PyTorch cannot be asked")
def test_a_slow_mixed_precision_is_named(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(get_root_logger(), "warning", lines.append)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64"})
    for amp in (None, "bf16"):
        build(options(tmp_path, "BlindSRModel", EDSR, amp=amp))
    reason = "this CPU has no instructions for bf16; fp32 is faster on it"
    assert lines == [f"train.amp: bf16: {reason} (--force_yml train:amp=null)"]
