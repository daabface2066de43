"""Reading of videos with PyAV.

A video is decoded once before the work, so that damage is found early and the number of frames is known.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from lightbsr.errors import UserError
from lightbsr_arch.data.reader import PICTURE_SUFFIXES
from lightbsr_arch.inference.video.frames import Colours, upright_shape

_HDR = {16: "PQ", 18: "HLG"}

_MISSING_SECONDS = 0.25
"""A file that ends earlier than its header claims, by more than this, is cut short."""


@dataclass(frozen=True)
class Video:
    """Properties of a video that has been decoded completely.

    Attributes:
        path: the file.
        stream: index of the video stream.
        frames: number of frames.
        height: height of the upright frames.
        width: width of the upright frames.
        ratio: width of a pixel by its height.
        colours: coding of the colours.
        others: indices of the streams that are copied.
        notices: one line per part that cannot be kept.
    """

    path: Path
    stream: int
    frames: int
    height: int
    width: int
    ratio: Fraction
    colours: Colours
    others: tuple[int, ...]
    notices: list[str]


def read_video(path: str | Path) -> Video:
    """Decode a whole video and return its properties.

    Raises:
        UserError: the file is missing, no video, damaged or cut short; the size of its frames
            changes; or its colours are coded in a way that is not supported.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: {'a folder; name one video' if path.is_dir() else 'no such file'}")
    with ffmpeg_errors(path, "not a video that can be read"), av.open(f"file:{path}") as source:
        stream = _video_stream(source, path)
        notices, others = _other_streams(source, stream)
        first, frames = _decode_all(source, stream, others, path)
        try:
            colours = Colours.of(first)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        height, width, ratio = upright_shape(first, stream.sample_aspect_ratio or Fraction(1))
        if first.interlaced_frame:
            notices.append("the video is interlaced; its frames are restored as they are, without deinterlacing")
        if any(component.is_alpha for component in first.format.components):
            notices.append("the alpha of the video was left out")
        if name := _HDR.get(colours.tags["color_trc"]):
            notices.append(f"the HDR metadata of the video ({name}) were left out; its colour tags are kept")
        # Before the file is closed, because its streams and frames must not be used after that.
        return Video(path, stream.index, frames, height, width, ratio, colours, others, notices)


def read_packets(source: Any, video: Any, others: tuple[int, ...], path: Path) -> Iterator[tuple[Any, list[Any]]]:
    """Yield each packet of the video and of the other streams, in the order of the file, with its decoded frames.

    Raises:
        UserError: the file is damaged.
    """
    video.thread_type = "AUTO"
    frames = 0
    try:
        for packet in source.demux([video, *(source.streams[index] for index in others)]):
            if packet.stream.index == video.index:
                decoded = packet.decode()
                frames += len(decoded)
                yield packet, decoded
            elif packet.size or packet.dts is not None:  # a stream ends with an empty packet
                yield packet, []
    except av.error.FFmpegError as error:
        raise UserError(f"{path}: damaged after {frames} frames ({error.strerror})") from None


@contextmanager
def ffmpeg_errors(path: Path, problem: str) -> Iterator[None]:
    """Turn an error of FFmpeg into a `UserError`."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise UserError(f"{path}: {problem} ({error.strerror})") from None


def _video_stream(source: Any, path: Path) -> Any:
    name = source.format.name
    if name == "tty" or "image2" in name or name.endswith("_pipe"):
        is_picture = path.suffix.lower() in PICTURE_SUFFIXES
        raise UserError(f"{path}: {'a picture' if is_picture else 'not a video that can be read'}, but -o is a video")
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in source.streams.video if not stream.disposition & cover]
    if not streams:
        raise UserError(f"{path}: no video stream in this file")
    best = source.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise UserError(f"{path}: PyAV has no decoder for its video stream")
    return stream


def _other_streams(source: Any, video: Any) -> tuple[list[str], tuple[int, ...]]:
    """Return notices of streams that are left out, and the indices of those that are copied."""
    notices, copied = [], []
    for stream in source.streams:
        if stream.type in ("audio", "subtitle") and stream.codec_context is not None:
            copied.append(stream.index)
        elif stream.index != video.index:
            notices.append(f"stream {stream.index} ({stream.type}) was left out")
    return notices, tuple(copied)


def _decode_all(source: Any, stream: Any, others: tuple[int, ...], path: Path) -> tuple[Any, int]:
    """Return the first frame and the number of frames.

    Raises:
        UserError: see `read_video`.
    """
    first, frames, end = None, 0, 0.0
    for packet, decoded in read_packets(source, stream, others, path):
        counts = packet.stream.index == stream.index or not stream.duration
        if counts and packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        for frame in decoded:
            first = first or frame
            frames += 1
            if (frame.width, frame.height) != (first.width, first.height):
                raise UserError(
                    f"{path}: the frames change from {first.width}x{first.height} to "
                    f"{frame.width}x{frame.height} pixels; cut the video there"
                )
    if first is None:
        raise UserError(f"{path}: the video stream has no frame that can be decoded")
    if source.format.name.startswith(("mov", "matroska")) and (stream.duration or source.duration):
        _check_length(source, stream, end, path)
    return first, frames


def _check_length(source: Any, stream: Any, end: float, path: Path) -> None:
    """Raise `UserError` if the last packet ends, at ``end`` seconds, before the duration in the header."""
    # In some files, only the file as a whole has a duration.
    timed, unit = (stream, stream.time_base) if stream.duration else (source, Fraction(1, av.time_base))
    claimed, found = float(timed.duration * unit), end - float((timed.start_time or 0) * unit)
    if found < claimed - _MISSING_SECONDS:
        raise UserError(
            f"{path}: cut short: its header claims {claimed:.1f} s, and {found:.1f} s are there; "
            f"ffmpeg -i {path.name} -c copy whole.mkv makes a video of the rest"
        )
