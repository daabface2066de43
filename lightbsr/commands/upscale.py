"""``lightbsr upscale``."""

import argparse
import json
import sys
from dataclasses import asdict
from importlib.util import find_spec
from itertools import count
from typing import TYPE_CHECKING, Any

from lightbsr.commands.argument_types import crf, degree, number, positive, rows, width_and_height
from lightbsr.commands.outcome import ending_at_signals
from lightbsr.defaults import DTYPES
from lightbsr.errors import UserError, one_line

if TYPE_CHECKING:
    from lightbsr_arch.archs.part import Network

HELP = "upscale pictures or a video"
DESCRIPTION = (
    "Upscale pictures: files, folders with their subfolders, globs, or - for standard input. Subfolders are kept. "
    "PNG, JPEG, WebP, TIFF and BMP are read and written; GIF, PBM, PGM, PPM, AVIF and (with pillow-heif) HEIC are "
    "read. Grey, alpha, 16 bits, colour profile, EXIF, XMP, IPTC, density and texts are kept if the format can hold "
    "them; a notice names the parts that are lost. A video is upscaled from one file to another, such as clip.mp4 -o "
    "out.mp4, with its audio, subtitles and time stamps (docs/video.md). A picture that fails is reported, and the "
    "others continue. Exit status: 0 all done; 1 some failed; 2 nothing was started; 130 stopped by Ctrl-C; 143 "
    "stopped by SIGTERM. After a stop, the written pictures are complete, and --skip-existing continues."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder or glob; - is standard input")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="folder; for one picture also a file; - is standard output"
    )
    parser.add_argument(
        "-m",
        "--model",
        metavar="NAME_OR_PATH",
        help="shipped weights (lightbsr models) or a file; auto: for each picture the weights that lightbsr inspect "
        "names; the default is marked in the output of lightbsr models",
    )
    parser.add_argument(
        "--format", choices=("png", "jpg", "webp", "tiff", "bmp"), help="output format; default: the input's format"
    )
    parser.add_argument(
        "--outscale",
        type=positive,
        metavar="FACTOR",
        help="factor of both sides, such as 2 or 3.5, at most twice the model's scale; default: the model's scale",
    )
    parser.add_argument(
        "--size",
        type=width_and_height,
        metavar="WxH",
        help="largest width and height in pixels, such as 4000x3000, 4000x or x3000; the aspect is kept",
    )
    parser.add_argument("--suffix", default="", help="text that is added to the names, such as _x4")
    parser.add_argument("--skip-existing", action="store_true", help="leave existing outputs unchanged")
    parser.add_argument(
        "--tile",
        type=rows,
        default="auto",
        metavar="N|auto|0",
        help="number of rows processed at a time. Fewer rows need less memory, and the result is the same. auto: as "
        "many as the free memory allows; 0: the whole picture at once",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="number format of the computation (fp32)")
    parser.add_argument(
        "--self-ensemble",
        action="store_true",
        help="average over the eight flips and transposes of the picture; takes eight times as long",
    )
    parser.add_argument(
        "--strength",
        type=number,
        default=1.0,
        metavar="S",
        help="strength of the restoration, from 0 (as if the picture were not blurred) to 1.5 (sharper than "
        "estimated); default %(default)g; models whose output hardly follows it are refused",
    )
    for kind, effect in (("blur", "sharpens"), ("noise", "smooths")):
        parser.add_argument(
            f"--{kind}",
            type=degree,
            metavar="D|auto",
            help=f"degree of {kind} of the pictures, from 0 to 1; a higher one {effect} more. auto, the default: as "
            "estimated; for models with degrees of blur and noise, such as kdsr_s_x4_control",
        )
    parser.add_argument("--codec", choices=("h264", "hevc"), help="codec of a video (h264)")
    parser.add_argument(
        "--crf",
        type=crf,
        metavar="N",
        help="constant rate factor of a video, from 0 (best, largest) to 51; default: 18 for h264, 20 for hevc",
    )
    parser.add_argument("--json", action="store_true", help="print the outcomes as JSON, instead of a summary")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    with ending_at_signals():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    if args.json and args.output == "-":
        raise UserError("--json and the picture cannot both go to standard output")
    if args.outscale is not None and args.size is not None:
        raise UserError("--outscale and --size exclude each other; leave one out")
    set_degrees = [f"--{kind}" for kind in ("blur", "noise") if getattr(args, kind) is not None]
    if set_degrees and args.strength != 1:
        raise UserError(f"{set_degrees[0]} and --strength exclude each other, as both change the IDR; leave one out")
    if set_degrees and args.model == "auto":
        raise UserError(f"{set_degrees[0]} needs one model: name it with -m instead of auto")

    from lightbsr_arch.inference.video import is_video_name

    if is_video_name(args.output) or any(map(is_video_name, args.inputs)):
        return _upscale_video(args)
    return _upscale_pictures(args)


