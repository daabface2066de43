"""Names of files and folders cannot lead out of their folder."""

import pytest

from lightbsr.names import LONGEST_NAME, unsafe_name, unsafe_path

SAFE = ["kdsr_x4", "run 2 (x4)", "Länge", "実験", ".hidden", "a..b", "-x", "x" * LONGEST_NAME, "~", "a:b"]
HOSTILE = {
    "": "is empty",
    "  ": "is empty",
    ".": "stands for a folder, not for a name",
    "..": "stands for a folder, not for a name",
    "/etc": "holds '/', which separates folders",
    "../x": "holds '/', which separates folders",
    "a/b": "holds '/', which separates folders",
    "..\\x": r"holds '\\', which separates folders",
    "a\0b": "holds the unprintable character U+0000",
    "a\nb": "holds the unprintable character U+000A",
    "a\u202eb": "holds the unprintable character U+202E",
    "\ud800": "holds the unprintable character U+D800",
    " a": "begins or ends with a space",
    "a ": "begins or ends with a space",
    "é" * LONGEST_NAME: "has 400 bytes, more than 200",
}


@pytest.mark.parametrize("name", SAFE)
def test_names_as_people_give_them_are_safe(name: str) -> None:
    assert unsafe_name(name) is None
    assert unsafe_path(f"{name}/{name}") is None


@pytest.mark.parametrize(("name", "fault"), HOSTILE.items(), ids=[ascii(name)[:20] for name in HOSTILE])
def test_hostile_names_are_refused_alone_and_in_paths(name: str, fault: str) -> None:
    assert unsafe_name(name) == fault
    if len(name) < LONGEST_NAME and name != "a/b":
        assert unsafe_path(f"a/{name}/b") is not None


@pytest.mark.parametrize("path", ["/etc/passwd", "a//b", "a/", "", "a/../../b", "./a", "a/\n", "a\\..\\b", "x" * 251])
def test_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    assert unsafe_path(path) is not None


def test_a_long_part_is_shortened_in_the_message() -> None:
    assert unsafe_path("a/" + "x" * 300) == f"has the part '{'x' * 57}'..., which has 300 bytes, more than 250"
