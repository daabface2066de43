"""An options file with a `base`: what it merges, where its mistakes are, and the text that stands on its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from lightbsr_arch.config.load import load_options
from lightbsr_arch.config.merge import read_options, self_contained_text
from lightbsr_arch.config.yaml_file import load_file, load_value, to_yaml
from lightbsr_arch.option_types.problems import OptionsError
from lightbsr_arch.training.run_folder import RunFolder
from tests import option_files
from tests.config.conftest import problems, write
from tests.option_files import OPTIONS

CHILD = "options/mine/child.yml"


def child(text: str, path: str = CHILD) -> str:
    """A file in another folder, whose base is ``options/student.yml``; its options begin in line 2."""
    write(path, f"base: ../student.yml\n{text}")
    return path


def test_sections_are_merged_and_other_values_replaced() -> None:
    base = {"name": "a", "train": {"optim": {"lr": 1, "betas": [0.9, 0.99]}, "steps": [1, 2, 3]}, "kept": {"x": 1}}
    own = {"name": "b", "train": {"optim": {"lr": 2}, "steps": [4]}, "new": {"y": 1}, "kept": {}}
    expected = {"name": "b", "train": {"optim": {"lr": 2, "betas": [0.9, 0.99]}, "steps": [4]}, "kept": {"x": 1}}
    assert merged(own, base) == {**expected, "new": {"y": 1}}


@pytest.mark.parametrize(
    ("own", "base", "expected"),
    [
        ({"type": "B", "y": 2}, {"type": "A", "x": 1}, {"type": "B", "y": 2}),
        ({"type": "A", "y": 2}, {"type": "A", "x": 1}, {"type": "A", "x": 1, "y": 2}),
        ({"y": 2}, {"type": "A", "x": 1}, {"type": "A", "x": 1, "y": 2}),
        ({"type": "A"}, {"x": 1}, {"type": "A", "x": 1}),
        (None, {"type": "A", "x": 1}, None),
        ({"x": 1}, None, {"x": 1}),
        ([1], {"x": 1}, [1]),
    ],
)
def test_a_section_of_another_type_replaces_that_of_the_base(own: object, base: object, expected: object) -> None:
    assert merged({"part": own}, {"part": base}) == {"part": expected}


def merged(own: dict[str, object], base: dict[str, object]) -> dict[str, object]:
    write("options/own.yml", to_yaml({"base": "base.yml", "last": {"x": {}}, **own}))
    write("options/base.yml", to_yaml({**base, "last": {"x": {}}}))
    data = read_options(Path("options/own.yml")).data
    assert data.pop("last") == {"x": {}}
    return data


@pytest.fixture(autouse=True)
def in_run_folder(run_folder: Path) -> None:
    """Every test runs where the files of ``options/student.yml`` are."""


def test_a_file_with_a_base_is_loaded_as_if_written_out() -> None:
    options = load_options(child("name: mine\ntrain: {optim_g: {lr: 5e-4}, grad_clip: ~}\n"), is_train=True)
    expected = load_file(OPTIONS / "student.yml").data
    expected["name"] = "mine"
    expected["train"]["optim_g"]["lr"] = 5e-4
    expected["train"]["grad_clip"] = None
    assert options == expected


def test_the_command_line_goes_over_both() -> None:
    overrides = ["name=third", "train:optim_g:lr=1e-5"]
    options = load_options(child("name: mine\ntrain: {grad_clip: 2}\n"), is_train=True, overrides=overrides)
    assert (options["name"], options["train"]["optim_g"]["lr"]) == ("third", 1e-5)
    assert options["train"]["grad_clip"] == 2


def test_a_mistake_is_named_where_it_stands() -> None:
    base = Path("options/student.yml")
    base.write_text(base.read_text().replace("scale: 4\nnum_gpu", "scael: 4\nnum_gpu"))
    line = base.read_text().splitlines().index("scael: 4") + 1
    path = child("name: mine\ntrain:\n  grad_clip: fast\n  total_itre: 5\nval: {val_freq: 0}\n")
    assert problems(path) == [
        f"{CHILD}:4: train.grad_clip: invalid-value",
        f"{CHILD}:5: train.total_itre: unknown-key",
        f"{CHILD}:6: val.val_freq: invalid-value",
        f"options/student.yml:{line}: scael: unknown-key",
    ]


def test_a_missing_key_is_named_in_the_section_that_replaces_the_base_s() -> None:
    assert problems(child("train:\n  scheduler: {type: CosineAnnealingRestartLR}\n")) == []
    assert problems(child("train:\n  scheduler:\n    type: MultiStepLR\n")) == [
        f"{CHILD}:3: train.scheduler.milestones: missing-key"
    ]


def test_options_that_contradict_each_other_are_named_where_the_contradicting_one_stands() -> None:
    line = next(n for n, text in enumerate(Path("options/student.yml").read_text().splitlines(), 1) if "IDRD" in text)
    refusal = f"options/student.yml:{line}: network_g.restorer.scale: scale-mismatch"
    assert refusal in problems(child("scale: 2\n"))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("base: ../studnet.yml", "missing-file"),
        (f"base: {'x' * 300}.yml", "missing-file"),
        ('base: "\\0"', "missing-file"),
        ("base: ~", "invalid-value"),
        ('base: ""', "invalid-value"),
        ("base: [../student.yml]", "invalid-value"),
        ("base: {a: b}", "invalid-value"),
        ("base: 3", "invalid-value"),
    ],
)
def test_a_base_that_is_none_is_refused(line: str, code: str) -> None:
    write(CHILD, f"name: mine\n{line}\n")
    assert problems(CHILD) == [f"{CHILD}:2: base: {code}"]


@pytest.mark.parametrize("base", ["child.yml", "other.yml"])
def test_a_base_of_a_base_is_refused(base: str) -> None:
    child("", "options/mine/other.yml")
    write(CHILD, f"base: {base}\nname: mine\n")
    assert problems(CHILD) == [f"options/mine/{base}:1: base: nested-base"]


def test_a_folder_is_no_base() -> None:
    write(CHILD, "base: ../mine\n")
    assert problems(CHILD) == ["options/mine: unreadable-file"]


def test_a_broken_base_is_named_with_its_line() -> None:
    write("options/mine/broken.yml", "name: a\nname: b\n")
    write(CHILD, "base: broken.yml\n")
    assert problems(CHILD) == ["options/mine/broken.yml:2: duplicate-key"]


def test_the_command_line_names_no_base() -> None:
    assert problems("options/student.yml", "base=teacher.yml") == ["--force_yml: base-in-override"]


def test_a_misspelt_base_is_found() -> None:
    write(CHILD, f"bsae: ../student.yml\n{Path('options/student.yml').read_text()}")
    assert problems(CHILD) == [f"{CHILD}:1: bsae: unknown-key"]


def test_missing_data_points_to_the_file_that_names_it() -> None:
    path = child("name: mine\ndatasets: {val: {dataroot_gt: nowhere.lmdb}}\n")
    assert problems(path) == [f"{CHILD}:3: datasets.val.dataroot_gt: missing-folder"]
    assert problems(child("name: mine\n")) == []
    base = Path("options/student.yml")
    base.write_text(base.read_text().replace("datasets/demo/held_out.lmdb", "gone.lmdb"))
    (problem,) = problems(CHILD)
    assert problem.startswith("options/student.yml:")
    assert problem.endswith(": datasets.val.dataroot_gt: missing-folder")


def test_the_copy_of_a_run_needs_no_base(tmp_path: Path) -> None:
    path = Path(child("name: mine\n"))
    folder = RunFolder(path)
    Path("options/student.yml").write_text("changed: since\n")
    paths = {"experiments_root": str(tmp_path / "run")}
    paths |= {name: str(tmp_path / "run" / name) for name in ("models", "training_states", "visualization")}
    folder.claim({"rank": 0, "is_train": True, "name": "mine", "path": paths, "logger": {}})
    folder.create()
    folder.release()
    copy = load_file(tmp_path / "run" / path.name).data
    assert copy == {**load_file(OPTIONS / "student.yml").data, "name": "mine"}


def test_a_file_without_a_base_is_copied_as_it_stands() -> None:
    path = Path("options/student.yml")
    assert self_contained_text(path) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", option_files.ALL, ids=lambda path: path.relative_to(OPTIONS).as_posix())
def test_every_recipe_written_out_is_the_same(path: Path) -> None:
    assert load_value(self_contained_text(path), path.name) == read_options(path).data


def test_written_values_are_read_as_they_were() -> None:
    numbers = [1e-4, 1e-6, -0.0, 1e300, 10**20, float("inf"), 0.1, 5, True, None]
    texts = [
        "1e-4",
        "010",
        "1_000",
        "1:30",
        "0x1f",
        "yes",
        "~",
        "null",
        "2026-01-01",
        "a: b",
        "# no",
        "é",
        "",
        " x ",
        "\t\n\x07",
    ]
    data = {"numbers": numbers, "texts": texts, "<<": {"1": []}, "empty": {}, **{text: text for text in texts}}
    again = load_value(to_yaml(data), "again")
    assert again == data
    assert [*map(type, again["numbers"])] == [*map(type, numbers)]


def test_the_command_prints_the_merged_options() -> None:
    command = [sys.executable, "-m", "lightbsr", "options", "--show", child("name: mine\n")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert load_value(done.stdout, "stdout") == {**load_file(OPTIONS / "student.yml").data, "name": "mine"}


def test_merging_keeps_each_value_s_place() -> None:
    path = Path(child("name: mine\ntrain:\n  optim_g: {lr: 5e-4}\n"))
    places = read_options(path).locations
    assert str(places["train", "optim_g", "lr"]) == str(places["train", "optim_g"]) == f"{CHILD}:4"
    assert str(places["train", "optim_g", "type"]).startswith("options/student.yml:")
    assert ("base",) not in places
    with pytest.raises(OptionsError):
        read_options(Path("options/none.yml"))


def test_a_base_beside_a_linked_folder_is_that_of_the_link_s_target() -> None:
    write("elsewhere/student.yml", "name: other\n")
    write("elsewhere/mine/child.yml", "base: ../student.yml\n")
    Path("options/mine").symlink_to(Path("elsewhere/mine").absolute())
    assert read_options(Path(CHILD)).data == {"name": "other"}
