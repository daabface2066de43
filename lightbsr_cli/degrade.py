"""``lightbsr degrade``."""

import argparse
from pathlib import Path

HELP = "make the low-quality pictures that a model is tested on"
DESCRIPTION = (
    "Blur, downsample and add noise to a folder (or LMDB) of good pictures, as validation and lightbsr bench do, the "
    "same way every time: OUT/sigma2.6/NAME.png, one folder a degradation. What exists is left as it is."
)
NAMED = ("bicubic", "gaussian8", "setting1", "setting2", "second-order")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("src", type=Path, metavar="SRC", help="folder or .lmdb of good pictures")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the low-quality ones")
    parser.add_argument("--scale", type=int, choices=(2, 3, 4), default=4)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--setting", choices=NAMED, help="of the published tables; or Real-ESRGAN's")
    which.add_argument("--sigma", type=float, nargs="+", metavar="PIXELS", help="of the blur; two for its two axes")
    parser.add_argument("--theta", type=float, default=0.0, metavar="DEGREES", help="angle of the first axis (0)")
    parser.add_argument("--noise", type=float, default=0.0, metavar="LEVEL", help="of 255: standard deviation (0)")
    parser.add_argument("--downsample", choices=("bicubic", "s-fold"), default="bicubic")


def run(args: argparse.Namespace) -> int:
    from lightbsr_cli.errors import UserError

    if args.sigma and (len(args.sigma) > 2 or min(*args.sigma, args.noise) < 0):
        raise UserError("--sigma takes one number, or one for each axis; neither it nor --noise may be negative")

    import lightbsr_arch  # noqa: F401  # before anything of BasicSR

    # isort: split
    from tqdm import tqdm

    from lightbsr_arch.data import DegradedDataset
    from lightbsr_arch.data.picture_sets import degraded_pictures, write_folder

    sigma = args.sigma[0] if args.sigma and len(args.sigma) == 1 else args.sigma
    dataset = DegradedDataset(
        {
            "name": args.src.name,
            "dataroot_gt": str(args.src),
            "io_backend": {"type": "lmdb" if args.src.suffix == ".lmdb" else "disk"},
            "settings": args.setting or [{"sigma": sigma, "theta": args.theta, "noise": args.noise}],
            "scale": args.scale,
            "downsample": args.downsample,
        }
    )
    for view in dataset.by_setting():
        name = view.settings[0].name
        pictures = tqdm(degraded_pictures(view, "lq"), desc=name, total=len(view), unit="picture")
        write_folder(args.out / name, view.keys, pictures)
    print(f"{args.out}: {len(dataset.keys)} pictures under {len(dataset.settings)} degradations")
    return 0
