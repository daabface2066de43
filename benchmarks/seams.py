"""Seams of strips with one IDR, as in `lightbsr upscale`, and of independent tiles, relative to the untiled result.

    python benchmarks/seams.py --model NAME_OR_PATH ... --photos FILE ... [--tiles 64 128] [--picture seams.png]

An independent tile has its own IDR. It is padded by 10 pixels, which are cut off the result. For both methods, the
script prints the PSNR of the 8-bit picture against the untiled one, and the share of values that differ by more than
one grey level. `random-kdsr-m`, `random-kdsr-l` and `random-lightbsr` are networks of the published sizes with random
weights, in which every residual block contributes as much as all blocks before it. They use more of the receptive field
than trained networks.

The picture shows the untiled result and both others. Below these are their amplified differences from it, around grey.
Below the untiled result is the low-quality picture. The picture shows the case in which independent tiles differ most.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from upscale_memory import RANDOM

from lightbsr_arch import upscale
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.part import Network
from lightbsr_arch.inference.pictures import read_picture
from lightbsr_arch.inference.upscaler import load_student
from lightbsr_arch.io import whole_file

PAD = 10
"""Padding of an independent tile in pixels, Real-ESRGAN's default."""

LABEL = 24
"""Height of the label above a panel of the picture."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", required=True, help="shipped weights, files, random-kdsr-m and the like")
    parser.add_argument("--photos", nargs="+", required=True, help="low-quality pictures")
    parser.add_argument("--tiles", nargs="+", type=int, default=[64, 128], help="rows of a strip, side of a tile")
    parser.add_argument("--crop", type=int, default=0, help="side of the photos' middle that is used; 0: whole photos")
    parser.add_argument("--picture", type=Path, metavar="OUT", help="the picture described above, as PNG, JPEG or WebP")
    parser.add_argument("--amplify", type=int, default=16, metavar="N", help="factor of the shown differences (16)")
    args = parser.parse_args()
    print(f"{'':60}  {'one IDR, in strips':>24}  {'tiles run alone':>24}")
    print(f"{'model, photo, tile':60}" + 2 * f"  {'PSNR dB':>9} {'off by > 1':>14}")
    worst = 0.0
    for name in args.model:
        model = (
            random_network(name.removeprefix("random-")) if name.startswith("random-") else load_student(name, "cpu")
        )
        for photo in args.photos:
            lq = middle(read_picture(photo).pixels, args.crop)
            whole = upscale(lq, model, tile=0)
            for tile in args.tiles:
                pictures = upscale(lq, model, tile=tile), tiles_alone(lq, model, tile)
                figures = [compare(picture, whole) for picture in pictures]
                row = f"{name[-24:]}, {Path(photo).name} {lq.shape[1]}x{lq.shape[0]}, {tile}"
                print(f"{row:60}" + "".join(f"  {psnr:9.1f} {share:14.6%}" for psnr, share in figures), flush=True)
                if args.picture and figures[1][1] > worst:
                    worst = figures[1][1]
                    draw(args.picture, panels(lq, whole, *pictures, tile, args.amplify))


def random_network(size: str) -> BlindSR:
    torch.manual_seed(0)
    model = BlindSR(**RANDOM[size]).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("layer_scale"):
                parameter.normal_(std=0.3)
            if name.startswith("restorer.body") and name.endswith("ddc.kernel.2.weight"):
                parameter.mul_(20)
            if name.startswith("restorer.body") and name.endswith("conv.weight"):
                parameter.mul_(3)
        tail: Any = model.restorer.tail
        tail.bias.zero_()
        tail.weight.mul_(0.2 / model(torch.rand(1, 3, 32, 32)).std())  # the output has the contrast of a picture
    return model


def middle(pixels: np.ndarray, side: int) -> np.ndarray:
    if not side:
        return pixels
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def tiles_alone(lq: np.ndarray, model: Network, tile: int) -> np.ndarray:
    """Upscale each tile, with some padding, independently, as other programs do."""
    scale = model.scale
    height, width = lq.shape[:2]
    out = np.empty((height * scale, width * scale, *lq.shape[2:]), lq.dtype)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            above, before = min(top, PAD), min(left, PAD)
            sr = upscale(lq[top - above : top + tile + PAD, left - before : left + tile + PAD], model, tile=0)
            rows, columns = min(tile, height - top) * scale, min(tile, width - left) * scale
            out[top * scale : top * scale + rows, left * scale : left * scale + columns] = sr[
                above * scale : above * scale + rows, before * scale : before * scale + columns
            ]
    return out


def compare(picture: np.ndarray, whole: np.ndarray) -> tuple[float, float]:
    """Return PSNR in dB, and the share of values that differ by more than one grey level."""
    difference = np.abs(picture.astype(np.float64) - whole)
    mse = (difference**2).mean()
    return 10 * math.log10(255**2 / mse) if mse else math.inf, (difference > 1).mean()


def panels(
    lq: np.ndarray, whole: np.ndarray, ours: np.ndarray, alone: np.ndarray, tile: int, factor: int
) -> list[list[tuple[str, np.ndarray]]]:
    """Return two rows of labelled 8-bit pictures of one size."""

    def difference(picture: np.ndarray) -> np.ndarray:
        return (128 + factor * (picture.astype(int) - whole)).clip(0, 255).astype(np.uint8)

    scale = len(whole) // len(lq)
    return [
        [("untiled", whole), (f"strips of {tile}, one IDR", ours), (f"tiles of {tile}, each run alone", alone)],
        [
            ("low quality", lq.repeat(scale, axis=0).repeat(scale, axis=1)),
            (f"strips - untiled, x{factor}", difference(ours)),
            (f"tiles run alone - untiled, x{factor}", difference(alone)),
        ],
    ]


def draw(path: Path, rows: list[list[tuple[str, np.ndarray]]]) -> None:
    height, width = rows[0][0][1].shape[:2]
    sheet = Image.new("RGB", (len(rows[0]) * width, len(rows) * (height + LABEL)), "white")
    text = ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        for j, (label, picture) in enumerate(row):
            left, top = j * width, i * (height + LABEL)
            text.text((left + 6, top + 5), label, "black", font_size=14)
            sheet.paste(Image.fromarray(picture), (left, top + LABEL))
    with whole_file(path) as unfinished:
        sheet.save(unfinished, Image.registered_extensions()[path.suffix.lower()], quality=85)


if __name__ == "__main__":
    main()
