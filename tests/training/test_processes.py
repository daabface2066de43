"""Processes that torchrun and SLURM start."""

import os

import pytest
import torch
from torch import distributed

from lightbsr.errors import UserError
from lightbsr_arch.training import processes


def test_slurm_job_in_the_words_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "unset")  # monkeypatch then restores the old value
        monkeypatch.delenv(name)
    job = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_NODELIST": "n[1-2]"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes.subprocess, "check_output", lambda *_, **__: "n1\nn2\n")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    joined: list[str] = []
    monkeypatch.setattr(distributed, "init_process_group", lambda backend, **_: joined.append(backend))
    processes.init_dist("slurm")
    assert joined == ["gloo"]
    found = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")]
    assert found == ["5", "8", "1", "n1", "29500"]


@pytest.mark.parametrize(("launcher", "start"), [("pytorch", "torchrun"), ("slurm", "srun")])
def test_launcher_without_its_processes(monkeypatch: pytest.MonkeyPatch, launcher: str, start: str) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(UserError, match=f"--launcher {launcher} is for processes that {start} starts"):
        processes.init_dist(launcher)
