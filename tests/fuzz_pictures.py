"""Mutated pictures for the readers and writers. Each must be done or refused. Any other outcome is a fault.

    python -m tests.fuzz_pictures --minutes 30

The script prints the numbers of done, refused and unexpected pictures, and exits with 1 if any was unexpected. A
picture depends only on its number, so ``--first 1234 --count 1`` tests one of them again. The pictures are read in a
child process. Its end by a signal, and a picture that takes more than a minute, count as unexpected.
"""

import argparse
import multiprocessing
import random
import struct
import sys
import time
import traceback
import zlib
from collections import Counter
from functools import cache
from multiprocessing.connection import Connection

from lightbsr.errors import UserError
from lightbsr_arch.data.image_io import read_image
from lightbsr_arch.data.reader import read_header, read_picture
from lightbsr_arch.inference.pictures import FORMATS, encode, fit
from tests.corpus import READ, REFUSED
from tests.data import test_reader_matrix as matrix

LONGEST_SECONDS = 60
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@cache
def originals() -> list[bytes]:
    """Return pictures of every format, in many kinds."""
    found = [case.data for case in [*READ, *REFUSED] if case.data]
    found += list(matrix.jpegs().values())
    for photometric in ("minisblack", "rgb"):
        for bits in (8, 16):
            found += [data for _, data, _ in list(matrix.tiffs(photometric, bits))[::12]]
    found += [data for data, _ in matrix.refused_tiffs().values()]
    found += [matrix.example(kind) for kind in matrix.EXAMPLES]
    return found


def mutated(number: int) -> bytes:
    """Return the picture of a number."""
    rng = random.Random(number)
    data = bytearray(rng.choice(originals()))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        # Headers are short and have the largest effect, so half of the positions are in the first bytes.
        position = rng.randrange(min(len(data), rng.choice((64, 512, 2**30))))
        length = rng.choice((1, 2, 4, 8, 64, 1024))
        kind = rng.randrange(8)
        if kind == 0:
            data[position] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[position] = rng.randrange(256)
        elif kind == 2:
            data[position : position + length] = rng.randbytes(length)
        elif kind == 3:
            form = rng.choice(("<H", ">H", "<I", ">I"))
            size = struct.calcsize(form)
            number_there = rng.choice(_NUMBERS) % 256**size
            data[position : position + size] = struct.pack(form, number_there)
        elif kind == 4:
            del data[position : position + length]
        elif kind == 5:
            data[position:position] = data[position : position + length]
        elif kind == 6:
            other = rng.choice(originals())
            start = rng.randrange(len(other))
            data[position : position + length] = other[start : start + length]
        else:
            del data[rng.randrange(len(data)) :]
        if not data:
            break
    return _with_checksums(bytes(data)) if rng.random() < 0.7 else bytes(data)


def outcome(number: int) -> str:
    """Return ``done`` or ``refused``. Other exceptions are not caught."""
    data = mutated(number)
    try:
        header = read_header(data, "p")
        picture = read_picture(data, "p")
        image = read_image(data, "p")
    except UserError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert message.startswith("p: ")
        assert "\n" not in message
        return "refused"
    assert image.shape == (header.height, header.width, 3)
    assert picture.pixels.shape[:2] == image.shape[:2]
    codec = list(FORMATS)[number % len(FORMATS)]
    if max(image.shape) < 2000:
        read_picture(encode(fit(picture, codec), codec))
    return "done"


def _with_checksums(data: bytes) -> bytes:
    """Correct the checksums of the chunks of a mutated PNG, so that not only the checksums are tested."""
    if not data.startswith(_SIGNATURE):
        return data
    repaired, position = bytearray(data), len(_SIGNATURE)
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if end + 4 > len(data):
            break
        repaired[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(repaired)


def _work(pipe: "Connection[tuple[str, str], int]") -> None:
    while True:
        number = pipe.recv()
        try:
            pipe.send((outcome(number), ""))
        except Exception:
            pipe.send(("unexpected", traceback.format_exc()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (30)")
    parser.add_argument("--count", type=int, help="how many, instead of how long")
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER", help="number of the first picture (0)")
    args = parser.parse_args()
    end = time.monotonic() + 60 * args.minutes
    counts: Counter[str] = Counter()
    child = None
    number = args.first
    while number < args.first + args.count if args.count else time.monotonic() < end:
        if child is None:
            pipe, other_end = multiprocessing.Pipe()
            child = multiprocessing.Process(target=_work, args=(other_end,), daemon=True)
            child.start()
            other_end.close()
        pipe.send(number)
        try:
            result, why = pipe.recv() if pipe.poll(LONGEST_SECONDS) else ("unexpected", f"over {LONGEST_SECONDS} s\n")
        except EOFError:
            child.join()
            result, why = "unexpected", f"the process ended with {child.exitcode}\n"
        if result == "unexpected":
            print(f"--first {number} --count 1: {why}", end="", flush=True)
            child.kill()
            child = None
        counts[result] += 1
        number += 1
    print(", ".join(f"{counts[kind]} {kind}" for kind in ("done", "refused", "unexpected")))
    return 1 if counts["unexpected"] else 0


if __name__ == "__main__":
    sys.exit(main())
