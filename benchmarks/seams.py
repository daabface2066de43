"""Tiled against untiled: strips under one IDR, as `lightbsr upscale` works, and tiles that are run alone, as others do.

    python benchmarks/seams.py --model NAME_OR_PATH ... --photos FILE ... [--tiles 64 128] [--save seams.png]

A tile run alone has an IDR of its own; it is padded by 10 pixels, of which what comes out is cut away. For both: PSNR
of the 8-bit picture against the untiled one, and the share of values that are more than one grey level off. A network
named `random-kdsr-m` or `random-lightbsr` is of the published size with random weights, of which every residual block
contributes as much as those before it: the receptive field is then used more than trained networks use it.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from upscale_memory import RANDOM

from lightbsr_arch import upscale
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.inference.pictures import read_picture
from lightbsr_arch.inference.upscaler import load_student

PAD = 10
"""Of a tile that is run alone: Real-ESRGAN's default."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", nargs="+", required=True, help="shipped weights, files, random-kdsr-m, random-lightbsr"
    )
    parser.add_argument("--photos", nargs="+", required=True, help="low-quality pictures")
    parser.add_argument("--tiles", nargs="+", type=int, default=[64, 128], help="rows of a strip, side of a tile")
    parser.add_argument("--crop", type=int, default=0, help="of the photos' middle, a side; 0 takes them whole")
    parser.add_argument(
        "--save", type=Path, help="untiled, ours, tiles alone and its error of the worst case, side by side"
    )
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
                if args.save and figures[1][1] > worst:
                    worst = figures[1][1]
                    save(args.save, whole, *pictures)


def random_network(size: str) -> BlindSR:
    torch.manual_seed(0)
    model = BlindSR(*RANDOM[size]).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("layer_scale"):
                parameter.normal_(std=0.3)
            if name.startswith("restorer.body") and name.endswith("ddc.kernel.2.weight"):
                parameter.mul_(20)
            if name.startswith("restorer.body") and name.endswith("conv.weight"):
                parameter.mul_(3)
        tail = model.restorer.tail  # type: ignore[attr-defined]
        tail.bias.zero_()
        tail.weight.mul_(0.2 / model(torch.rand(1, 3, 32, 32)).std())  # the contrast of a picture
    return model


def middle(pixels: np.ndarray, side: int) -> np.ndarray:
    if not side:
        return pixels
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def tiles_alone(lq: np.ndarray, model: BlindSR, tile: int) -> np.ndarray:
    """What other programs do: each tile with some padding is a picture of its own."""
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
    """PSNR in dB, and the share of values that differ by more than one grey level."""
    difference = np.abs(picture.astype(np.float64) - whole)
    mse = (difference**2).mean()
    return 10 * math.log10(255**2 / mse) if mse else math.inf, (difference > 1).mean()


def save(path: Path, whole: np.ndarray, ours: np.ndarray, alone: np.ndarray) -> None:
    """The last of the four is the difference of tiles run alone, eight times enlarged, on grey."""
    error = (128 + 8 * (alone.astype(int) - whole)).clip(0, 255).astype(np.uint8)
    Image.fromarray(np.concatenate([whole, ours, alone, error], axis=1)).save(path)


if __name__ == "__main__":
    main()
