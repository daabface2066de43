"""Upscaling of videos with PyAV: the frames are restored, and all other streams are copied.

A video is decoded once before the work, so that damage is found early and the number of frames is known.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightbsr.errors import UserError
from lightbsr_arch.archs.fast.memory import free_memory
from lightbsr_arch.archs.part import Advance, Network
from lightbsr_arch.data.reader import PICTURE_SUFFIXES, Pixels
from lightbsr_arch.inference.resize import output_size
from lightbsr_arch.inference.shots import ShotModel
from lightbsr_arch.inference.upscaler import upscale
from lightbsr_arch.io import whole_file

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""FFmpeg's names of the containers that are written, by extension."""

_READ_ONLY = (".avi", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".flv", ".3gp", ".ogv", ".vob", ".mxf")

ENCODERS = {"h264": ("libx264", 18), "hevc": ("libx265", 20)}
"""Encoder and default CRF by the name of the codec."""

LARGEST_CRF = 51

_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""swscale's matrices by the numbers of ITU-T H.273, which tag videos."""
_RGB, _UNKNOWN = 0, 2
_BT709, _BT601 = 1, 6
_LIMITED, _FULL = 1, 2
_HDR = {16: "PQ", 18: "HLG"}

_SCALING = 0x4 | 0x2000 | 0x4000 | 0x40000
"""swscale's flags: bicubic interpolation of chroma, full chroma on both sides, accurate rounding."""

_SD_HEIGHT = 576
"""Largest height of a video without a tagged matrix that counts as BT.601. Players decide in the same way."""

