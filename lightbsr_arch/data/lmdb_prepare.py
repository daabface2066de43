"""Packing of pictures into an LMDB in one pass. Worker processes read, crop and encode. The main process writes.

Each worker has its own pipe, which blocks while the writer is behind. Memory is therefore limited to one decoded
picture per worker and one batch in the writer. If a worker dies, its pipe ends.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import product
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import cv2
from tqdm import tqdm

from lightbsr.errors import UserError, reason_of
from lightbsr_arch.data.image_io import CODECS, encode_image, read_image
from lightbsr_arch.data.lmdb_writer import LmdbWriter
from lightbsr_arch.data.meta_info import MetaLine
from lightbsr_arch.data.picture_files import PictureFile
from lightbsr_arch.data.subimages import CropRule

_Pipe: TypeAlias = "Connection[Any, Any]"


@dataclass
class Report:
    """The result of a preparation: the entries of the LMDB in order, and (path, reason) of each picture left out."""

    entries: list[MetaLine] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    bytes_put: int = 0


def prepare_lmdb(
    pictures: Sequence[PictureFile],
    out: Path,
    rule: CropRule,
    codec: str = "png",
    *,
    strict: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    start_method: str | None = None,
    quiet: bool = False,
) -> Report:
    """Crop and encode pictures into the LMDB ``out``, continuing an interrupted run of the same recipe.

    Args:
        pictures: pictures from `find_pictures`, in the order of ``meta_info.txt``.
        out: the target, ``NAME.lmdb``.
        rule: the sub-images to cut.
        codec: ``png``, ``bmp`` or ``webp``.
        strict: whether to raise an error for the first unusable picture instead of leaving it out.
        overwrite: whether to replace an existing target.
        workers: processes that crop and encode; by default one per available core.
        start_method: start method of `multiprocessing`; by default ``fork`` on Linux, which avoids imports in the
            workers.
        quiet: whether to show no progress bar.

    Raises:
        UserError: see `LmdbWriter`; no picture could be used; a picture has the key of another's shrunk version; or a
            worker was killed.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: expected at least 1")
    _check_keys(pictures, rule)
    recipe = {
        **asdict(rule),
        "shrink": list(rule.shrink),
        "codec": codec,
        "sources": [_fingerprint(picture) for picture in pictures],
    }
    report = Report()
    with (
        LmdbWriter(out, recipe, overwrite) as writer,
        _workers(workers or _available_cores(), rule, codec, start_method) as pipes,
    ):
        todo = [picture for picture in pictures if picture.name not in writer.done]
        total, left = (sum(_size(picture.path) for picture in some) for some in (pictures, todo))
        with tqdm(total=total, initial=total - left, unit="B", unit_scale=True, disable=quiet, desc=out.name) as bar:
            for picture, reason in _run(pipes, todo, writer):
                if reason is not None:
                    if strict:
                        raise UserError(f"{picture.path}: {reason} (--strict stops here)")
                    report.skipped.append((picture.path, reason))
                bar.update(_size(picture.path))
                bar.set_postfix_str(f"{writer.bytes_put / 1e6:.0f} MB written", refresh=False)
        report.skipped.sort()
        if len(report.skipped) == len(pictures):
            path, reason = report.skipped[0]
            writer.discard()
            raise UserError(f"{out}: none of the {len(pictures)} pictures can be used; the first, {path}: {reason}")
        report.entries = writer.finish([picture.name for picture in pictures])
        report.bytes_put = writer.bytes_put
    return report


class _Entry(NamedTuple):
    """A worker's message: one encoded sub-image."""

    line: MetaLine
    data: bytes


class _End(NamedTuple):
    """A worker's message: a picture is finished. ``reason`` says why it cannot be used, or is None."""

    reason: str | None


