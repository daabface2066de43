"""The GPU training of the weights, `make weights-gpu`, at a tiny size on the CPU: it trains both stages and resumes."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from tests.commands import run_module

ROOT = Path(__file__).parents[1]
PART = "{num_feat: 8, num_block: 1}"
TINY = f"""
num_gpu: 0
datasets:
  train: {{gt_size: 64, batch_size_per_gpu: 4, num_worker_per_gpu: 1, pin_memory: false}}
  val: {{dataroot_gt: held_out, settings: [{{sigma: 2}}]}}
network_g: {{estimator: {PART}, restorer: {PART}}}
"""
TEACHER = f"network_teacher: {{estimator: {PART}, restorer: {PART}}}\n"
TEACHER += "path: {pretrain_network_teacher: experiments/tiny_teacher/models/net_g_latest.pth}\n"
MODULES = {"basicsr": "lightbsr_arch.training", "lightbsr": "lightbsr"}
# Stands in for the commands and writes down its name and arguments, a line each.
RECORDER = """#!/bin/sh
printf '%s\\n' "${0##*/}" "$@" "" >> commands
"""
OPTIONS = "train:amp=bf16 logger:save_checkpoint_freq=2 logger:print_freq=1 logger:use_tb_logger=false val:val_freq=100"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_both_stages_train_and_go_on(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "options", tmp_path / "options")
    for stage, more in (("teacher", ""), ("student", TEACHER)):
        text = f"base: kdsr_m_x4_iso_{stage}.yml\nname: tiny_{stage}\n{TINY}{more}"
        (tmp_path / f"options/tiny_{stage}.yml").write_text(text)
    shutil.copytree(ROOT / "examples/photos/held_out", tmp_path / "held_out")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for iterations in (2, 4):
        for name, *arguments in commands_of_make(tmp_path, iterations):
            done = run_module(MODULES[name], *arguments, cwd=tmp_path)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for stage in ("teacher", "student"):
        folder = tmp_path / f"experiments/tiny_{stage}"
        assert sorted(file.stem for file in folder.glob("training_states/*.state")) == ["2", "4"]
        state = torch.load(folder / "training_states/4.state", weights_only=False)
        assert state["iter"] == 4
        assert state["schedulers"][0]["periods"] == [4]


def commands_of_make(folder: Path, iterations: int) -> list[list[str]]:
    """Return the commands of `make weights-gpu`. They run elsewhere, without the seconds that each import takes."""
    for name in MODULES:
        file = folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(RECORDER)
        file.chmod(0o755)
    make = [
        "make", "-f", ROOT / "Makefile", "weights-gpu", f"BIN={folder}/bin", "READY=", f"GPU_DATA={folder}/train.lmdb",
        "PHOTOS=examples/photos/train held_out", "GPU_CROP=256", "GPU_RECIPE=tiny", f"GPU_OPTIONS={OPTIONS}",
        f"GPU_TEACHER_ITER={iterations}", f"GPU_STUDENT_ITER={iterations}",
    ]  # fmt: skip
    (folder / "commands").unlink(missing_ok=True)
    subprocess.run(make, cwd=folder, check=True)
    return [command.split("\n") for command in (folder / "commands").read_text().strip().split("\n\n")]
