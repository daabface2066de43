"""PSNR-Y of models at one scale, by whatever means: the output of a model of another scale is resized (Lanczos).

    python benchmarks/outscale.py kdsr_s_x2_photo kdsr_s_x2_iso kdsr_s_x4_photo --images datasets/Set14 --crop 192

It shows which weights `lightbsr upscale --outscale 2` should use. Each row is a degradation, and each figure the mean
over the pictures. The last row is the mean CPU time of a picture in seconds.
"""

import argparse
from pathlib import Path
from statistics import fmean
from time import process_time
from typing import Any

import lightbsr_arch
from lightbsr_arch.data import DegradedDataset
from lightbsr_arch.degradations import bicubic_resize

# isort: split
from basicsr.metrics import calculate_psnr
from basicsr.utils import tensor2img

SETTINGS: dict[str, Any] = {
    "clean": [{"sigma": 0}],
    "blur 1.4": [{"sigma": 1.4}],
    "noise 4": [{"sigma": 0, "noise": 4}],
    "blur 0.8, JPEG 80": [{"sigma": 0.8, "jpeg": 80}],
    "second-order": "second-order",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="shipped weights or files")
    parser.add_argument("--images", type=Path, required=True, help="folder of HR pictures")
    parser.add_argument("--scale", type=int, default=2, choices=(2, 3, 4))
    parser.add_argument("--crop", type=int, default=0, help="side of the corner that is used; 0: the whole picture")
    args = parser.parse_args()
    models = {Path(name).stem: lightbsr_arch.load(name) for name in args.models}
    print(f"| PSNR-Y, x{args.scale} | bicubic | {' | '.join(f'`{name}`' for name in models)} |")
    print("|---|" + "---:|" * (1 + len(models)))
    times: dict[str, list[float]] = {name: [] for name in models}
    for label, settings in SETTINGS.items():
        dataset = DegradedDataset(
            {
                "name": label,
                "dataroot_gt": str(args.images),
                "io_backend": {"type": "disk"},
                "scale": args.scale,
                "settings": settings,
            }
        )
        rows = [figures(dataset[index], models, times, args.scale, args.crop) for index in range(len(dataset))]
        print(f"| {label} | {' | '.join(f'{fmean(column):.2f}' for column in zip(*rows))} |", flush=True)
    print(f"| CPU time (s) | | {' | '.join(f'{fmean(each):.2f}' for each in times.values())} |")


def figures(
    item: dict[str, Any], models: dict[str, Any], times: dict[str, list[float]], scale: int, crop: int
) -> list[float]:
    """Return the PSNR-Y of bicubic interpolation and of each model for one picture, and add the models' times."""
    gt, lq = item["gt"], item["lq"]
    if crop:
        gt, lq = gt[:, :crop, :crop], lq[:, : crop // scale, : crop // scale]
    outputs = [bicubic_resize(lq[None], scale)[0]]
    for name, model in models.items():
        start = process_time()
        outputs.append(lightbsr_arch.upscale(lq, model, outscale=scale))
        times[name].append(process_time() - start)
    hr = tensor2img(gt)
    return [calculate_psnr(tensor2img(output), hr, scale, test_y_channel=True) for output in outputs]


if __name__ == "__main__":
    main()
