"""Packing of photos as an LMDB of 480x480 PNG sub-images: time and peak disk space of this package and of BasicSR.

    python benchmarks/dataset_prep.py --photos DIR

The photos in DIR are first converted to PNG. Both programs start from these PNGs as separate processes. Their times
include their imports. BasicSR's second step is its own `make_lmdb_from_imgs`. Its first step, extract_subimages.py, is
not in the package from PyPI and is reproduced here: a pool of 20 processes, cv2.imread, the loop of crops, and
cv2.imwrite with compression level 3. The two results are compared pixel by pixel.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
from machine import describe

from lightbsr_arch.basicsr_patches.functional_tensor import provide_functional_tensor

CROP, STEP, THRESH = 480, 240, 0
PREPARE = Path(__file__).parents[1] / "datasets_prep" / "photos_to_lmdb.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos, with sides of 480 pixels or more")
    parser.add_argument("--work", type=Path, help="folder for the files; default: a temporary folder")
    parser.add_argument("--runs", type=int, default=1, help="number of alternating runs; the fastest counts (1)")
    parser.add_argument("--basicsr", nargs=2, type=Path, metavar=("PHOTOS", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.basicsr:
        run_basicsr(*args.basicsr)
        return
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        compare(args.photos, Path(work), args.runs)


def compare(photos: Path, work: Path, runs: int) -> None:
    source = work / "photos"
    count, size = to_png(photos, source)
    ours, theirs = [], []
    for run in range(runs):
        out = work / f"run{run}"
        out.mkdir()
        command = [PREPARE, source, out / "ours.lmdb", "--crop", CROP, "--step", STEP, "--thresh", THRESH]
        ours.append(measure(command, out))
        (out / "basicsr").mkdir()
        theirs.append(measure([__file__, "--photos", photos, "--basicsr", source, out / "basicsr"], out / "basicsr"))
    entries = check_equal(out / "ours.lmdb", out / "basicsr" / "sub.lmdb")
    print(f"machine: {describe('basicsr', 'opencv-python', 'lmdb')}")
    print(f"data: {count} photos, {size / 1e6:.0f} MB of PNG; {entries} sub-images of {CROP}x{CROP}, equal in both")
    for name, results in (("BasicSR's two scripts", theirs), ("photos_to_lmdb.py", ours)):
        seconds, disk = min(results)
        print(f"{name:22} {seconds:7.1f} s   peak disk {disk / 1e6:7.0f} MB")
    print(f"ratio: {min(theirs)[0] / min(ours)[0]:.2f}x the time, {min(theirs)[1] / min(ours)[1]:.2f}x the disk")


def to_png(photos: Path, out: Path) -> tuple[int, int]:
    """Copy photos of any format as PNG, which both programs accept. Return their number and bytes."""
    out.mkdir()
    images: dict[str, Any] = {path.stem: cv2.imread(str(path)) for path in sorted(photos.iterdir())}
    for name, image in images.items():
        if image is not None and min(image.shape[:2]) >= CROP:  # BasicSR's script drops smaller ones silently
            cv2.imwrite(str(out / f"{name}.png"), image)
    sizes = [path.stat().st_size for path in out.iterdir()]
    return len(sizes), sum(sizes)


def measure(command: list[object], folder: Path) -> tuple[float, int]:
    """Run a Python script. Return the seconds, and the largest size of ``folder`` during the run, in bytes."""
    peak, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.2):
            peak = max(peak, disk_usage(folder))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        subprocess.run([sys.executable, *map(str, command)], check=True, stdout=subprocess.DEVNULL, stderr=sys.stderr)
    finally:
        seconds = time.perf_counter() - start
        ended.set()
        watcher.join()
    return seconds, max(peak, disk_usage(folder))


def disk_usage(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512  # blocks are counted, because LMDB's file is sparse
        except FileNotFoundError:  # renamed during the search
            continue
    return total


def run_basicsr(source: Path, out: Path) -> None:
    """Run BasicSR's extract_subimages.py, then its create_lmdb.py."""
    provide_functional_tensor()
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    sub = out / "sub"
    sub.mkdir()
    with Pool(20) as pool:
        for path in sorted(source.iterdir()):
            pool.apply_async(extract, (str(path), sub))
        pool.close()
        pool.join()
    names = sorted(path.name for path in sub.iterdir())
    make_lmdb_from_imgs(str(sub), str(out / "sub.lmdb"), names, [name.split(".png")[0] for name in names])


def extract(path: str, sub: Path) -> None:
    image: Any = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    h, w = image.shape[:2]
    h_space = np.arange(0, h - CROP + 1, STEP)
    if h - (h_space[-1] + CROP) > THRESH:
        h_space = np.append(h_space, h - CROP)
    w_space = np.arange(0, w - CROP + 1, STEP)
    if w - (w_space[-1] + CROP) > THRESH:
        w_space = np.append(w_space, w - CROP)
    index = 0
    for x in h_space:
        for y in w_space:
            index += 1
            crop = np.ascontiguousarray(image[x : x + CROP, y : y + CROP])
            cv2.imwrite(str(sub / f"{Path(path).stem}_s{index:03d}.png"), crop, [cv2.IMWRITE_PNG_COMPRESSION, 3])


def check_equal(ours: Path, theirs: Path) -> int:
    with (
        lmdb.open(str(ours), readonly=True, lock=False) as a,
        lmdb.open(str(theirs), readonly=True, lock=False) as b,
        a.begin() as our_entries,
        b.begin() as their_entries,
    ):
        for key, data in our_entries.cursor():
            if not np.array_equal(decode(data), decode(their_entries.get(key, b"missing"))):
                raise SystemExit(f"{key.decode()} differs")
        if a.stat()["entries"] != b.stat()["entries"]:
            raise SystemExit("the numbers of entries differ")
        return a.stat()["entries"]


def decode(data: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


if __name__ == "__main__":
    main()
