"""Upscaling of picture files."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lightbsr.errors import UserError, reason_of
from lightbsr_arch.archs.fast.memory import free_memory
from lightbsr_arch.archs.part import Network
from lightbsr_arch.data.image_io import read_header
from lightbsr_arch.data.picture_files import PictureFile, find_pictures, find_pictures_outside
from lightbsr_arch.data.reader import STANDARD_STREAM, Pixels, read_input
from lightbsr_arch.inference.pictures import FORMATS, check_size, encode, fit, read_picture
from lightbsr_arch.inference.resize import check_outscale, output_size
from lightbsr_arch.inference.upscaler import upscale
from lightbsr_arch.io import write_whole

_OTHER_PICTURES = (".heic", ".heif", ".avif", ".jxl", ".svg", ".exr", ".hdr", ".dng", ".raw", ".pfm")
"""Extensions of formats that are unknown to Pillow, or to some of its builds."""

_CODECS = {suffix: codec for codec, form in FORMATS.items() for suffix in form.suffixes}
_CODECS_OF_INPUTS = {**_CODECS, ".mpo": "jpg", ".apng": "png", ".dib": "bmp"}


@dataclass(frozen=True)
class Job:
    """A picture to upscale, with its source and its target, each of which may be ``STANDARD_STREAM``.

    ``codec`` is None if the output keeps the format of the input. If the source is a folder that cannot be searched,
    ``problem`` is the reason.
    """

    source: str
    target: str
    codec: str | None
    problem: str | None = None


@dataclass
class Outcome:
    """The outcome of one picture."""

    input: str
    output: str
    status: str
    """``done``, ``skipped`` (the output existed) or ``failed``."""
    reason: str | None = None
    notices: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None
    """Width and height of the output."""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def plan(
    inputs: Sequence[str], out: str, codec: str | None = None, suffix: str = "", *, skip_existing: bool = False
) -> list[Job]:
    """List the pictures to upscale and the files to write.

    Pictures keep their names and their paths below a folder, except for ``suffix`` and the extension of another format.
    Without ``codec``, a picture keeps its format, or becomes PNG if its format cannot be written, such as GIF and PPM.
    An output folder inside an input folder is skipped, because its pictures come from an earlier run.

    Args:
        inputs: folders, globs and files, or only "-" for standard input.
        out: the folder to write to. For one picture, a file is possible too, and "-" is standard output.
        codec: one of `FORMATS`.
        suffix: text that is added to the names, before the extension.
        skip_existing: whether existing outputs stay unchanged. Those in an input folder are then no inputs.

    Raises:
        UserError: an input does not exist or contains no pictures, ``out`` has the extension of a format that cannot be
            written or is standard output, which is closed, two pictures would be written to one file, or a picture
            would replace an input.
    """
    if out == STANDARD_STREAM and sys.stdout is None:
        raise UserError("-o -: standard output is closed; redirect it to a file or a program")
    if "/" in suffix or os.sep in suffix:
        raise UserError(f"--suffix {suffix}: goes into a file's name and must not contain {os.sep}")
    if STANDARD_STREAM in inputs and len(inputs) > 1:
        raise UserError("- (standard input) is one picture and cannot be combined with other inputs")
    if out == STANDARD_STREAM or (Path(out).suffix.lower() in _CODECS and not Path(out).is_dir()):
        if suffix:
            raise UserError(f"--suffix {suffix}: is for an output folder; -o {out} already names the file")
        jobs = [_job_to_file(inputs, out, codec)]
    elif Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"{out}: a file without the name of a picture; name a folder")
    elif STANDARD_STREAM in inputs:
        raise UserError(f"{out}: a picture from standard input needs the name of a file, as {out}/picture.png")
    elif _is_picture_name(out) and not Path(out).is_dir():
        raise UserError(f"{out}: that format cannot be written; {', '.join(FORMATS)} can")
    else:
        jobs = [
            _job(picture, Path(out) / picture.name, codec, suffix)
            for picture in find_pictures_outside(inputs, Path(out))
        ]
    if skip_existing:
        outputs = {_place(job.target) for job in jobs if job.target != job.source}
        jobs = [job for job in jobs if _place(job.source) not in outputs]
    _refuse_clashes(jobs)
    return jobs


def upscale_files(
    jobs: Sequence[Job],
    model: Network,
    *,
    tile: int | str = "auto",
    skip_existing: bool = False,
    self_ensemble: bool = False,
    outscale: float | None = None,
    fit_inside: tuple[int | None, int | None] | None = None,
    choose: Callable[[Pixels, bytes], tuple[Network, str]] | None = None,
    advance: Callable[[int, float], None] = lambda number, share: None,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Upscale pictures. A picture that cannot be read, upscaled or written is reported, and the others continue.

    Args:
        jobs: from `plan`.
        model: from `load_student`.
        tile, self_ensemble, outscale, fit_inside: see `upscale`.
        skip_existing: whether to skip pictures whose output exists.
        choose: takes the pixels and the bytes of a picture. Returns the model for it, which has the scale of ``model``,
            and a notice that names the model. By default, ``model`` upscales every picture.
        advance: receives the index of a job and the share of its work that has been done since the last call.
        report: receives each outcome.

    Raises:
        UserError: ``outscale`` is more than the model allows.
    """
    if outscale is not None:
        check_outscale(outscale, model.scale)
    size = {"outscale": outscale, "fit_inside": fit_inside}
    outcomes = []
    for number, job in enumerate(jobs):
        outcome = Outcome(job.source, job.target, "done")
        start = time.perf_counter()
        try:
            if skip_existing and job.target != STANDARD_STREAM and Path(job.target).exists():
                outcome.status = "skipped"
            else:
                options = {"tile": tile, "self_ensemble": self_ensemble, "advance": partial(advance, number)}
                _upscale_file(job, outcome, model, choose, size, options)
        except Exception as error:  # any error of one picture must not stop the others
            outcome.status = "failed"
            outcome.reason = reason_of(error, job.source)
        outcome.seconds = round(time.perf_counter() - start, 3)
        outcomes.append(outcome)
        report(outcome)
    return outcomes


