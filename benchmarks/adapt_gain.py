"""Measures the gain in PSNR by `lightbsr adapt`, on pictures that were not used in training.

    python benchmarks/adapt_gain.py datasets/Set14 kdsr_s_x4_iso kdsr_s_x4_real [--page docs/adapt.md]

Each picture is degraded, the weights are adapted to its low-quality version alone, and both weights upscale it. The
last degradation of the table adds noise, which adaptation does not model. An entry is one picture with one degradation
and one model, and takes about 25 s on one core of an AMD EPYC: 10 pictures with the three degradations take 13 minutes
per model. Each entry is written to --output as soon as it is complete, and a repeated command skips it. ``--page``
writes the table between two lines of a page.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from machine import describe
from pages import write_between
from tqdm import tqdm

import lightbsr_arch
from lightbsr.errors import UserError
from lightbsr.shipped import find_weights
from lightbsr_arch.adaptation import KernelEstimator, adapt
from lightbsr_arch.analysis.idr import psnr_y
from lightbsr_arch.data import DegradedDataset
from lightbsr_arch.io import write_whole

SCALE = 4
BLURS: dict[str, dict[str, Any]] = {
    "isotropic, sigma 2.6": {"sigma": 2.6},
    "anisotropic, sigma 3.5 and 1.2": {"sigma": [3.5, 1.2], "theta": 30},
    "the same, noise 5": {"sigma": [3.5, 1.2], "theta": 30, "noise": 5},
}
LARGEST = 96
"""Largest side of the low-quality pictures; larger ones are cut to their centre."""


@dataclass(frozen=True)
class Entry:
    """One picture with one degradation and one model.

    Attributes:
        photos: folder of the HR pictures.
        index: number of the picture in the folder.
        model: name or file of the weights.
        blur: key of ``BLURS``.
        steps: steps of the adaptation.
    """

    photos: str
    index: int
    model: str
    blur: str
    steps: int

    @property
    def key(self) -> str:
        """Return the key of the result, which changes if the file of the weights does."""
        digest = hashlib.sha256(find_weights(self.model).read_bytes()).hexdigest()
        return json.dumps([self.photos, self.index, self.model, digest, BLURS[self.blur], LARGEST, self.steps])


Results = dict[str, tuple[float, float]]
"""PSNR-Y in dB before and after the adaptation, by the key of the entry."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="folder of HR pictures")
    parser.add_argument("models", nargs="+", help="names or files of weights of scale 4")
    parser.add_argument("--count", type=int, default=10, help="number of pictures (%(default)s)")
    parser.add_argument("--steps", type=int, default=60, help="steps per picture (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/adapt_gain.json"), help="results (%(default)s)")
    parser.add_argument("--page", type=Path, help="page into which the table is written")
    args = parser.parse_args(argv)
    if args.count < 1 or args.steps < 1:
        raise UserError("--count and --steps take at least 1")
    torch.set_num_threads(1)
    datasets = {name: dataset(args.photos, blur) for name, blur in BLURS.items()}
    count = min(args.count, *map(len, datasets.values()))
    entries = [
        Entry(args.photos, index, model, blur, args.steps)
        for model in args.models
        for blur in BLURS
        for index in range(count)
    ]
    results = read(args.output)
    estimator = KernelEstimator.load()
    left = [entry for entry in entries if entry.key not in results]
    for entry in tqdm(left, unit="entry", initial=len(entries) - len(left), total=len(entries)):
        results[entry.key] = measure(entry, datasets[entry.blur], estimator)
        write_whole(args.output, json.dumps(results, indent=1).encode(), make_folder=True)
    text = table(args.models, entries, results)
    where = f"{args.photos}, the first {count} pictures, {args.steps} steps; {describe('torch')}"
    print(f"{where}\n\n{text}")
    if args.page:
        write_between(args.page, "adapt", f"{text}\n\nMeasured on {where}.")
    return 0


def read(path: Path) -> Results:
    """Return the results of earlier runs.

    Raises:
        UserError: the file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        return {key: (float(before), float(after)) for key, (before, after) in json.loads(path.read_bytes()).items()}
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"{path}: not the results of this script; name another file, or delete it") from None


def dataset(photos: str, blur: dict[str, Any]) -> DegradedDataset:
    options = {"name": "photos", "dataroot_gt": photos, "io_backend": {"type": "disk"}, "scale": SCALE}
    return DegradedDataset({**options, "settings": [blur]})


def measure(entry: Entry, pictures: DegradedDataset, estimator: KernelEstimator) -> tuple[float, float]:
    """Return PSNR-Y in dB before and after the adaptation."""
    lq, gt = centre(pictures[entry.index])
    model = lightbsr_arch.load(entry.model)
    before = quality(model, lq, gt)
    adapt(model, [lq], estimator, steps=entry.steps)
    return before, quality(model, lq, gt)


def table(models: Sequence[str], entries: Sequence[Entry], results: Results) -> str:
    """Return the means over pictures per model and degradation, as a Markdown table."""
    lines = [
        "| weights | degradation | PSNR-Y before (dB) | gain (dB) | smallest and largest gain (dB) |",
        "|---|---|---:|---:|---|",
    ]
    for model in models:
        for blur in BLURS:
            chosen = [results[entry.key] for entry in entries if (entry.model, entry.blur) == (model, blur)]
            gains = [after - before for before, after in chosen]
            lines.append(
                f"| {model} | {blur} | {fmean(before for before, _ in chosen):.2f} | {fmean(gains):+.2f} | "
                f"{min(gains):+.2f}, {max(gains):+.2f} |"
            )
    return "\n".join(lines)


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
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(str(error))
