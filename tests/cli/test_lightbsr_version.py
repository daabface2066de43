"""``lightbsr --version``."""

import platform
import re
from importlib import metadata
from pathlib import Path

import pytest

from lightbsr.commands import main

ROOT = Path(__file__).parents[2]


def test_versions_are_printed_one_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    first, *others, python = capsys.readouterr().out.splitlines()
    assert first == f"lightbsr-arch {metadata.version('lightbsr-arch')}"
    assert f"torch {metadata.version('torch')}" in others
    assert any(re.fullmatch(r"(animesisr-)?basicsr \S+", line) for line in others)
    assert python.startswith(f"Python {platform.python_version()}, ")


def test_the_version_is_written_only_in_pyproject_toml() -> None:
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    for name in ("setup.py", "CITATION.cff", "README.md", "lightbsr_arch/__init__.py", "lightbsr/__init__.py"):
        assert version not in (ROOT / name).read_text(encoding="utf-8"), name
