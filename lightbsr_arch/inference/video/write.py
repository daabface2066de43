"""Upscaling of a video into a file."""

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from lightbsr.errors import UserError
from lightbsr_arch.archs.fast.memory import free_memory
from lightbsr_arch.archs.part import Advance, Network
from lightbsr_arch.inference.resize import output_size
from lightbsr_arch.inference.upscaler import upscale
from lightbsr_arch.inference.video import CONTAINERS
from lightbsr_arch.inference.video.read import Video, ffmpeg_errors, read_packets
from lightbsr_arch.inference.video.shots import ShotModel
from lightbsr_arch.io import whole_file

ENCODERS = {"h264": ("libx264", 18), "hevc": ("libx265", 20)}
"""Encoder and default CRF by the name of the codec."""

_FRAMES_IN_ENCODER = 60
"""Approximate number of frames that an encoder holds at a time."""


@dataclass(frozen=True)
class Upscaled:
    """The outcome of a video: number of frames and of shots, width and height, and one line per lost part."""

    frames: int
    shots: int
    size: tuple[int, int]
    notices: list[str]


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
        crf: constant rate factor of the encoder, from 0 (best) to 51.
        tile, outscale, fit_inside: see `upscale`.
        start: called when everything that can be refused has been checked.
        advance: receives the number of frames, with fractions, that have been done since the last call.

    Raises:
        UserError: the target is the source, or cannot hold the video or one of its streams; the encoder is missing or
            refuses the size; there is not enough memory; or a file cannot be read or written.
    """
    target = Path(target)
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
    held = _FRAMES_IN_ENCODER * height * width * 3 // (1 if video.colours.deep else 2)
    if held > (free := free_memory(torch.device("cpu"))):
        raise UserError(
            f"{target}: the encoder would need about {held / 1e9:.1f} GB for {width}x{height} pixels, and "
            f"{free / 1e9:.1f} GB are free; ask for a smaller --size"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{target}: its folder cannot be made: {error.strerror}") from None

    form = CONTAINERS[target.suffix.lower()]
    muxer = {} if form == "matroska" else {"movflags": "faststart"}
    shots, frames = ShotModel(model), 0
    time: int | None = None
    with (
        ffmpeg_errors(video.path, "cannot be read"),
        av.open(f"file:{video.path}") as source,
        whole_file(target) as unfinished,
        ffmpeg_errors(target, "cannot be written"),
        av.open(f"file:{unfinished}", "w", format=form, options=muxer) as out,
    ):
        stream = source.streams[video.stream]
        encoder = _add_encoder(out, stream, video, (height, width), codec, crf, target)
        copies = {index: _add_copy(out, source.streams[index], target) for index in video.others}
        out.metadata.update(source.metadata)
        out.set_chapters(source.chapters())
        with ffmpeg_errors(target, f"{codec} of {width}x{height} pixels cannot be written here"):
            out.start_encoding()
        start()
        for packet, decoded in read_packets(source, stream, video.others, video.path):
            if packet.stream.index in copies:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
            for frame in decoded:
                lq = video.colours.to_rgb(frame)
                network = shots.for_frame(lq)
                sr = upscale(lq, network, tile=tile, outscale=outscale, fit_inside=fit_inside, advance=advance)
                padding = (0, height - size[0]), (0, width - size[1]), (0, 0)
                made = video.colours.to_yuv(np.pad(sr, padding, mode="edge"))
                time = _time_stamp(frame, stream, time)
                made.time_base, made.pts, made.duration = stream.time_base, time, frame.duration
                out.mux(encoder.encode(made))
                frames += 1
        out.mux(encoder.encode())
    return Upscaled(frames, shots.shots, (width, height), notices)


def _time_stamp(frame: Any, stream: Any, last: int | None) -> int:
    """Return the time stamp of a frame. One that is missing or does not exceed the last one is replaced."""
    found: int | None = frame.pts if frame.pts is not None else frame.dts
    if last is None:
        return found or 0
    if found is None:
        return last + (int(1 / (stream.average_rate or 25) / stream.time_base) or 1)
    return max(found, last + 1)


def _add_encoder(
    out: Any, stream: Any, video: Video, size: tuple[int, int], codec: str, crf: float | None, target: Path
) -> Any:
    name, usual_crf = ENCODERS[codec]
    if name not in av.codecs_available:
        raise UserError(f"{target}: this PyAV has no encoder {name}; choose another --codec")
    options = {"crf": f"{usual_crf if crf is None else crf:g}", "preset": "medium"}
    if codec == "hevc":
        options["x265-params"] = "log-level=error"
    made = out.add_stream(name, rate=Fraction(stream.average_rate or 25).limit_denominator(1001), options=options)
    context = made.codec_context
    context.height, context.width = size
    context.pix_fmt = video.colours.pixel_format
    context.time_base = stream.time_base
    context.flags |= av.codec.context.Flags.frame_duration  # packets then have the durations of their frames
    if codec == "hevc" and target.suffix.lower() != ".mkv":
        context.codec_tag = "hvc1"  # otherwise Apple's players refuse the file
    for tag, value in video.colours.tags.items():
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
