"""Parts of the tests of both exports."""

from pathlib import Path
from typing import Any

from lightbsr.commands import main
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import Checkpoint


def refused(args: list[str], capsys: Any) -> str:
    """Run ``lightbsr export``, which must fail before it begins, and return its error."""
    assert main(["export", *args]) == 2
    (error,) = capsys.readouterr().err.splitlines()  # and no line that the export has begun
    assert error.startswith("lightbsr export: ")
    return error


def save_teacher(path: Path) -> None:
    """Write the weights of a teacher, which no export takes."""
    teacher = BlindSR(
        {"type": "KDIDETeacher", "num_feat": 8, "num_block": 1}, {"type": "IDRDCRBNet", "num_feat": 8, "num_block": 1}
    )
    Checkpoint(teacher.state_dict(), teacher.config).save(path)
