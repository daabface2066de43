"""MRDA's networks compared with the outputs of the published ones, and with plain references."""

import pytest
import torch
from torch.nn import functional as F

from lightbsr_arch.archs import BlindSR, MRDAEncoder
from lightbsr_arch.archs.mrda_arch import RDAConv
from tests.archs.published import published
from tests.golden import golden, needs_family


@needs_family
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_outputs_are_those_of_the_published_network(memory_format):
    model = published("mrda_x4").to(memory_format=memory_format)
    assert model.config["estimator"]["type"] == "MRDAEncoder"
    assert model.config["restorer"] == {
        "type": "RDANet", "num_feat": 64, "num_block": 3, "idr_ch": 256, "scale": 4,
    }  # fmt: skip
    io = golden("family/mrda_x4", "io")
    with torch.inference_mode():
        sr, known = model(io["lq"].contiguous(memory_format=memory_format), knowledge=["idr"])
    torch.testing.assert_close(known["idr"], io["idr"], atol=1e-4, rtol=0)
    torch.testing.assert_close(sr, io["sr"], atol=1e-4, rtol=0)


def test_published_sizes():
    with torch.device("meta"):
        model = BlindSR({"type": "MRDAEncoder"}, {"type": "RDANet"})
    millions = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (model.estimator, model.restorer)]
    assert millions == pytest.approx([1.277, 4.562], abs=5e-4)


def test_the_encoder_is_six_convolutions_and_a_perceptron():
    torch.manual_seed(0)
    encoder = MRDAEncoder(num_feat=2)
    lq = torch.rand(2, 3, 9, 10)
    x = lq
    for layer, stride in zip((0, 2, 4, 6, 8, 10), (1, 1, 2, 1, 2, 1), strict=True):
        conv = encoder.features[layer]
        x = F.leaky_relu(F.conv2d(x, conv.weight, conv.bias, stride, 1), 0.1)
    assert x.shape == (2, 8, 3, 3)
    first, _, second = encoder.mlp
    wanted = second(F.leaky_relu(first(x.mean(dim=(2, 3))), 0.1))
    torch.testing.assert_close(encoder(lq), wanted)


def test_a_region_aware_convolution_leaves_its_input_where_the_mask_is_zero():
    torch.manual_seed(0)
    conv = RDAConv(4)
    x, vector = torch.rand(2, 4, 6, 5), torch.randn(2, 4)
    with torch.no_grad():
        conv.mask.weight.copy_(torch.tensor([1e4, 0, 0, 0]).view(1, 4, 1, 1))
        conv.mask.bias.fill_(-1e4 * 0.5)
    is_masked = x[:, :1] < 0.5
    out = conv(x, vector)
    convolved = F.leaky_relu(conv.ddc(x, vector), 0.1)
    torch.testing.assert_close(out, torch.where(is_masked, x, x + convolved))
    assert 10 < is_masked.sum() < 50
