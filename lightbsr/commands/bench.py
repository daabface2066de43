"""``lightbsr bench``."""

import argparse
import json
import sys
import time
from pathlib import Path

from lightbsr.errors import UserError

HELP = "compare models on data sets and degradations: tables, plots, pictures"
DESCRIPTION = (
    "Measure models on data sets and degradations: PSNR-Y, SSIM-Y, NIQE, parameters, multiply-adds, latency and "
    "memory. CONFIG.yml or the flags list them. By default, the shipped weights and bicubic are compared on the demo "
    "photos. The command writes table.md, results.csv, results.json and report.html. Values of earlier runs are not "
    "computed again."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG.yml", help="options of the bench")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("results/bench"), metavar="DIR", help="output folder (%(default)s)"
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N; default: cuda if available")
    flags = parser.add_argument_group("instead of CONFIG.yml")
    flags.add_argument(
        "-m",
        "--models",
        nargs="+",
        metavar="MODEL",
        help="names of shipped weights or of other methods (realesrgan-x4plus), .safetensors, .pth, .onnx, or bicubic",
    )
    flags.add_argument("--images", nargs="+", metavar="DIR", help="HR pictures: folders, or NAME.lmdb")
    flags.add_argument(
        "--degradations",
        nargs="+",
        metavar="NAME",
        help="gaussian8 (default), setting1, setting2, bicubic, second-order",
    )
    flags.add_argument("--scale", type=int, metavar="N", help="2, 3 or 4; default 4")
    flags.add_argument("--no-cost", action="store_true", help="leave out parameters, multiply-adds, latency, memory")


def run(args: argparse.Namespace) -> int:
    flags = {"models": args.models, "datasets": args.images, "degradations": args.degradations, "scale": args.scale}
    given = {name: value for name, value in flags.items() if value is not None}
    if args.no_cost:
        given["cost"] = False
    if args.config is not None and given:
        raise UserError(f"{args.config} cannot be combined with flags ({', '.join(given)}): leave out one or the other")

    import torch

    from lightbsr_arch.bench.cache import Cache
    from lightbsr_arch.bench.config import default_bench, read_config
    from lightbsr_arch.bench.report import html_report
    from lightbsr_arch.bench.runner import Runner
    from lightbsr_arch.bench.tables import csv_table, failures, markdown, summarise
    from lightbsr_arch.device import find_device
    from lightbsr_arch.io import write_whole
    from lightbsr_arch.plugins import load_plugins

    device = find_device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    load_plugins()
    options = default_bench(**given) if args.config is None else read_config(args.config)
    cache = Cache(args.output / "cache.sqlite")
    start = time.perf_counter()
    try:
        runner = Runner(options, cache, device)
        results = runner.run()
    except KeyboardInterrupt:
        print(f"Finished values are in {cache.path}; the same command continues from there.", file=sys.stderr)
        raise
    finally:
        cache.close()
    summary = summarise(options, results, device)
    files = {
        "table.md": markdown(summary),
        "results.csv": csv_table(summary),
        "results.json": json.dumps({key: value for key, value in summary.items() if key != "crops"}, indent=1),
        "report.html": html_report(summary),
    }
    for name, text in files.items():
        write_whole(args.output / name, text.encode())
    print(markdown(summary))
    for line in failures(summary):
        print(line, file=sys.stderr)
    seconds = time.perf_counter() - start
    print(f"{results.computed} pictures upscaled, {seconds:.0f} s. Written to {args.output}: {', '.join(files)}")
    return 0 if results.complete else 1
