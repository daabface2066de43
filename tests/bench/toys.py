"""Small pictures and networks for fast benches."""

from pathlib import Path

import cv2
import numpy as np
import torch
from basicsr.archs import build_network

from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import Checkpoint
from tests.models.helpers import kdsr

EDSR = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 4}


def pictures(folder: Path, count: int, side: int = 64, grain: int = 8) -> Path:
    """Write random pictures of different sizes, with spots of ``grain`` pixels."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(count):
        coarse = generator.integers(0, 256, (side // grain, side // grain, 3), np.uint8)
        size = (side + 4 * index, side + 3)  # the height is not a multiple of the scale
        cv2.imwrite(str(folder / f"{index:02}.png"), cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))
    return folder


def student(path: Path, seed: int = 0) -> Path:
    """Write an untrained KDSR student, x4."""
    torch.manual_seed(seed)
    network = {key: value for key, value in kdsr("student", scale=4).items() if key != "type"}
    Checkpoint(BlindSR(**network).state_dict(), network).save(path)
    return path


def edsr(path: Path) -> Path:
    """Write an untrained EDSR, x4, as BasicSR saves it. ``params`` and ``params_ema`` have different weights."""
    torch.manual_seed(1)
    states = {key: build_network(dict(EDSR)).state_dict() for key in ("params", "params_ema")}
    torch.save(states, path)
    return path
