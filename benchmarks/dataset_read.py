"""Training samples per second (crop 256, 2 workers) of BasicSR's reading of a PNG LMDB and of `GTDataset`.

    python benchmarks/dataset_read.py --photos DIR

BasicSR's data sets use FileClient, imfrombytes of the whole sub-image as float32, a random crop, augment and
img2tensor. The LMDBs contain the same 480x480 sub-images of the photos.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightbsr_arch  # noqa: F401  # before BasicSR, which it makes importable

# isort: split
from basicsr.data.data_util import paths_from_lmdb
from basicsr.data.transforms import augment
from basicsr.utils import FileClient, imfrombytes, img2tensor
from machine import describe
from torch.utils.data import DataLoader, Dataset, RandomSampler

from lightbsr_arch.data.gt_dataset import GTDataset
from lightbsr_arch.data.lmdb_prepare import prepare_lmdb
from lightbsr_arch.data.picture_files import find_pictures
from lightbsr_arch.data.subimages import CropRule

CROP, BATCH = 256, 16


class BasicSRPath(Dataset[Any]):
    """The code of BasicSR's data sets that reads a PNG LMDB."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.keys = paths_from_lmdb(str(root))
        self.client: FileClient | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.client is None:
            self.client = FileClient("lmdb", db_paths=[str(self.root)], client_keys=["gt"])
        image = imfrombytes(self.client.get(self.keys[index], "gt"), float32=True)
        top = random.randint(0, image.shape[0] - CROP)
        left = random.randint(0, image.shape[1] - CROP)
        crop = augment(image[top : top + CROP, left : left + CROP], hflip=True, rotation=True)
        return {"gt": img2tensor(crop, bgr2rgb=True, float32=True), "gt_path": self.keys[index]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos, with sides of 480 pixels or more")
    parser.add_argument("--work", type=Path, help="folder for the LMDBs; default: a temporary folder")
    parser.add_argument("--seconds", type=float, default=5, help="seconds per run (5)")
    parser.add_argument("--runs", type=int, default=3, help="number of alternating runs; the fastest counts (3)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--start-method", choices=("fork", "spawn"), default="fork", help="of the workers")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        png, bmp = Path(work) / "png.lmdb", Path(work) / "bmp.lmdb"
        pictures = find_pictures([args.photos])
        for out in (png, bmp):
            entries = prepare_lmdb(pictures, out, CropRule(480, 240), out.stem, quiet=True).entries
        cache_gb = 1.01 * len(entries) * 480 * 480 * 3 / 1e9
        loaders = {
            "BasicSR's path, png LMDB": lambda: BasicSRPath(png),
            "GTDataset, png LMDB": lambda: gt_dataset(png),
            "GTDataset, bmp LMDB": lambda: gt_dataset(bmp),
            f"GTDataset, cache_gb {cache_gb:.1f}": lambda: warm(gt_dataset(bmp, cache_gb)),
        }
        rates = measure(loaders, args)
        png_mb, bmp_mb = ((path / "data.mdb").stat().st_size / 1e6 for path in (png, bmp))
    print(f"machine: {describe('torch', 'basicsr', 'opencv-python')}; {args.workers} workers by {args.start_method}")
    print(f"data: {len(pictures)} photos, {len(entries)} sub-images; png {png_mb:.0f} MB, bmp {bmp_mb:.0f} MB")
    base = next(iter(rates.values()))
    for name, rate in rates.items():
        print(f"{name:28} {rate:8.0f} samples/s   {rate / base:5.2f}x")


def gt_dataset(root: Path, cache_gb: float = 0) -> GTDataset:
    return GTDataset({"dataroot_gt": str(root), "io_backend": {"type": "lmdb"}, "gt_size": CROP, "cache_gb": cache_gb})


def warm(dataset: GTDataset) -> GTDataset:
    """Fill the cache, as in the first epoch."""
    for index in range(len(dataset)):
        dataset[index]
    return dataset


def measure(datasets: dict[str, Callable[[], Dataset[Any]]], args: argparse.Namespace) -> dict[str, float]:
    """Return the samples per second of each, the best of all runs. The page cache is warm after the first run."""
    loaders = {}
    for name, make in datasets.items():
        dataset = make()
        loaders[name] = DataLoader(
            dataset,
            batch_size=BATCH,
            sampler=RandomSampler(dataset, replacement=True, num_samples=10**7),  # type: ignore[arg-type]
            num_workers=args.workers,
            multiprocessing_context=args.start_method,
        )
    rates = dict.fromkeys(loaders, 0.0)
    for _ in range(args.runs):
        for name, loader in loaders.items():
            rates[name] = max(rates[name], samples_per_second(loader, args.seconds))
    return rates


def samples_per_second(loader: DataLoader[Any], seconds: float) -> float:
    batches = iter(loader)
    for _ in range(4):  # the workers' start is not counted
        next(batches)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        next(batches)
        count += BATCH
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
