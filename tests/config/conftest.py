"""A folder as a user has it: options, an LMDB for each data set, and a trained teacher."""

from pathlib import Path

import pytest
import yaml

from lightbsr_arch.config.load import load_options
from lightbsr_arch.option_types.problems import OptionsError
from tests.config.messages import codes
from tests.option_files import OPTIONS

STUDENT = OPTIONS / "student.yml"


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with every file that ``options/student.yml`` names."""
    monkeypatch.chdir(tmp_path)
    student = yaml.safe_load(STUDENT.read_text())
    for dataset in student["datasets"].values():
        make_lmdb(tmp_path / dataset["dataroot_gt"])
    write(student["path"]["pretrain_network_teacher"], "")
    write("options/student.yml", STUDENT.read_text())
    return tmp_path


def make_lmdb(folder: Path) -> None:
    """A folder that looks like an LMDB from outside, which is all that the check sees."""
    folder.mkdir(parents=True)
    for name in ("data.mdb", "meta_info.txt"):
        (folder / name).touch()


def write(path: str, text: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
    return Path(path)


def changes(table: str) -> list[tuple[str, str, str]]:
    """A table of mistakes: a line ``right -> wrong``, and below it the key and the code of the problem."""
    lines = [line.strip().replace(r"\n", "\n") for line in table.strip("\n").splitlines()]
    return [(*change.split(" -> "), refusal) for change, refusal in zip(lines[::2], lines[1::2])]


def problems(path: str = "options/student.yml", *overrides: str, is_train: bool = True) -> list[str]:
    """Return ``place: key: code`` of each problem of a file; none if it is accepted."""
    try:
        load_options(path, is_train=is_train, overrides=overrides)
    except OptionsError as error:
        return codes(error)
    return []
