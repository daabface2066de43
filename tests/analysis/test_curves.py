"""Training curves read from TensorBoard files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from lightbsr.commands import main
from lightbsr.errors import UserError
from lightbsr_arch.analysis import curves
from lightbsr_arch.analysis.curves import plot_curves, read_curves


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "tb_logger" / "run"
    for start in (0, 30):  # the first writer reaches 50, and the second resumes at 30
        with SummaryWriter(str(folder)) as writer:
            for step in range(start, 50 if start == 0 else 100):
                writer.add_scalar("losses/l_pix", 100 - step + start, step)
            writer.add_scalar("metrics/Set5/psnr_y", 20 + start, start + 20)
            writer.add_scalar("metrics/Set5/sigma2/psnr_y", 20, start + 20)
    return folder


def test_a_resumed_run_is_one_curve(run: Path) -> None:
    found = read_curves(run)
    steps, values = found["losses/l_pix"]
    assert list(steps) == list(range(100))
    assert list(values) == [100 - step for step in range(30)] + [130 - step for step in range(30, 100)]
    assert np.array_equal(found["metrics/Set5/psnr_y"], [[20, 50], [20, 50]])


def test_a_picture_is_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["curves", "run", "-o", "curves.png"]) == 0  # a run by its name
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "tb_logger"]


def test_runs_of_one_name_are_told_apart(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict[str, Path]] = []
    monkeypatch.setattr(curves, "plot_curves", lambda runs, path: drawn.append(runs))
    shutil.copytree(tmp_path / "tb_logger", tmp_path / "other")
    other = tmp_path / "other" / run.name
    assert main(["curves", str(run), str(other)]) == 0
    assert drawn == [{str(run): run, str(other): other}]


def test_mistakes_are_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing: no such folder; runs with use_tb_logger"):
        read_curves(tmp_path / "nothing")
    with pytest.raises(UserError, match="no curves in it"):
        read_curves(tmp_path)
    with pytest.raises(UserError, match=r"curves\.xyz: cannot be written: .*'xyz' is not supported"):
        plot_curves({"run": run}, tmp_path / "curves.xyz")
