"""Compare any models on photos: a sheet of crops side by side, and tables of NIQE, PSNR-Y and a feature distance.

    python benchmarks/compare_photos.py PHOTOS -m bicubic kdsr_s_x4_real realesrgan-x4plus       low-quality photos
    python benchmarks/compare_photos.py HR --degrade -m bicubic kdsr_s_x4_real realesrgan-x4plus

With --degrade, the pictures of the folder are HR. Real-ESRGAN's second-order degradation makes the same LR images as in
`lightbsr bench`. The sheet then also shows HR, and the table has PSNR-Y and the distance between features of
EfficientNet-Lite0 (EfficientNetLoss of this package). A smaller distance is better.

A model is anything that `lightbsr bench -m` accepts. For other networks, name a bench.yml in place of the models.
The folder of -o receives sheet.webp, table.md and cache.sqlite. A second run only upscales with new models. If a model
fails on a picture, its panel is empty, its means are over the other pictures, and the exit code is 1.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import torch

from lightbsr.errors import UserError, reason_of
from lightbsr_arch.bench.cache import Cache, cache_key
from lightbsr_arch.bench.config import default_bench, read_config
from lightbsr_arch.bench.metrics import find_metric
from lightbsr_arch.bench.models import ModelSpec, Upscaler
from lightbsr_arch.bench.pairs import Pair, Pairs, content
from lightbsr_arch.bench.runner import most_detailed
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.image_io import Picture, encode_image, read_image
from lightbsr_arch.io import write_whole
from lightbsr_arch.losses.efficientnet_loss import EfficientNetLoss

# isort: split
from basicsr.utils import tensor2img

HEADER, LABEL, GAP = 22, 20, 6
"""Heights of the names of models and of the figure below a panel, and the space between panels, in pixels."""

DIGITS = {"NIQE": 2, "PSNR-Y": 2, "features": 4}
"""Digits after the decimal point of each metric."""


@dataclass
class Shown:
    """One picture.

    Attributes:
        name: its file name.
        pair: LR and HR, or LR and an empty image of the size of HR.
        hr: the HR picture, or None for a photo.
        results: SR pictures by model.
        figures: metrics by model.
    """

    name: str
    pair: Pair
    hr: Picture | None
    results: dict[str, Picture] = field(default_factory=dict)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="PHOTOS")
    parser.add_argument("-m", "--models", nargs="+", required=True, metavar="MODEL", help="models, or one bench.yml")
    parser.add_argument("--degrade", action="store_true", help="the pictures are HR; degrade them first")
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    parser.add_argument("--pictures", type=int, metavar="N", help="use only the first N pictures")
    parser.add_argument("--side", type=int, metavar="PIXELS", help="use only the middle of a photo, PIXELS x PIXELS")
    parser.add_argument("--crops", type=int, default=8, metavar="N", help="pictures in the sheet (8)")
    parser.add_argument("--panel", type=int, default=160, metavar="PIXELS", help="side of a crop in the sheet (160)")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/compare_photos"), metavar="DIR")
    args = parser.parse_args()
    models, pairs = opened(args)
    shown = [*pictures(pairs, args)]
    cache = Cache(args.output / "cache.sqlite")
    failures = list(upscale_all(models, shown, args.scale, cache))
    cache.close()
    measure(shown, args.scale)
    names = [model.name for model in models]
    write_whole(args.output / "sheet.webp", sheet(shown[: args.crops], names, args))
    text = tables(shown, names)
    write_whole(args.output / "table.md", text.encode())
    print(text, end="")
    print(f"Written: {args.output / 'sheet.webp'}, {args.output / 'table.md'}")
    for line in failures:
        print(line, file=sys.stderr)
    return bool(failures)


def opened(args: argparse.Namespace) -> tuple[list[ModelSpec], Pairs]:
    """Return the models, and the pictures under the second-order degradation."""
    given, config = args.models, len(args.models) == 1 and args.models[0].endswith((".yml", ".yaml"))
    options = {"datasets": {"pictures": args.folder}, "degradations": ["second-order"], "scale": args.scale}
    bench = default_bench(models=["bicubic"] if config else given, **options)
    models = read_config(given[0]).models if config else bench.models
    (pairs,) = bench.pairs
    assert isinstance(pairs, Pairs)
    return models, pairs


def pictures(pairs: Pairs, args: argparse.Namespace) -> Iterator[Shown]:
    """Yield the pictures. For a photo, the ground truth is an empty image, which states only the size."""
    for index, name in enumerate(pairs.images[: args.pictures]):
        if args.degrade:
            pair = pairs.make(index, pairs.conditions[0])
            yield Shown(name, pair, tensor2img(pair.gt))
            continue
        lq = to_tensor(middle(pairs.source.read(index), args.side))[None]
        height, width = (size * args.scale for size in lq.shape[-2:])
        yield Shown(name, Pair(lq, lq.new_zeros(1, 3, height, width), None), None)


def middle(photo: Picture, side: int | None) -> Picture:
    """Return the middle of a photo, at most ``side`` pixels wide and high."""
    if side is None:
        return photo
    top, left = (max(size - side, 0) // 2 for size in photo.shape[:2])
    return photo[top : top + side, left : left + side]


def upscale_all(models: list[ModelSpec], shown: list[Shown], scale: int, cache: Cache) -> Iterator[str]:
    """Upscale all pictures. Yield one line per failure."""
    for model in models:
        upscaler: Upscaler | None = None
        for each in shown:
            key = cache_key("side by side", model.digest(), content(tensor2img(each.pair.lq)), scale)
            try:
                if stored := cache.get(key):
                    each.results[model.name] = read_image(stored, each.name)
                    continue
                upscaler = upscaler or model.load(scale, torch.device("cpu"))
                each.results[model.name] = tensor2img(upscaler(each.pair))
                cache.put(key, encode_image(each.results[model.name], "webp"))
            except Exception as error:  # a model's error must not stop the others
                yield f"{model.name} on {each.name}: {reason_of(error)}"
                if upscaler is None:
                    break


@torch.inference_mode()
def measure(shown: list[Shown], scale: int) -> None:
    """Compute the metrics. NIQE is left out for pictures that are too small for it."""
    distance = EfficientNetLoss(shift=0) if any(each.hr is not None for each in shown) else None
    for each in shown:
        for model, sr in each.results.items():
            figures = each.figures.setdefault(model, {})
            try:
                figures["NIQE"] = find_metric("niqe").compute(sr, sr, scale)
            except UserError as error:
                print(f"{each.name}: {error}", file=sys.stderr)
            if each.hr is not None and distance is not None:
                figures["PSNR-Y"] = find_metric("psnr_y").compute(sr, each.hr, scale)
                figures["features"] = float(distance(to_tensor(sr)[None], to_tensor(each.hr)[None])[0])


def tables(shown: list[Shown], names: list[str]) -> str:
    """Return the means per model, and NIQE per picture, as Markdown."""
    metrics = [metric for metric in DIGITS if any(metric in one for each in shown for one in each.figures.values())]
    lines = [
        f"Means over {len(shown)} pictures.",
        "",
        f"| model | {' | '.join(metrics)} |",
        "|---|" + "---:|" * len(metrics),
    ]
    for name in names:
        means = []
        for metric in metrics:
            values = [each.figures[name][metric] for each in shown if metric in each.figures.get(name, {})]
            means.append(f"{fmean(values):.{DIGITS[metric]}f}" if values else "–")
        lines.append(f"| {name} | {' | '.join(means)} |")
    lines += ["", f"| NIQE | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for each in shown:
        niqes = (each.figures.get(name, {}).get("NIQE") for name in names)
        lines.append(f"| {each.name} | {' | '.join('–' if value is None else f'{value:.2f}' for value in niqes)} |")
    return "\n".join(lines) + "\n"


def sheet(shown: list[Shown], names: list[str], args: argparse.Namespace) -> bytes:
    """Return one row of crops per picture, with the models' names above and NIQE below, as WebP."""
    columns = [*names, *(["HR"] if args.degrade else [])]
    width, height = args.panel + GAP, args.panel + LABEL
    canvas = np.full((HEADER + len(shown) * height, len(columns) * width - GAP, 3), 255, np.uint8)
    for column, name in enumerate(columns):
        _write(canvas, name, column * width, 15)
    for row, each in enumerate(shown):
        top, left = most_detailed(
            tensor2img(each.pair.gt if args.degrade else _enlarged(each, args.scale)), args.scale, args.panel
        )
        for column, name in enumerate(columns):
            picture = each.hr if name == "HR" and args.degrade else each.results.get(name)
            x, y = column * width, HEADER + row * height
            if picture is not None:
                part = picture[top : top + args.panel, left : left + args.panel]
                canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
            figure = each.figures.get(name, {}).get("NIQE")
            text = f"NIQE {figure:.2f}" if figure is not None else ("failed" if picture is None else "")
            _write(canvas, text, x, y + args.panel + 14)
    _, data = cv2.imencode(".webp", canvas, [cv2.IMWRITE_WEBP_QUALITY, 85])
    return data.tobytes()


def _enlarged(each: Shown, scale: int) -> torch.Tensor:
    """Return the LR image with each pixel repeated, in which the crop with most detail is searched."""
    return each.pair.lq.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def _write(canvas: Picture, text: str, x: int, y: int) -> None:
    cv2.putText(canvas, text, (x + 2, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"compare_photos: {error}")
