"""MRDA's meta-learning, and the teacher that adapts the meta-learned network to every batch."""

from copy import deepcopy

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F

from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR, MRDAMetaNet, MRDATeacher
from lightbsr_arch.archs.inner_loop import adapt
from lightbsr_arch.stored_network import read_off_shapes
from tests.config.conftest import problems, write
from tests.config.test_cross_checks import PLAIN
from tests.models.helpers import batch, build, options, train

META = {"type": "MRDAMetaNet", "num_feat": 8, "num_block": 1, "scale": 2}
TEACHER = {
    "type": "BlindSR",
    "estimator": {"type": "MRDATeacher", "num_feat": 4, "num_meta_feat": 8, "num_block": 1, "num_step": 2, "scale": 2},
    "restorer": {"type": "RDANet", "num_feat": 8, "num_block": 1, "idr_ch": 16, "scale": 2},
}


def meta_options(folder, **meta):
    opt = options(folder, "MetaSRModel", META, meta_opt={"num_task": 3, "num_step": 2, "lr": 0.05, **meta})
    opt["datasets"] = {"train": {"batch_size_per_gpu": 4}}
    return opt


def teacher_options(folder, **path):
    opt = options(folder, "MetaTeacherModel", TEACHER, adapt_opt={"lr": [0.05, 0.02]}, ema_decay=0.9)
    opt["degradation"]["per"] = "batch"
    opt["path"] |= path
    return opt


def test_an_adaptation_of_two_steps_is_that_of_a_line_by_hand():
    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = torch.nn.Parameter(torch.tensor(2.0)), torch.nn.Parameter(torch.tensor(1.0))

        def forward(self, x):
            return self.weight * x + self.bias

    line = Line()
    x, y = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])
    # The mean squared error has the gradients 2 * mean(error * x) and 2 * mean(error).
    # Errors 3 and 6: 21 and 9. With 0.1: weight -0.1, bias 0.1. Errors 0 and -1.2: -3.6 and -1.2.
    adapted = adapt(line, dict(line.named_parameters()), x, y, [0.1, 0.5], F.mse_loss)
    assert adapted["weight"].item() == pytest.approx(-0.1 + 0.5 * 3.6, abs=1e-6)
    assert adapted["bias"].item() == pytest.approx(0.1 + 0.5 * 1.2, abs=1e-6)
    assert (line.weight.item(), line.bias.item()) == (2.0, 1.0)
    assert not any(weight.requires_grad for weight in adapted.values())


def test_the_meta_gradient_is_the_mean_of_the_gradients_at_the_adapted_weights(tmp_path):
    model = build(meta_options(tmp_path))
    start = deepcopy(model.net_g)
    model.update_learning_rate(1, warmup_iter=-1)
    model.feed_data(batch())
    model.optimize_parameters(1)
    assert model.lq.shape == (12, 3, 16, 16)
    kernels = model.prior.kernel.unflatten(0, (3, 4))
    assert torch.equal(kernels, kernels[:, :1].expand_as(kernels))
    assert not torch.equal(kernels[0], kernels[1])
    assert torch.equal(model.gt[:4], model.gt[4:8])

    wanted = {name: torch.zeros_like(weight) for name, weight in start.named_parameters()}
    losses = []
    for task in range(3):
        lq, gt = model.lq[4 * task : 4 * task + 4], model.gt[4 * task : 4 * task + 4]
        copy = deepcopy(start)
        descent = torch.optim.SGD(copy.parameters(), lr=0.05)
        for _ in range(2):
            descent.zero_grad()
            F.l1_loss(copy(lq[:2]), gt[:2]).backward()
            descent.step()
        loss = F.l1_loss(copy(lq[2:]), gt[2:])
        losses.append(loss.item())
        for (name, _), gradient in zip(
            copy.named_parameters(), torch.autograd.grad(loss, list(copy.parameters())), strict=True
        ):
            wanted[name] += gradient / 3
    assert model.log_dict["l_meta"] == pytest.approx(sum(losses) / 3, abs=1e-6)
    assert max(gradient.abs().max() for gradient in wanted.values()) > 1e-3
    for name, weight in model.net_g.named_parameters():
        torch.testing.assert_close(weight.grad, wanted[name], atol=1e-5, rtol=0)


