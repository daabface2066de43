"""``lightbsr upscale`` with usual, odd and broken files."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightbsr.commands import main
from lightbsr_arch import upscale
from lightbsr_arch.checkpoint import load
from lightbsr_arch.inference import files
from lightbsr_arch.inference.pictures import FORMATS, Picture, encode, read_picture
from lightbsr_arch.inference.strength import with_strength
from tests.corpus import BROKEN_LINK, READ, base, too_deep, write_corpus

RGB = np.ascontiguousarray(base()[..., ::-1])
SMALL = RGB[:9, :12]


def save(path: Path, pixels: np.ndarray = SMALL, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_odd_and_broken_picture(tmp_path, run, weights):
    """Readable pictures are upscaled to the exact output of the network, others are listed with a reason."""
    read, refused = write_corpus(tmp_path / "in")
    for name in ("rgb.ppm", "animated.gif"):  # would become .png files whose names exist already
        (tmp_path / "in" / name).unlink()
    read, refused = (
        [case for case in cases if case.name not in ("rgb.ppm", "animated.gif")] for cases in (read, refused)
    )
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "out", "--json")
    assert code == 1
    report = json.loads(out)
    assert (report["done"], report["skipped"], report["failed"]) == (len(read), 0, len(refused))
    assert report["scale"] == 2
    found = {Path(one["input"]).relative_to(tmp_path / "in").as_posix(): one for one in report["pictures"]}
    for case in refused:
        assert found[case.name]["status"] == "failed"
        assert case.reason in found[case.name]["reason"]
        assert f"{case.name}: failed: {found[case.name]['reason']}" in err
        assert not Path(found[case.name]["output"]).exists()
    model = load(weights)
    for case in read:
        one = found[case.name]
        assert one["status"] == "done"
        assert one["size"] == [2 * side for side in case.image.shape[1::-1]]
        assert one["notices"] == (["CMYK was converted to RGB"] if case.name.startswith("cmyk") else [])
        source, target = (read_picture(one[end]) for end in ("input", "output"))
        assert target.icc == source.icc
        wanted = upscale(source.pixels, model, tile=0)
        if case.name.endswith("webp") and wanted.ndim == 2:
            wanted = np.dstack([wanted] * 3)
        lossy = one["output"].lower().endswith((".jpg", ".jpeg")) or case.name == "lossy.webp"
        assert target.pixels.shape == wanted.shape
        error = np.abs(target.pixels.astype(int) - wanted)
        assert error.mean() < 20 if lossy else error.max() <= 1  # WebP does not preserve noise
    assert tree(tmp_path / "out") == sorted(
        Path(found[case.name]["output"]).relative_to(tmp_path / "out").as_posix() for case in read
    )
    assert found["still.gif"]["output"].endswith("still.png")
    assert BROKEN_LINK.name in found


def test_a_summary_and_structure(tmp_path, run):
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / "sub" / "deep" / "b.jpg")
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "out", "--suffix", "_x2")
    assert (code, out, err) == (0, f"2 upscaled x2, 0 skipped, 0 failed: {tmp_path / 'out'}\n", "")
    assert tree(tmp_path / "out") == ["a_x2.png", "sub/deep/b_x2.jpg"]


def test_self_ensemble(tmp_path, run, weights):
    save(tmp_path / "a.png")
    assert run(tmp_path / "a.png", "-o", tmp_path / "out", "--self-ensemble")[0] == 0
    made = np.asarray(Image.open(tmp_path / "out/a.png"))
    assert np.array_equal(made, upscale(SMALL, weights, self_ensemble=True))
    assert not np.array_equal(made, upscale(SMALL, weights))


def test_globs_and_files(tmp_path, run):
    for name in ("a.png", "b.png", "c.bmp"):
        save(tmp_path / "in" / name)
    assert run(tmp_path / "in" / "*.png", tmp_path / "in" / "c.bmp", "-o", tmp_path / "out")[0] == 0
    assert tree(tmp_path / "out") == ["a.png", "b.png", "c.bmp"]


@pytest.mark.parametrize(
    ("codec", "kind"), {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF", "bmp": "BMP"}.items()
)
def test_another_format(tmp_path, run, codec, kind):
    source = save(tmp_path / "a.jpeg")
    assert run(source, "-o", tmp_path / "out", "--format", codec)[0] == 0
    (name,) = tree(tmp_path / "out")
    assert name == ("a.jpeg" if codec == "jpg" else f"a.{codec}")
    image = Image.open(tmp_path / "out" / name)
    assert (image.format, image.size) == (kind, (24, 18))


def test_one_file_to_one_file(tmp_path, run):
    source = save(tmp_path / "a.jpg")
    assert run(source, "-o", tmp_path / "new" / "big.png")[0] == 0
    assert tree(tmp_path) == ["a.jpg", "new/big.png"]


def test_skip_existing(tmp_path, run):
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("mine")
    code, out, _ = run(tmp_path / "in", "-o", tmp_path / "out", "--skip-existing")
    assert (code, out) == (0, f"1 upscaled x2, 1 skipped, 0 failed: {tmp_path / 'out'}\n")
    assert (tmp_path / "out" / "a.png").read_text() == "mine"
    assert run(tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    assert Image.open(tmp_path / "out" / "a.png").size == (24, 18)


def test_outputs_beside_their_inputs_are_no_inputs_when_a_run_goes_on(tmp_path, run):
    for name in ("a.png", "a_x2.png", "b.png"):
        save(tmp_path / name)
    code, out, _ = run(tmp_path, "-o", tmp_path, "--suffix", "_x2", "--skip-existing")
    assert (code, out) == (0, f"1 upscaled x2, 1 skipped, 0 failed: {tmp_path}\n")
    assert tree(tmp_path) == ["a.png", "a_x2.png", "b.png", "b_x2.png"]


def test_an_earlier_runs_output_is_no_input(tmp_path, run):
    save(tmp_path / "a.png")
    for _ in range(2):
        assert run(tmp_path, "-o", tmp_path / "out")[0] == 0
        assert tree(tmp_path) == ["a.png", "out/a.png"]


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        (["a.png"], ["in", "-o", "in"], "a.png is an input and would be written over"),
        (
            ["a.png", "a_x2.png"],
            ["in", "-o", "in", "--suffix", "_x2"],
            "a_x2.png is an input and would be written over",
        ),
        (["a.png", "a.jpg"], ["in", "-o", "out", "--format", "png"], "would both be written to out/a.png"),
        (["a.png", "b.png"], ["in", "-o", "out.png"], "out.png: one file cannot hold several pictures"),
        (["a.png", "b.png"], ["in/*.png", "-o", "out.png"], "out.png: one file cannot hold several pictures"),
        (["a.png"], ["in/a.png", "-o", "out.jpg", "--format", "png"], "out.jpg: its extension is not that of png"),
        (["a.png", "b.png"], ["in/a.png", "-o", "weights.txt"], "weights.txt: a file without the name of a picture"),
        (["a.png"], ["in/b.png", "-o", "out"], "in/b.png: no such file or folder"),
        (["a.png"], ["-", "in/a.png", "-o", "out"], "- (standard input) is one picture"),
        (["a.png"], ["-", "-o", "out"], "needs the name of a file"),
        (["a.png"], ["in/a.png", "-o", "-", "--json"], "cannot both go to standard output"),
        (["a.png"], ["in/a.png", "-o", "out", "--outscale", "2", "--size", "9x"], "--outscale and --size exclude each"),
        (
            ["a.png"],
            ["in/a.png", "-o", "out", "--outscale", "4.1"],
            "x4.1 is more than the largest output of a x2 model, x4; ask for at most x4",
        ),
        (["a.png"], ["in/a.png", "-o", "out", "--strength", "1.6"], "strength 1.6: expected 0 to 1.5"),
        (["a.png"], ["in/a.png", "-o", "out", "--strength", "0.5"], "sharpness of this model's output hardly follows"),
        (["a.png"], ["in/a.png", "-o", "out", "--device", "gpu"], "device gpu: expected auto, cpu, cuda or mps"),
        *(
            (["a.png"], [source, "-o", f"out.{kind}"], f"out.{kind}: that format cannot be written; png, jpg, webp, ")
            for source, kind in [
                *(("in/a.png", kind) for kind in ("gif", "GIF", "avif", "jxl", "heic", "ppm", "pgm", "ico", "jp2")),
                ("in", "gif"),
                ("in/*.png", "psd"),
            ]
        ),
        (["a.png"], ["in/a.png", "-o", "out", "--suffix", "/../x"], "--suffix /../x: goes into a file's name"),
        (["a.png"], ["in/a.png", "-o", "n" * 300], "File name too long"),
    ],
    ids=str,
)
def test_refused_before_anything_is_done(tmp_path, run, monkeypatch, names, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in names:
        save(tmp_path / "in" / name)
    (tmp_path / "weights.txt").write_text("no folder")
    before = {name: (tmp_path / name).read_bytes() for name in tree(tmp_path)}
    code, out, err = run(*arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert out == ""
    assert {name: (tmp_path / name).read_bytes() for name in tree(tmp_path)} == before


@pytest.mark.parametrize(
    ("arguments", "size", "said"),
    [
        (["--outscale", "1.5"], (18, 14), "x1.5"),  # of 12x9
        (["--outscale", "4"], (48, 36), "x4"),
        (["--outscale", "2"], (24, 18), "x2"),
        (["--size", "20x"], (20, 15), "to fit inside 20x"),
        (["--size", "x20"], (27, 20), "to fit inside x20"),
        (["--size", "30x16"], (21, 16), "to fit inside 30x16"),
    ],
)
def test_any_size(tmp_path, run, weights, arguments, size, said):
    source = save(tmp_path / "a.tiff")
    code, out, _ = run(source, "-o", tmp_path / "out", *arguments, "--tile", "3")
    assert (code, out) == (0, f"1 upscaled {said}, 0 skipped, 0 failed: {tmp_path / 'out'}\n")
    made = np.asarray(Image.open(tmp_path / "out" / "a.tiff"))
    assert made.shape == (*size[::-1], 3)
    whole = upscale((SMALL / 255).astype(np.float32), weights, tile=0)
    planes = [Image.fromarray(whole[..., i].copy()).resize(size, Image.Resampling.LANCZOS) for i in range(3)]
    assert np.abs(made - 255 * np.dstack(planes).clip(0, 1)).max() < 0.6


@pytest.mark.parametrize("codec", ["png", "tiff"])
def test_any_size_keeps_16_bits_and_alpha(tmp_path, run, weights, codec):
    deep = np.random.default_rng(3).integers(0, 65536, (9, 12, 4), dtype=np.uint16)
    (tmp_path / "deep.png").write_bytes(encode(Picture(deep), "png"))
    code, out, err = run(tmp_path / "deep.png", "-o", tmp_path / "out", "--format", codec, "--size", "x13", "--json")
    assert (code, err) == (0, "")
    (one,) = json.loads(out)["pictures"]
    assert one["size"] == [17, 13]
    made = read_picture(one["output"]).pixels
    assert (made.dtype, made.shape) == (np.uint16, (13, 17, 4))
    np.testing.assert_array_equal(made, upscale(deep, weights, fit_inside=(13, None)))
    assert (made % 257 != 0).any()


@pytest.mark.parametrize("codec", ["jpg", "webp", "bmp"])
def test_any_size_in_any_format(tmp_path, run, codec):
    source = save(tmp_path / "a.png")
    assert run(source, "-o", tmp_path / "out", "--format", codec, "--outscale", "3.5")[0] == 0
    assert Image.open(tmp_path / "out" / f"a.{codec}").size == (42, 32)


def test_a_picture_too_small_for_the_size_fails_alone(tmp_path, run):
    save(tmp_path / "in" / "large.png", RGB)
    save(tmp_path / "in" / "small.png", SMALL[:4])
    width = 4 * RGB.shape[1]
    code, _, err = run(tmp_path / "in", "-o", tmp_path / "out", "--size", f"{width}x")
    assert code == 1
    factor, most = width / SMALL.shape[1], f"{4 * SMALL.shape[1]}x16"
    assert err == (
        f"{tmp_path / 'in' / 'small.png'}: failed: x{factor:.5g} is more than the largest output of a x2 model, x4; "
        f"ask for at most --size {most}\n"
    )
    assert run(tmp_path / "in" / "small.png", "-o", tmp_path / "out", "--size", most)[0] == 0
    (tmp_path / "out" / "small.png").unlink()
    assert tree(tmp_path / "out") == ["large.png"]


def test_an_output_too_large_is_refused_before_the_work(tmp_path, run, monkeypatch):
    source = save(tmp_path / "a.bmp")
    monkeypatch.setattr(files, "upscale", None)
    monkeypatch.setattr(files, "free_memory", lambda device: 1000)
    code, _, err = run(source, "-o", tmp_path / "out")
    assert code == 1
    assert "24x18 pixels would take 0.0 GB, and 0.0 GB are free; ask for a smaller --size" in err
    monkeypatch.undo()
    monkeypatch.setattr(files, "upscale", None)
    monkeypatch.setitem(FORMATS, "bmp", FORMATS["bmp"]._replace(most_bytes=1000))
    code, _, err = run(source, "-o", tmp_path / "out")
    assert code == 1
    assert "24x18 pixels would take 0.0 GB, and bmp holds 0.0; use --format png" in err


@pytest.mark.parametrize(
    "size", ["4000", "x", "0x", "4000x0", "-3x", "4000x3000x2", "1.5x", "4000X", "٤x", "9999999999x"]
)
def test_a_size_that_is_none(run, size, capfd):
    with pytest.raises(SystemExit):
        run("a.png", "-o", "out", f"--size={size}")
    assert f"--size: {size}: expected pixels, as 4000x3000, 4000x or x3000" in capfd.readouterr().err


@pytest.mark.parametrize("factor", ["0", "-2", "nan", "inf", "two", ""])
def test_a_factor_that_is_none(run, factor, capfd):
    with pytest.raises(SystemExit):
        run("a.png", "-o", "out", f"--outscale={factor}")
    assert re.search(rf"--outscale: {factor}: expected a (positive )?number", capfd.readouterr().err)


def test_strength(tmp_path, capfd):
    source, name = save(tmp_path / "a.png"), "kdsr_s_x4_iso"
    made = []
    for strength in ("0", "1", "1.5"):
        out = tmp_path / f"{strength}.png"
        assert main(["upscale", str(source), "-o", str(out), "-m", name, "--strength", strength, "-q"]) == 0
        made.append(np.asarray(Image.open(out)))
        np.testing.assert_array_equal(made[-1], upscale(SMALL, with_strength(load(name), float(strength))))
    assert np.abs(made[0].astype(int) - made[1]).max() > 1
    assert np.abs(made[2].astype(int) - made[1]).max() > 1
    before = tree(tmp_path)
    call = ["upscale", str(source), "-o", str(tmp_path / "b.png"), "--strength", "0.5", "-m", "kdsr_s_x4_real"]
    assert main(call) == 2
    said = capfd.readouterr().err
    assert "the sharpness of this model's output hardly follows its IDR; leave the strength at 1" in said
    assert tree(tmp_path) == before


def test_an_input_behind_a_link_is_not_written_over(tmp_path, run):
    source = save(tmp_path / "real" / "a.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").symlink_to(source)
    code, _, err = run(tmp_path / "in", "-o", tmp_path / "real")
    assert code == 2
    assert "is an input and would be written over" in err


def test_a_picture_that_is_also_a_standard_stream_is_not_written_over(tmp_path, run, monkeypatch):
    source = save(tmp_path / "a.png")
    before = source.read_bytes()
    with source.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        code, _, err = run("-", "-o", source)
    assert (code, err) == (
        2,
        f"lightbsr upscale: {source} is standard input and would be written over; use another -o\n",
    )
    with source.open("a") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        code, _, err = run(source, "-o", "-")
    assert code == 2
    assert f"{source} is an input, and standard output is written over it" in err
    assert source.read_bytes() == before


def test_odd_names_do_not_break_the_lines(tmp_path, run):
    name = os.fsdecode(b"line\n\x1b[31m\xff caf\xc3\xa9\xe2\x80\xa8.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(b"nothing")
    shown = rf"{tmp_path}/in/line\n\x1b[31m\udcff caf\xe9\u2028.png".replace(r"\xe9", "é")
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "o\nut")
    assert code == 1
    assert err.startswith(f"{shown}: failed: not a picture that can be read")
    assert err.count("\n") == 1
    assert out == f"0 upscaled x2, 0 skipped, 1 failed: {tmp_path}/o\\nut\n"
    code, _, err = run(tmp_path / "in" / name, tmp_path / "no\nne.png", "-o", tmp_path / "out")
    assert code == 2
    assert err.startswith(f"lightbsr upscale: {tmp_path}/no\\nne.png: no such file")
    assert err.count("\n") == 1


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_whole_pictures_and_no_temporary_files(tmp_path, run, monkeypatch, signum):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name)
    write = Path.write_bytes

    def write_and_stop(path: Path, data: bytes) -> None:
        if path.name.startswith(".b.png"):
            write(path, data[:10])
            os.kill(os.getpid(), signum)
        write(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_and_stop)
    code, _, err = run(tmp_path / "in", "-o", tmp_path / "out")
    assert (code, err) == (
        128 + signum,
        "lightbsr upscale: stopped; 1 of 3 pictures are finished; the same command with --skip-existing continues\n",
    )
    assert tree(tmp_path / "out") == ["a.png"]
    assert signal.getsignal(signum) is signal.SIG_DFL
    monkeypatch.undo()
    code, out, _ = run(tmp_path / "in", "-o", tmp_path / "out", "--skip-existing")
    assert (code, out) == (0, f"2 upscaled x2, 1 skipped, 0 failed: {tmp_path / 'out'}\n")


def test_tiles_change_nothing(tmp_path, run):
    source = save(tmp_path / "a.png", RGB)
    for tile in ("0", "5", "auto"):
        assert run(source, "-o", tmp_path / f"{tile}.png", "--tile", tile)[0] == 0
    whole, tiled, auto = (read_picture(tmp_path / f"{tile}.png").pixels.astype(int) for tile in ("0", "5", "auto"))
    assert np.abs(tiled - whole).max() <= 1
    assert np.abs(auto - whole).max() <= 1


def test_bf16_is_near(tmp_path, run):
    source = save(tmp_path / "a.png", RGB)
    for dtype in ("fp32", "bf16"):
        assert run(source, "-o", tmp_path / f"{dtype}.png", "--dtype", dtype, "--device", "cpu")[0] == 0
    full, half = (read_picture(tmp_path / f"{dtype}.png").pixels.astype(int) for dtype in ("fp32", "bf16"))
    assert 0 < np.abs(half - full).max() < 8


def test_standard_input_and_output(tmp_path, weights, capfdbinary, monkeypatch):
    data = io.BytesIO()
    Image.fromarray(SMALL).save(data, "TIFF")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data.getvalue())))
    assert main(["upscale", "-", "-o", "-", "-m", weights, "-q"]) == 0
    out, err = capfdbinary.readouterr()
    assert err == b"1 upscaled x2, 0 skipped, 0 failed: -\n"
    picture = Image.open(io.BytesIO(out))
    assert (picture.format, picture.size) == ("TIFF", (24, 18))
    np.testing.assert_array_equal(np.asarray(picture), upscale(SMALL, load(weights), tile=0))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no picture")))
    assert main(["upscale", "-", "-o", str(tmp_path / "x.png"), "-m", weights, "-q"]) == 1
    assert b"-: failed: standard input: not a picture that can be read" in capfdbinary.readouterr().err


def test_closed_standard_streams_are_one_line(tmp_path, run, monkeypatch):
    source = save(tmp_path / "a.png")
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stdout", None)  # as after >&-
        code, _, err = run(source, "-o", "-")
    wanted = "lightbsr upscale: -o -: standard output is closed; redirect it to a file or a program\n"
    assert (code, err) == (2, wanted)
    with (tmp_path / "other").open("wb") as written, monkeypatch.context() as writing:
        writing.setattr(sys, "stdin", io.TextIOWrapper(written))
        code, _, err = run("-", "-o", tmp_path / "b.png")
    assert code == 1
    assert err.startswith("-: failed: standard input: cannot be read: ")
    monkeypatch.setattr(sys, "stderr", None)  # as after 2>&-
    code, out, _ = run(source, "-o", tmp_path / "c.png")
    assert (code, out) == (0, f"1 upscaled x2, 0 skipped, 0 failed: {tmp_path}/c.png\n")


def test_output_appears_whole_or_not_at_all(tmp_path, run, monkeypatch):
    save(tmp_path / "in" / "a.png")
    write_bytes = Path.write_bytes

    def full_disk(path: Path, data: bytes) -> int:
        write_bytes(path, data[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    code, _, err = run(tmp_path / "in", "-o", tmp_path / "out")
    assert code == 1
    assert f"{tmp_path / 'out' / 'a.png'}: cannot be written: No space left on device" in err
    assert tree(tmp_path) == ["in/a.png"]


def test_memory_that_does_not_suffice_fails_one_picture(tmp_path, run, monkeypatch):
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name)

    def fail_on_a(picture, codec):
        if not (tmp_path / "out" / "a.png").exists() and not fail_on_a.done:
            fail_on_a.done = True
            raise MemoryError
        return encode(picture, codec)

    encode, fail_on_a.done = files.encode, False
    monkeypatch.setattr(files, "encode", fail_on_a)
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "out")
    assert (code, out) == (1, f"1 upscaled x2, 0 skipped, 1 failed: {tmp_path / 'out'}\n")
    assert err == f"{tmp_path / 'in' / 'a.png'}: failed: memory does not suffice\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("division by zero\nin a parser"), "ZeroDivisionError: division by zero"),
        (RecursionError(), "RecursionError"),
        (OSError("broken"), "OSError: broken"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_whatever_a_picture_raises_fails_that_picture(tmp_path, run, monkeypatch, error, said):
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name)

    def raise_for_a(source):
        if str(source).endswith("a.png"):
            raise error
        return read_input(source)

    read_input = files.read_input
    monkeypatch.setattr(files, "read_input", raise_for_a)
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "out")
    assert (code, out) == (1, f"1 upscaled x2, 0 skipped, 1 failed: {tmp_path / 'out'}\n")
    assert err == f"{tmp_path / 'in' / 'a.png'}: failed: {said}\n"
    assert tree(tmp_path / "out") == ["b.png"]


def test_a_folder_that_cannot_be_listed_fails_alone(tmp_path, run):
    save(tmp_path / "in" / "a.png")
    too_deep(tmp_path / "in" / "deep")
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "out")
    assert (code, out) == (1, f"1 upscaled x2, 0 skipped, 1 failed: {tmp_path / 'out'}\n")
    assert err.startswith(f"{tmp_path / 'in' / 'deep'}/ddd")
    assert err.endswith("ddd: failed: cannot be listed (File name too long)\n")
    assert err.count("\n") == 1
    assert tree(tmp_path / "out") == ["a.png"]


@pytest.mark.parametrize("length", [230, 250, 255])
def test_long_names(tmp_path, run, length):
    name = "é" * ((length - 4) // 2) + "n" * (length % 2) + ".png"
    assert len(os.fsencode(name)) in (length, length - 1)
    save(tmp_path / "in" / name)
    assert run(tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    assert run(tmp_path / "in" / name, "-o", tmp_path / "one" / name)[0] == 0
    assert tree(tmp_path) == [f"in/{name}", f"one/{name}", f"out/{name}"]
    code, _, err = run(tmp_path / "in", "-o", tmp_path / "out", "--suffix", "_" * 40)
    assert code == 1
    assert err.endswith("cannot be written: File name too long\n")


def test_an_output_that_is_no_utf8(tmp_path, run):
    source = save(tmp_path / "a.png")
    code, out, _ = run(source, "-o", tmp_path / os.fsdecode(b"caf\xe9"))
    assert (code, out) == (0, f"1 upscaled x2, 0 skipped, 0 failed: {tmp_path}/caf\\udce9\n")


def test_a_picture_too_wide_for_its_format(tmp_path, run):
    source = save(tmp_path / "a.webp", np.zeros((1, 8200, 3), np.uint8), lossless=True)
    code, _, err = run(source, "-o", tmp_path / "out")
    assert code == 1
    assert "16400x2 pixels, but webp allows 16383 per side; use --format png" in err


def test_the_bar_ends_with_the_last_picture(tmp_path, weights, capfd):
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "c.png").write_bytes(b"")
    assert main(["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", weights, "--tile", "4"]) == 1
    assert "| 3.0/3 pictures [" in capfd.readouterr().err


def test_nothing_heavy_is_imported_for_help():
    program = "import sys; from lightbsr.commands import main\n"
    program += "try: main(['upscale', '--help'])\nexcept SystemExit: pass\n"
    program += "assert not {'torch', 'basicsr', 'numpy', 'cv2'} & set(sys.modules), 'heavy'"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--skip-existing" in done.stdout


assert len(READ) > 25  # each is upscaled above


@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="this version of PyTorch cannot be asked")
def test_a_slow_dtype_is_named(tmp_path, run, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64"})
    source = save(tmp_path / "a.png")
    assert run(source, "-o", tmp_path / "fp32.png")[2] == ""
    code, _, err = run(source, "-o", tmp_path / "bf16.png", "--dtype", "bf16")
    assert (code, err) == (0, "--dtype bf16: this CPU has no instructions for bf16; fp32 is faster on it\n")
