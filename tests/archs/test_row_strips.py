"""Processing in strips returns the same result as processing the whole image."""

import pytest
import torch

from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.fast import row_strips


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(2, 8, 9), (1, 21, 13), (2, 40, 11)], ids=str)
def test_strips_of_any_height(size, scale, monkeypatch):
    torch.manual_seed(0)
    restorer = {"type": "LightBSRNet", "num_feat": 16, "num_group": 1, "num_block": 2, "idr_ch": 32, "scale": scale}
    model = BlindSR({"type": "LightIDEStudent", "num_feat": 8}, restorer).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale"):
            torch.nn.init.normal_(parameter)  # at the initial 1e-6, the residual of a block hardly affects the output
    n, height, width = size
    lq = torch.rand(n, 3, height, width)
    whole = model(lq).detach()  # with gradients, so it runs on the whole image
    for strip_bytes in (1, 2**12, 2**14, 2**30):
        monkeypatch.setattr(row_strips, "STRIP_BYTES", strip_bytes)
        with torch.inference_mode():
            torch.testing.assert_close(model(lq), whole, atol=1e-5, rtol=0)


def test_strips_cover_the_images_once(monkeypatch):
    monkeypatch.setattr(row_strips, "STRIP_BYTES", 16 * 3 * 7)
    images = torch.rand(2, 4, 50, 3)
    strips = row_strips.row_strips(images, 4, halo=3)
    assert len(strips) == 2 * 8
    for sample in range(2):
        parts = [strip.of(images) for strip in strips if strip.sample == sample]
        assert torch.equal(torch.cat(parts, dim=2), images[sample : sample + 1])
    for strip in strips:
        assert torch.equal(strip.without_halo(strip.with_halo(images, 3), 3), strip.of(images))


def test_no_strip_is_lower_than_the_halo(monkeypatch):
    # A block overwrites the rows of a strip after the next strip has read them, but before the one after that has.
    monkeypatch.setattr(row_strips, "STRIP_BYTES", 1)
    for height in (1, 3, 8, 50):
        strips = row_strips.row_strips(torch.rand(1, 4, height, 3), 4, halo=3)
        assert all(strip.stop - strip.start >= min(height, 3) for strip in strips)
        assert len(strips) == max(height // 3, 1)
