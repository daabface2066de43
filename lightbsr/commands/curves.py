"""``lightbsr curves``."""

import argparse
from pathlib import Path

HELP = "draw the losses and validation figures of training runs"
DESCRIPTION = (
    "Draw the TensorBoard logs of training runs as one picture. Each run is a column with its losses above and the "
    "PSNR-Y of the validation sets below."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of tb_logger/, or its name")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("curves.png"), metavar="PNG", help="the picture; default %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    from lightbsr_arch.analysis.curves import plot_curves

    folders = [Path(run) if Path(run).is_dir() else Path("tb_logger") / run for run in args.runs]
    names = [folder.name for folder in folders]
    titles = [str(folder) if names.count(folder.name) > 1 else folder.name for folder in folders]
    plot_curves(dict(zip(titles, folders)), args.output)
    print(f"Written: {args.output}")
    return 0
