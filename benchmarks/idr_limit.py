"""What ``max_norm`` of an estimator changes: norms of IDRs, and outputs for dithered pictures.

    python benchmarks/idr_limit.py kdsr_s_x4_iso kdsr_s_x4_photo --images examples/photos/held_out --crop 192

The columns "norm" are the largest norm of an IDR, before the limit, for HR pictures with two degradations and for HR
pictures that were shrunk and then dithered to black and white (Floyd and Steinberg). The last columns show, for the
dithered pictures, the largest number of an output, without and with the limit, and the mean PSNR-Y of bicubic
interpolation and of the network without and with the limit.
"""

import argparse
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from PIL import Image

import lightbsr_arch
from lightbsr.errors import UserError, reason_of
from lightbsr_arch.data import DegradedDataset
from lightbsr_arch.degradations import bicubic_resize

# isort: split
from basicsr.metrics import calculate_psnr
from basicsr.utils import tensor2img

SETTINGS: dict[str, Any] = {"Gaussian8": "gaussian8", "second-order": "second-order"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="shipped weights or files, with KDSR's estimator")
    parser.add_argument("--images", type=Path, required=True, help="folder of HR pictures")
    parser.add_argument("--crop", type=int, default=192, help="side of the corner that is used (%(default)s)")
    args = parser.parse_args()
    norms = " | ".join(f"norm, {label}" for label in (*SETTINGS, "dithered"))
    print(f"| | {norms} | largest, no limit | largest, limit | bicubic | no limit | limit |")
    print("|---|" + "---:|" * (len(SETTINGS) + 6))
    for name in args.models:
        model: Any = lightbsr_arch.load(name)
        limit = getattr(getattr(model, "estimator", None), "max_norm", None)
        if limit is None:
            raise UserError(f"{name}: its estimator has no max_norm; name weights whose IDR is limited")
        model.estimator.max_norm = None
        largest = [max(_norm(model, lq) for lq, _ in _pairs(args, model.scale, each)) for each in SETTINGS.values()]
        dithered = [(_dithered(lq), gt) for lq, gt in _pairs(args, model.scale, [{"sigma": 0}])]
        largest.append(max(_norm(model, lq) for lq, _ in dithered))
        psnrs = [fmean(_psnr(bicubic_resize(lq, model.scale), gt, model.scale) for lq, gt in dithered)]
        for max_norm in (None, limit):
            model.estimator.max_norm = max_norm
            with torch.inference_mode():
                outputs = [model(lq) for lq, _ in dithered]
            largest.append(max(output.abs().max().item() for output in outputs))
            psnrs.append(fmean(_psnr(output, gt, model.scale) for output, (_, gt) in zip(outputs, dithered)))
        print(f"| `{Path(name).stem}` | {' | '.join(f'{each:.2f}' for each in largest + psnrs)} |", flush=True)


def _psnr(output: torch.Tensor, gt: torch.Tensor, scale: int) -> float:
    psnr: float = calculate_psnr(tensor2img(output), tensor2img(gt), scale, test_y_channel=True)
    return psnr


def _pairs(args: argparse.Namespace, scale: int, settings: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return low-quality images and their ground truth, each 1 x 3 x H x W, cut to ``--crop``."""
    folder = {"name": "images", "dataroot_gt": str(args.images), "io_backend": {"type": "disk"}}
    dataset = DegradedDataset({**folder, "scale": scale, "settings": settings})
    side = args.crop // scale
    items = [dataset[index] for index in range(len(dataset))]
    return [(item["lq"][None, :, :side, :side], item["gt"][None, :, : side * scale, : side * scale]) for item in items]


def _norm(model: Any, lq: torch.Tensor) -> float:
    with torch.inference_mode():
        norm: float = model.estimator(lq).norm().item()
    return norm


def _dithered(lq: torch.Tensor) -> torch.Tensor:
    """Reduce an image, 1 x 3 x H x W, to black and white."""
    grey = Image.fromarray(np.uint8(lq[0].permute(1, 2, 0).numpy() * 255 + 0.5)).convert("1")
    return torch.from_numpy(np.array(grey, np.float32)).expand_as(lq)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"idr_limit: {reason_of(error)}")