def test_meta_learning_lowers_the_loss_after_adaptation(tmp_path):
    opt = meta_options(tmp_path)
    opt["train"]["optim_g"]["lr"] = 3e-3
    losses = [log["l_meta"] for log in train(build(opt), 1, 25, batch())]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_meta_learning_resumes_exactly(tmp_path):
    model = build(meta_options(tmp_path))
    train(model, 1, 2)
    model.save(0, 2)
    whole = train(model, 3, 4)
    opt = meta_options(tmp_path)
    opt["path"]["pretrain_network_g"] = str(tmp_path / "net_g_2.pth")
    again = build(opt, seed=1)
    again.resume_training(torch.load(tmp_path / "2.state", weights_only=True))
    assert train(again, 3, 4) == whole


def test_the_teacher_adapts_the_meta_learned_network_to_each_batch_and_leaves_it_unchanged(tmp_path):
    meta = build(meta_options(tmp_path)).net_g
    torch.save({"params": meta.state_dict()}, tmp_path / "meta.pth")
    model = build(teacher_options(tmp_path, pretrain_network_meta=str(tmp_path / "meta.pth")), seed=1)
    estimator = model.net_g.estimator
    assert estimator.rates.tolist() == pytest.approx([0.05, 0.02])
    losses = [log["l_pix"] for log in train(model, 1, 15, batch())]
    assert losses[-1] < losses[0]
    for net in estimator.meta, model.net_g_ema.estimator.meta:
        for ours, theirs in zip(net.state_dict().values(), meta.state_dict().values(), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=0)

    copy = deepcopy(meta)
    for rate in (0.05, 0.02):
        copy.zero_grad()
        F.l1_loss(copy(model.lq), model.gt).backward()
        with torch.no_grad():
            for weight in copy.parameters():
                weight -= rate * weight.grad
    with torch.inference_mode():  # as in validation
        features = estimator.adapted_features(model.lq, model.gt)
        wanted = copy.features(model.lq)
        torch.testing.assert_close(features, wanted, atol=1e-5, rtol=0)
        assert (features - meta.features(model.lq)).abs().max() > 1e-3
        known = model.net_g(model.lq, model.gt, knowledge=["idr"])[1]
    assert known["idr"].shape == (4, 16)


def test_the_teacher_resumes_with_its_rates_and_meta_learned_network(tmp_path):
    meta = build(meta_options(tmp_path)).net_g
    torch.save({"params": meta.state_dict()}, tmp_path / "meta.pth")
    path = {"pretrain_network_meta": str(tmp_path / "meta.pth")}
    model = build(teacher_options(tmp_path, **path))
    train(model, 1, 2)
    model.save(0, 2)
    whole = train(model, 3, 4)
    (tmp_path / "meta.pth").unlink()
    again = build(teacher_options(tmp_path, pretrain_network_g=str(tmp_path / "net_g_2.pth"), **path), seed=1)
    again.resume_training(torch.load(tmp_path / "2.state", weights_only=True))
    assert train(again, 3, 4) == whole


def test_both_networks_are_recognised_by_their_tensors():
    arguments = {"num_feat": 8, "num_block": 2, "scale": 3}
    found = read_off_shapes(MRDAMetaNet(**arguments).state_dict())
    assert (found.type, found.network) == ("MRDAMetaNet", arguments)
    found = read_off_shapes(BlindSR(TEACHER["estimator"], TEACHER["restorer"]).state_dict())
    assert found.type == "BlindSR"
    assert found.network["estimator"] == TEACHER["estimator"]


def test_published_sizes():
    with torch.device("meta"):
        meta, teacher = MRDAMetaNet(), MRDATeacher()
    assert sum(p.numel() for p in meta.parameters()) == 2_073_219
    # The student's encoder has 1.277 M; the first convolution of the teacher's has 128 inputs instead of 3.
    trained = sum(p.numel() for p in teacher.parameters() if p.requires_grad)
    assert trained / 1e6 == pytest.approx(1.277 + 64 * 125 * 9 / 1e6, abs=5e-4)


def test_the_features_are_those_before_the_upsampler():
    net = MRDAMetaNet(num_feat=4, num_block=1, scale=2)
    lq = torch.rand(1, 3, 5, 6)
    features = functional_call(net, dict(net.named_parameters()), (lq,), {"restore": False})
    assert features.shape == (1, 4, 5, 6)
    with torch.no_grad():
        net.tail.weight.zero_()
        net.tail.bias.zero_()
    assert net(lq).shape == (1, 3, 10, 12)
    torch.testing.assert_close(net(lq).mean(), lq.mean(), atol=0.05, rtol=0)  # the bicubic part alone


