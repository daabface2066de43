"""Sizes and times of the lossless codecs on 480x480 sub-images, on one core, as in the table of docs/datasets.md.

python benchmarks/codecs.py --photos DIR [--count 80]
"""

import argparse
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from machine import describe

from lightbsr_arch.data.image_io import CODECS, Picture, encode_image, read_image
from lightbsr_arch.data.picture_files import find_pictures

SIZE = 480


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos, with sides of 480 pixels or more")
    parser.add_argument("--count", type=int, default=80, help="sub-images, two per photo (80)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    pictures = find_pictures([args.photos])
    rng = random.Random(0)
    images: list[Picture] = []
    for index in range(0, args.count, 2):
        photo = read_image(pictures[index // 2 % len(pictures)].path)
        images += [random_crop(photo, rng) for _ in range(2)]
    print(f"machine: {describe('opencv-python')}")
    print(f"data: {len(images)} sub-images of {SIZE}x{SIZE} pixels, two per photo")
    print("codec   MB/1000   encode ms   decode ms")
    for codec in CODECS:
        encoded, encode_ms = timed(partial(encode_image, codec=codec), images)
        _, decode_ms = timed(lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), encoded)
        print(f"{codec:6} {sum(map(len, encoded)) / len(encoded) / 1e3:8.0f} {encode_ms:11.1f} {decode_ms:11.1f}")


def random_crop(photo: Picture, rng: random.Random) -> Picture:
    top, left = (rng.randint(0, side - SIZE) for side in photo.shape[:2])
    return np.ascontiguousarray(photo[top : top + SIZE, left : left + SIZE])


def timed(function: Callable[[Any], Any], items: list[Any]) -> tuple[list[Any], float]:
    """Return the results, and the milliseconds per call in the fastest of three passes."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        results = [function(item) for item in items]
        best = min(best, time.perf_counter() - start)
    return results, best / len(items) * 1e3


if __name__ == "__main__":
    main()
