"""Sharpness and PSNR-Y of pictures that are restored with degrees that are set by hand (``--blur`` and ``--noise``).

    python benchmarks/degrees.py kdsr_s_x4_control [--images examples/photos/held_out] [--page docs/systems/mmrealsr.md]
    python benchmarks/degrees.py kdsr_s_x4_control --strip docs/images/degrees.webp [--photo PICTURE]

Each HR picture is degraded, and restored with the estimated degrees, and with one degree set to several values while
the other stays as estimated. Sharpness is the energy of the differences between neighbouring pixels of Y, relative to
the ground truth. The last column is the share of pictures whose sharpness follows the degree at every step: it rises
with the degree of blur, and falls with that of noise. ``--page`` writes the table between two lines of a page.
``--strip`` writes a picture that shows one photo at five settings.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from pages import write_between
from strength import ground_truth, sharpness
from tqdm import tqdm

import lightbsr_arch
from lightbsr.errors import UserError
from lightbsr_arch.archs.part import Network
from lightbsr_arch.bench.metrics import METRICS
from lightbsr_arch.data.picture_files import find_pictures
from lightbsr_arch.degradations.draws import Draws
from lightbsr_arch.degradations.settings import SecondOrderSetting, Setting
from lightbsr_arch.inference.degrees import KINDS, with_degrees
from lightbsr_arch.inference.upscaler import load_student
from lightbsr_arch.io import write_whole

# isort: split
from basicsr.utils import tensor2img

HERE = Path(__file__).parent
DEGREES = (0.0, 0.25, 0.5, 0.75, 1.0)
SETTINGS: tuple[Setting | SecondOrderSetting, ...] = (
    Setting(sigma=1.8),
    Setting(sigma=3.2),
    Setting(sigma=1.8, noise=15, jpeg=60),
    SecondOrderSetting(),
)
STRIP: tuple[dict[str, float], ...] = ({}, {"blur": 0}, {"blur": 1}, {"noise": 0}, {"noise": 1})
STRIP_SETTING = Setting(sigma=1.8, noise=8, jpeg=70)
STRIP_CROP = 60
"""Side of the part of the low-quality picture that the strip shows."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="shipped weights or a file, whose estimator is a DegreeEstimator")
    images = HERE.parent / "examples/photos/held_out"
    parser.add_argument("--images", type=Path, default=images, help="folder of HR pictures (examples/photos/held_out)")
    parser.add_argument("--crop", type=int, default=192, help="side of the middle square that is used (%(default)s)")
    parser.add_argument("--page", type=Path, help="page into which the table is written")
    parser.add_argument("--strip", type=Path, help="instead, write one photo at five settings to this .webp")
    parser.add_argument("--photo", type=Path, help="HR picture for --strip; default: the first of --images")
    args = parser.parse_args(argv)
    model = load_student(args.model, "cpu")
    with_degrees(model, *STRIP[1].values())  # refuses other models
    paths = [picture.path for picture in find_pictures([str(args.images)])]
    if args.strip:
        write_strip(args.strip, model, args.photo or paths[0])
        return 0
    text = table(model, [ground_truth(path, args.crop, model.scale) for path in paths])
    print(text)
    if args.page:
        write_between(args.page, "degrees", text)
    return 0


@torch.inference_mode()
def table(model: Network, gts: Sequence[torch.Tensor]) -> str:
    """Return PSNR-Y and sharpness per degradation and degree, as a Markdown table."""
    cells = " | ".join(f"{degree:g}" for degree in DEGREES)
    lines = [f"| degradation | degree | auto | {cells} | follows |", "|" + "---|" * (len(DEGREES) + 4)]
    settings = [(setting, kind) for setting in SETTINGS for kind in KINDS]
    for setting, kind in tqdm(settings, unit="row", leave=False):
        changed = [model, *(with_degrees(model, **{kind: degree}) for degree in DEGREES)]
        figures = np.empty((len(gts), len(changed), 2))
        for i, gt in enumerate(gts):
            lq = setting.degrade(gt, model.scale, "bicubic", Draws(torch.Generator().manual_seed(i))).lq
            hr = tensor2img(gt)
            for j, one in enumerate(changed):
                sr = tensor2img(one(lq))
                figures[i, j] = METRICS["psnr_y"].compute(sr, hr, model.scale), sharpness(sr) / sharpness(hr)
        lower, higher = figures[:, 1:-1, 1], figures[:, 2:, 1]
        follows = (np.greater if kind == "blur" else np.less)(higher, lower).all(axis=1)
        means = " | ".join(f"{psnr:.2f}, {sharp:.2f}" for psnr, sharp in figures.mean(axis=0))
        lines.append(f"| {setting.name} | {kind} | {means} | {follows.sum()} of {len(gts)} |")
    return "\n".join(lines)


@torch.inference_mode()
def write_strip(path: Path, model: Network, photo: Path) -> None:
    """Write the middle of a degraded photo at five settings, side by side, with labels."""
    if path.suffix != ".webp":
        raise UserError(f"--strip {path}: the strip must be named .webp")
    lq = STRIP_SETTING.degrade(
        ground_truth(photo, 0, model.scale), model.scale, "bicubic", Draws(torch.Generator().manual_seed(0))
    ).lq
    panels = []
    for degrees in STRIP:
        sr = tensor2img(lightbsr_arch.upscale(lq, with_degrees(model, **degrees)))
        side = min(STRIP_CROP * model.scale, *sr.shape[:2])
        top, left = ((length - side) // 2 for length in sr.shape[:2])
        panel = np.full((side + 24, side + 4, 3), 255, np.uint8)
        panel[24:, :side] = sr[top : top + side, left : left + side]
        label = " ".join(f"--{kind} {degree:g}" for kind, degree in degrees.items()) or "as estimated"
        cv2.putText(panel, label, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        panels.append(panel)
    strip = cv2.imencode(".webp", np.hstack(panels), [cv2.IMWRITE_WEBP_QUALITY, 85])[1].tobytes()
    write_whole(path, strip)
    print(f"{path}: {len(strip):,} bytes, {photo.name}, {STRIP_SETTING.name}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(str(error))
