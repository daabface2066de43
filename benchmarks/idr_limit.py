"""What ``max_norm`` of an estimator changes: norms of IDRs, and PSNR-Y for black and white pictures.

    python benchmarks/idr_limit.py kdsr_s_x4_iso kdsr_s_x4_photo --images examples/photos/held_out --crop 384

The columns "norm" are the largest norm of an IDR, before the limit, for HR pictures with two degradations and for HR
pictures that were shrunk and then dithered (Floyd and Steinberg). PSNR-Y is the mean over the dithered pictures.
"""

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from PIL import Image

import lightbsr_arch
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
    parser.add_argument("--crop", type=int, default=384, help="side of the corner that is used (%(default)s)")
    args = parser.parse_args()
    norms = " | ".join(f"norm, {label}" for label in (*SETTINGS, "dithered"))
    print(f"| | {norms} | bicubic | without a limit | with the limit |")
    print("|---|" + "---:|" * (len(SETTINGS) + 4))
    for name in args.models:
        model: Any = lightbsr_arch.load(name)
        limit, model.estimator.max_norm = model.estimator.max_norm, None
        largest = [max(_norm(model, lq) for lq, _ in _pairs(args, model.scale, each)) for each in SETTINGS.values()]
        dithered = [(_dithered(lq), gt) for lq, gt in _pairs(args, model.scale, [{"sigma": 0}])]
        largest.append(max(_norm(model, lq) for lq, _ in dithered))
        rows = []
        for lq, gt in dithered:
            outputs = [bicubic_resize(lq, model.scale)]
            for model.estimator.max_norm in (None, limit):
                with torch.inference_mode():
                    outputs.append(model(lq))
            rows.append([calculate_psnr(tensor2img(out), tensor2img(gt), model.scale, test_y_channel=True)
                         for out in outputs])  # fmt: skip
        cells = [f"{norm:.2f}" for norm in largest] + [f"{fmean(column):.2f}" for column in zip(*rows)]
        print(f"| `{Path(name).stem}` | {' | '.join(cells)} |", flush=True)


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
    main()
