"""Ranking of degrees: it learns their order, resumes exactly, restores the anchors under 0 and 1, and can be frozen."""

import pytest
import torch
from torch.nn import functional as F

from lightbsr.errors import UserError
from lightbsr_arch.losses.ranking_loss import with_exact_anchors
from tests.config.conftest import problems, write
from tests.config.test_cross_checks import PLAIN
from tests.degradations.test_second_order import pictures
from tests.models.helpers import build, options, train

DEGRADATION = {"type": "RankedSecondOrderDegradation", "gt_size": 48}
LOSS = {"type": "DegreeRankingLoss", "margin": 0.1, "anchor_weight": 1e-3}
GAN = {
    "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
    "optim_d": {"type": "Adam", "lr": 1e-3},
}


def network(idr_ch=2):
    restorer = {"type": "MMRealSRNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4, "num_embed": 8, "num_hidden": 8}
    if idr_ch > 2:
        restorer = {"type": "IDRDCRBNet", "num_feat": idr_ch, "num_block": 1}
    estimator = {"type": "DegreeEstimator", "num_feat": 8, "num_block": 1, "num_hidden": 16, "idr_ch": idr_ch}
    return {"type": "BlindSR", "estimator": estimator, "restorer": {**restorer, "scale": 2}}


def ranked(tmp_path, net=None, **more):
    opt = options(tmp_path, "RankedSRModel", net or network(), **{"ranking_opt": LOSS, "ema_decay": 0.9, **more})
    return opt | {"degradation": dict(DEGRADATION)}


def steps(model, first, last):
    return [train(model, step, step, {"gt": pictures(2, 80, step)})[0] for step in range(first, last + 1)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network whose estimator has trained alone, its logs, and the file of its weights."""
    folder = tmp_path_factory.mktemp("ranked")
    opt = ranked(folder, estimator_iter=80)
    opt["train"]["optim_g"]["lr"] = 3e-3
    model = build(opt)
    logs = steps(model, 1, 80)
    model.save(0, 80)
    return model, logs, folder / "net_g_80.pth"


def test_the_ranking_loss_falls(trained):
    _, logs, _ = trained
    assert all(set(log) == {"l_ranking"} for log in logs)
    begun, ended = (sum(log["l_ranking"] for log in part) / 15 for part in (logs[:15], logs[-15:]))
    assert ended < 0.85 * begun


def test_degrees_of_held_out_pictures_are_in_order(trained):
    model, _, _ = trained
    gt = pictures(8, 48, seed=1000)
    clean = F.interpolate(gt, size=(24, 24), mode="bilinear")
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    smooth = clean
    for _ in range(3):
        for shape in ((1, 1, 5, 1), (1, 1, 1, 5)):
            weight = kernel.view(shape).repeat(3, 1, 1, 1)
            smooth = F.conv2d(smooth, weight, padding=(shape[2] // 2, shape[3] // 2), groups=3)
    noisy = (clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    estimator = model.net_g.estimator.eval()
    with torch.inference_mode():
        clean, smooth, noisy = (estimator.degrees(images) for images in (clean, smooth, noisy))
    estimator.train()
    assert (smooth[:, 0] > clean[:, 0]).all()
    assert (noisy[:, 1] > clean[:, 1]).all()
    # Each degree says more about its own kind.
    assert (smooth - clean)[:, 0].mean() > (smooth - clean)[:, 1].mean()
    assert (noisy - clean)[:, 1].mean() > (noisy - clean)[:, 0].mean()


def test_all_versions_are_restored_and_the_anchors_under_exact_degrees(tmp_path):
    model = build(ranked(tmp_path))
    net = model.net_g
    model.update_learning_rate(1)
    model.feed_data({"gt": pictures(2, 80)})
    before = {key: value.clone() for key, value in net.state_dict().items()}
    model.optimize_parameters(1)
    assert set(model.get_current_log()) == {"l_pix", "l_ranking"}
    assert model.lq.shape == (10, 3, 24, 24)
    assert model.output.shape == model.gt.shape == (10, 3, 48, 48)
    net.load_state_dict(before)
    with torch.no_grad():
        degrees = net.estimator.degrees(model.lq)
        guides = net.restorer.guides(with_exact_anchors(degrees), 24, 24)
        torch.testing.assert_close(model.output, net.restorer(model.lq, guides))
        # In use, no degree is replaced.
        net.eval()
        torch.testing.assert_close(net.estimator(model.lq), degrees)
        assert not torch.equal(net.estimator.train()(model.lq), degrees)


def test_degrees_guide_a_restorer_that_takes_more_channels(tmp_path):
    model = build(ranked(tmp_path, network(idr_ch=8)))
    before = model.net_g.estimator.to_idr.weight.clone()
    logs = steps(model, 1, 2)
    assert [set(log) for log in logs] == [{"l_pix", "l_ranking"}] * 2
    assert not torch.equal(model.net_g.estimator.to_idr.weight, before)


def test_the_gan_stage_keeps_the_estimator(tmp_path, trained):
    _, _, file = trained
    opt = ranked(tmp_path, freeze_estimator=True, **GAN)
    opt["network_d"] = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 8}
    opt["path"] |= {"pretrain_network_g": str(file), "param_key_g": "params_ema"}
    model = build(opt)
    before = {key: value.clone() for key, value in model.net_g.state_dict().items()}
    logs = steps(model, 1, 2)
    expected = {"l_pix", "l_gan", "l_ranking", "l_d_real", "l_d_fake", "out_d_real", "out_d_fake"}
    assert [set(log) for log in logs] == [expected] * 2
    changed = {key for key, value in model.net_g.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.startswith("restorer.") for key in changed)
    restorer = sum(p.numel() for p in model.net_g.restorer.parameters())
    assert sum(p.numel() for group in model.optimizer_g.param_groups for p in group["params"]) == restorer
    # Its loss is the one that training would minimise.
    ours = model.objectives["ranking_opt"].cri_ranking(model.net_g.estimator.degrees(model.lq))
    assert logs[-1]["l_ranking"] == pytest.approx(ours.item())


def test_a_frozen_restorer_leaves_only_the_degrees_to_train(tmp_path):
    first = build(ranked(tmp_path, network(idr_ch=8)))
    first.save(0, 1)
    opt = ranked(tmp_path, network(idr_ch=8), freeze_restorer=True)
    opt["path"] |= {"pretrain_network_g": str(tmp_path / "net_g_1.pth"), "param_key_g": "params"}
    model = build(opt)
    before = {key: value.clone() for key, value in model.net_g.state_dict().items()}
    assert [set(log) for log in steps(model, 1, 3)] == [{"l_pix", "l_ranking"}] * 3
    changed = {key for key, value in model.net_g.state_dict().items() if not torch.equal(value, before[key])}
    degrees = {key for key in before if key.startswith("estimator.") and not key.startswith("estimator.to_idr.")}
    assert changed == degrees
    # The loss of the images reaches the degrees through the frozen layers.
    opt["train"]["ranking_opt"] = {**LOSS, "loss_weight": 0.0}
    without_ranking = build(opt)
    steps(without_ranking, 1, 1)
    assert not torch.equal(without_ranking.net_g.estimator.first[0].weight, before["estimator.first.0.weight"])


def test_training_in_two_parts_is_the_uninterrupted_one(tmp_path):
    def fresh(**path):
        opt = ranked(tmp_path, estimator_iter=2)
        opt["degradation"]["queue_size"] = 4
        opt["path"] |= path
        return build(opt)

    model = fresh()
    steps(model, 1, 4)
    model.save(0, 4)
    whole = steps(model, 5, 7)
    again = fresh(pretrain_network_g=str(tmp_path / "net_g_4.pth"), param_key_g="params")
    again.resume_training(torch.load(tmp_path / "4.state", weights_only=True))
    for ours, theirs in zip(steps(again, 5, 7), whole, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-7)


def test_networks_that_do_not_fit_are_refused(tmp_path):
    dasr = {"type": "DASREncoder", "num_feat": 2}
    with pytest.raises(UserError, match=r"train.ranking_opt needs an estimator with degrees: DegreeEstimator"):
        build(ranked(tmp_path, {**network(8), "estimator": dasr}))
    net = network()
    net["estimator"] |= {"num_degree": 1}
    with pytest.raises(
        UserError,
        match=r"network_g.estimator.num_degree: 1 degrees are ranked over 4 versions of each image, but "
        r"degradation.type makes 5: make them agree",
    ):
        build(ranked(tmp_path, net))


RANKED = (
    PLAIN.replace("SRModel", "RankedSRModel")
    .replace("PairedImageDataset\n    dataroot_gt: .\n    dataroot_lq: .", "GTDataset\n    dataroot_gt: .", 1)
    .replace("\npath:", "\ndegradation: {type: RankedSecondOrderDegradation, jpeg_gap: [5, 60]}\npath:")
    .replace("  pixel_opt", "  ranking_opt: {type: DegreeRankingLoss, margin: 0.05}\n  pixel_opt")
)
MISTAKES = [
    ("margin: 0.05", "margin: 1", ["train.ranking_opt.margin: invalid-value"]),
    ("type: DegreeRankingLoss, margin: 0.05", "type: L1Loss", ["train.ranking_opt.type: not-a-ranking-loss"]),
    (
        "RankedSecondOrderDegradation, jpeg_gap: [5, 60]", "SecondOrderDegradation",
        ["degradation.type: degradation-unfit"],
    ),
    ("jpeg_gap: [5, 60]", "jpeg_gap: [60, 5]", ["degradation: degradation-fails"]),
    ("jpeg_gap: [5, 60]", "jpeg_gap: 5", ["degradation.jpeg_gap: invalid-value"]),
    (
        "type: GTDataset", "type: PairedImageDataset\n    dataroot_lq: .",
        ["datasets.train.type: dataset-unfit"],
    ),
    ("  pixel_opt", "  freeze_estimator: true\n  pixel_opt", ["path.pretrain_network_g: missing-key"]),
    (
        "  ranking_opt: {type: DegreeRankingLoss, margin: 0.05}\n", "  freeze_estimator: true\n",
        ["train.freeze_estimator: needs-objective"],
    ),
    ("  pixel_opt", "  freeze_restorer: true\n  pixel_opt", ["path.pretrain_network_g: missing-key"]),
    (
        "  ranking_opt: {type: DegreeRankingLoss, margin: 0.05}\n", "  freeze_restorer: true\n",
        ["train.freeze_restorer: needs-objective"],
    ),
    (
        "  ranking_opt: {type: DegreeRankingLoss, margin: 0.05}\n", "  estimator_iter: 5\n",
        ["train.estimator_iter: no-estimator-objective"],
    ),
    (
        "  pixel_opt", "  idr_of: neighbour\n  pixel_opt",
        ["train.idr_of: objectives-conflict", "train.idr_of: needs-idr"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "refusals"), MISTAKES)
def test_options_are_checked(right, wrong, refusals, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert RANKED.count(right) == 1
    write("a.yml", RANKED)
    assert problems("a.yml") == []
    write("a.yml", RANKED.replace(right, wrong))
    assert [line.partition(": ")[2] for line in problems("a.yml")] == refusals


def test_a_frozen_estimator_has_no_phase_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("weights.pth", "")
    text = RANKED.replace("pretrain_network_g: ~", "pretrain_network_g: weights.pth")
    write("a.yml", text.replace("  pixel_opt", "  freeze_estimator: true\n  estimator_iter: 5\n  pixel_opt"))
    assert [line.partition(": ")[2] for line in problems("a.yml")] == ["train.freeze_estimator: nothing-to-train"]


def test_a_frozen_restorer_excludes_other_phases(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("weights.pth", "")
    text = RANKED.replace("pretrain_network_g: ~", "pretrain_network_g: weights.pth")
    for other in ("estimator_iter: 5", "freeze_estimator: true"):
        write("a.yml", text.replace("  pixel_opt", f"  freeze_restorer: true\n  {other}\n  pixel_opt"))
        assert [line.partition(": ")[2] for line in problems("a.yml")] == ["train.freeze_restorer: objectives-conflict"]
