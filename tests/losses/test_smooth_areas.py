"""Smooth areas that losses of texture leave out, next to texture of known standard deviation."""

import pytest
import torch

from lightbsr_arch.losses.smooth_areas import SIDE, with_smooth_areas_of


def half_textured(contrast: float) -> torch.Tensor:
    """Return a grey image, 1 x 3 x 32 x 32, whose right half is a checkerboard of 0.5 +- ``contrast``."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    board = torch.where((x + y) % 2 == 0, contrast, -contrast) * (x >= 16)
    return (0.5 + board).expand(1, 3, 32, 32)


def test_only_smooth_areas_are_those_of_gt():
    gt, restored = half_textured(0.05), torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    result = with_smooth_areas_of(gt, restored, 0.025)
    far = 16 - SIDE // 2
    assert torch.equal(result[..., :far], gt[..., :far])
    assert torch.equal(result[..., 16:], restored[..., 16:])


@pytest.mark.parametrize(("contrast", "is_kept"), [(0.024, False), (0.026, True)])
def test_threshold_is_the_standard_deviation(contrast, is_kept):
    gt = half_textured(contrast)
    result = with_smooth_areas_of(gt, torch.zeros_like(gt), 0.025)
    assert torch.equal(result[..., 22:], torch.zeros(1, 3, 32, 10) if is_kept else gt[..., 22:])


def test_gradient_is_zero_in_smooth_areas_only():
    restored = torch.zeros(1, 3, 32, 32, requires_grad=True)
    with_smooth_areas_of(half_textured(0.05), restored, 0.025).sum().backward()
    assert restored.grad is not None
    assert restored.grad[..., :11].abs().max() == 0
    assert restored.grad[..., 16:].min() == 1
