"""Checkpoints that trainings start from, in BasicSR's form."""

import io
from collections.abc import Mapping
from pathlib import Path

import torch

from lightbsr_arch.io import write_whole


def write_checkpoint(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Write a ``.pth`` whose weights and averaged weights are both ``state``, and create its folder."""
    buffer = io.BytesIO()
    torch.save({"params": dict(state), "params_ema": dict(state)}, buffer)
    write_whole(path, buffer.getvalue(), make_folder=True)
