"""Options files are plain values, with the place of each."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from lightbsr_arch.config.yaml_file import load_file
from lightbsr_arch.option_types.problems import OptionsError, dotted


def refusal(path: Path) -> str:
    with pytest.raises(OptionsError) as error:
        load_file(path)
    return str(error.value).removeprefix(f"{path}:")


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
    assert refusal(path) == f"3: tag {tag} is refused: options are plain values"
    assert not made.exists()


NOT_YAML = "not valid YAML: "
DEEP_ANCHORS = b"a0: &a0 1\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (n, n, n - 1) for n in range(1, 400))
BROKEN = [
    (b"", "1: the file is empty; expected options such as `name: ...`"),
    (b"# nothing\n", "1: the file is empty; expected options such as `name: ...`"),
    (b"\n- a\n- b\n", "2: expected `key: value` options, found the list ['a', 'b']"),
    (b"words\n", "1: expected `key: value` options, found the text 'words'"),
    (b"a: 1\nb: \xff\n", "2: not UTF-8 text; save the file in UTF-8"),
    (b"a: 1\nb: \x01\n", "2: character 1 is not allowed"),
    (b"a: [1, 2\nb: 3\n", f"2: {NOT_YAML}while parsing a flow sequence, expected ',' or ']', but got ':'"),
    (b"a: 1\nb\nc: 2\n", f"3: {NOT_YAML}while scanning a simple key, could not find expected ':'"),
    (b"a: 1\n---\nb: 2\n", f"2: {NOT_YAML}expected a single document in the stream, but found another document"),
    (b"a: *b\n", f"1: {NOT_YAML}found undefined alias 'b'"),
    (b"a:\n  b: 1\n  c: 2\n  b: 3\n", "4: b: given twice, first in line 2"),
    (b"a: 1\non: 2\n", "2: 'on' is not a name; put it in quotes"),
    (b"a: !!int x\n", "1: 'x' does not fit its tag !!int"),
    (b"a: !!float 1:30\n", "1: '1:30' does not fit its tag !!float"),
    (b"a: !!bool maybe\n", "1: 'maybe' does not fit its tag !!bool"),
    (b"a: " + b"9" * 5000, f"1: '{'9' * 56}... does not fit its tag !!int"),
    (b"a: 1\nb: &b [*b]\n", "2: an anchor that contains itself"),
    (b"a: 1\nb: &b {<<: *b}\n", "2: an anchor that contains itself"),
    (b"a: 1\n<<: [5]\n", "2: `<<` takes an anchored section, or a list of them"),
    (b"a: " + b"[" * 100_000, f"1: {NOT_YAML}more than 32 levels, one inside another"),
    (b"\n".join(b" " * n + b"b:" for n in range(500)), f"32: {NOT_YAML}more than 32 levels, one inside another"),
    (DEEP_ANCHORS, "1: more than 32 levels, one inside another"),
    (b"#" * (1 << 18) + b"#", " 262145 bytes; an options file has at most 262144"),
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
    assert refusal(path).endswith("more than 20000 values; do anchors repeat each other?")


def test_merges_of_merges_do_not_take_for_ever(tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 20))]
    path = tmp_path / "a.yml"
    path.write_text("\n".join(lines))
    assert load_file(path).data["a19"] == {"x": 1}


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.yml"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    assert refusal(path) == " cannot read the options file: it is a folder, or another thing that is no file"


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    with pytest.raises(OptionsError) as error:
        load_file(path)
    assert str(error.value) == f"{path}: cannot read the options file: No such file or directory"
