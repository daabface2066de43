"""NIQE of small images."""

import numpy as np
import pytest
from basicsr.metrics import calculate_metric, niqe

from lightbsr.errors import UserError
from lightbsr_arch.basicsr_patches.niqe import patched_niqe


@pytest.mark.parametrize(("width", "enough"), [(200, True), (199, False)])
def test_niqe_says_what_it_wants(width: int, enough: bool) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (104, width, 3), np.uint8)
    metric = {"type": "calculate_niqe", "crop_border": 4}
    if enough:
        with patched_niqe():
            value = calculate_metric({"img": picture, "img2": picture}, metric)
        assert value == niqe.calculate_niqe(picture, crop_border=4) > 10
    else:
        message = r"NIQE needs two blocks of 96x96 pixels, this picture has 199x104"
        with patched_niqe(), pytest.raises(UserError, match=message):
            calculate_metric({"img": picture}, metric)
