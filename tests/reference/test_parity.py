"""Our networks, losses and resizing against plain versions written from the papers, on any clone.

``recorded.safetensors`` holds outputs of the plain versions, so that they cannot change along with the package.
``python -m tests.reference.record`` writes it. ``test_published.py`` proves the plain versions by the recorded outputs
of the published networks.
"""

import cv2
import numpy as np
import pytest
import torch
from basicsr.losses import build_loss
from safetensors.torch import load_file

from lightbsr_arch.archs import SRMDNet
from lightbsr_arch.archs.part import in_our_names
from lightbsr_arch.checkpoint import recognise
from lightbsr_arch.degradations import Draws, Parameters, bicubic_resize, gaussian_kernels
from lightbsr_arch.degradations.classical import degrade
from tests.reference import kdsr, lightbsr
from tests.reference.systems import RECORDED, SYSTEMS, Outputs, System

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
IMAGE = {"atol": 1e-4, "rtol": 1e-4}


def outputs(system: System, scale: int) -> Outputs:
    """Outputs of the package's network with the published weights, by the names of the plain version's."""
    state, (lq, *extra) = dict(system.weights(scale)), system.inputs(scale)
    if system.network is None:
        state = in_our_names(state, SRMDNet)
        net = SRMDNet(**SRMDNet.from_state(state))
        net.load_state_dict(state)
        return {"sr": net(lq, net.guides(*extra, *lq.shape[2:]))}
    checkpoint = recognise(state, "published")
    assert checkpoint.network == system.network(scale)
    model = checkpoint.build()
    sr, known = model(lq, *extra, knowledge=[*system.knowledge])
    return {
        system.idr: model.estimator(lq, *extra),
        **{system.knowledge[name]: value for name, value in known.items()},
        "sr": sr,
    }


def compare(found: Outputs, wanted: Outputs) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.detach(), wanted[name], **(IMAGE if name == "sr" else CLOSE))


@pytest.mark.parametrize("gradients", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name, one in SYSTEMS.items() for scale in one.scales])
def test_networks(name, scale, gradients):
    with torch.set_grad_enabled(gradients):
        found = outputs(SYSTEMS[name], scale)
    compare(found, SYSTEMS[name].outputs(scale))


@pytest.mark.parametrize("name", SYSTEMS)
def test_recorded_outputs(name):
    system, recorded = SYSTEMS[name], load_file(RECORDED)
    wanted = {key.removeprefix(f"{name}."): value for key, value in recorded.items() if key.startswith(f"{name}.")}
    with torch.no_grad():
        compare(outputs(system, system.scales[0]), wanted)


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


def test_blur_is_reflected_and_noise_is_added_before_rounding():
    gt = torch.rand(1, 3, 24, 36, generator=torch.Generator().manual_seed(0))
    kernel = gaussian_kernels(*torch.tensor([[2.6], [1.2], [0.5]]))
    ours = degrade(gt, Parameters(kernel, torch.tensor([9.0])), 2, draws=Draws(torch.Generator().manual_seed(1)))
    blurred = cv2.filter2D(gt[0].permute(1, 2, 0).double().numpy(), -1, kernel[0].double().numpy())  # without the edge
    rows, columns = (resize_matrix(side, 1 / 2) for side in gt.shape[2:])
    small = np.einsum("oh,hwc,pw->cop", rows, blurred, columns)
    noise = torch.randn(1, 1, *ours.shape[1:], generator=torch.Generator().manual_seed(1))[0, 0].numpy()
    wanted = (255 * small + 9 * noise).round().clip(0, 255)
    difference = np.abs(255 * ours[0].numpy() - wanted)
    assert difference.max() < 1.01
    assert (difference > 0.01).mean() < 0.005  # numbers that end with a half


@pytest.mark.parametrize("factor", [1 / 2, 1 / 3, 1 / 4, 2, 4], ids=lambda factor: f"x{factor:.2f}")
def test_resize_up_to_the_edge(factor):
    image = torch.rand(1, 3, 24, 36, generator=torch.Generator().manual_seed(0))
    rows, columns = (torch.from_numpy(resize_matrix(side, factor)).float() for side in image.shape[2:])
    wanted = rows @ image @ columns.T
    torch.testing.assert_close(bicubic_resize(image, factor), wanted, **CLOSE)