def _run(
    pipes: Sequence[_Pipe], pictures: Sequence[PictureFile], writer: LmdbWriter
) -> Iterator[tuple[PictureFile, str | None]]:
    """Pass pictures to idle workers and write their entries. Yield each picture with the reason if it was left out."""
    waiting = iter(pictures)
    busy: dict[_Pipe, tuple[PictureFile, list[MetaLine]]] = {}

    def start_next(pipe: _Pipe) -> None:
        if picture := next(waiting, None):
            busy[pipe] = (picture, [])
            pipe.send(picture)

    for pipe in pipes:
        start_next(pipe)
    while busy:
        for pipe in cast(list[_Pipe], wait(list(busy))):
            picture, lines = busy[pipe]
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                raise UserError(
                    f"{picture.path}: the process reading it was killed (too little memory?); "
                    "the same command continues"
                ) from None
            if isinstance(message, _Entry):
                writer.put(message.line.key, message.data)
                lines.append(message.line)
                continue
            del busy[pipe]
            start_next(pipe)
            if message.reason is None:
                writer.finish_picture(picture.name, lines)
            yield picture, message.reason


@contextmanager
def _workers(count: int, rule: CropRule, codec: str, start_method: str | None) -> Iterator[list[_Pipe]]:
    """Start worker processes with a pipe each, and end them when the block is left."""
    context: Any = multiprocessing.get_context(start_method or ("fork" if sys.platform == "linux" else "spawn"))
    pipes, processes = [], []
    try:
        with _ctrl_c_held_back(), _opencv_single_threaded():
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, ours, rule, codec), daemon=True)
                process.start()
                theirs.close()
                pipes.append(ours)
                processes.append(process)
        yield pipes
    finally:
        for pipe, process in zip(pipes, processes):
            pipe.close()
            process.kill()  # a handler of SIGTERM is inherited, and need not end the process
        for process in processes:
            process.join()


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Delay Ctrl-C until the end of the block. Python loses a KeyboardInterrupt in its hooks around a fork."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _opencv_single_threaded() -> Iterator[None]:
    """Stop OpenCV's threads. A process that is forked while they run waits for them for ever, as it has no copy."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _work(pipe: _Pipe, other_end: _Pipe, rule: CropRule, codec: str) -> None:
    """Read pictures and send their sub-images until the pipe closes."""
    other_end.close()  # inherited; if it stays open, this process does not notice the end of the main process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main process handles it
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(0)  # read_image reports pictures that cannot be decoded
    with suppress(EOFError, OSError):
        while True:
            picture: PictureFile = pipe.recv()
            for message in _messages(picture, rule, codec):
                pipe.send(message)


def _messages(picture: PictureFile, rule: CropRule, codec: str) -> Iterator[_Entry | _End]:
    """Yield a worker's messages about one picture."""
    try:
        yield from _entries(picture, rule, codec)
    except Exception as error:  # no error of one picture may stop the others
        yield _End(reason_of(error))
    else:
        yield _End(None)


def _entries(picture: PictureFile, rule: CropRule, codec: str) -> Iterator[_Entry]:
    if picture.problem:
        raise UserError(picture.problem)
    with_name = f"{picture.path}: "
    try:
        image = read_image(picture.path)
    except UserError as error:
        raise UserError(str(error).removeprefix(with_name)) from None
    for suffix, crop in rule.cut(image):
        height, width = crop.shape[:2]
        line = MetaLine(picture.key + suffix, codec, height, width, 3, CODECS[codec].level)
        yield _Entry(line, encode_image(crop, codec))


def _check_keys(pictures: Sequence[PictureFile], rule: CropRule) -> None:
    taken = {picture.key: picture for picture in pictures}
    for picture, suffix in product(pictures, rule.suffixes[1:]):
        if other := taken.get(picture.key + suffix):
            raise UserError(f"{other.path} has the key of a version of {picture.path} that --shrink makes: rename one")


def _fingerprint(picture: PictureFile) -> list[str | int]:
    """Return values that change when a source changes. Errors of access are left to `read_image`."""
    try:
        status = picture.path.stat()
    except OSError:
        return [picture.name, 0, 0]
    return [picture.name, status.st_size, status.st_mtime_ns]


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
