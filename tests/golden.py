"""Weights, inputs and outputs of the published networks, if they exist beside the checkout."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"

needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"recorded outputs of the published networks: no {GOLDEN}"
)
needs_family = pytest.mark.skipif(
    not (GOLDEN / "family").is_dir(), reason=f"recorded outputs of the published networks: no {GOLDEN / 'family'}"
)


def golden(name: str, prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors of one group ("w", "io", "deg", "kd") of a golden file, without the prefix; "" for all."""
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    start = f"{prefix}." if prefix else ""
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
