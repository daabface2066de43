"""``lightbsr degrade``."""

import argparse
import math
import sys
from pathlib import Path

from lightbsr.defaults import NAMED_SETTINGS, SCALES, SECOND_ORDER
from lightbsr.errors import UserError, one_line

HELP = "make the low-quality pictures that a model is tested on"
DESCRIPTION = (
    "Blur and downsample a folder (or LMDB) of good pictures, and add noise and JPEG compression, as validation and "
    "lightbsr bench do. The results are reproducible. Each degradation has a folder: OUT/sigma2.6/NAME.png. Existing "
    "pictures are kept, except those whose source has changed. Use another OUT for another --scale or --downsample. A "
    "picture that fails is reported, and the others continue. Exit status: 0 all done; 1 some failed; 2 nothing was "
    "started."
)

LARGEST_SIGMA = 10.0
"""Largest width of the blur in pixels, half of the side of its kernel."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("src", type=Path, metavar="SRC", help="folder or .lmdb of good pictures")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the low-quality pictures")
    parser.add_argument("--scale", type=int, choices=SCALES, default=4)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--setting", choices=NAMED_SETTINGS, help="degradations of the published tables, or Real-ESRGAN's"
    )
    which.add_argument(
        "--sigma", type=float, nargs="+", metavar="PIXELS", help="width of the blur, or its widths along two axes"
    )
    parser.add_argument("--theta", type=float, metavar="DEGREES", help="angle of the first axis of the blur (0)")
    parser.add_argument("--noise", type=float, metavar="LEVEL", help="noise: standard deviation on the 0-255 scale (0)")
    parser.add_argument("--jpeg", type=int, metavar="QUALITY", help="JPEG compression of this quality, 1 to 100 (none)")
    parser.add_argument("--downsample", choices=("bicubic", "s-fold"), default="bicubic")


def run(args: argparse.Namespace) -> int:
    _check_unused(args)
    numbers = [*(args.sigma or ()), args.noise or 0.0, args.theta or 0.0]
    if len(numbers) > 4 or min(numbers[:-1]) < 0 or not all(map(math.isfinite, numbers)):
        raise UserError(
            "--sigma takes one number, or one for each axis; neither it nor --noise may be negative, and all are finite"
        )
    if args.jpeg is not None and not 1 <= args.jpeg <= 100:
        raise UserError(f"--jpeg {args.jpeg}: expected a quality from 1 to 100")
    if max(args.sigma or (0,)) > LARGEST_SIGMA:
        raise UserError(
            f"--sigma {max(args.sigma):g}: the kernel of 21x21 pixels cannot hold such a blur; expected at most "
            f"{LARGEST_SIGMA:g}"
        )
    source, out = args.src.resolve(), args.out.resolve()
    if out == source:
        raise UserError(f"{args.out}: the folder of the good pictures; name another for the low-quality ones")

    import lightbsr_arch  # noqa: F401  # before anything of BasicSR

    # isort: split
    from tqdm import tqdm

    from lightbsr_arch.data import DegradedDataset
    from lightbsr_arch.data.gt_source import io_type, open_pictures
    from lightbsr_arch.data.picture_sets import DegradedFolder

    sigma = args.sigma[0] if args.sigma and len(args.sigma) == 1 else args.sigma
    one = {"sigma": sigma, "theta": args.theta or 0.0, "noise": args.noise or 0.0, "jpeg": args.jpeg}
    dataset = DegradedDataset(
        {
            "name": args.src.name,
            "dataroot_gt": str(args.src),
            "io_backend": {"type": io_type(args.src)},
            "settings": args.setting or [one],
            "scale": args.scale,
            "downsample": args.downsample,
        },
        open_pictures(str(args.src), without=out if source in out.parents else None),
    )
    folders = [DegradedFolder(view, args.out / view.settings[0].name) for view in dataset.by_setting()]
    for folder in folders:
        if folder.out.resolve() in (source, *source.parents):
            raise UserError(f"{folder.out}: {args.src} is in it and would be written over; name another OUT")
    number = {"made": 0, "there": 0, "failed": 0}
    for folder in folders:
        with tqdm(folder.write(), desc=folder.out.name, total=len(dataset.keys), unit="picture") as bar:
            for picture in bar:
                number[picture.status] += 1
                if picture.status == "failed":
                    bar.write(one_line(f"failed: {picture.reason}"), file=sys.stderr)
    summary = f"{number['made']} made, {number['there']} there already, {number['failed']} failed"
    counted = f"{len(dataset.keys)} pictures under {len(dataset.settings)} degradations"
    print(one_line(f"{args.out}: {summary}; {counted}"))
    return 1 if number["failed"] else 0


def _check_unused(args: argparse.Namespace) -> None:
    """Raise `UserError` for an option that the setting does not use."""
    if args.setting is None:
        return
    for name in ("theta", "noise", "jpeg"):
        if getattr(args, name) is not None:
            raise UserError(f"--{name} is for --sigma, but --setting {args.setting} has its own degradations")
    if args.setting == SECOND_ORDER and args.downsample != "bicubic":
        raise UserError(f"--downsample {args.downsample}: --setting {SECOND_ORDER} draws its own; leave it out")