def _upscale_pictures(args: argparse.Namespace) -> int:
    for name in ("codec", "crf"):
        if getattr(args, name) is not None:
            raise UserError(f"--{name} is for videos; leave it out")
    if args.model == "auto" and args.strength != 1:
        raise UserError("--strength needs one model: name it with -m instead of auto")

    from lightbsr_arch.analysis.inspection import Chooser
    from lightbsr_arch.inference.files import Outcome, plan, upscale_files
    from lightbsr_arch.inference.upscaler import TORCH_DTYPES
    from lightbsr_arch.plugins import load_plugins

    jobs = plan(args.inputs, args.output, args.format, args.suffix, skip_existing=args.skip_existing)
    load_plugins()
    _warn_of_slow_dtype(args)
    choose = Chooser(args.device, TORCH_DTYPES[args.dtype]) if args.model == "auto" else None
    model = choose.default if choose else _load(args)
    finished = count(1)
    with _bar(len(jobs), "pictures", args) as bar:

        def report(outcome: Outcome) -> None:
            bar.n = next(finished)  # shares sum to about one
            bar.refresh()
            for line in [*outcome.notices, *([f"failed: {outcome.reason}"] if outcome.reason else [])]:
                bar.write(one_line(f"{outcome.input}: {line}"), file=sys.stderr)

        def advance(number: int, share: float) -> None:
            bar.update(min(share, number + 1 - bar.n))

        try:
            outcomes = upscale_files(
                jobs,
                model,
                skip_existing=args.skip_existing,
                self_ensemble=args.self_ensemble,
                choose=choose,
                advance=advance,
                report=report,
                **_size(args),
            )
        except KeyboardInterrupt as stop:
            if args.output != "-":
                done = f"{next(finished) - 1} of {len(jobs)} pictures are finished"
                stop.args = (f"{done}; the same command with --skip-existing continues",)
            raise
    number = {status: sum(one.status == status for one in outcomes) for status in ("done", "skipped", "failed")}
    if args.json:
        print(json.dumps({**number, "scale": model.scale, "pictures": [one.as_json() for one in outcomes]}, indent=2))
    else:
        size = f"x{args.outscale or model.scale:g}"
        if args.size is not None:
            size = "to fit inside " + "x".join(str(side or "") for side in reversed(args.size))
        summary = f"{number['done']} upscaled {size}, {number['skipped']} skipped, {number['failed']} failed"
        print(one_line(f"{summary}: {args.output}"), file=sys.stderr if args.output == "-" else sys.stdout)
    return 1 if number["failed"] else 0


def _upscale_video(args: argparse.Namespace) -> int:
    for name in ("format", "suffix", "skip_existing", "self_ensemble"):
        if getattr(args, name):
            raise UserError(f"--{name.replace('_', '-')} is for pictures, not for a video; leave it out")
    if len(args.inputs) > 1:
        raise UserError(f"{args.output}: one video is upscaled at a time, not {len(args.inputs)} inputs")
    if args.inputs == ["-"]:
        raise UserError(f"{args.output}: a video is read twice, which standard input does not allow; name a file")
    if args.model == "auto":
        raise UserError("-m auto is for pictures; name one model for a video, see lightbsr models")

    from lightbsr_arch.inference.video import check_target
    from lightbsr_arch.plugins import load_plugins

    check_target(args.output)
    if find_spec("av") is None:
        raise UserError("videos are read with PyAV: pip install 'lightbsr-arch[video]'")

    from lightbsr_arch.inference.video.read import read_video
    from lightbsr_arch.inference.video.write import upscale_video

    load_plugins()
    _warn_of_slow_dtype(args)
    model = _load(args)
    video = read_video(args.inputs[0])
    has_started = False

    def start() -> None:
        nonlocal has_started
        has_started = True

    with _bar(video.frames, "frames", args) as bar:
        try:
            made = upscale_video(
                video,
                args.output,
                model,
                codec=args.codec or "h264",
                crf=args.crf,
                start=start,
                advance=bar.update,
                **_size(args),
            )
        except UserError as error:
            if not has_started:
                raise
            bar.write(f"failed: {error.shown()}", file=sys.stderr)
            return 1
    for line in made.notices:
        print(one_line(f"{args.inputs[0]}: {line}"), file=sys.stderr)
    if args.json:
        print(json.dumps({"output": args.output, **asdict(made)}, indent=2))
    else:
        frames, shots = (
            f"{number} {noun}{'s' if number != 1 else ''}"
            for number, noun in ((made.frames, "frame"), (made.shots, "shot"))
        )
        print(one_line(f"{frames} in {shots} upscaled to {made.size[0]}x{made.size[1]}: {args.output}"))
    return 0


def _load(args: argparse.Namespace) -> "Network":
    """Return the model with its strength, or with the degrees that are set."""
    from lightbsr_arch.inference.degrees import with_degrees
    from lightbsr_arch.inference.strength import with_checked_strength
    from lightbsr_arch.inference.upscaler import TORCH_DTYPES, load_student

    model = load_student(args.model, args.device, TORCH_DTYPES[args.dtype], args.outscale)
    return with_degrees(with_checked_strength(model, args.strength), args.blur, args.noise)


def _warn_of_slow_dtype(args: argparse.Namespace) -> None:
    from lightbsr_arch.device import find_device, slow_dtype
    from lightbsr_arch.inference.upscaler import TORCH_DTYPES

    if reason := slow_dtype(find_device(args.device), TORCH_DTYPES[args.dtype]):
        print(f"--dtype {args.dtype}: {reason}", file=sys.stderr)


def _size(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `upscale` that pictures and videos share."""
    return {"tile": args.tile, "outscale": args.outscale, "fit_inside": args.size}


def _bar(total: int, unit: str, args: argparse.Namespace) -> Any:
    """Return a progress bar that counts fractions."""
    from tqdm import tqdm

    form = f"{{l_bar}}{{bar}}| {{n:.1f}}/{{total}} {unit} [{{elapsed}}<{{remaining}}]{{postfix}}"
    return tqdm(total=total, bar_format=form, disable=args.quiet)
