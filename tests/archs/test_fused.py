"""Fused operations compared with separate ones, with and without oneDNN."""

import pytest
import torch
from torch.nn import functional as F

from lightbsr_arch.archs.fast import fused
from lightbsr_arch.archs.fast.idr_block import run_convnext_block, run_idr_block
from lightbsr_arch.archs.idr_block import ConvNeXtBlock, IDRBlock

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@pytest.fixture(params=[True, False], ids=["fused", "plain"], autouse=True)
def onednn(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(fused, "_available", lambda dtype: False)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@torch.inference_mode()
def test_operations(dtype, memory_format):
    torch.manual_seed(0)
    images, weight, bias = torch.randn(2, 16, 6, 7), torch.randn(24, 16, 3, 3) * 0.1, torch.randn(24)
    image, gate, narrow = images[1:, :, 1:5], torch.rand(16), torch.randn(24, 16, 1, 1) * 0.3
    given = images.to(dtype, memory_format=memory_format)
    rows = given[1:, :, 1:5]
    out = torch.ones(2, 24, 6, 7, dtype=dtype).contiguous(memory_format=memory_format)
    fused.add_conv1x1_(out[1:, :, 1:5], rows, narrow.to(dtype), bias.to(dtype))
    expected = torch.ones(2, 24, 6, 7)
    expected[1:, :, 1:5] += F.conv2d(image, narrow, bias)
    for ours, plain in (
        (
            fused.conv_gelu(given, weight.to(dtype), bias.to(dtype), 1),
            F.gelu(F.conv2d(images, weight, bias, padding=1)),
        ),
        (fused.gated_gelu(rows, gate.to(dtype)), F.gelu(image * gate[:, None, None])),
        (out, expected),
    ):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.float(), plain, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_weights_of_another_dtype_under_autocast():
    x, weight = torch.rand(1, 4, 5, 5), torch.rand(8, 4, 1, 1)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        ours = fused.conv_gelu(x.bfloat16(), weight)
    torch.testing.assert_close(ours.float(), F.gelu(F.conv2d(x, weight)), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("kind", [ConvNeXtBlock, IDRBlock])
def test_a_block_overwrites_its_input_only_when_told(kind, monkeypatch):
    monkeypatch.setattr("lightbsr_arch.archs.fast.row_strips.STRIP_BYTES", 2**11)
    torch.manual_seed(0)
    x = torch.randn(2, 16, 23, 9).contiguous(memory_format=torch.channels_last)
    if kind is IDRBlock:
        block, run, guides = IDRBlock(16, 2), run_idr_block, (torch.rand(2, 12), torch.rand(2, 2, 23, 9))
    else:
        block, run, guides = ConvNeXtBlock(16), run_convnext_block, ()
    torch.nn.init.normal_(block.layer_scale)
    trained = block(x, *guides).detach()  # with gradients, so it runs on the whole image and not in place
    with torch.inference_mode():
        given = x.clone()
        kept = run(block, given, *guides)
        assert torch.equal(given, x)
        torch.testing.assert_close(kept, trained, atol=1e-5, rtol=0)
        overwritten = run(block, given, *guides, overwrite=True)
        assert overwritten is given
        torch.testing.assert_close(given, trained, atol=1e-5, rtol=0)
