"""Mixtures of degradations."""

from copy import deepcopy
from typing import Any

import pytest
import torch

from lightbsr.errors import UserError
from lightbsr_arch.degradations import ClassicalDegradation, MixedDegradation, build_degradation
from lightbsr_arch.degradations.usm import usm_sharp
from tests.degradations.test_second_order import draws, pictures

BLUR = {"type": "ClassicalDegradation", "sigma": [2.0, 2.0]}
NOISE = {"type": "ClassicalDegradation", "sigma": [0.2, 0.2], "noise": [50.0, 50.0]}
SECOND_ORDER = {"type": "SecondOrderDegradation", "gt_usm": True}


def test_the_parts_are_drawn_with_their_odds() -> None:
    mixed = build_degradation({"type": "MixedDegradation", "parts": [BLUR, NOISE, BLUR], "prob": [1, 3, 0]}, 4)
    gt = torch.full((2, 3, 48, 48), 0.5)
    noisy = [bool(mixed(gt, draws(seed)).lq.std() > 0.1) for seed in range(200)]
    assert 0.68 < sum(noisy) / 200 < 0.82  # 3 of 4, within 2.3 standard deviations


def test_a_part_alone_gives_what_it_gives() -> None:
    gt = pictures(2, 96)
    mixed = MixedDegradation(4, [BLUR], [1])(gt, draws())
    assert torch.equal(mixed.lq, ClassicalDegradation(4, sigma=(2.0, 2.0))(gt, draws()).lq)  # its blur is not random
    assert mixed.parameters is None


def test_crops_of_pairs_match_and_sharpened_and_plain_ground_truth_are_kept_apart() -> None:
    gt = pictures(2, 120)
    mixed = MixedDegradation(4, [BLUR, SECOND_ORDER], [1, 1], gt_size=80)
    sharpened = 0
    for seed in range(8):
        degraded = mixed(gt, draws(seed))
        assert (degraded.lq.shape, degraded.gt.shape) == ((2, 3, 20, 20), (2, 3, 80, 80))
        small = torch.nn.functional.interpolate(degraded.gt_plain, size=(20, 20), mode="area")
        assert torch.corrcoef(torch.stack([degraded.lq.flatten(), small.flatten()]))[0, 1] > 0.6
        if not torch.equal(degraded.gt, degraded.gt_plain):
            sharpened += 1
            inner = (slice(None), slice(None), slice(25, -25), slice(25, -25))
            torch.testing.assert_close(degraded.gt[inner], usm_sharp(degraded.gt_plain)[inner], atol=2e-3, rtol=0)
    assert 0 < sharpened < 8


def test_the_pool_mixes_the_parts_within_a_batch_and_is_resumed() -> None:
    def mixture() -> MixedDegradation:
        return MixedDegradation(4, [BLUR, NOISE], [1, 1], gt_size=32, queue_size=16)

    whole, gt = mixture(), torch.full((4, 3, 48, 48), 0.5)
    both = 0
    for seed in range(12):
        noisy = whole(gt, draws(seed)).lq.std((1, 2, 3)) > 0.1
        both += bool(noisy.any() and not noisy.all())
    assert both > 4
    resumed = mixture()
    resumed.load_state_dict(deepcopy(whole.state_dict()))
    assert torch.equal(resumed(gt, draws(50)).lq, whole(gt, draws(50)).lq)


def test_neighbours_of_a_group_stay_together_in_the_pool() -> None:
    mixed = MixedDegradation(4, [BLUR, NOISE], [1, 1], queue_size=16)
    gt = torch.full((4, 3, 48, 48), 0.5)
    for seed in range(12):
        first, second, third, fourth = (mixed(gt, draws(seed, group=2)).lq.std((1, 2, 3)) > 0.1).tolist()
        assert first == second
        assert third == fourth


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"parts": [BLUR, NOISE], "prob": [1]}, r"degradation\.prob: 1 numbers for 2 parts"),
        ({"parts": [BLUR], "prob": [0]}, r"degradation\.prob: all odds are 0"),
        ({"parts": [BLUR], "prob": [1], "gt_size": 30}, r"gt_size: 30 is not a multiple of the scale, 4"),
        (
            {"parts": [BLUR, {**SECOND_ORDER, "queue_size": 8}], "prob": [1, 1]},
            r"degradation\.parts\[1\]\.queue_size: expected beside `parts`, where it applies to all of them",
        ),
        (
            {"parts": [{**SECOND_ORDER, "kernel_prob": [1.0]}], "prob": [1]},
            r"^degradation\.parts\[0\]\.kernel_prob: 1 numbers for 6 kernels",
        ),
        (
            {"parts": [{"type": "RankedSecondOrderDegradation"}], "prob": [1]},
            r"parts\[0\]: RankedSecondOrderDegradation cannot be a part of a mixture",
        ),
    ],
)
def test_one_line_for_mixtures_that_cannot_be(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        MixedDegradation(4, **options)
