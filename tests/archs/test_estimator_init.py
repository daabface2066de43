"""Initial estimators ignore colour, and their IDR depends on the blur."""

from pathlib import Path

import pytest
import torch

from lightbsr_arch.analysis.idr import factor, read_idrs
from lightbsr_arch.analysis.measures import variance_shares
from lightbsr_arch.archs import BlindSR, KDIDEStudent, KDIDETeacher, LightIDEStudent, LightIDETeacher
from lightbsr_arch.data.gt_source import GTSource

PHOTOS = Path(__file__).parents[2] / "examples/photos/held_out"


def inside(x: torch.Tensor) -> torch.Tensor:
    """Return the output without the border, where the zeros of the padding have an effect."""
    return x[..., 1:-1, 1:-1]


def flat_colours() -> torch.Tensor:
    return torch.rand(4, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 8, 8)


@pytest.mark.parametrize(
    "estimator", [KDIDEStudent(num_feat=8), LightIDEStudent(num_feat=8)], ids=["KDIDE", "LightIDE"]
)
def test_a_student_does_not_see_flat_colours_at_first(estimator):
    first = estimator.features[0]
    assert inside(first(flat_colours()) - first.bias.view(1, -1, 1, 1)).abs().max() < 1e-6
    assert first(torch.rand(1, 3, 8, 8)).std() > 0.05


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_kdsrs_teacher_sees_the_difference_of_its_images_at_first(scale):
    teacher = KDIDETeacher(num_feat=8, scale=scale)
    lq = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    gt = lq.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    first = teacher.features[0]
    assert inside(first(teacher.estimator_input(lq, gt))).abs().max() < 1e-5
    gt[:, :, ::scale] += 0.1
    assert inside(first(teacher.estimator_input(lq, gt))).std() > 0.05


def test_lightbsrs_teacher_sees_the_prior_but_no_flat_colours_at_first():
    teacher = LightIDETeacher(num_feat=8)
    first = teacher.features[0]
    prior = torch.rand(4, 15, generator=torch.Generator().manual_seed(0))
    without, other = (teacher.estimator_input(lq, prior) for lq in (torch.zeros(4, 3, 8, 8), flat_colours()))
    torch.testing.assert_close(inside(first(without)), inside(first(other)), atol=1e-6, rtol=0)
    assert inside(first(without)).std(dim=0).max() > 0.01


@pytest.mark.parametrize("estimator", [KDIDEStudent, KDIDETeacher, LightIDEStudent, LightIDETeacher])
def test_pytorchs_own_start_can_be_had(estimator):
    weight = estimator(init="pytorch").features[0].weight
    # PyTorch draws uniformly up to 1 / sqrt(fan in).
    bound = weight[0].numel() ** -0.5
    assert 0.99 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_the_start_decides_whether_kdsr_sees_the_blur(role):
    """Return the share of the IDR's variance that the blur explains in fresh networks, on photos."""
    estimator = {"type": "KDIDETeacher", "scale": 4} if role == "teacher" else {"type": "KDIDEStudent"}
    models = {}
    for init in ("pytorch", "detail"):
        torch.manual_seed(0)
        restorer = {"type": "IDRDCRBNet", "num_feat": 16, "num_block": 1, "scale": 4}
        models[init] = BlindSR({**estimator, "num_feat": 16, "num_block": 2, "init": init}, restorer).eval()
    sigma = factor("sigma", 4, [0.5, 1.5, 2.5, 3.5])
    readings = read_idrs(models, [sigma], GTSource(str(PHOTOS), "disk"), 96, 2)
    shares = {init: variance_shares(vectors["sigma"])[0] for init, vectors in readings.vectors.items()}
    assert shares["pytorch"] < 0.001
    assert shares["detail"] > 0.01
