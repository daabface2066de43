"""``lightbsr data``, which prepares training and test sets."""

import argparse
import sys
import time
from pathlib import Path

from lightbsr.commands.outcome import run_command
from lightbsr.defaults import CODECS, PUBLISHED_SETTINGS, SCALES
from lightbsr.errors import UserError, one_line

HELP = "prepare and verify data sets"
DESCRIPTION = "Pack photos into BasicSR's LMDB, make benchmark pairs and DF2K, and verify LMDBs."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in _COMMANDS:
        help_text, description = _COMMANDS[name][:2]
        _complete(commands.add_parser(name, help=help_text, description=description), name, f"lightbsr data {name}")


def run(args: argparse.Namespace) -> int:
    try:
        code: int = args.run_data(args)
    except KeyboardInterrupt:
        out = f" {args.out}" if "out" in args else ""
        print(f"{args.label}: interrupted; the same command continues{out}", file=sys.stderr)
        return 2
    return code


def main_of_script(script: str, name: str) -> int:
    """Run ``lightbsr data NAME`` under the name of a script of ``datasets_prep/``; return the exit code."""
    parser = argparse.ArgumentParser(prog=f"{script}.py", description=_COMMANDS[name][1])
    _complete(parser, name, script)
    args = parser.parse_args()
    return run_command(run, args, args.label)


def _complete(parser: argparse.ArgumentParser, name: str, label: str) -> None:
    _, _, add, run_data = _COMMANDS[name]
    add(parser)
    parser.set_defaults(run_data=run_data, label=label)


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", metavar="SRC", help="folder, glob or file")
    parser.add_argument("out", type=Path, metavar="OUT.lmdb", help="target folder; its name ends with .lmdb")
    _add_cutting(parser)
    parser.add_argument(
        "--thresh",
        type=int,
        default=0,
        help="largest remainder at an edge that gets no sub-image, in pixels (0)",
    )
    parser.add_argument(
        "--drop-suffix", default="", metavar="X", help="text to remove from names, such as x4 in 0001x4.png"
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="SRC",
        help="leave out pictures whose names equal those of these held-out pictures",
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first picture that cannot be used")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an existing target once the new one is complete"
    )
    parser.add_argument("--workers", type=int, help="processes that crop and encode (one per core)")


def _prepare(args: argparse.Namespace) -> int:
    from lightbsr_arch.data.lmdb_prepare import prepare_lmdb
    from lightbsr_arch.data.picture_files import find_pictures, without
    from lightbsr_arch.data.subimages import CropRule

    start = time.perf_counter()
    pictures = find_pictures(args.sources, args.drop_suffix)
    report = prepare_lmdb(
        without(pictures, find_pictures(args.exclude)) if args.exclude else pictures,
        args.out,
        CropRule(args.crop, args.step, args.thresh, tuple(args.shrink)),
        args.codec,
        strict=args.strict,
        overwrite=args.overwrite,
        workers=args.workers,
    )
    size, seconds = (args.out / "data.mdb").stat().st_size, time.perf_counter() - start
    print(f"{args.out}: {len(report.entries)} entries, {size / 1e6:.1f} MB, {seconds:.1f} s")
    if report.skipped:
        print(f"{len(report.skipped)} left out:", file=sys.stderr)
    for path, reason in report.skipped:
        print(one_line(f"  {path}: {reason}"), file=sys.stderr)
    return 1 if report.skipped else 0


def _add_benchmarks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="HR", help="folder of HR pictures, such as datasets/Set5"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the pairs")
    parser.add_argument("--scale", type=int, choices=SCALES, default=4)
    parser.add_argument(
        "--settings", nargs="+", choices=PUBLISHED_SETTINGS, default=PUBLISHED_SETTINGS, help="degradations (all)"
    )
    parser.add_argument("--lmdb", action="store_true", help="LMDBs instead of folders of PNGs")


