"""LR/HR pairs of benchmarks under the test degradations of the published tables.

`DegradedDataset` makes the LR pictures, so they equal those of validation.
"""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from lightbsr.errors import UserError
from lightbsr_arch.data.degraded_dataset import DegradedDataset
from lightbsr_arch.data.picture_sets import degraded_pictures, write_folder, write_lmdb


def prepare_benchmarks(sources: Sequence[Path], out: Path, settings: Sequence[str], scale: int, as_lmdb: bool) -> int:
    """Write the pairs of benchmarks. Existing folders are left unchanged, and new ones appear when they are complete.

    Args:
        sources: folders of HR pictures, named after their benchmark.
        out: folder of the pairs, as OUT/Set5/x4/HR and OUT/Set5/x4/gaussian8/sigma1.8.
        settings: names of test degradations.
        scale: 2, 3 or 4.
        as_lmdb: write LMDBs, NAME.lmdb, instead of folders of PNGs.

    Returns:
        The number of folders or LMDBs, including those that existed.

    Raises:
        UserError: two benchmarks have the same name, ``out`` is one of their folders, or pictures cannot be read or
            written.
    """
    targets: set[Path] = set()
    for name, source in _by_name(sources).items():
        if out.resolve() == source.resolve():
            raise UserError(f"{out}: the folder of the HR pictures; name another for the pairs")
        for setting in settings:
            targets |= _prepare(source, out / name / f"x{scale}", setting, scale, as_lmdb)
    return len(targets)


def _by_name(sources: Sequence[Path]) -> dict[str, Path]:
    """Return the benchmarks by the names of their folders, which must differ, because the targets get these names."""
    named: dict[str, Path] = {}
    for source in sources:
        name = source.resolve().name
        if name in named:
            raise UserError(f"{named[name]} and {source} have the same name; give each its own OUT")
        named[name] = source
    return named


def _prepare(source: Path, out: Path, setting: str, scale: int, as_lmdb: bool) -> set[Path]:
    """Write the HR pictures of one benchmark and their LR pictures under one named setting, if they do not exist.

    Returns:
        The folders, or the LMDBs without their extension.
    """
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
    return {*targets}
