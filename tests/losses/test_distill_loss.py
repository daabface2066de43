"""The distillation loss compared with its recorded value, and its properties."""

import pytest
import torch
from basicsr.losses import build_loss

from lightbsr_arch.losses import KDSRDistillLoss, LightBSRDistillLoss
from tests.golden import golden, needs_golden


@needs_golden
def test_kdsr_loss_is_the_recorded_one():
    kd = golden("losses_and_degradations", "kd")
    loss = KDSRDistillLoss()({"idr": kd["student"]}, {"idr": kd["teacher"]})
    torch.testing.assert_close(loss, kd["kdsr_loss"].view(()), atol=1e-4, rtol=0)


def test_zero_where_they_agree_and_a_mean_over_the_batch():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 8), torch.randn(2, 8)
    loss = build_loss({"type": "KDSRDistillLoss", "loss_weight": 2.0})
    assert loss({"idr": teacher}, {"idr": teacher}).abs() < 1e-6
    single = [loss({"idr": s[None]}, {"idr": t[None]}) for s, t in zip(student, teacher, strict=True)]
    torch.testing.assert_close(loss({"idr": student}, {"idr": teacher}), sum(single) / 2)
    p, q = (teacher / 0.15).softmax(1), (student / 0.15).softmax(1)
    torch.testing.assert_close(loss({"idr": student}, {"idr": teacher}), 2 * (p * (p / q).log()).sum(1).mean())


@needs_golden
def test_lightbsr_loss_is_the_recorded_one():
    kd = golden("losses_and_degradations", "kd")
    student, teacher = (
        {"channel_guide": kd[role], "spatial_guide": kd[f"map_{role}"]} for role in ("student", "teacher")
    )
    channel, spatial = kd["lightbsr_channel_loss"].view(()), kd["lightbsr_spatial_loss"].view(())
    torch.testing.assert_close(LightBSRDistillLoss()(student, teacher), channel + spatial, atol=1e-4, rtol=0)
    alone = LightBSRDistillLoss(spatial_weight=0.0, loss_weight=2.0)(student, teacher)
    torch.testing.assert_close(alone, 2 * channel, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("loss", "name"),
    [(KDSRDistillLoss, "idr"), (LightBSRDistillLoss, "channel_guide")],
    ids=["KDSR", "LightBSR"],
)
def test_the_l1_distance_can_replace_the_kl_divergence(loss, name):
    torch.manual_seed(0)
    same = {"spatial_guide": torch.rand(2, 1, 4, 4)}
    student, teacher = ({name: torch.randn(2, 8), **same} for _ in range(2))
    l1 = (student[name] - teacher[name]).abs().mean()
    torch.testing.assert_close(loss(kl_weight=0.0, l1_weight=3.0, loss_weight=2.0)(student, teacher), 6 * l1)
    both = loss(kl_weight=0.5, l1_weight=1.0)(student, teacher)
    torch.testing.assert_close(both, 0.5 * loss(l1_weight=0.0)(student, teacher) + l1)