def _upscale_file(
    job: Job,
    outcome: Outcome,
    model: Network,
    choose: Callable[[Pixels, bytes], tuple[Network, str]] | None,
    size: dict[str, Any],
    options: dict[str, Any],
) -> None:
    if job.problem:
        raise UserError(job.problem)
    name, data = read_input(job.source)
    header = read_header(data, name)
    codec = job.codec or _CODECS_OF_INPUTS.get(f".{header.format.lower()}", "png")
    height, width = output_size(header.height, header.width, model.scale, **size)
    check_size(height, width, codec)
    picture = fit(read_picture(data, name), codec)
    outcome.notices = picture.notices
    if choose:
        model, notice = choose(picture.pixels, data)
        outcome.notices.insert(0, notice)
    outcome.size = width, height
    _check_bytes(height, width, picture.pixels, codec)
    picture.pixels = upscale(picture.pixels, model, **size, **options)
    _write(job.target, encode(picture, codec))


def _check_bytes(height: int, width: int, pixels: Pixels, codec: str) -> None:
    """Raise `UserError` if the output, with the channels of ``pixels``, does not fit into memory or into the format."""
    size = height * width * pixels[0, 0].size * pixels.itemsize
    if size > (free := free_memory(torch.device("cpu"))):
        raise UserError(
            f"{width}x{height} pixels would take {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; ask for a "
            "smaller --size"
        )
    if size > (limit := FORMATS[codec].most_bytes):
        raise UserError(
            f"{width}x{height} pixels would take {size / 1e9:.1f} GB, and {codec} holds {limit / 1e9:.1f}; "
            "use --format png"
        )


def _write(target: str, data: bytes) -> None:
    if target == STANDARD_STREAM:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    write_whole(Path(target), data, make_folder=True)


def _is_picture_name(out: str) -> bool:
    """Return whether a name has the extension of any picture format."""
    return Path(out).suffix.lower() in {*Image.registered_extensions(), *_OTHER_PICTURES}


def _job(picture: PictureFile, target: Path, codec: str | None, suffix: str) -> Job:
    if picture.problem:
        return Job(str(picture.path), str(target), codec, picture.problem)
    codec = codec or _CODECS_OF_INPUTS.get(picture.path.suffix.lower(), "png")
    ending = target.suffix if _CODECS.get(target.suffix.lower()) == codec else FORMATS[codec].suffixes[0]
    return Job(str(picture.path), str(target.with_name(target.stem + suffix + ending)), codec)


def _job_to_file(inputs: Sequence[str], out: str, codec: str | None) -> Job:
    by_name = None if out == STANDARD_STREAM else _CODECS[Path(out).suffix.lower()]
    if codec and by_name and codec != by_name:
        raise UserError(f"{out}: its extension is not that of {codec}")
    sources = inputs if STANDARD_STREAM in inputs else [str(picture.path) for picture in find_pictures(inputs)]
    if len(sources) > 1 or Path(inputs[0]).is_dir():
        raise UserError(f"{out}: one file cannot hold several pictures; name a folder")
    return Job(sources[0], out, codec or by_name)


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    sources = {_place(job.source) for job in jobs}
    written: dict[str, str] = {}
    for job in jobs:
        if job.target == STANDARD_STREAM and _is_stream(sys.stdout, job.source):
            raise UserError(f"{job.source} is an input, and standard output is written over it; use another file")
        if job.source == STANDARD_STREAM and _is_stream(sys.stdin, job.target):
            raise UserError(f"{job.target} is standard input and would be written over; use another -o")
        if job.target == STANDARD_STREAM or job.problem:
            continue
        target = _place(job.target)
        if target in sources:
            raise UserError(f"{job.target} is an input and would be written over; use another -o or a --suffix")
        if other := written.get(target):
            raise UserError(f"{other} and {job.source} would both be written to {job.target}; rename one")
        written[target] = job.source


def _place(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))


def _is_stream(stream: Any, path: str) -> bool:
    """Return whether a standard stream is redirected from or to the file at a path."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(path))  # noqa: PTH116 - also for a link's target
    except (AttributeError, OSError, ValueError):  # a closed stream, or one without a file
        return False
