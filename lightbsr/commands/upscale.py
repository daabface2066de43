"""``lightbsr upscale``."""

import argparse
import json
import sys
from itertools import count

from lightbsr.defaults import DTYPES
from lightbsr.errors import UserError

HELP = "upscale pictures"
DESCRIPTION = (
    "Upscale pictures: files, folders with their subfolders, globs, or - for standard input. Subfolders are kept. "
    "PNG, JPEG, WebP, TIFF and BMP are read and written; GIF, PBM, PGM, PPM, AVIF and (with pillow-heif) HEIC are "
    "read. Grey, alpha, 16 bits, colour profile, EXIF, XMP, IPTC, density and texts are kept if the format can hold "
    "them; a notice names lost parts. A picture that fails is reported, and the others continue. Exit status: "
    "0 all done; 1 some failed; 2 nothing was started; 130 stopped by Ctrl-C."
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
        help="name of shipped weights (lightbsr models), or a file; default: the best shipped weights",
    )
    parser.add_argument(
        "--format", choices=("png", "jpg", "webp", "tiff", "bmp"), help="output format; default: the input's format"
    )
    parser.add_argument("--suffix", default="", help="text added to the names, such as _x4")
    parser.add_argument("--skip-existing", action="store_true", help="leave existing outputs unchanged")
    parser.add_argument(
        "--tile",
        type=_tile,
        default="auto",
        metavar="N|auto|0",
        help="rows processed at a time. Fewer rows need less memory and give the same result. auto: depends on the "
        "free memory; 0: the whole picture at once",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="number format of the computation (fp32)")
    parser.add_argument(
        "--self-ensemble",
        action="store_true",
        help="average over the eight flips and transposes of the picture; takes eight times as long",
    )
    parser.add_argument("--json", action="store_true", help="print the outcomes as JSON instead of a summary")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def _tile(text: str) -> int | str:
    if text == "auto" or text.isdecimal():
        return text if text == "auto" else int(text)
    raise argparse.ArgumentTypeError(f"{text}: expected a number of rows, 0 or auto")


def run(args: argparse.Namespace) -> int:
    if args.json and args.output == "-":
        raise UserError("--json and the picture cannot both go to standard output")

    from tqdm import tqdm

    from lightbsr_arch.inference.files import Outcome, plan, upscale_files
    from lightbsr_arch.inference.upscaler import TORCH_DTYPES, load_student
    from lightbsr_arch.plugins import load_plugins

    jobs = plan(args.inputs, args.output, args.format, args.suffix)
    load_plugins()
    model = load_student(args.model, args.device, TORCH_DTYPES[args.dtype])
    finished = count(1)
    bar_format = "{l_bar}{bar}| {n:.1f}/{total} pictures [{elapsed}<{remaining}]{postfix}"
    with tqdm(total=len(jobs), bar_format=bar_format, disable=args.quiet) as bar:

        def report(outcome: Outcome) -> None:
            bar.n = next(finished)  # shares sum to about one
            bar.refresh()
            for line in [*outcome.notices, *([f"failed: {outcome.reason}"] if outcome.reason else [])]:
                bar.write(f"{outcome.input}: {line}", file=sys.stderr)

        def advance(number: int, share: float) -> None:
            bar.update(min(share, number + 1 - bar.n))

        outcomes = upscale_files(
            jobs,
            model,
            tile=args.tile,
            skip_existing=args.skip_existing,
            self_ensemble=args.self_ensemble,
            advance=advance,
            report=report,
        )
    number = {status: sum(one.status == status for one in outcomes) for status in ("done", "skipped", "failed")}
    if args.json:
        print(json.dumps({**number, "scale": model.scale, "pictures": [one.as_json() for one in outcomes]}, indent=2))
    else:
        summary = f"{number['done']} upscaled x{model.scale}, {number['skipped']} skipped, {number['failed']} failed"
        print(f"{summary}: {args.output}", file=sys.stderr if args.output == "-" else sys.stdout)
    return 1 if number["failed"] else 0
