"""Low-quality picture, bicubic and the results of models side by side, with labels: one row per picture.

    python examples/side_by_side.py PICTURE... -m MODEL... -o sheet.png             pictures as they are
    python examples/side_by_side.py HR... --sigma 2.6 -m MODEL... -o sheet.png      degraded first, shown beside the HR

A crop of each picture is shown: its middle, or for PATH@X,Y the crop at left X, top Y in pixels of the file.
"""

import argparse
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

import lightbsr_arch
from lightbsr.errors import UserError
from lightbsr_arch.archs.part import Network
from lightbsr_arch.data.image_io import read_image
from lightbsr_arch.degradations import Setting, bicubic_resize
from lightbsr_arch.degradations.classical import degrade
from lightbsr_arch.io import write_whole

LQ_CROP = (60, 80)
"""Rows and columns of the low-quality picture that are shown."""

Panels = dict[str, np.ndarray]
"""RGB uint8, by label."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("-m", "--models", nargs="+", required=True, metavar="MODEL")
    parser.add_argument("--sigma", type=float, metavar="PIXELS", help="blur and downsample the pictures, which are HR")
    parser.add_argument("-o", "--output", type=Path, default=Path("sheet.png"), metavar="PNG")
    args = parser.parse_args()
    models = {Path(model).stem: lightbsr_arch.load(model) for model in args.models}
    sheet = []
    for picture in args.pictures:
        found = re.fullmatch(r"(.+)@(\d+),(\d+)", picture)
        path, place = (found[1], (int(found[2]), int(found[3]))) if found else (picture, None)
        sheet.append(panels(read_image(path)[..., ::-1].copy(), models, args.sigma, place))
    height, width = (max(panel.shape[axis] for row in sheet for panel in row.values()) for axis in (0, 1))
    picture = np.vstack([_row(row, height, width) for row in sheet])[..., ::-1]
    write_whole(args.output, cv2.imencode(args.output.suffix, picture)[1].tobytes())
    print(f"Written: {args.output}")


def panels(image: np.ndarray, models: dict[str, Network], sigma: float | None, place: tuple[int, int] | None) -> Panels:
    """Return the crops of one picture by label. ``place`` is the crop's left and top in the picture's pixels."""
    scale = next(iter(models.values())).scale
    shown: Panels = {}
    lq = image
    if sigma is not None:
        image = image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]
        gt = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        lq = (degrade(gt, Setting(sigma=sigma).parameters(), scale)[0] * 255).round().byte().permute(1, 2, 0).numpy()
        place = (place[0] // scale, place[1] // scale) if place else None
    rows, columns = (min(size, limit) for size, limit in zip(LQ_CROP, lq.shape))
    left, top = place or ((lq.shape[1] - columns) // 2, (lq.shape[0] - rows) // 2)

    def crop(picture: np.ndarray, by: int) -> np.ndarray:
        return picture[top * by : (top + rows) * by, left * by : (left + columns) * by]

    label = "low quality" if sigma is None else f"blur of sigma {sigma:g}, 1/{scale}"
    shown[label] = crop(lq, 1).repeat(scale, axis=0).repeat(scale, axis=1)
    tensor = torch.from_numpy(lq.copy()).permute(2, 0, 1)[None] / 255
    bicubic = (bicubic_resize(tensor, scale)[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    shown["bicubic"] = crop(bicubic, scale)
    for name, model in models.items():
        shown[name] = crop(lightbsr_arch.upscale(lq, model), scale)
    if sigma is not None:
        shown["ground truth"] = crop(image, scale)
    return shown


def _row(shown: Panels, height: int, width: int) -> np.ndarray:
    """Return one row of labelled crops, padded to equal height and width."""
    columns = []
    for label, panel in shown.items():
        canvas = np.full((height + 24, width, 3), 255, np.uint8)
        canvas[24 : 24 + panel.shape[0], : panel.shape[1]] = panel
        cv2.putText(canvas, label, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        columns.append(canvas)
    return np.hstack(columns)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"side_by_side: {error}")
