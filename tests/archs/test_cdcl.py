"""CdCL's networks compared with the outputs of the published ones, and with plain references."""

import pytest
import torch
from torch.nn import functional as F

from lightbsr_arch.archs import BlindSR, CdCLNet
from lightbsr_arch.archs.cdcl_arch import CdCLBlock, DegradationConv
from tests.archs.published import published
from tests.golden import golden, needs_family


@needs_family
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_outputs_are_those_of_the_published_network(memory_format):
    model = published("cdcl_x4").to(memory_format=memory_format)
    assert model.config["estimator"]["type"] == "CdCLEncoder"
    assert model.config["restorer"] == {
        "type": "CdCLNet", "num_feat": 64, "num_group": 2, "num_block": 6, "idr_ch": 256, "scale": 4,
    }  # fmt: skip
    io = golden("family/cdcl_x4", "io")
    lq = io["lq"].contiguous(memory_format=memory_format)
    with torch.inference_mode():
        sr, known = model(lq, knowledge=["idr"])
        idr = model.estimator(lq)
    torch.testing.assert_close(idr, io["idr"], atol=1e-4, rtol=0)
    torch.testing.assert_close(known["idr"], io["idr_vector"], atol=1e-4, rtol=0)
    torch.testing.assert_close(sr, io["sr"], atol=1e-4, rtol=0)


def test_published_size():
    with torch.device("meta"):
        model = BlindSR({"type": "CdCLEncoder"}, {"type": "CdCLNet"})
    of_training = ("estimator.projector.", "estimator.predictor.")
    used = [p.numel() for name, p in model.named_parameters() if not name.startswith(of_training)]
    assert sum(used) / 1e6 == pytest.approx(2.914, abs=1e-3)
    assert sum(p.numel() for p in model.restorer.parameters()) / 1e6 == pytest.approx(1.766, abs=5e-4)


def test_guides_of_an_image_whose_sides_4_does_not_divide():
    torch.manual_seed(0)
    net = CdCLNet(num_feat=8, num_group=1, num_block=1, idr_ch=32)
    idr = torch.randn(1, 32, 2, 3)
    guides = net.guides(idr, 7, 10)
    whole = net.refine(F.pixel_shuffle(idr, 4))
    assert whole.shape == (1, 2, 8, 12)
    assert torch.equal(guides["spatial_guide"], whole[:, :, :7, :10])
    torch.testing.assert_close(guides["channel_guide"], F.gelu(idr.mean(dim=(2, 3)) @ net.compress.weight.T))


def test_a_vector_guides_like_a_map_that_is_the_same_everywhere():
    torch.manual_seed(0)
    net = CdCLNet(num_feat=8, num_group=1, num_block=1, idr_ch=16)
    vector = torch.randn(2, 16)
    by_map = net.guides(vector[:, :, None, None].expand(-1, -1, 2, 2), 8, 8)
    torch.testing.assert_close(net.guides(vector, 8, 8), by_map)


def test_a_degradation_convolution_sums_a_channel_and_a_spatial_branch():
    torch.manual_seed(0)
    conv = DegradationConv(8, 2).double()
    x = torch.rand(2, 8, 6, 5, dtype=torch.double)
    channel, spatial = torch.randn(2, 8, dtype=torch.double), torch.randn(2, 2, 6, 5, dtype=torch.double)
    narrow, wide = (conv.channel_gate[i].weight for i in (0, 2))
    assert narrow.shape == (2, 8)
    gate = sum(F.gelu(v @ narrow.T) @ wide.T for v in (x.mean(dim=(2, 3)), channel)).sigmoid()
    pointwise, depthwise = conv.conv
    by_channel = F.conv2d(x * gate.view(2, 8, 1, 1), pointwise.weight, pointwise.bias)
    by_channel = F.conv2d(by_channel, depthwise.weight, depthwise.bias, padding=1, groups=8)
    first, _, last = conv.spatial_gate
    by_pixel = x * last(F.gelu(first(spatial))).sigmoid()
    torch.testing.assert_close(conv(x, channel, spatial), by_channel + by_pixel)


def test_a_block_is_a_convnext_block_behind_the_degradation_convolution():
    torch.manual_seed(0)
    block = CdCLBlock(8, 2)
    assert block.layer_scale.tolist() == pytest.approx([1e-6] * 8)
    torch.nn.init.normal_(block.layer_scale)
    x, channel, spatial = torch.rand(2, 8, 6, 5), torch.randn(2, 8), torch.randn(2, 2, 6, 5)
    y = block.dwconv(F.gelu(block.da_conv(x, channel, spatial))).permute(0, 2, 3, 1)
    y = block.layer_scale * block.reduce(F.gelu(block.expand(F.layer_norm(y, (8,), *block.norm.parameters(), 1e-6))))
    torch.testing.assert_close(block(x, channel, spatial), x + y.permute(0, 3, 1, 2))


def test_an_idr_that_cannot_be_shuffled_is_refused():
    with pytest.raises(ValueError, match=r"idr_ch must be a multiple of 16, not 24"):
        CdCLNet(idr_ch=24)
