"""``lightbsr inspect``."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightbsr.errors import UserError, one_line

if TYPE_CHECKING:
    from lightbsr_arch.analysis.inspected_files import Inspected

HELP = "estimate blur, noise and JPEG quality of pictures, and name the shipped weights that fit"
DESCRIPTION = (
    "Estimate the degradation of low-quality pictures: width of the blur in pixels of the picture after upscaling by "
    "4, noise (standard deviation on the 0-255 scale) and JPEG quality, each with an interval that holds about nine of "
    "ten true values. A regression predicts them from the IDRs of two shipped networks; docs/inspect.md lists its "
    "errors. An attribute without an estimate is shown as not determined. The command also names the shipped "
    "weights that fit each picture, which lightbsr upscale -m auto uses. A picture that fails is reported and the "
    "others continue. Exit status: 0 all done; 1 some failed; 2 nothing was started."
)

STANDARD_INPUT = "-"
"""Name of standard input, instead of a file."""
NOT_DETERMINED = "not determined"
COLUMNS = ("sigma (px)", "noise", "JPEG quality", "file quality", "weights")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="PHOTO", help="file, folder or glob; - is standard input")
    parser.add_argument(
        "--map",
        type=Path,
        metavar="OUT",
        help="map of the places whose IDR differs from that of the whole photo: a file NAME.png, or for several photos "
        "a folder, where each map has the name of its photo and .png",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    from lightbsr_arch.analysis.inspected_files import inspect_files
    from lightbsr_arch.analysis.inspection import Inspector
    from lightbsr_arch.analysis.inspection_map import MapWriter
    from lightbsr_arch.data.picture_files import PictureFile, find_pictures, find_pictures_outside

    if STANDARD_INPUT in args.inputs:
        if len(args.inputs) > 1:
            raise UserError("- (standard input) is one picture and cannot be combined with other inputs")
        pictures = [PictureFile(Path(STANDARD_INPUT), STANDARD_INPUT, STANDARD_INPUT)]
    else:
        pictures = find_pictures_outside(args.inputs, args.map) if args.map else find_pictures(args.inputs)
    if args.map and args.map.suffix.lower() != ".png" and (len(pictures) == 1 or args.map.is_file()):
        raise UserError(f"--map {args.map}: the map must be named .png")
    if args.map and args.map.suffix.lower() == ".png" and len(pictures) > 1:
        raise UserError(f"--map {args.map}: one file for several pictures; name a folder")
    writer = MapWriter(args.map, is_folder=args.map.suffix.lower() != ".png") if args.map else None
    if writer:
        writer.refuse_inputs(pictures)
    width = max(len(one_line(picture.name)) for picture in pictures)

    def report(one: "Inspected") -> None:
        for line in [*one.notices, *([f"failed: {one.reason}"] if one.reason else [])]:
            print(one_line(f"{one.input}: {line}"), file=sys.stderr)

    outcomes = inspect_files(
        pictures,
        Inspector(args.device),
        write_map=writer,
        report=report,
    )
    failed = sum(one.reason is not None for one in outcomes)
    if args.json:
        print(json.dumps({"failed": failed, "pictures": [one.as_json() for one in outcomes]}, indent=2))
    else:
        rows = [(one_line(picture.name), one) for picture, one in zip(pictures, outcomes) if one.reading]
        if rows:
            print(table(rows, width))
    if args.map and failed < len(outcomes):
        print(one_line(f"Written: {args.map}"), file=sys.stderr)
    return 1 if failed else 0


def table(rows: list[tuple[str, "Inspected"]], width: int) -> str:
    """Return a table with one line per picture, and below it the reason for each choice of weights."""
    lines: list[tuple[str, ...]] = [("picture".ljust(width), *COLUMNS)]
    for name, one in rows:
        lines.append((name.ljust(width), *cells(one)))
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = ["  ".join(cell.ljust(size) for cell, size in zip(line, widths)).rstrip() for line in lines]
    text += ["", *(f"{name}: {one.reading.model}: {one.reading.why}" for name, one in rows if one.reading)]
    return "\n".join(text)


def cells(one: "Inspected") -> tuple[str, ...]:
    """Return the texts of `COLUMNS` for a picture that has been read."""
    reading = one.reading
    assert reading is not None
    found = reading.estimates
    quality = "" if one.file_quality is None else str(one.file_quality)
    texts = _text(found["sigma"], "{:.2f}"), _text(found["noise"], "{:.1f}"), _jpeg(found["jpeg"]), quality
    return (*texts, reading.model)


def _text(one: Any, form: str) -> str:
    return f"{form.format(one.value)} ({form.format(one.low)} to {form.format(one.high)})" if one else NOT_DETERMINED


def _jpeg(one: Any) -> str:
    """Return the quality as text. 100 stands for no compression."""
    if one is None:
        return NOT_DETERMINED
    if one.value >= 100:
        return "none" if one.low >= 100 else f"none, or over {one.low:.0f}"
    return f"{one.value:.0f} ({one.low:.0f} to {'none' if one.high >= 100 else f'{one.high:.0f}'})"
