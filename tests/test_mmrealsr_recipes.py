"""MM-RealSR's recipes: the published values, and training by the command."""

import pytest
import torch
from basicsr.archs import build_network

from tests.models.helpers import train
from tests.test_family_recipes import folder, items, logged, recipe, run, toy  # noqa: F401


def recipe_of(name, folder):  # noqa: F811
    if name != "mmrealsr_x4_gan":
        return recipe(name, folder)
    (folder / "net.pth").touch()
    return recipe(name, folder, f"path:pretrain_network_g={folder}/net.pth", "train:perceptual_opt=null")


def test_both_stages_have_the_published_networks_and_schedules(folder):  # noqa: F811
    net, gan = (recipe_of(name, folder) for name in ("mmrealsr_x4", "mmrealsr_x4_gan"))
    with torch.device("meta"):
        network = build_network(net["network_g"])
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(26.13, abs=0.01)
    assert gan["network_g"] == net["network_g"]
    assert [opt["train"]["total_iter"] for opt in (net, gan)] == [70_000, 590_000]
    assert [opt["train"]["optim_g"]["lr"] for opt in (net, gan)] == [2e-4, 1e-4]
    assert [opt["train"].get("freeze_estimator", False) for opt in (net, gan)] == [False, True]
    loss = {"type": "DegreeRankingLoss", "margin": 0.05, "rank_weight": 0.01, "anchor_weight": 1e-4}
    assert net["train"]["ranking_opt"] == gan["train"]["ranking_opt"] == loss
    for opt, gt_size, queue_size, images in ((net, 192, 90, 6), (gan, 256, 80, 4)):
        assert opt["degradation"] == {
            "type": "RankedSecondOrderDegradation", "gt_size": gt_size, "gt_usm": True, "queue_size": queue_size,
        }  # fmt: skip
        assert opt["datasets"]["train"]["batch_size_per_gpu"] == images


@pytest.mark.parametrize("name", ["mmrealsr_x4", "mmrealsr_x4_gan"])
def test_a_stage_trains_on_all_versions(name, folder, tmp_path):  # noqa: F811
    def small():
        opt = recipe_of(name, folder)
        opt["degradation"] |= {"gt_size": 48, "queue_size": 4}
        opt["network_g"]["restorer"] |= {"num_grow_ch": 4, "num_embed": 8, "num_hidden": 8}
        opt["network_g"]["estimator"]["num_hidden"] = 8
        if "network_d" in opt:
            opt["network_d"]["num_feat"] = 8
            opt["path"]["pretrain_network_g"] = str(tmp_path / "net.pth")
        return opt

    if name == "mmrealsr_x4_gan":
        first = small()
        first["train"] |= {"gan_opt": None, "freeze_estimator": False}
        first["path"]["pretrain_network_g"] = None
        net = toy(first).net_g.state_dict()
        torch.save({"params_ema": net}, tmp_path / "net.pth")
    model = toy(small())
    (log,) = train(model, 1, 1, items(2, 1, 80))
    of_gan = {"l_gan", "l_d_real", "l_d_fake", "out_d_real", "out_d_fake"} if name == "mmrealsr_x4_gan" else set()
    assert set(log) == {"l_pix", "l_ranking", *of_gan}
    assert model.output.shape == (10, 3, 48, 48)


def test_the_small_recipe_trains_and_resumes_by_the_command(folder):  # noqa: F811
    short = [
        "train:estimator_iter=3", "logger:save_checkpoint_freq=4", "val:val_freq=100", "degradation:gt_size=48",
        "degradation:queue_size=6", "datasets:train:gt_size=80", "network_g:restorer:num_block=1",
        "datasets:val:settings=second-order", "val:metrics={psnr_y: {type: calculate_psnr, crop_border: 4}}",
    ]  # fmt: skip
    whole = run(folder, "mmrealsr_s", *short, "name=ranked", "train:total_iter=6")
    ranking, l1 = logged(whole, "l_ranking"), logged(whole, "l_pix")
    assert list(ranking) == [*range(1, 7)]
    assert list(l1) == [4, 5, 6]
    run(folder, "mmrealsr_s", *short, "name=again", "train:total_iter=4")
    again = run(folder, "mmrealsr_s", *short, "name=again", "train:total_iter=6", resume=True)
    for name, losses in (("l_ranking", ranking), ("l_pix", l1)):
        expected = {step: value for step, value in losses.items() if step > 4}
        assert logged(again, name) == pytest.approx(expected, rel=1e-3)
