"""Running of a script of datasets_prep/ in this process, which saves the imports."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "datasets_prep"


def run_script(monkeypatch: pytest.MonkeyPatch, name: str, *args: object) -> int:
    """Run ``python datasets_prep/NAME.py ARGS``. Return the exit status."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    return ended.value.code
