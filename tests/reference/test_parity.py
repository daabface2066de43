"""Networks, losses and resizing compared with plain versions that are written from the papers."""

import numpy as np
import pytest
import torch
from basicsr.losses import build_loss

from lightbsr_arch.checkpoint import recognise
from lightbsr_arch.degradations import bicubic_resize
from tests.reference import kdsr, lightbsr

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def example(scale: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a low-quality batch whose sides are not multiples of 4, and an unrelated ground truth."""
    generator = torch.Generator().manual_seed(0)
    lq = torch.rand(2, 3, 9, 14, generator=generator)
    return lq, torch.rand(2, 3, 9 * scale, 14 * scale, generator=generator)


@pytest.mark.parametrize("gradients", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("teacher", [False, True], ids=["student", "teacher"])
def test_kdsr(teacher, scale, gradients):
    weights = kdsr.weights(scale, teacher)
    checkpoint = recognise(dict(weights), "published")
    assert checkpoint.network == {
        "estimator": {
            "type": "KDIDETeacher" if teacher else "KDIDEStudent",
            "num_feat": kdsr.CHANNELS,
            "num_block": kdsr.ESTIMATOR_BLOCKS,
            **({"scale": scale} if teacher else {}),
        },
        "restorer": {"type": "IDRDCRBNet", "num_feat": kdsr.CHANNELS, "num_block": kdsr.BLOCKS, "scale": scale},
    }
    lq, gt = example(scale)
    extra = [gt] if teacher else []
    model = checkpoint.build()
    with torch.set_grad_enabled(gradients):
        sr, known = model(lq, *extra, knowledge=["idr"])
        ours = model.estimator(lq, *extra)
    idr, distilled = kdsr.estimate(weights, lq, *(extra or [None]))
    torch.testing.assert_close(ours.detach(), idr, **CLOSE)
    torch.testing.assert_close(known["idr"].detach(), distilled, **CLOSE)
    torch.testing.assert_close(sr.detach(), kdsr.restore(weights, lq, idr), **CLOSE)


@pytest.mark.parametrize("gradients", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("teacher", [False, True], ids=["student", "teacher"])
def test_lightbsr(teacher, scale, gradients):
    weights = lightbsr.weights(scale, teacher)
    checkpoint = recognise(dict(weights), "published")
    prior = {"num_kernel_ch": 15, "num_noise_ch": 3, "kernel_size": 21} if teacher else {}
    assert checkpoint.network == {
        "estimator": {
            "type": "LightIDETeacher" if teacher else "LightIDEStudent",
            "num_feat": lightbsr.WIDTH,
            **prior,
        },
        "restorer": {
            "type": "LightBSRNet",
            "num_feat": lightbsr.CHANNELS,
            "num_group": lightbsr.GROUPS,
            "num_block": lightbsr.BLOCKS,
            "idr_ch": lightbsr.IDR,
            "scale": scale,
        },
    }
    lq, _ = example(scale)
    numbers = torch.randn(2, lightbsr.PRIOR, generator=torch.Generator().manual_seed(1))
    extra = [numbers] if teacher else []
    names = ["channel_guide", "spatial_guide", *(["embedding"] if teacher else [])]
    model = checkpoint.build()
    with torch.set_grad_enabled(gradients):
        sr, known = model(lq, *extra, knowledge=names)
        ours = model.estimator(lq, *extra)
    idr, embedding = lightbsr.estimate(weights, lq, *(extra or [None]))
    channel, spatial = lightbsr.guides(weights, idr, *lq.shape[2:])
    torch.testing.assert_close(ours.detach(), idr, **CLOSE)
    torch.testing.assert_close(known["channel_guide"].detach(), channel, **CLOSE)
    torch.testing.assert_close(known["spatial_guide"].detach(), spatial, **CLOSE)
    if teacher:
        torch.testing.assert_close(known["embedding"].detach(), embedding, **CLOSE)
    torch.testing.assert_close(sr.detach(), lightbsr.restore(weights, lq, channel, spatial), atol=1e-4, rtol=1e-4)


def test_distillation_losses():
    generator = torch.Generator().manual_seed(0)
    channels = [torch.randn(3, 12, generator=generator) for _ in range(2)]
    spatials = [torch.randn(3, 2, 5, 6, generator=generator) for _ in range(2)]
    ours = build_loss({"type": "KDSRDistillLoss"})({"idr": channels[0]}, {"idr": channels[1]})
    torch.testing.assert_close(ours, kdsr.distill_loss(*channels), **CLOSE)
    student, teacher = ({"channel_guide": c, "spatial_guide": s} for c, s in zip(channels, spatials, strict=True))
    ours = build_loss({"type": "LightBSRDistillLoss"})(student, teacher)
    wanted = lightbsr.distill_loss((channels[0], spatials[0]), (channels[1], spatials[1]))
    torch.testing.assert_close(ours, wanted, **CLOSE)


def cubic(x: np.ndarray) -> np.ndarray:
    """Return the bicubic kernel with a = -0.5."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def resize_matrix(size: int, factor: float) -> np.ndarray:
    """Resize one axis as in MATLAB's imresize, with antialiasing. The last pixel is repeated beyond the edge."""
    out = round(size * factor)
    stretch = min(factor, 1.0)
    matrix = np.zeros((out, size))
    for row in range(out):
        centre = (row + 0.5) / factor - 0.5
        places = np.arange(np.floor(centre - 2 / stretch) - 1, np.ceil(centre + 2 / stretch) + 2).astype(int)
        values = cubic((places - centre) * stretch)
        for place, value in zip(places, values / values.sum(), strict=True):
            matrix[row, min(max(place, 0), size - 1)] += value
    return matrix


@pytest.mark.parametrize("factor", [1 / 2, 1 / 3, 1 / 4, 2, 4], ids=lambda factor: f"x{factor:.2f}")
def test_resize_up_to_the_edge(factor):
    image = torch.rand(1, 3, 24, 36, generator=torch.Generator().manual_seed(0))
    rows, columns = (torch.from_numpy(resize_matrix(side, factor)).float() for side in image.shape[2:])
    wanted = rows @ image @ columns.T
    torch.testing.assert_close(bicubic_resize(image, factor), wanted, **CLOSE)
