"""``lightbsr bench``."""

import argparse
from pathlib import Path

HELP = "compare models on data sets and degradations: tables, plots, pictures"
DESCRIPTION = (
    "Compare models on data sets under degradations: PSNR-Y, SSIM-Y, NIQE, parameters, multiply-adds, latency, memory. "
    "CONFIG.yml says what; without it, the shipped weights and bicubic run on the demo photos, or on what the flags "
    "say. Writes table.md, results.csv, results.json and report.html. What was computed before is not computed again."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG.yml", help="what to compare")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("results/bench"), metavar="DIR", help="where to write (%(default)s)"
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N; cuda where there is one unless given")
    flags = parser.add_argument_group("instead of CONFIG.yml")
    flags.add_argument(
        "-m",
        "--models",
        nargs="+",
        metavar="MODEL",
        help="names of shipped weights, .safetensors, .pth, .onnx, or bicubic",
    )
    flags.add_argument("--images", nargs="+", metavar="DIR", help="HR pictures: folders, or NAME.lmdb")
    flags.add_argument(
        "--degradations",
        nargs="+",
        metavar="NAME",
        help="gaussian8 (unless given), setting1, setting2, bicubic, second-order",
    )
    flags.add_argument("--scale", type=int, metavar="N", help="2, 3 or 4 (unless given)")
    flags.add_argument("--no-cost", action="store_true", help="leave out parameters, multiply-adds, latency, memory")


def run(args: argparse.Namespace) -> int:
    from lightbsr_arch.bench.command import bench

    flags = {"models": args.models, "datasets": args.images, "degradations": args.degradations, "scale": args.scale}
    given = {name: value for name, value in flags.items() if value is not None}
    if args.no_cost:
        given["cost"] = False
    return bench(args.config, given, args.output, args.device)
