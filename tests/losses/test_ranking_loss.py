"""MM-RealSR's losses of degrees compared with values computed by hand."""

import pytest
import torch
from basicsr.losses import build_loss

from lightbsr_arch.losses import DegreeRankingLoss
from lightbsr_arch.losses.ranking_loss import with_exact_anchors

# Two images in five versions: mild, more blur, more noise, clean and worst. Each has the degrees of blur and noise.
DEGREES = torch.tensor(
    [
        [[0.50, 0.30], [0.40, 0.90], [0.90, 0.33], [0.10, 0.20], [0.70, 1.00]],
        [[0.20, 0.60], [0.60, 0.00], [0.00, 0.60], [0.00, 0.00], [1.00, 0.60]],
    ]
)


def test_ranking_and_anchors_by_hand():
    loss = build_loss({"type": "DegreeRankingLoss", "loss_weight": 2.0, "rank_weight": 1.0, "anchor_weight": 10.0})
    blur = [0.50 - 0.40 + 0.05, 0.0]
    noise = [0.30 - 0.33 + 0.05, 0.60 - 0.60 + 0.05]
    anchors = (0.10**2 + 0.20**2) / 2 + (0.30**2 + 0.40**2) / 2
    wanted = 2 * ((sum(blur) + sum(noise)) / 2 + 10 * anchors)
    assert loss(DEGREES.flatten(0, 1)).item() == pytest.approx(wanted, abs=1e-6)


def test_the_gradient_pushes_the_degrees_apart_and_the_anchors_outwards():
    degrees = DEGREES.flatten(0, 1).clone().requires_grad_()
    DegreeRankingLoss()(degrees).backward()
    gradient = degrees.grad.view(2, 5, 2)
    # A ranked pair: 0.01 over two images. An anchor: 1e-4 * 2 * distance over two images.
    assert gradient[0, 0].tolist() == pytest.approx([0.005, 0.005])
    assert gradient[0, 1].tolist() == pytest.approx([-0.005, 0])
    assert gradient[0, 2].tolist() == pytest.approx([0, -0.005])
    assert gradient[0, 3].tolist() == pytest.approx([0.1 * 1e-4, 0.2 * 1e-4])
    assert gradient[0, 4].tolist() == pytest.approx([-0.3 * 1e-4, 0])
    assert gradient[1, 0].tolist() == pytest.approx([0, 0.005])  # blur is apart by more than the margin


def test_the_anchors_are_restored_under_exact_degrees():
    exact = with_exact_anchors(DEGREES.flatten(0, 1)).view(2, 5, 2)
    assert torch.equal(exact[:, :3], DEGREES[:, :3])
    assert exact[:, 3].eq(0).all()
    assert exact[:, 4].eq(1).all()


def test_one_kind_of_degradation_has_four_versions():
    degrees = torch.tensor([[0.4], [0.42], [0.0], [1.0]])
    assert DegreeRankingLoss(rank_weight=1.0)(degrees).item() == pytest.approx(0.03)


def test_a_batch_that_is_no_multiple_of_the_versions_is_refused():
    with pytest.raises(ValueError, match=r"12 images are not 5 versions of each"):
        DegreeRankingLoss()(torch.rand(12, 2))
