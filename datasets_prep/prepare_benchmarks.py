"""HR pictures of a benchmark to LR/HR pairs, under the test degradations of the published tables.

LR pictures are those that validation with `DegradedDataset` makes on the fly: the same code writes them. For each
benchmark (a folder of HR pictures named after it):

    OUT/Set5/x4/HR                            cut to multiples of the scale
    OUT/Set5/x4/gaussian8/sigma1.8            and seven more
    OUT/Set5/x4/setting1/sigma1.2             sigma0 is bicubic alone
    OUT/Set5/x4/setting2/sigma3.5x1.5_theta30_noise10

with --lmdb each of these is an LMDB, NAME.lmdb. Pairs have the same names, as BasicSR's PairedImageDataset asks. What
exists is left as it is; each folder appears when it is complete.

    python datasets_prep/prepare_benchmarks.py datasets/Set5 datasets/Set14 datasets/benchmarks --scale 4
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from lightbsr_arch.data.degraded_dataset import DegradedDataset
from lightbsr_arch.data.picture_sets import degraded_pictures, write_folder, write_lmdb
from lightbsr_arch.errors import UserError

SETTINGS = ("gaussian8", "setting1", "setting2")


def main() -> int:
    args = parse_args()
    try:
        for name, source in by_name(args.sources).items():
            for setting in args.settings:
                prepare(source, args.out / name / f"x{args.scale}", setting, args.scale, args.lmdb)
    except UserError as error:
        print(f"prepare_benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("prepare_benchmarks: interrupted; the same command continues", file=sys.stderr)
        return 2
    return 0


def by_name(sources: list[Path]) -> dict[str, Path]:
    """The benchmarks by their folders' names, which the targets take; two of one name would be mixed."""
    named: dict[str, Path] = {}
    for source in sources:
        name = source.resolve().name
        if name in named:
            raise UserError(f"{named[name]} and {source} have one name; give them an OUT each")
        named[name] = source
    return named


def prepare(source: Path, out: Path, setting: str, scale: int, as_lmdb: bool) -> None:
    """Write the HR pictures of one benchmark and their LR pictures under one of `SETTINGS`, where not there yet."""
    dataset = DegradedDataset(
        {
            "name": source.name,
            "dataroot_gt": str(source),
            "io_backend": {"type": "disk"},
            "settings": setting,
            "scale": scale,
        }
    )
    views = list(dataset.by_setting())
    targets = {out / "HR": (views[0], "gt")}
    targets.update({out / setting / view.settings[0].name: (view, "lq") for view in views})
    for target, (view, kind) in tqdm(targets.items(), desc=f"{source.name} {setting}", unit="set"):
        if as_lmdb:
            write_lmdb(target.with_name(target.name + ".lmdb"), view.keys, degraded_pictures(view, kind))
        else:
            write_folder(target, view.keys, degraded_pictures(view, kind))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, metavar="HR", help="folder of HR pictures, as datasets/Set5")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the pairs")
    parser.add_argument("--scale", type=int, choices=(2, 3, 4), default=4)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS, help="which degradations (all)")
    parser.add_argument("--lmdb", action="store_true", help="LMDBs instead of folders of PNGs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
