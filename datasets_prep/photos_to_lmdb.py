"""Photos to a BasicSR LMDB in one pass: read, cut into sub-images, encode losslessly, write.

Exit status: 0 all packed; 1 finished, but some pictures were left out (listed); 2 nothing finished.
Interrupted at any moment, the same command continues.

    python datasets_prep/photos_to_lmdb.py ~/photos datasets/photos.lmdb --crop 480 --step 240
"""

import argparse
import sys
import time
from pathlib import Path

from lightbsr_arch.data.image_io import CODECS
from lightbsr_arch.data.lmdb_prepare import Report, prepare_lmdb
from lightbsr_arch.data.picture_files import find_pictures, without
from lightbsr_arch.data.subimages import CropRule
from lightbsr_arch.errors import UserError


def main() -> int:
    args = parse_args()
    start = time.perf_counter()
    try:
        pictures = find_pictures(args.sources, args.drop_suffix)
        report = prepare_lmdb(
            without(pictures, find_pictures(args.exclude)) if args.exclude else pictures,
            args.out,
            CropRule(args.crop, args.step, args.thresh),
            args.codec,
            strict=args.strict,
            overwrite=args.overwrite,
            workers=args.workers,
        )
    except UserError as error:
        print(f"photos_to_lmdb: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"photos_to_lmdb: interrupted; the same command continues {args.out}", file=sys.stderr)
        return 2
    print_report(report, args.out, time.perf_counter() - start)
    return 1 if report.skipped else 0


def print_report(report: Report, out: Path, seconds: float) -> None:
    size = (out / "data.mdb").stat().st_size
    print(f"{out}: {len(report.entries)} entries, {size / 1e6:.1f} MB, {seconds:.1f} s")
    if report.skipped:
        print(f"{len(report.skipped)} left out:", file=sys.stderr)
    for path, reason in report.skipped:
        print(f"  {path}: {reason}", file=sys.stderr)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="SRC", help="folder, glob or file")
    parser.add_argument("out", type=Path, metavar="OUT.lmdb", help="target folder; its name ends with .lmdb")
    parser.add_argument("--crop", type=int, default=480, help="side of the sub-images; 0 packs whole pictures (480)")
    parser.add_argument("--step", type=int, default=240, help="distance between sub-images (240)")
    parser.add_argument("--thresh", type=int, default=0, help="a rest of up to this many pixels gets no sub-image (0)")
    parser.add_argument(
        "--codec", choices=CODECS, default="png", help="lossless all: png, bmp (large, reads fastest), webp (small)"
    )
    parser.add_argument("--drop-suffix", default="", metavar="X", help="cut from names, as x4 in 0001x4.png")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="SRC", help="leave out pictures of these names (held back)"
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first picture that cannot be used")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing target, when the new one is done")
    parser.add_argument("--workers", type=int, help="processes that crop and encode (one per core)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
