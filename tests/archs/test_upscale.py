"""Upsampler and tail in fewer steps return the same result as the layers."""

import pytest
import torch
from basicsr.archs.arch_util import Upsample

from lightbsr_arch.archs.fast import upscale as module
from lightbsr_arch.archs.fast.upscale import conv_of_shuffled, upscale


@pytest.mark.parametrize("scale", [2, 3])
def test_the_tail_before_the_shuffle(scale):
    torch.manual_seed(0)
    x, conv = torch.rand(2, 8 * scale**2, 7, 9), torch.nn.Conv2d(8, 3, 3, padding=1)
    whole = conv(torch.nn.functional.pixel_shuffle(x, scale))
    torch.testing.assert_close(conv_of_shuffled(x, scale, conv), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(30, 31), (21, 60), (6, 9)], ids=str)  # the last one is too small to merge
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=str)
def test_all_layers_as_one_convolution(scale, size, dtype, atol, monkeypatch):
    torch.manual_seed(0)
    upsample, tail = Upsample(scale, 8), torch.nn.Conv2d(8, 3, 3, padding=1)
    x = torch.rand(2, 8, *size)
    with torch.no_grad():
        for bias in (tail.bias, *(layer.bias for layer in upsample if hasattr(layer, "bias"))):
            bias.add_(1)  # the padding between the layers has no bias, so errors at the border would be visible
        whole = tail(upsample(x))
        merged = []
        as_one = module._as_one_convolution
        monkeypatch.setattr(module, "_as_one_convolution", lambda *args: merged.append(True) or as_one(*args))
        ours = upscale(x.to(dtype), upsample.to(dtype), tail.to(dtype)).float()
    assert bool(merged) == (size != (6, 9))
    torch.testing.assert_close(ours, whole, atol=atol, rtol=atol)
