"""Upscaling of videos with PyAV: the frames are restored, and all other streams are copied.

This file needs no PyAV, so that ``lightbsr upscale`` can recognise the names of videos without it.
"""

from pathlib import Path

from lightbsr.errors import UserError

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""FFmpeg's names of the containers that are written, by extension."""

_READ_ONLY = (".avi", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".flv", ".3gp", ".ogv", ".vob", ".mxf")


def is_video_name(name: str) -> bool:
    """Return whether a name has the extension of a video."""
    return Path(name).suffix.lower() in {*CONTAINERS, *_READ_ONLY}


def check_target(target: str | Path) -> None:
    """Raise `UserError` unless the name has an extension of `CONTAINERS` and is not a folder."""
    if Path(target).suffix.lower() not in CONTAINERS:
        raise UserError(f"{target}: a video is written as {', '.join(CONTAINERS)}; name such a file with -o")
    if Path(target).is_dir():
        raise UserError(f"{target}: a folder; name a file with -o")