def _benchmarks(args: argparse.Namespace) -> int:
    import lightbsr_arch  # noqa: F401  # makes BasicSR importable

    # isort: split
    from lightbsr_arch.data.benchmarks import prepare_benchmarks

    number = prepare_benchmarks(args.sources, args.out, args.settings, args.scale, args.lmdb)
    print(one_line(f"{args.out}: {number} {'LMDBs' if args.lmdb else 'folders'}, complete"))
    return 0


def _add_df2k(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the archives")
    parser.add_argument("out", type=Path, metavar="OUT.lmdb", help="target folder; its name ends with .lmdb")
    parser.add_argument("--download", action="store_true", help="download missing archives")
    _add_cutting(parser)


def _df2k(args: argparse.Namespace) -> int:
    from lightbsr_arch.data.df2k import fetch_df2k
    from lightbsr_arch.data.lmdb_prepare import prepare_lmdb
    from lightbsr_arch.data.picture_files import find_pictures
    from lightbsr_arch.data.subimages import CropRule

    pictures = find_pictures(fetch_df2k(args.folder, args.download))
    report = prepare_lmdb(
        pictures, args.out, CropRule(args.crop, args.step, shrink=tuple(args.shrink)), args.codec, strict=True
    )
    print(f"{args.out}: {len(report.entries)} entries")
    return 0


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lmdb", type=Path, nargs="+", metavar="NAME.lmdb")


def _verify(args: argparse.Namespace) -> int:
    from lightbsr_arch.data.lmdb_verify import verify_lmdb

    status = 0
    for path in args.lmdb:
        try:
            count, faults = verify_lmdb(path)
        except UserError as error:
            print(f"{args.label}: {error.shown()}", file=sys.stderr)
            status = 2
            continue
        print(one_line(f"{path}: {count} entries, {len(faults)} faults"))
        for fault in faults:
            print(f"  {fault}", file=sys.stderr)
        status = max(status, int(bool(faults)))
    return status


def _add_cutting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crop", type=int, default=480, help="side of the sub-images; 0 packs whole pictures (480)")
    parser.add_argument("--step", type=int, default=240, help="distance between sub-images (240)")
    parser.add_argument(
        "--shrink",
        type=float,
        nargs="+",
        default=[],
        metavar="FACTOR",
        help="also pack each picture shrunk by these factors, such as 0.75 0.5 (Lanczos)",
    )
    parser.add_argument(
        "--codec",
        choices=CODECS,
        default="png",
        help="lossless codec: png, bmp (large, read fastest) or webp (small)",
    )


_COMMANDS = {
    "prepare": (
        "pack photos into an LMDB",
        "Pack photos into a BasicSR LMDB in one pass: read, cut into sub-images, encode losslessly, write. Exit "
        "status: 0 all packed; 1 finished, but some pictures were left out and listed; 2 not finished. After an "
        "interruption, the same command continues.",
        _add_prepare,
        _prepare,
    ),
    "benchmarks": (
        "make LR/HR pairs of benchmarks",
        "Make LR/HR pairs from the HR pictures of benchmarks with the test degradations of the published tables. The "
        "LR pictures equal those of validation. The folders are OUT/Set5/x4/HR, OUT/Set5/x4/gaussian8/sigma1.8 and so "
        "on. With --lmdb, each is an LMDB, NAME.lmdb. Both pictures of a pair have the same name, as BasicSR's "
        "PairedImageDataset expects. Existing folders are not changed. A folder appears when it is complete.",
        _add_benchmarks,
        _benchmarks,
    ),
    "df2k": (
        "pack DIV2K and Flickr2K into an LMDB",
        "Pack the HR pictures of DIV2K (800) and Flickr2K (2650) into one LMDB. FOLDER contains the published "
        "archives. --download downloads missing ones (about 24 GB) and continues an interrupted download. The command "
        "checks the archives and extracts the HR pictures beside them.",
        _add_df2k,
        _df2k,
    ),
    "verify": (
        "check every entry of an LMDB",
        "Decode every entry of LMDBs and compare it with meta_info.txt. Exit status: 0 no faults; 1 faults, listed; 2 "
        "an LMDB cannot be opened.",
        _add_verify,
        _verify,
    ),
}