_FRAMES_IN_ENCODER = 60
"""Approximate number of frames that an encoder holds at a time."""

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
        deep: whether it has more than 8 bits per channel.
        matrix: matrix between RGB and YUV, a key of `_MATRICES`, or None if the frames are RGB.
        tags: ``color_range``, ``colorspace``, ``color_primaries`` and ``color_trc`` of the output.
        others: indices of the streams that are copied.
        notices: one line per part that cannot be kept.
    """

    path: Path
    stream: int
    frames: int
    height: int
    width: int
    ratio: Fraction
    deep: bool
    matrix: int | None
    tags: dict[str, int]
    others: tuple[int, ...]
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Upscaled:
    """The outcome of a video: number of frames and of shots, width and height, and one line per lost part."""

    frames: int
    shots: int
    size: tuple[int, int]
    notices: list[str]


def is_video_name(name: str) -> bool:
    """Return whether a name has the extension of a video."""
    return Path(name).suffix.lower() in {*CONTAINERS, *_READ_ONLY}


def read_video(path: str | Path) -> Video:
    """Decode a whole video and return its properties.

    Raises:
        UserError: PyAV is not installed; the file is missing, no video, damaged or cut short; the size of its frames
            changes; or its colours are coded in a way that is not supported.
    """
    av, path = _pyav(), Path(path)
    if not path.is_file():
        raise UserError(f"{path}: {'a folder; name one video' if path.is_dir() else 'no such file'}")
    with _one_line(path, "not a video that can be read"), av.open(f"file:{path}") as source:
        stream = _video_stream(source, path)
        notices, others = _streams(source, stream)
        first, frames, last_end = None, 0, 0.0
        stream.thread_type = "AUTO"
        for packet, decoded in _decoded(source, stream, others, path):
            counts = packet.stream.index == stream.index or not stream.duration
            if counts and packet.pts is not None:
                last_end = max(last_end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
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
            if stream.duration:
                claimed, begin = (float(one * stream.time_base) for one in (stream.duration, stream.start_time or 0))
            else:  # only the file as a whole has a duration
                claimed, begin = source.duration / 1e6, (source.start_time or 0) / 1e6
            found = last_end - begin
            if found < claimed - _MISSING_SECONDS:
                raise UserError(
                    f"{path}: cut short: its header claims {claimed:.1f} s, and {found:.1f} s are there; "
                    f"ffmpeg -i {path.name} -c copy whole.mkv makes a video of the rest"
                )
        matrix, tags = _colours(first, path)
        height, width = _upright(np.empty((first.height, first.width, 0)), first).shape[:2]
        if first.interlaced_frame:
            notices.append("the video is interlaced; its frames are restored as they are, without deinterlacing")
        if any(component.is_alpha for component in first.format.components):
            notices.append("the alpha of the video was left out")
        if name := _HDR.get(tags["color_trc"]):
            notices.append(f"the HDR metadata of the video ({name}) were left out; its colour tags are kept")
        deep = any(component.bits > 8 for component in first.format.components)
        ratio = stream.sample_aspect_ratio or Fraction(1)
        if _upright(np.empty((1, 2, 0)), first).shape[0] == 2:
            ratio = 1 / ratio
        # Before the file is closed, because its streams and frames must not be used after that.
        return Video(path, stream.index, frames, height, width, ratio, deep, matrix, tags, others, notices)


def upscale_video(
    video: Video,
    target: str | Path,
    model: Network,
    *,
    codec: str = "h264",
    crf: float | None = None,
    tile: int | str = "auto",
    outscale: float | None = None,
    fit_inside: tuple[int | None, int | None] | None = None,
    start: Any = lambda: None,
    advance: Advance = lambda share: None,
) -> Upscaled:
    """Upscale a video. The file appears whole or not at all.

    The time stamps of the frames and the packets of the other streams are those of the source.

    Args:
        video: from `read_video`.
        target: the file to write, with an extension of `CONTAINERS`.
        model: from `load_student`.
        codec: a key of `ENCODERS`.
        crf: constant rate factor of the encoder, 0 to `LARGEST_CRF`; smaller is better.
        tile: see `upscale`.
        outscale: see `upscale`.
        fit_inside: see `upscale`.
        start: called when everything that can be refused has been checked.
        advance: receives the number of frames, with fractions, that have been done since the last call.

    Raises:
        UserError: the target is the source, or cannot hold the video or one of its streams; the encoder is missing or
            refuses the size; there is not enough memory; or a file cannot be read or written.
    """
    av, target = _pyav(), Path(target)
    if os.path.realpath(target) == os.path.realpath(video.path):
        raise UserError(f"{target} is the input and would be written over; use another -o")
    size = output_size(video.height, video.width, model.scale, outscale, fit_inside)
    height, width = (side + side % 2 for side in size)
    notices = list(video.notices)
    if (height, width) != size:
        notices.append(
            f"{size[1]}x{size[0]} pixels became {width}x{height}: the last column or row is repeated, because "
            "the encoder needs even sides"
        )
    held = _FRAMES_IN_ENCODER * height * width * 3 // (1 if video.deep else 2)
    if held > (free := free_memory(torch.device("cpu"))):
        raise UserError(
            f"{target}: the encoder would need about {held / 1e9:.1f} GB for {width}x{height} pixels, and "
            f"{free / 1e9:.1f} GB are free; ask for a smaller --size"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{target}: its folder cannot be made: {error.strerror}") from None
    shots, frames = ShotModel(model), 0
    with (
        _one_line(video.path, "cannot be read"),
        av.open(f"file:{video.path}") as source,
        whole_file(target) as unfinished,
        _one_line(target, "cannot be written"),
        av.open(f"file:{unfinished}", "w", format=CONTAINERS[target.suffix.lower()], options=_muxer(target)) as out,
    ):
        stream = source.streams[video.stream]
        stream.thread_type = "AUTO"
        encoder = _add_encoder(out, stream, video, (height, width), codec, crf, target)
        copies = {index: _add_copy(out, source.streams[index], target) for index in video.others}
        out.metadata.update(source.metadata)
        out.set_chapters(source.chapters())
        with _one_line(target, f"{codec} of {width}x{height} pixels cannot be written here"):
            out.start_encoding()
        start()
        times = _Times(stream)
        for packet, decoded in _decoded(source, stream, video.others, video.path):
            if packet.stream.index in copies:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
            for frame in decoded:
                lq = _to_rgb(frame, video)
                sr = upscale(
                    lq, shots.for_frame(lq), tile=tile, outscale=outscale, fit_inside=fit_inside, advance=advance
                )
                padding = (0, height - size[0]), (0, width - size[1]), (0, 0)
                made = _to_yuv(np.pad(sr, padding, mode="edge"), video)
                made.time_base, made.pts = stream.time_base, times.of(frame)
                out.mux(times.with_durations(encoder.encode(made)))
                frames += 1
        out.mux(times.with_durations(encoder.encode()))
    return Upscaled(frames, shots.shots, (width, height), notices)


def check_target(target: str | Path) -> None:
    """Raise `UserError` unless the name has an extension of `CONTAINERS`."""
    if Path(target).suffix.lower() not in CONTAINERS:
        raise UserError(f"{target}: a video is written as {', '.join(CONTAINERS)}; name such a file with -o")
    if Path(target).is_dir():
        raise UserError(f"{target}: a folder; name a file with -o")


class _Times:
    """Time stamps and durations of the frames, which must increase."""

    def __init__(self, stream: Any) -> None:
        self._last: int | None = None
        self._usual = int(1 / (stream.average_rate or 25) / stream.time_base) or 1
        self._durations: dict[int, int] = {}

    def of(self, frame: Any) -> int:
        """Return the time stamp of a frame. One that is missing or does not increase is replaced."""
        pts = frame.pts if frame.pts is not None else frame.dts
        if pts is None:
            pts = 0 if self._last is None else self._last + self._usual
        if self._last is not None and pts <= self._last:
            pts = self._last + 1
        self._last = pts
        if frame.duration:
            self._durations[pts] = frame.duration
        return int(pts)

    def with_durations(self, packets: list[Any]) -> list[Any]:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, packet.duration)
        return packets


def _pyav() -> Any:
    if find_spec("av") is None:
        raise UserError("videos are read with PyAV: pip install 'lightbsr-arch[video]'")
    import av

    return av


@contextmanager
def _one_line(path: Path, problem: str) -> Iterator[None]:
    """Turn an error of FFmpeg into a `UserError`."""
    try:
        yield
    except _pyav().error.FFmpegError as error:
        raise UserError(f"{path}: {problem} ({error.strerror})") from None


def _video_stream(source: Any, path: Path) -> Any:
    name = source.format.name
    if name == "tty" or "image2" in name or name.endswith("_pipe"):
        is_picture = path.suffix.lower() in PICTURE_SUFFIXES
        raise UserError(f"{path}: {'a picture' if is_picture else 'not a video that can be read'}, but -o is a video")
    pictures = _pyav().stream.Disposition.attached_pic
    streams = [stream for stream in source.streams.video if not stream.disposition & pictures]
    if not streams:
        raise UserError(f"{path}: no video stream in this file")
    best = source.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise UserError(f"{path}: PyAV has no decoder for its video stream")
    return stream


def _decoded(source: Any, video: Any, others: tuple[int, ...], path: Path) -> Iterator[tuple[Any, list[Any]]]:
    """Yield the packets of the video and of other streams in the order of the file, with the frames of the video's.

    Raises:
        UserError: the file is damaged.
    """
    frames = 0
    try:
        for packet in source.demux([video, *(source.streams[index] for index in others)]):
            if packet.stream.index == video.index:
                decoded = packet.decode()
                frames += len(decoded)
                yield packet, decoded
            elif packet.size or packet.dts is not None:  # a stream ends with an empty packet
                yield packet, []
    except _pyav().error.FFmpegError as error:
        raise UserError(f"{path}: damaged after {frames} frames ({error.strerror})") from None


def _streams(source: Any, video: Any) -> tuple[list[str], tuple[int, ...]]:
    """Return notices of streams that are left out, and the indices of those that are copied."""
    notices, copied = [], []
    for stream in source.streams:
        if stream.type in ("audio", "subtitle") and stream.codec_context is not None:
            copied.append(stream.index)
        elif stream.index != video.index:
            notices.append(f"stream {stream.index} ({stream.type}) was left out")
    return notices, tuple(copied)


def _colours(frame: Any, path: Path) -> tuple[int | None, dict[str, int]]:
    """Return the matrix of the frames and the tags of the output."""
    guess = _BT601 if frame.height <= _SD_HEIGHT else _BT709
    is_rgb = frame.format.is_rgb
    matrix = int(frame.colorspace)
    if is_rgb or matrix in (_RGB, _UNKNOWN):
        matrix = guess
    if matrix not in _MATRICES:
        raise UserError(f"{path}: its colours use matrix {matrix} of ITU-T H.273, which is not supported; convert it")
    is_full = int(frame.color_range) == _FULL or frame.format.name.startswith("yuvj")
    tags = {
        "color_range": _FULL if is_full and not is_rgb else _LIMITED,
        "colorspace": matrix,
        "color_primaries": int(frame.color_primaries),
        "color_trc": int(frame.color_trc),
    }
    return None if is_rgb else matrix, tags


def _to_rgb(frame: Any, video: Video) -> Pixels:
    """Return an upright frame, H x W x 3, uint8 or uint16."""
    colours = {}
    if video.matrix is not None:
        colours = {"src_colorspace": _MATRICES[video.matrix], "src_color_range": video.tags["color_range"]}
    rgb = frame.reformat(
        format="rgb48le" if video.deep else "rgb24", interpolation=_SCALING, dst_color_range=_FULL, **colours
    )
    pixels: Pixels = rgb.to_ndarray()
    return np.ascontiguousarray(_upright(pixels, frame))


def _to_yuv(rgb: Pixels, video: Video) -> Any:
    frame = _pyav().VideoFrame.from_ndarray(rgb, format="rgb48le" if video.deep else "rgb24")
    made = frame.reformat(
        format=_pixel_format(video),
        interpolation=_SCALING,
        src_color_range=_FULL,
        dst_colorspace=_MATRICES[video.tags["colorspace"]],
        dst_color_range=video.tags["color_range"],
    )
    for name, value in video.tags.items():
        setattr(made, name, value)
    return made


def _upright(stored: Pixels, frame: Any) -> Pixels:
    """Turn and flip pixels by the display matrix of a frame, to the nearest quarter turn."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return stored
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return stored[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    transposed: Pixels = stored.swapaxes(0, 1)
    return transposed[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]


def _pixel_format(video: Video) -> str:
    return "yuv420p10le" if video.deep else "yuv420p"


def _muxer(target: Path) -> dict[str, str]:
    return {} if target.suffix.lower() == ".mkv" else {"movflags": "faststart"}


def _add_encoder(
    out: Any, stream: Any, video: Video, size: tuple[int, int], codec: str, crf: float | None, target: Path
) -> Any:
    av = _pyav()
    name, usual_crf = ENCODERS[codec]
    if name not in av.codecs_available:
        raise UserError(f"{target}: this PyAV has no encoder {name}; choose another --codec")
    options = {"crf": f"{usual_crf if crf is None else crf:g}", "preset": "medium"}
    if codec == "hevc":
        options["x265-params"] = "log-level=error"
    made = out.add_stream(name, rate=Fraction(stream.average_rate or 25).limit_denominator(1001), options=options)
    context = made.codec_context
    context.height, context.width = size
    context.pix_fmt = _pixel_format(video)
    context.time_base = stream.time_base
    if codec == "hevc" and target.suffix.lower() != ".mkv":
        context.codec_tag = "hvc1"  # otherwise Apple's players refuse the file
    for tag, value in video.tags.items():
        setattr(context, tag, value)
    context.sample_aspect_ratio = video.ratio
    made.metadata.update({key: value for key, value in stream.metadata.items() if key != "rotate"})
    made.disposition = stream.disposition
    return made


def _add_copy(out: Any, stream: Any, target: Path) -> Any:
    try:
        made = out.add_stream_from_template(stream)
    except ValueError:
        kind = f"{stream.type}, {stream.codec_context.name}"
        raise UserError(
            f"{target}: this format cannot hold stream {stream.index} of the input ({kind}); write a .mkv"
        ) from None
    made.metadata.update(stream.metadata)
    made.disposition = stream.disposition
    return made
