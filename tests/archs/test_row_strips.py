"""Working strip by strip gives what working on the whole image gives."""

import pytest
import torch

from lightbsr_arch.archs import BlindSR, row_strips
from lightbsr_arch.archs.upscale import conv_of_shuffled


@pytest.mark.parametrize("scale", [2, 3])
def test_the_tail_before_the_shuffle(scale):
    torch.manual_seed(0)
    x, conv = torch.rand(2, 8 * scale**2, 7, 9), torch.nn.Conv2d(8, 3, 3, padding=1)
    whole = conv(torch.nn.functional.pixel_shuffle(x, scale))
    torch.testing.assert_close(conv_of_shuffled(x, scale, conv), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(2, 8, 9), (1, 21, 13), (2, 40, 11)], ids=str)
def test_strips_of_any_height(size, scale, monkeypatch):
    torch.manual_seed(0)
    restorer = {"type": "LightBSRNet", "num_feat": 16, "num_group": 1, "num_block": 2, "idr_ch": 32, "scale": scale}
    model = BlindSR({"type": "LightIDEStudent", "num_feat": 8}, restorer).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale"):
            torch.nn.init.normal_(parameter)  # at its initial 1e-6 a block's residual would hide
    n, height, width = size
    lq = torch.rand(n, 3, height, width)
    whole = model(lq).detach()  # with gradients, hence in one piece
    for strip_bytes in (1, 2**12, 2**14, 2**30):
        monkeypatch.setattr(row_strips, "STRIP_BYTES", strip_bytes)
        with torch.inference_mode():
            torch.testing.assert_close(model(lq), whole, atol=1e-5, rtol=0)


def test_strips_cover_the_image_once(monkeypatch):
    monkeypatch.setattr(row_strips, "STRIP_BYTES", 16 * 3 * 7)
    image = torch.rand(1, 4, 50, 3)
    with torch.inference_mode():
        strips = row_strips.row_strips(image, 4)
    assert len(strips) == 8
    assert torch.equal(torch.cat([strip.of(image) for strip in strips], dim=2), image)
    for strip in strips:
        assert torch.equal(strip.without_halo(strip.with_halo(image, 3), 3), strip.of(image))
