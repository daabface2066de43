"""``lightbsr idr``."""

import argparse
import io
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightbsr.defaults import FACTORS, SECOND_ORDER, SMALLEST_CROP
from lightbsr.errors import UserError, one_line

HELP = "analyse which degradations a model's IDR distinguishes"
DESCRIPTION = (
    "Compute the degradation representation (IDR) of models on crops of images that were not used in training. One "
    "factor is varied at a time: blur (Gaussian8), angle, noise or JPEG. Teachers receive their privileged input. The "
    "command prints accuracies and chance, and the shares of the IDR's variance that degradation and content explain. "
    "Classifiers are tested on other images than those of their training. The command then restores the crops. It "
    "prints PSNR-Y with their own IDR, and the loss in dB with the mean of all IDRs or with the IDR of the same crop "
    "half of the levels away. It writes a t-SNE plot, and the figures as JSON beside it."
)

USERS = {
    "sigma": ("sigma", "noise", "jpeg"), "angle": ("angle",), "noise": ("noise",), "jpeg": ("jpeg",),
    "widths": ("angle",),
}  # fmt: skip
"""The options that set levels, with the factors that use them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="MODEL", help="names of shipped weights, or files, of one scale")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder or LMDB of sharp images not in training")
    default = "; default %(default)s"
    parser.add_argument("-o", "--output", type=Path, default=Path("idr.png"), metavar="PNG", help=f"the plot{default}")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of tables")
    parser.add_argument("--untrained", action="store_true", help="add each network with random weights, for comparison")
    parser.add_argument(
        "--factors",
        nargs="+",
        choices=(*FACTORS, SECOND_ORDER),
        default=FACTORS,
        help="default: sigma angle noise jpeg",
    )
    levels: dict[str, Any] = {"nargs": "+", "type": float, "metavar": "X", "default": None}
    parser.add_argument("--sigma", **levels, help="isotropic blurs, in pixels; default Gaussian8's")
    parser.add_argument("--angle", **levels, help="angles of a blur, in degrees; default 0 45 90 135")
    parser.add_argument("--noise", **levels, help="noise on the 0-255 scale, at the middle sigma; default 0 5 10 20")
    parser.add_argument("--jpeg", **levels, help="qualities, at the middle sigma; default 90 70 50 30")
    levels["nargs"] = 2
    parser.add_argument("--widths", **levels, help="sigmas of the --angle blurs; default 4 1.5")
    parser.add_argument("--crop", type=int, default=128, metavar="N", help=f"side of the images' crops{default}")
    parser.add_argument("--crops", type=int, default=16, metavar="N", help=f"crops per image, at most{default}")


def run(args: argparse.Namespace) -> int:
    _check(args)

    from lightbsr_arch.analysis.idr import factor, read_idrs
    from lightbsr_arch.analysis.plot import plot
    from lightbsr_arch.analysis.report import load_models, make_report, panel_titles, tables
    from lightbsr_arch.data.gt_source import GTSource, io_type
    from lightbsr_arch.io import write_whole
    from lightbsr_arch.plugins import load_plugins

    load_plugins()
    source = GTSource(args.images, io_type(args.images))
    models = load_models(args.models, args.untrained)
    scale = next(iter(models.values())).scale
    names = [name for name in (*FACTORS, SECOND_ORDER) if name in args.factors]
    levels = {name: getattr(args, name) for name in USERS if getattr(args, name) is not None}
    factors = [factor(name, scale, **levels) for name in names]
    readings = read_idrs(models, factors, source, args.crop - args.crop % scale, args.crops)
    report = make_report(models, factors, readings, args.images)
    png = io.BytesIO()
    plot(readings.vectors, factors, panel_titles(report)).savefig(png, format="png", dpi=110)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    write_whole(args.output, png.getvalue())
    write_whole(args.output.with_suffix(".json"), f"{text}\n".encode())
    print(text if args.json else tables(report))
    print(f"Written: {args.output}, {args.output.with_suffix('.json')}", file=sys.stderr)
    for failure in readings.failures:
        print(one_line(f"lightbsr idr: left out: {failure}"), file=sys.stderr)
    return 1 if readings.failures else 0


def _check(args: argparse.Namespace) -> None:
    """Raise `UserError` for arguments that would fail after the work."""
    needed = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}
    missing = [package for module, package in needed.items() if find_spec(module) is None]
    if missing:
        raise UserError(f"the analysis needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    if args.output.suffix != ".png":
        raise UserError(f"-o {args.output}: the plot must be named .png")
    for name, users in USERS.items():
        if getattr(args, name) is not None and not {*users} & {*args.factors}:
            raise UserError(f"--{name}: is not used; it needs --factors {' or '.join(users)}")
    if args.crop < SMALLEST_CROP:
        raise UserError(f"--crop {args.crop}: the smallest is {SMALLEST_CROP}")
    if args.crops < 1:
        raise UserError(f"--crops {args.crops}: at least one per image is needed")
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{args.output.parent}: cannot be made: {error.strerror}") from None
