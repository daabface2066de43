"""Options changed at random; the longer run is ``make fuzz``."""

from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz_options import make_case, outcome, prepare

CASES = 300


def test_changed_options_are_accepted_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    found = {number: outcome(make_case(number), and_train=False) for number in range(CASES)}
    assert {number: said for number, (what, said) in found.items() if what == "unexpected"} == {}
    counts = Counter(what for what, _ in found.values())
    assert counts["accepted"] >= 10  # the changes are not all of one kind
    assert counts["refused"] >= 200


def test_a_case_is_that_of_its_number() -> None:
    assert make_case(7) == make_case(7)
    assert make_case(7) != make_case(8)
