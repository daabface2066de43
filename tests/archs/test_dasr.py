"""DASR's networks compared with the outputs of the published ones, and with plain references."""

import pytest
import torch
from torch.nn import functional as F

from lightbsr_arch.archs import BlindSR, DASREncoder, DASRNet
from lightbsr_arch.archs.dasr_arch import DABlock, DAConv
from tests.archs.published import published
from tests.golden import golden, needs_family


@needs_family
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_outputs_are_those_of_the_published_network(memory_format):
    model = published("dasr_x4").to(memory_format=memory_format)
    assert model.config["estimator"]["type"] == "DASREncoder"
    assert model.config["restorer"] == {
        "type": "DASRNet", "num_feat": 64, "num_group": 2, "num_block": 5, "idr_ch": 256, "scale": 4,
    }  # fmt: skip
    io = golden("family/dasr_x4", "io")
    with torch.inference_mode():
        sr, known = model(io["lq"].contiguous(memory_format=memory_format), knowledge=["idr", "embedding"])
    torch.testing.assert_close(known["idr"], io["idr"], atol=1e-4, rtol=0)
    torch.testing.assert_close(known["embedding"], io["embedding"], atol=1e-4, rtol=0)
    torch.testing.assert_close(sr, io["sr"], atol=1e-4, rtol=0)


def test_published_size():
    with torch.device("meta"):
        model = BlindSR({"type": "DASREncoder"}, {"type": "DASRNet"})
    # The paper does not count the layers that only the contrast uses.
    used = [p.numel() for name, p in model.named_parameters() if ".mlp." not in name]
    assert sum(used) / 1e6 == pytest.approx(5.838, abs=5e-4)
    assert sum(p.numel() for p in model.estimator.features.parameters()) / 1e6 == pytest.approx(1.147, abs=5e-4)


def test_the_restorer_works_on_0_to_255():
    torch.manual_seed(0)
    net = DASRNet(num_feat=8, num_group=1, num_block=1, idr_ch=16, scale=3).eval().double()
    lq, idr = torch.rand(2, 3, 7, 5, dtype=torch.double), torch.randn(2, 16, dtype=torch.double)
    mean = torch.tensor([0.4488, 0.4371, 0.4040], dtype=torch.double).view(1, 3, 1, 1)
    head = net.head(255 * lq - 255 * mean)
    vector = F.leaky_relu(idr @ net.compress.weight.T, 0.1)
    (group,) = net.body
    x = head + net.after_body(head + group.conv(group.body[0](head, vector)))
    wanted = (net.tail(F.pixel_shuffle(net.upsample[0](x), 3)) + 255 * mean) / 255
    torch.testing.assert_close(net(lq, net.guides(idr, 7, 5)), wanted, atol=1e-6, rtol=0)  # the mean is fp32


def test_the_encoder_works_on_0_to_255():
    torch.manual_seed(0)
    encoder = DASREncoder(num_feat=4).eval()
    lq = torch.rand(2, 3, 9, 10)
    idr, known = encoder.estimate(lq)
    assert idr.shape == (2, 16)
    torch.testing.assert_close(idr, encoder.features(255 * lq).mean(dim=(2, 3)))
    assert known["idr"] is idr
    torch.testing.assert_close(known["embedding"], encoder.mlp(idr))


def test_a_degradation_aware_convolution_is_a_depthwise_kernel_and_a_gate_for_each_sample():
    torch.manual_seed(0)
    conv = DAConv(8).double()
    x, vector = torch.rand(2, 8, 6, 5, dtype=torch.double), torch.randn(2, 8, dtype=torch.double)
    weights = {name: parameter.flatten(1) for name, parameter in conv.named_parameters() if parameter.dim() > 1}
    for n in range(2):
        kernel = F.leaky_relu(vector[n] @ weights["ddc.kernel.0.weight"].T, 0.1) @ weights["ddc.kernel.2.weight"].T
        convolved = F.conv2d(x[n : n + 1], kernel.view(8, 1, 3, 3), padding=1, groups=8)
        mixed = F.conv2d(F.leaky_relu(convolved, 0.1), conv.conv.weight, conv.conv.bias)
        gate = (F.leaky_relu(vector[n] @ weights["gate.0.weight"].T, 0.1) @ weights["gate.2.weight"].T).sigmoid()
        wanted = mixed + x[n] * gate.view(8, 1, 1)
        torch.testing.assert_close(conv(x, vector)[n : n + 1], wanted)


def test_a_block_alternates_dynamic_and_plain_convolutions():
    class Shift(torch.nn.Module):
        def __init__(self, num_feat):
            super().__init__()

        def forward(self, x, vector):
            return x + vector[:, :, None, None]

    block = DABlock(2, Shift)
    with torch.no_grad():
        for conv in (block.conv1, block.conv2):
            conv.bias.zero_()
            conv.weight.zero_()
            conv.weight[:, :, 1, 1] = torch.eye(2)
    x, vector = torch.tensor([[1.0, -4.0]]), torch.tensor([[1.0, 2.0]])
    # 1 -> 2 -> 2 -> 3 -> 3; -4 -> -0.2 -> -0.02 -> 1.98 -> 1.98
    wanted = torch.tensor([[1 + 3.0, -4 + 1.98]])
    torch.testing.assert_close(block(x[:, :, None, None], vector)[:, :, 0, 0], wanted)


def test_a_pixel_reaches_no_further_than_the_convolutions():
    torch.manual_seed(0)
    net = DASRNet(num_feat=8, num_group=1, num_block=1, idr_ch=16, scale=2).eval()
    # Head, two dynamic and two plain convolutions, group, body: 7; the upsampler and the tail another 2.
    reach = 7 + 2
    guides = net.guides(torch.randn(1, 16), 32, 4)
    lq = torch.rand(1, 3, 32, 4)
    other = lq.clone()
    other[:, :, 0] += 1
    difference = (net(lq, guides) - net(other, guides)).abs().amax(dim=(0, 1, 3))
    assert difference[2 * (reach + 1) :].max() == 0
    assert difference[: 2 * reach].min() > 0
