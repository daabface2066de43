"""Three hundred of the mutated pictures. ``make fuzz`` tests more."""

from collections import Counter

import pytest

from tests.fuzz_pictures import outcome


@pytest.mark.slow
def test_mutated_pictures_are_done_or_refused() -> None:
    counts = Counter(outcome(number) for number in range(300))
    assert set(counts) == {"done", "refused"}
    assert counts["done"] > 50
    assert counts["refused"] > 100