BASE = PLAIN.replace("PairedImageDataset\n    dataroot_gt: .\n    dataroot_lq: .", "GTDataset\n    dataroot_gt: .", 1)
NETWORK = BASE[BASE.index("network_g:") : BASE.index("path:")]
META_YML = (
    BASE.replace("SRModel", "MetaSRModel")
    .replace("path:", "degradation: {type: ClassicalDegradation, sigma: [0.2, 4.0]}\npath:")
    .replace("  pixel_opt", "  meta_opt: {num_task: 2}\n  pixel_opt")
)
TEACHER_YML = (
    BASE.replace("SRModel", "MetaTeacherModel")
    .replace(NETWORK, f"network_g: {TEACHER}\n".replace("'scale': 2", "'scale': 4").replace("'", ""))
    .replace("path: {pretrain_network_g: ~}", "degradation: {type: ClassicalDegradation, per: batch}\npath: {META}")
    .replace("{META}", "{pretrain_network_meta: meta.pth}")
    .replace("  pixel_opt", "  adapt_opt: {lr: [0.1, 0.1]}\n  pixel_opt")
)
MISTAKES = [
    (META_YML, "{num_task: 2}", "{num_task: 0}", ["train.meta_opt.num_task: invalid-value"]),
    (META_YML, "{num_task: 2}", "{lr: 0}", ["train.meta_opt.lr: invalid-value"]),
    (META_YML, "{num_task: 2}", "{tasks: 2}", ["train.meta_opt.tasks: unknown-key"]),
    (META_YML, "  meta_opt: {num_task: 2}\n", "", ["train.meta_opt: missing-key"]),
    (META_YML, "  pixel_opt", "  amp: fp16\n  pixel_opt", ["train.amp: objectives-conflict"]),
    (META_YML, "sigma: [0.2, 4.0]", "per: batch", ["degradation.per: degradation-unfit"]),
    (
        META_YML, "batch_size_per_gpu: 4", "batch_size_per_gpu: 1",
        ["datasets.train.batch_size_per_gpu: batch-too-small"],
    ),
    (META_YML, "batch_size_per_gpu: 4", "batch_size_per_gpu: 1\n    patches_per_item: 2", []),
    (
        META_YML, "type: GTDataset", "type: PairedImageDataset\n    dataroot_lq: .",
        ["datasets.train.type: dataset-unfit"],
    ),
    (
        META_YML, "  pixel_opt: {type: L1Loss}", "  pixel_opt: {type: L1Loss}\n  perceptual_opt: {type: L1Loss}",
        ["train.perceptual_opt: objectives-conflict"],
    ),
    (TEACHER_YML, ", per: batch", "", ["degradation.per: degradation-unfit"]),
    (TEACHER_YML, "[0.1, 0.1]", "[]", ["train.adapt_opt.lr: invalid-value"]),
    (TEACHER_YML, "[0.1, 0.1]", "[0.1, -0.1]", ["train.adapt_opt.lr[1]: invalid-value"]),
    (TEACHER_YML, "  adapt_opt: {lr: [0.1, 0.1]}\n", "", ["train.adapt_opt: missing-key"]),
    (TEACHER_YML, "pretrain_network_meta: meta.pth", "", ["path.pretrain_network_meta: missing-key"]),
    (TEACHER_YML, "meta.pth", "gone.pth", ["path.pretrain_network_meta: missing-file"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "right", "wrong", "refusals"), MISTAKES)
def test_options_are_checked(text, right, wrong, refusals, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("meta.pth", "")
    assert text.count(right) == 1
    write("a.yml", text)
    assert problems("a.yml") == []
    write("a.yml", text.replace(right, wrong))
    assert [line.partition(": ")[2] for line in problems("a.yml")] == refusals


def test_networks_that_do_not_fit_are_refused(tmp_path):
    opt = teacher_options(tmp_path)
    opt["train"]["adapt_opt"] = {"lr": [0.1]}
    with pytest.raises(UserError, match=r"train.adapt_opt.lr has 1 rates, but network_g.estimator.num_step is 2"):
        build(opt)
    opt["network_g"] = {**TEACHER, "estimator": {"type": "MRDAEncoder", "num_feat": 4}}
    with pytest.raises(UserError, match=r"train.adapt_opt needs an estimator with .*: MRDATeacher"):
        build(opt)
    opt = meta_options(tmp_path)
    opt["network_g"] = TEACHER
    with pytest.raises(UserError, match=r"train.meta_opt: network_g also needs the gt"):
        build(opt)
