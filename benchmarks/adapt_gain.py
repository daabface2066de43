"""Measures the gain in PSNR by `lightbsr adapt`, on pictures that were not used in training.

    python benchmarks/adapt_gain.py datasets/Set14 kdsr_s_x4_iso kdsr_s_x4_real

Each picture is degraded, the weights are adapted to its low-quality version alone, and both weights upscale it. The
last degradation of the table adds noise, which adaptation does not model.
"""

import argparse
from typing import Any

import torch
from machine import describe
from tqdm import tqdm

import lightbsr_arch
from lightbsr_arch.adaptation import KernelEstimator, adapt
from lightbsr_arch.analysis.idr import psnr_y
from lightbsr_arch.data import DegradedDataset

SCALE = 4
BLURS: dict[str, dict[str, Any]] = {
    "isotropic, sigma 2.6": {"sigma": 2.6},
    "anisotropic, sigma 3.5 and 1.2": {"sigma": [3.5, 1.2], "theta": 30},
    "the same, noise 5": {"sigma": [3.5, 1.2], "theta": 30, "noise": 5},
}
LARGEST = 96
"""Largest side of the low-quality pictures; larger ones are cut to their centre."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="folder of HR pictures")
    parser.add_argument("models", nargs="+", help="names or files of weights of scale 4")
    parser.add_argument("--count", type=int, default=8, help="number of pictures (%(default)s)")
    parser.add_argument("--steps", type=int, default=60, help="steps per picture (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    estimator = KernelEstimator.load()
    print(f"{args.photos}, the first {args.count} pictures, {args.steps} steps; {describe('torch')}\n")
    print("| weights | degradation | PSNR-Y before (dB) | gain (dB) | smallest and largest gain of a picture (dB) |")
    print("|---|---|---:|---:|---|")
    for model in args.models:
        for name, blur in BLURS.items():
            before, gains = measure(args.photos, model, blur, estimator, args.count, args.steps)
            mean = sum(gains) / len(gains)
            print(
                f"| {model} | {name} | {before:.2f} | {mean:+.2f} | {min(gains):+.2f}, {max(gains):+.2f} |", flush=True
            )


def measure(
    photos: str, name: str, blur: dict[str, Any], estimator: KernelEstimator, count: int, steps: int
) -> tuple[float, list[float]]:
    """Return the mean PSNR-Y before, and the gain for each picture, in dB."""
    options = {"name": "photos", "dataroot_gt": photos, "io_backend": {"type": "disk"}, "scale": SCALE}
    dataset = DegradedDataset({**options, "settings": [blur]})
    before, gains = 0.0, []
    for index in tqdm(range(min(count, len(dataset))), leave=False, unit="picture"):
        lq, gt = centre(dataset[index])
        model = lightbsr_arch.load(name)
        psnr = [quality(model, lq, gt)]
        adapt(model, [lq], estimator, steps=steps)
        psnr.append(quality(model, lq, gt))
        before += psnr[0]
        gains.append(psnr[1] - psnr[0])
    return before / len(gains), gains


def centre(item: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the centre of a low-quality picture, and that of its ground truth."""
    height, width = item["lq"].shape[1:]
    tall, wide = min(height, LARGEST), min(width, LARGEST)
    top, left = (height - tall) // 2, (width - wide) // 2
    lq = item["lq"][:, top : top + tall, left : left + wide]
    gt = item["gt"][:, SCALE * top : SCALE * (top + tall), SCALE * left : SCALE * (left + wide)]
    return lq, gt


@torch.inference_mode()
def quality(model: Any, lq: torch.Tensor, gt: torch.Tensor) -> float:
    """Return PSNR-Y in dB."""
    return psnr_y(model(lq[None]), gt[None], SCALE).item()


if __name__ == "__main__":
    main()
