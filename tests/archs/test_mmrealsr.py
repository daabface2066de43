"""MM-RealSR's networks compared with the outputs of the published ones, and with plain references."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightbsr_arch.archs import BlindSR, DegreeEstimator, MMRealSRNet
from lightbsr_arch.archs.mmrealsr_arch import LAYER_HALO, NUM_STAGE, Affine
from tests.archs.published import published
from tests.golden import golden, needs_family


@needs_family
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_outputs_are_those_of_the_published_network(memory_format):
    model = published("mmrealsr_x4").to(memory_format=memory_format)
    assert model.config["estimator"]["type"] == "DegreeEstimator"
    assert model.config["restorer"] == {
        "type": "MMRealSRNet", "num_feat": 64, "num_block": 1, "num_grow_ch": 32, "num_embed": 512, "num_hidden": 320,
        "idr_ch": 2, "scale": 4,
    }  # fmt: skip
    io = golden("family/mmrealsr_x4", "io")
    lq = io["lq"].contiguous(memory_format=memory_format)
    with torch.inference_mode():
        sr, known = model(lq, knowledge=["degrees"])
        by_hand = model.estimator.as_idr(torch.tensor([[0.3, 0.8]]).expand(len(lq), -1))
        sr_by_hand = model.restorer(lq, model.restorer.guides(by_hand, *lq.shape[2:]))
    # With random weights, the degrees of both images differ by only 1e-5.
    torch.testing.assert_close(known["degrees"], io["degrees"], atol=1e-6, rtol=0)
    torch.testing.assert_close(sr, io["sr"], atol=1e-4, rtol=0)
    torch.testing.assert_close(sr_by_hand, io["sr_at_0.3_0.8"], atol=1e-4, rtol=0)
    assert (sr - sr_by_hand).abs().max() > 1e-3


def test_published_size():
    with torch.device("meta"):
        model = BlindSR({"type": "DegreeEstimator"}, {"type": "MMRealSRNet"})
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(26.134, abs=5e-4)


def test_each_degree_has_a_network_of_its_own():
    torch.manual_seed(0)
    estimator = DegreeEstimator(num_feat=4, num_block=1, num_hidden=8)
    lq = torch.rand(2, 3, 9, 10)
    idr, known = estimator.estimate(lq)
    assert idr.shape == (2, 2)
    assert known["degrees"] is idr
    with torch.no_grad():
        estimator.first[0].weight += torch.randn(4, 3, 3, 3)
    changed = estimator(lq)
    assert (changed[:, 0] - idr[:, 0]).abs().min() > 1e-4
    assert torch.equal(changed[:, 1], idr[:, 1])


def test_a_degree_is_a_plain_chain_of_layers():
    torch.manual_seed(0)
    estimator = DegreeEstimator(num_feat=4, num_block=1, num_hidden=8, num_degree=1, idr_ch=1, init="pytorch")
    lq = torch.rand(2, 3, 9, 10)
    x = F.conv2d(lq, estimator.first[0].weight, estimator.first[0].bias, padding=1)
    for layer in estimator.body[0]:
        if isinstance(layer, torch.nn.Conv2d):
            x = F.conv2d(x, layer.weight, layer.bias, stride=2, padding=1)
        else:
            x = x + layer.conv2(F.relu(layer.conv1(x)))
    assert x.shape == (2, 8, 5, 5)
    assert len(estimator.body[0]) == 5
    hidden, _, degree, _ = estimator.to_degree[0]
    wanted = degree(F.relu(hidden(x.mean(dim=(2, 3))))).sigmoid()
    torch.testing.assert_close(estimator(lq), wanted)


def test_degrees_start_close_to_the_middle_and_differ_between_images():
    # A saturated degree has no gradient from its ranking.
    torch.manual_seed(0)
    estimator = DegreeEstimator()
    images = torch.rand(4, 3, 16, 16)
    images[1:] = F.avg_pool2d(images[1:], 3, 1, 1)
    degrees = estimator.degrees(images)
    assert 0.2 < degrees.min() < degrees.max() < 0.8
    assert (degrees[0] - degrees[1]).abs().min() > 1e-4


def test_degrees_can_guide_a_restorer_that_takes_more_channels():
    torch.manual_seed(0)
    model = BlindSR(
        {"type": "DegreeEstimator", "num_feat": 4, "num_block": 1, "num_hidden": 8, "idr_ch": 16},
        {"type": "IDRDCRBNet", "num_feat": 16, "num_block": 1},
    )
    lq = torch.rand(1, 3, 8, 8)
    idr, known = model.estimator.estimate(lq)
    assert idr.shape == (1, 16)
    assert torch.equal(model.estimator.as_idr(known["degrees"]), idr)
    by_hand = [model.estimator.as_idr(torch.tensor([degrees])) for degrees in ([0.0, 0.0], [1.0, 0.0], [0.0, 1.0])]
    images = [model.restorer(lq, model.restorer.guides(idr, 8, 8)) for idr in by_hand]
    assert (images[0] - images[1]).abs().max() > 1e-4
    assert (images[0] - images[2]).abs().max() > 1e-4


def test_an_affine_function_scales_and_shifts():
    affine = Affine(2, num_embed=3, num_hidden=4)
    with torch.no_grad():
        affine.mlp[4].weight.zero_()
        affine.mlp[4].bias.copy_(torch.tensor([0.5, -1.0, 2.0, 3.0]))
    out = affine(torch.full((1, 2, 1, 1), 10.0), torch.rand(1, 3))
    assert out.flatten().tolist() == pytest.approx([1.5 * 10 + 2, 0 * 10 + 3])


@pytest.mark.parametrize("scale", [1, 2])
def test_small_scales_unshuffle_the_image_and_cut_off_its_padding(scale):
    torch.manual_seed(0)
    net = MMRealSRNet(num_feat=8, num_block=1, num_grow_ch=4, num_embed=8, num_hidden=8, scale=scale).eval()
    lq, side = torch.rand(1, 3, 8, 12), 4 // scale
    guides = net.guides(torch.rand(1, 2), 8, 12)
    whole = net(lq, guides)
    assert whole.shape == (1, 3, 8 * scale, 12 * scale)
    assert net.head.in_channels == 3 * side**2
    # An image with one row less is padded by repeating its last row.
    lq[:, :, -1] = lq[:, :, -2]
    torch.testing.assert_close(net(lq[:, :, :-1], guides), net(lq, guides)[:, :, :-scale])


def test_a_scale_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match=r"scale must be 1, 2 or 4, not 3"):
        MMRealSRNet(scale=3)


@pytest.mark.parametrize("height", [1, 2, 63, 200])
def test_degrees_are_estimated_in_strips(height):
    estimator = DegreeEstimator(num_feat=4, num_block=1, num_hidden=8, idr_ch=16, init="pytorch")
    lq = torch.rand(1, 3, height, 10)
    whole = estimator(lq)
    heights, shares = [], []
    for module in estimator.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _, inputs: heights.append(inputs[0].shape[2]))
    torch.testing.assert_close(estimator.estimate_in_strips(lq, 7, shares.append), whole)
    num_layer = 2 + NUM_STAGE
    assert max(heights) <= 8 + num_layer * LAYER_HALO  # at the end, the rows that the layers kept pass through all
    assert sum(shares) == pytest.approx(1)
