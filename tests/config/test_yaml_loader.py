"""Options files are plain values, with the place of each."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from lightbsr_arch.config.yaml_file import load_file
from lightbsr_arch.option_types.problems import OptionsError, dotted
from tests.config.messages import codes


def refusal(path: Path) -> str:
    """Return line and code of the problem that a file is refused with."""
    with pytest.raises(OptionsError) as error:
        load_file(path)
    (problem,) = codes(error.value)
    return problem.removeprefix(f"{path}:")


def test_numbers_as_everyone_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("a: 1e-4\nb: !!float 5e3\nc: [2E3, -1e+2, .5e1, 1.0e-4]\nd: 2024-01-01\ne: 0.5\nf: 1e\n")
    values = load_file(path).data
    assert values == {"a": 1e-4, "b": 5000.0, "c": [2000.0, -100.0, 5.0, 1e-4], "d": "2024-01-01", "e": 0.5, "f": "1e"}
    assert isinstance(values["b"], float)


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("a: 1:30\nb: 010\nc: 0o10\nd: 0x1F\ne: 1_000\nf: [.inf, -.INF, +12]\ng: !!float 3\nh: 0b11\n")
    values = load_file(path).data
    assert values.pop("f") == [float("inf"), -float("inf"), 12]
    assert values == {"a": "1:30", "b": 10, "c": 8, "d": 31, "e": "1_000", "g": 3.0, "h": "0b11"}


def test_the_line_of_every_key(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("# a comment\na:\n  b: 1\n  c:\n    - x\n    - {d: 2}\ne: 3\n")
    lines = {dotted(key): place.line for key, place in load_file(path).locations.items()}
    assert lines == {"": 2, "a": 2, "a.b": 3, "a.c": 4, "a.c[0]": 5, "a.c[1]": 6, "a.c[1].d": 6, "e": 7}


def test_anchors_are_copies_and_merge(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("a: &a {type: Adam, lr: 1}\nb: *a\nc:\n  <<: *a\n  lr: 2\n")
    document = load_file(path)
    assert document.data["c"] == {"type": "Adam", "lr": 2}
    assert document.locations["c", "lr"].line == 5
    document.data["a"].pop("type")  # as BasicSR does while it builds the optimiser
    assert document.data["b"] == {"type": "Adam", "lr": 1}


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("!!python/object/apply:os.system", "['touch {file}']"),
        ("!!python/object/apply:pathlib.Path.touch", "[!!python/object/apply:pathlib.Path ['{file}']]"),
        ("!!python/object/new:subprocess.Popen", "[[touch, '{file}']]"),
        ("!!python/name:os.system", "''"),
        ("!!python/tuple", "[1, 2]"),
        ("!own", "1"),
    ],
)
def test_tags_that_build_objects_are_refused(tmp_path: Path, tag: str, value: str) -> None:
    path, made = tmp_path / "a.yml", tmp_path / "made"
    path.write_text(f"name: x\ntrain:\n  optim_g: {tag} {value.format(file=made)}\n")
    assert refusal(path) == "3: forbidden-tag"
    assert not made.exists()


DEEP_ANCHORS = b"a0: &a0 1\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (n, n, n - 1) for n in range(1, 400))
BROKEN = [
    (b"", "1: empty-file"),
    (b"# nothing\n", "1: empty-file"),
    (b"\n- a\n- b\n", "2: not-a-mapping"),
    (b"words\n", "1: not-a-mapping"),
    (b"a: 1\nb: \xff\n", "2: not-utf-8"),
    (b"a: 1\nb: \x01\n", "2: invalid-character"),
    (b"a: [1, 2\nb: 3\n", "2: invalid-yaml"),
    (b"a: 1\nb\nc: 2\n", "3: invalid-yaml"),
    (b"a: 1\n---\nb: 2\n", "2: invalid-yaml"),
    (b"a: *b\n", "1: invalid-yaml"),
    (b"a:\n  b: 1\n  c: 2\n  b: 3\n", "4: duplicate-key"),
    (b"a: 1\non: 2\n", "2: invalid-key"),
    (b"a: !!int x\n", "1: tag-mismatch"),
    (b"a: !!float 1:30\n", "1: tag-mismatch"),
    (b"a: !!bool maybe\n", "1: tag-mismatch"),
    (b"a: " + b"9" * 5000, "1: tag-mismatch"),
    (b"a: 1\nb: &b [*b]\n", "2: recursive-anchor"),
    (b"a: 1\nb: &b {<<: *b}\n", "2: recursive-anchor"),
    (b"a: 1\n<<: [5]\n", "2: invalid-merge"),
    (b"a: " + b"[" * 100_000, "1: invalid-yaml"),
    (b"\n".join(b" " * n + b"b:" for n in range(500)), "32: invalid-yaml"),
    (DEEP_ANCHORS, "1: too-deep"),
    (b"#" * (1 << 18) + b"#", " file-too-large"),
]


@pytest.mark.parametrize(("content", "text"), BROKEN)
def test_broken_files_are_one_line(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "a.yml"
    path.write_bytes(content)
    assert refusal(path) == text


def test_anchors_of_anchors_do_not_fill_the_memory(tmp_path: Path) -> None:
    names = "abcdefgh"
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in pairwise(names)]
    path = tmp_path / "a.yml"
    path.write_text("\n".join(lines))
    assert refusal(path).endswith(": too-many-values")


def test_merges_of_merges_do_not_take_for_ever(tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 20))]
    path = tmp_path / "a.yml"
    path.write_text("\n".join(lines))
    assert load_file(path).data["a19"] == {"x": 1}


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.yml"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    assert refusal(path) == " unreadable-file"


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    assert refusal(path) == " unreadable-file"
