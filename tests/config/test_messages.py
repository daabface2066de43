"""The texts of the problems that the other tests have found."""

import pytest

from tests.config.messages import FILE, find, read, recorded, write


def test_the_texts_are_those_of_the_file(request: pytest.FixtureRequest) -> None:
    """Runs after all other tests; without them it has nothing to compare."""
    if not recorded:
        pytest.skip("no other test of options files has run")
    known = read()
    if request.config.getoption("--update-messages"):
        write({find(message, known) or message for message in recorded})
        return
    new = sorted(f"[{code}] {text}" for code, text in recorded if find((code, text), known) is None)
    assert new == [], f"not in {FILE.name}, which `make messages` writes again"
