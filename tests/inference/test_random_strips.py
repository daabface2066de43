"""Strips of any height give what the whole image gives, for images of any size."""

from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbsr_arch.archs import BlindSR
from lightbsr_arch.inference.tiling import sr_strips
from tests.archs import test_family
from tests.inference import networks

FAMILY = [
    ("DASREncoder", "DASRNet"), ("CdCLEncoder", "CdCLNet"), ("MRDAEncoder", "RDANet"),
    ("DegreeEstimator", "MMRealSRNet"), ("DASREncoder", "SRMDNet"),
]  # fmt: skip


@lru_cache
def network(pair: str | tuple[str, str]) -> BlindSR:
    return networks.network(pair, scale=2) if isinstance(pair, str) else test_family.network(*pair)


@pytest.mark.parametrize("pair", [*networks.PAIRS, *FAMILY], ids=str)
@settings(max_examples=12)
@given(height=st.integers(1, 60), width=st.integers(1, 16), rows=st.integers(1, 70))
def test_strips_equal_the_whole(pair: str | tuple[str, str], height: int, width: int, rows: int) -> None:
    model, lq = network(pair), torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        strips = list(sr_strips(model, lq, rows))
        torch.testing.assert_close(torch.cat(strips, dim=2), model(lq), atol=1e-5, rtol=1e-5)
