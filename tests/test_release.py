"""tools/release.py: which wheels, sdists and change logs a release is refused for."""

import tarfile
import zipfile
from pathlib import Path

import pytest

from tools.release import COMMANDS, NEEDED, check_dist, undated, version_of

FILES = {"lightbsr/__init__.py", "lightbsr_arch/weights/net.safetensors", "lightbsr_arch/bench/papers/kdsr.json"}
INFO = "lightbsr_arch-1.2.0.dist-info"
WHEEL, SDIST = "lightbsr_arch-1.2.0-py3-none-any.whl", "lightbsr_arch-1.2.0.tar.gz"


def contents() -> dict[str, str]:
    """Return the files of a good wheel."""
    return dict.fromkeys(FILES, "") | {
        f"{INFO}/METADATA": "Metadata-Version: 2.4\nName: lightbsr-arch\nVersion: 1.2.0\n\nText",
        f"{INFO}/entry_points.txt": "\n".join(["[console_scripts]", *COMMANDS]),
        f"{INFO}/licenses/LICENSE": "",
    }


def problems(dist: Path, wheel: dict[str, str], sdist: set[str]) -> list[str]:
    """Make both files, and return what is wrong with them."""
    with zipfile.ZipFile(dist / WHEEL, "w") as archive:
        for name, text in wheel.items():
            archive.writestr(name, text)
    with tarfile.open(dist / SDIST, "w:gz") as tar:
        for name in sdist:
            tar.addfile(tarfile.TarInfo(f"lightbsr_arch-1.2.0/{name}"))
    return [*check_dist(dist, "1.2.0", FILES)]


def test_a_good_release_passes(tmp_path: Path) -> None:
    assert problems(tmp_path, contents(), {*FILES, *NEEDED, "PKG-INFO", "tests/test_io.py"}) == []


def test_files_that_are_missing_or_too_many_are_named(tmp_path: Path) -> None:
    wheel = contents() | {"tests/test_io.py": "", f"{INFO}/entry_points.txt": COMMANDS[0]}
    del wheel["lightbsr_arch/weights/net.safetensors"]
    assert problems(tmp_path, wheel, FILES - {"lightbsr/__init__.py"} | {*NEEDED} - {"LICENSE"}) == [
        f"{WHEEL}: lacks lightbsr_arch/weights/net.safetensors",
        f"{WHEEL}: holds tests/test_io.py, which is not in the repository's packages",
        f"{WHEEL}: lacks the command {COMMANDS[1]}",
        f"{SDIST}: lacks lightbsr/__init__.py",
        f"{SDIST}: lacks LICENSE",
    ]


def test_another_version_in_the_metadata_is_named(tmp_path: Path) -> None:
    wheel = contents() | {f"{INFO}/METADATA": "Name: lightbsr-arch\nVersion: 1.1.0\n"}
    assert problems(tmp_path, wheel, {*FILES, *NEEDED}) == [f"{WHEEL}: its metadata state version 1.1.0"]


def test_a_wheel_without_metadata_is_refused(tmp_path: Path) -> None:
    wheel = contents()
    del wheel[f"{INFO}/METADATA"]
    assert problems(tmp_path, wheel, {*FILES, *NEEDED}) == [f"{WHEEL}: lacks {INFO}/METADATA"]


def test_files_of_other_versions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "lightbsr_arch-1.1.0.tar.gz").touch()
    assert [*check_dist(tmp_path, "1.2.0", FILES)] == [
        f"{tmp_path / WHEEL}: no such file",
        f"{tmp_path / SDIST}: no such file",
        f"{tmp_path / 'lightbsr_arch-1.1.0.tar.gz'}: a file of another version, or none of a release",
    ]
    assert len([*check_dist(tmp_path / "none", "1.2.0", FILES)]) == 2


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ("# Changes\n\n## 1.2.0 (2026-03-04)\n\n- A change.\n", None),
        ("## 1.2.0 (2026-03-04)\n- A change.\n\n## 1.1.0 (2026-01-02)\n", None),
        ("## 1.2.0 (not released)\n- A change.\n", '"## 1.2.0 (not released)" has no date'),
        ("## 1.2.0\n- A change.\n", '"## 1.2.0" has no date'),
        ("## 1.2.0 (2026-03-04)\n\n## 1.1.0 (2026-01-02)\n- A change.\n", "the entry of 1.2.0 is empty"),
        ("## 1.1.0 (2026-01-02)\n- A change.\n", "no entry of this version"),
        ("## 11.2.0 (2026-01-02)\n- A change.\n", "no entry of this version"),
    ],
)
def test_the_change_log_has_a_dated_entry(changes: str, problem: str | None) -> None:
    lines = [*undated(changes, "1.2.0")]
    assert len(lines) == (problem is not None)
    assert problem is None or problem in lines[0]


def test_the_version_is_that_of_pyproject_toml() -> None:
    assert version_of('[project]\nversion = "1.2.0"\n') == "1.2.0"
