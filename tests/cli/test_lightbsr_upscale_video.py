"""``lightbsr upscale`` with videos."""

import json
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightbsr_arch import upscale
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.checkpoint import load
from lightbsr_arch.inference.video.shots import SMOOTHING, CutDetector, SmoothedEstimator

av = pytest.importorskip("av", reason="videos need PyAV: pip install 'lightbsr-arch[video]'")

HEIGHT, WIDTH, FRAMES, CUT = 24, 32, 24, 14
TICKS = Fraction(1, 12800)
TIMES = [640 * i + (0, 256, 128)[i % 3] for i in range(FRAMES)]


def pictures(height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    """Return two shots of slowly moving smooth colours."""
    y, x = np.mgrid[:height, :width]
    frames = []
    for i in range(FRAMES):
        phase = (x + i / 2) / 5 + y / 9
        colours = (100 + 50 * np.sin(phase), 110 + 40 * np.cos(phase), 90 + 2 * y)
        if i >= CUT:
            colours = (200 - 3 * y, 160 + 30 * np.sin(phase / 2), 30 + x)
        frames.append(np.stack(colours, axis=-1).round().astype(np.uint8))
    return frames


def write(
    path: Path,
    frames: list[np.ndarray] | None = None,
    audio: str | None = "aac",
    subtitles: bool = False,
    matrix: int = 1,
    pixels: str = "yuv444p",
    **options: Any,
) -> Path:
    """Write a video with variable time stamps."""
    frames = pictures() if frames is None else frames
    with av.open(str(path), "w", **options) as out:
        video = out.add_stream("libx264", rate=20, options={"crf": "1", "preset": "ultrafast"})
        context = video.codec_context
        context.height, context.width = frames[0].shape[:2]
        context.pix_fmt, context.time_base = pixels, TICKS
        context.colorspace = context.color_primaries = context.color_trc = matrix
        context.color_range = 1
        sound = out.add_stream(audio, rate=16000, layout="mono") if audio else None
        for i, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb).reformat(format=pixels, dst_colorspace=matrix, dst_color_range=1)
            frame.pts, frame.time_base = TIMES[i], TICKS
            out.mux(video.encode(frame))
            if sound:
                if audio == "aac":
                    noise = np.random.default_rng(i).normal(0, 0.1, (1, 800)).astype(np.float32)
                    part = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
                else:
                    part = av.AudioFrame(sound.codec_context.format.name, "mono", 800)
                part.sample_rate, part.pts, part.time_base = 16000, 800 * i, Fraction(1, 16000)
                out.mux(sound.encode(part))
        out.mux(video.encode())
        if sound:
            out.mux(sound.encode())
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a display matrix into an MP4 file, for all its tracks."""
    a, b, c, d = (65536 * value for value in matrix)
    data, at = bytearray(path.read_bytes()), 0
    while (at := data.find(b"tkhd", at)) >= 0:
        data[at + 44 : at + 80] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        at += 4
    path.write_bytes(data)


def packets(path: Path, kind: str = "audio") -> list[tuple[Fraction, Fraction, bytes]]:
    """Return time stamp, duration and bytes of each packet of the first stream of a kind."""
    with av.open(str(path)) as source:
        stream = getattr(source.streams, kind)[0]
        return [
            (one.pts * one.time_base, one.duration * one.time_base, bytes(one))
            for one in source.demux(stream)
            if one.size
        ]


def decoded(path: Path) -> tuple[list[np.ndarray], list[Fraction], Any]:
    """Return the frames as RGB, their times, and the last frame."""
    with av.open(str(path)) as source:
        frames = list(source.decode(video=0))
    flags = av.video.reformatter.Interpolation.BICUBIC
    return (
        [frame.to_ndarray(format="rgb24", interpolation=flags) for frame in frames],
        [frame.pts * frame.time_base for frame in frames],
        frames[-1],
    )


def psnr(video: np.ndarray, picture: np.ndarray) -> float:
    """Return the PSNR of a frame against a picture, whose chroma is first subsampled as in the video."""
    flags = av.video.reformatter.Interpolation.BICUBIC
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture))
    subsampled = frame.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1, interpolation=flags)
    expected = subsampled.to_ndarray(format="rgb24", interpolation=flags).astype(float)
    return float(10 * np.log10(255**2 / np.mean((expected - video) ** 2)))


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
def test_frames_times_tags_and_audio_are_kept(tmp_path, run, weights, ending):
    source, target = write(tmp_path / "clip.mp4"), tmp_path / "new" / f"out{ending}"
    code, out, err = run(source, "-o", target, "--crf", 4)
    assert (code, err) == (0, "")
    assert out == f"{FRAMES} frames in 2 shots upscaled to {2 * WIDTH}x{2 * HEIGHT}: {target}\n"
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    lqs, times, before = decoded(source)
    srs, new_times, after = decoded(target)
    exact = [Fraction(time, 12800) for time in TIMES]
    assert times == exact
    if ending == ".mkv":  # whose time stamps are whole milliseconds and start with the audio, some before the video
        delay = new_times[0] - exact[0]
        assert 0 <= delay <= Fraction(1, 8)
        assert all(abs(new - old - delay) <= Fraction(1, 1000) for new, old in zip(new_times, exact, strict=True))
    else:
        assert new_times == exact
    for tag in ("colorspace", "color_range", "color_primaries", "color_trc"):
        assert getattr(after, tag) == getattr(before, tag) == 1
    copied, original = packets(target), packets(source)
    assert [data for *_, data in copied] == [data for *_, data in original]
    if ending != ".mkv":
        assert copied == original
    model = load(weights)
    for lq, sr in zip(lqs, srs, strict=True):
        assert psnr(sr, upscale(lq, model)) > 32


def test_each_frame_shares_the_smoothed_idr_of_its_shot(tmp_path, run, weights):
    source, target = write(tmp_path / "clip.mp4", audio=None), tmp_path / "out.mkv"
    assert run(source, "-o", target, "--crf", 0)[0] == 0
    lqs, _, _ = decoded(source)
    srs, _, _ = decoded(target)
    model = load(weights)
    estimator = SmoothedEstimator(model.estimator)
    model.estimator = estimator
    for i, (lq, sr) in enumerate(zip(lqs, srs, strict=True)):
        if i == CUT:
            estimator.start_shot()
        assert psnr(sr, upscale(lq, model)) > 38


def test_smoothing_is_a_mean_at_first_and_then_exponential():
    class Read(torch.nn.Module):
        idr_ch, knows = 2, ()

        def estimate(self, lq, extra=None):
            return lq, {}

    estimator = SmoothedEstimator(Read())
    numbers = np.random.default_rng(0).normal(size=15)
    mean = 0.0
    for i, number in enumerate(numbers):
        mean = numbers[: i + 1].mean() if i < 1 / SMOOTHING else (1 - SMOOTHING) * mean + SMOOTHING * number
        assert estimator(torch.full((1, 2), number))[0, 0].item() == pytest.approx(mean, abs=1e-6)
    estimator.start_shot()
    assert estimator(torch.full((1, 2), 7.0)).tolist() == [[7, 7]]
    both = torch.tensor([[[[1.0, 3.0]], [[2.0, 2.0]]]])  # a map keeps its variation, and its mean is averaged
    assert torch.equal(estimator(both)[0, 0], torch.tensor([[3.5, 5.5]]))
    assert as_vector(estimator(both)).shape == (1, 2)


def test_cuts_are_found_and_motion_is_none():
    frames = [np.repeat(np.repeat(frame, 4, 0), 4, 1) for frame in pictures()]
    detector = CutDetector()
    assert [i for i, frame in enumerate(frames) if detector.is_cut(frame)] == [0, CUT]
    detector, strip = CutDetector(), np.random.default_rng(0).integers(0, 256, (24, 400, 3), np.uint8)
    strip = np.repeat(np.repeat(strip, 6, 0), 6, 1)
    moving = [strip[:, 12 * i : 12 * i + 300] for i in range(20)]
    assert [i for i, frame in enumerate(moving) if detector.is_cut(frame)] == [0]
    detector = CutDetector()
    deep = [frame.astype(np.uint16) * 257 for frame in frames]
    assert [i for i, frame in enumerate(deep) if detector.is_cut(frame)] == [0, CUT]


TURNS = {
    "0": ((1, 0, 0, 1), lambda rgb: rgb),
    "90": ((0, 1, -1, 0), lambda rgb: np.rot90(rgb, -1)),
    "180": ((-1, 0, 0, -1), lambda rgb: np.rot90(rgb, 2)),
    "270": ((0, -1, 1, 0), lambda rgb: np.rot90(rgb)),
    "mirrored": ((-1, 0, 0, 1), lambda rgb: rgb[:, ::-1]),
    "transposed": ((0, 1, 1, 0), lambda rgb: rgb.swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", TURNS)
def test_the_rotation_is_applied(tmp_path, run, weights, name):
    matrix, turned = TURNS[name]
    source, target = write(tmp_path / "clip.mp4", pictures()[:3], audio=None), tmp_path / "out.mp4"
    stored, _, _ = decoded(source)
    turn(source, matrix)
    assert run(source, "-o", target, "--crf", 4)[0] == 0
    srs, _, last = decoded(target)
    assert last.rotation == 0
    model = load(weights)
    for lq, sr in zip(stored, srs, strict=True):
        assert psnr(sr, upscale(np.ascontiguousarray(turned(lq)), model)) > 32


@pytest.mark.parametrize(("matrix", "is_full"), [(1, False), (6, False), (5, True), (9, False), (2, False)])
def test_colours_do_not_shift(tmp_path, weights, run, matrix, is_full):
    """Untagged videos of this size are BT.601, and the output is tagged so."""
    grey = np.full((HEIGHT, WIDTH, 3), (180, 90, 40), np.uint8)
    source, target = tmp_path / "clip.mkv", tmp_path / "out.mkv"
    used = {2: 5, 6: 5}.get(matrix, matrix)
    with av.open(str(source), "w") as out:
        video = out.add_stream("libx264", rate=10, options={"crf": "1"})
        context = video.codec_context
        context.height, context.width, context.pix_fmt, context.time_base = HEIGHT, WIDTH, "yuv420p", Fraction(1, 1000)
        context.colorspace, context.color_range = matrix, 1 + is_full
        frame = av.VideoFrame.from_ndarray(grey)
        frame = frame.reformat(format="yuv420p", dst_colorspace=used, dst_color_range=1 + is_full)
        frame.pts, frame.time_base = 0, Fraction(1, 1000)
        frame.colorspace, frame.color_range = matrix, 1 + is_full
        out.mux(video.encode(frame))
        out.mux(video.encode())
    assert run(source, "-o", target, "--crf", 1)[0] == 0
    with av.open(str(target)) as made:
        (frame,) = made.decode(video=0)
    assert (frame.colorspace, frame.color_range) == (6 if matrix == 2 else matrix, 1 + is_full)
    rgb = frame.to_ndarray(format="rgb24", src_colorspace=used, src_color_range=1 + is_full)
    wanted = upscale(grey, weights)
    assert np.abs(rgb.mean(axis=(0, 1)) - wanted.mean(axis=(0, 1))).max() < 2.5


def test_odd_sizes_are_padded_with_a_notice(tmp_path, run, weights):
    source, target = write(tmp_path / "clip.mp4", pictures()[:3]), tmp_path / "out.mp4"
    code, out, err = run(source, "-o", target, "--size", "41x", "--json", "--crf", 4)
    assert code == 0
    (line,) = err.splitlines()
    assert "41x31 pixels became 42x32" in line
    assert json.loads(out)["size"] == [42, 32]
    lqs, _, _ = decoded(source)
    srs, _, _ = decoded(target)
    wanted = upscale(lqs[0], weights, fit_inside=(None, 41))
    assert psnr(srs[0][:31, :41], wanted) > 32
    assert np.abs(srs[0][:, 41].astype(int) - srs[0][:, 40]).mean() < 6


def test_ten_bits_and_hevc(tmp_path, run):
    source, target = write(tmp_path / "clip.mp4", pictures()[:3], pixels="yuv420p10le"), tmp_path / "out.mp4"
    assert run(source, "-o", target, "--codec", "hevc")[0] == 0
    with av.open(str(target)) as made:
        stream = made.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("hevc", "yuv420p10le")


def test_no_frame_can_be_lost_by_time_stamps_that_repeat(tmp_path, run):
    source, target = tmp_path / "clip.mkv", tmp_path / "out.mkv"
    write(source, pictures()[:5], audio=None)
    data = source.read_bytes()
    assert run(source, "-o", target)[0] == 0
    assert len(decoded(target)[0]) == 5
    assert source.read_bytes() == data


def test_damaged_and_other_files_are_refused_in_one_line(tmp_path, run):
    clip, sound = write(tmp_path / "clip.mp4"), tmp_path / "sound.m4a"
    with av.open(str(sound), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=16000, layout="mono")
        part = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        part.sample_rate = 16000
        out.mux([*stream.encode(part), *stream.encode()])
    data = clip.read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "notes.mp4").write_text("these are notes\n" * 99)
    front = write(tmp_path / "front.mp4", options={"movflags": "faststart"})
    whole = front.read_bytes()
    front.write_bytes(whole[: len(whole) * 2 // 3])
    matroska = write(tmp_path / "long.mkv")
    whole = matroska.read_bytes()
    matroska.write_bytes(whole[: len(whole) // 3])
    (tmp_path / "picture.mp4").write_bytes(_png())
    (tmp_path / "folder.mp4").mkdir()
    for name, reason in {
        "half.mp4": "not a video that can be read",
        "empty.mp4": "not a video that can be read",
        "noise.mkv": "not a video that can be read",
        "notes.mp4": "not a video that can be read",
        "front.mp4": "",
        "long.mkv": "cut short",
        "sound.m4a": "no video stream in this file",
        "picture.mp4": "not a video that can be read",
        "folder.mp4": "a folder; name one video",
        "missing.mp4": "no such file",
    }.items():
        code, out, err = run(tmp_path / name, "-o", tmp_path / "out.mp4")
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert f"{name}: {reason}" in err
        assert not (tmp_path / "out.mp4").exists()


def _png() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (32, 24)).save(file, "PNG")
    return file.getvalue()


def test_what_cannot_work_is_refused_before_the_start(tmp_path, run):
    clip = write(tmp_path / "clip.mp4", pictures()[:3])
    pcm = write(tmp_path / "pcm.mkv", pictures()[:3], audio="wavpack")
    out = tmp_path / "out.mp4"
    for arguments, reason in {
        (clip, "-o", tmp_path / "folder"): "a video is written as .mp4, .m4v, .mov, .mkv",
        (clip, "-o", tmp_path / "out.avi"): "a video is written as",
        (clip, "-o", tmp_path / "out.png"): "a video is written as",
        (clip, "-o", clip): "is the input and would be written over",
        (clip, clip, "-o", out): "one video is upscaled at a time",
        ("-", "-o", out): "which standard input does not allow; name a file",
        (clip, "-o", clip / "out.mp4"): "out.mp4: its folder cannot be made: ",
        (clip, "-o", out, "--format", "png"): "--format is for pictures",
        (clip, "-o", out, "--self-ensemble"): "--self-ensemble is for pictures",
        (clip, "-o", out, "--outscale", "5"): "more than the largest output of a x2 model",
        (pcm, "-o", out): "cannot hold stream 1 of the input (audio, wavpack); write a .mkv",
        (tmp_path / "a.png", "-o", tmp_path / "b.png", "--crf", "3"): "--crf is for videos",
    }.items():
        code, printed, err = run(*arguments)
        assert (code, printed) == (2, ""), arguments
        assert err.count("\n") == 1
        assert reason in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "pcm.mkv"]


def test_names_with_line_breaks_stay_in_one_line(tmp_path, run):
    clip = write(tmp_path / "a\nb.mp4", [np.zeros((3, 3, 3), np.uint8)], audio=None)
    code, out, err = run(clip, "-o", tmp_path / "c\nd.mp4", "--outscale", "1")
    assert code == 0
    assert out.endswith("/c\\nd.mp4\n")
    assert out.startswith("1 frame in 1 shot upscaled to 4x4: ")
    assert err.endswith("because the encoder needs even sides\n")
    assert (err.count("\n"), "/a\\nb.mp4: 3x3 pixels became 4x4" in err) == (1, True)


def test_an_interrupted_run_leaves_nothing(tmp_path, weights):
    clip = write(tmp_path / "clip.mp4", pictures(96, 128))
    command = [sys.executable, "-m", "lightbsr", "upscale", str(clip), "-o", str(tmp_path / "out" / "out.mp4")]
    process = subprocess.Popen(
        [*command, "-m", "kdsr_s_x4_iso"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore it
    )
    until = time.monotonic() + 300
    while not list(tmp_path.glob("out/.*.tmp")) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err.rstrip().endswith("lightbsr upscale: stopped")
    assert list((tmp_path / "out").iterdir()) == []


def test_properties_of_a_video(tmp_path):
    from lightbsr_arch.inference.video.read import read_video

    video = read_video(write(tmp_path / "clip.mp4"))
    assert (video.frames, video.height, video.width) == (FRAMES, HEIGHT, WIDTH)
    assert (video.colours.deep, video.colours.matrix) == (False, 1)
    assert video.others == (1,)
