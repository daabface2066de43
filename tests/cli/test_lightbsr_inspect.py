"""``lightbsr inspect``, and ``lightbsr upscale -m auto``."""

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightbsr.commands import main
from lightbsr.commands.inspect import table
from lightbsr_arch.analysis import inspection
from lightbsr_arch.analysis.estimates import Estimate, Fit
from lightbsr_arch.analysis.inspected_files import Inspected
from lightbsr_arch.analysis.inspection import CLEAN, REAL, Reading
from lightbsr_arch.inference.upscaler import upscale

PHOTO = Path(__file__).parents[2] / "examples/photos/held_out/0c49a5cce349.webp"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clean and a noisy picture, one that is too small, and a damaged one."""
    clean = Image.open(PHOTO).convert("RGB").resize((96, 96), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(scale=25, size=(96, 96, 3))
    noisy = (np.asarray(clean) + noise).clip(0, 255).astype(np.uint8)
    (tmp_path / "in").mkdir()
    clean.save(tmp_path / "in/clean.jpg", quality=97)
    Image.fromarray(noisy).save(tmp_path / "in/noisy.png")
    clean.resize((20, 20)).save(tmp_path / "in/small.png")
    (tmp_path / "in/broken.png").write_bytes(b"nothing")
    return tmp_path


def test_bad_pictures_are_reported_and_the_others_inspected(folder, capsys):
    assert main(["inspect", str(folder / "in"), "--json"]) == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["failed"] == 2
    found = {Path(one["input"]).name: one for one in report["pictures"]}
    assert list(found) == ["broken.png", "clean.jpg", "noisy.png", "small.png"]
    assert found["broken.png"]["reason"].startswith("not a picture that can be read")
    assert found["small.png"]["reason"] == "20x20 pixels, too few to inspect; at least 32 per side"
    assert f"{folder / 'in/small.png'}: failed: 20x20 pixels" in err
    assert err.count("failed") == 2
    clean, noisy = found["clean.jpg"], found["noisy.png"]
    assert (clean["status"], clean["size"], clean["file_quality"]) == ("done", [96, 96], 97)
    assert noisy["file_quality"] is None
    assert noisy["model"] == REAL
    if not noisy["unlike_training"] and noisy["noise"]:
        assert noisy["noise"]["low"] <= noisy["noise"]["value"] <= noisy["noise"]["high"]


def test_standard_input(folder, capsys, monkeypatch):
    main(["inspect", str(folder / "in/noisy.png"), "--json"])
    [wanted] = json.loads(capsys.readouterr().out)["pictures"]
    with (folder / "in/noisy.png").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["inspect", "-", "--json"]) == 0
    [one] = json.loads(capsys.readouterr().out)["pictures"]
    assert one == {**wanted, "input": "-"}
    monkeypatch.setattr(sys, "stdin", None)  # as after <&-
    assert main(["inspect", "-"]) == 1
    assert "failed: standard input: closed; redirect a picture to it" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"nothing")))
    assert main(["inspect", "-"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("-: failed: standard input: not a picture that can be read")
    assert err.count("\n") == 1
    assert main(["inspect", "-", str(folder)]) == 2
    assert "- (standard input) is one picture and cannot be combined" in capsys.readouterr().err


def test_odd_names_do_not_break_the_table(folder, capsys):
    (folder / "in/noisy.png").rename(folder / os.fsdecode(b"in/noisy\n\xff.png"))
    (folder / "in/broken.png").rename(folder / "in/broken\n.png")
    assert main(["inspect", str(folder / "in")]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["clean.jpg", r"noisy\n\udcff.png"]
    assert len(lines) == 6
    assert err.count("\n") == 2
    assert rf"{folder}/in/broken\n.png: failed: not a picture" in err


def test_the_table_has_one_line_and_one_reason_per_picture(folder, capsys):
    assert main(["inspect", str(folder / "in/clean.jpg"), str(folder / "in/noisy.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].split("  ")[0] == "picture"
    assert [line.split()[0] for line in lines[1:3]] == ["clean.jpg", "noisy.png"]
    assert lines[5].startswith(f"noisy.png: {REAL}: ")


def test_the_table_says_what_is_not_told_apart():
    estimates = {"sigma": Estimate(2.1, 1.8, 2.5), "noise": None, "jpeg": Estimate(100, 88, 100), "gain": None}
    one = Inspected("a.jpg", size=(9, 9), file_quality=90, reading=Reading(estimates, 0.5, False, REAL, "why not"))
    assert table([("a.jpg", one)], 7).splitlines() == [
        "picture  sigma (px)           noise           JPEG quality      file quality  weights",
        f"a.jpg    2.10 (1.80 to 2.50)  not determined  none, or over 88  90            {REAL}",
        "",
        f"a.jpg: {REAL}: why not",
    ]


def test_maps_of_one_picture_and_of_several(folder, capsys):
    assert main(["inspect", str(folder / "in/clean.jpg"), "--map", str(folder / "map.png")]) == 0
    assert Image.open(folder / "map.png").size == (2 * 320 + 8, 320 + 48)
    assert main(["inspect", str(folder / "in"), "--map", str(folder / "maps")]) == 1
    assert sorted(path.name for path in (folder / "maps").iterdir()) == ["clean.jpg.png", "noisy.png.png"]
    assert "Written: " in capsys.readouterr().err


def test_a_map_does_not_replace_an_input(folder, capsys):
    photo = folder / "in/noisy.png"
    before = photo.read_bytes()
    (folder / "link.png").symlink_to(photo)
    for out in (photo, folder / "link.png"):
        assert main(["inspect", str(photo), "--map", str(out)]) == 2
        assert f"{out} is an input and would be written over" in capsys.readouterr().err
    twin = folder / "in/noisy.png.png"
    twin.write_bytes(before)
    assert main(["inspect", str(photo), str(twin), "--map", str(folder / "in")]) == 2
    assert f"{folder / 'in'}: the folder of the photos; name another" in capsys.readouterr().err
    assert photo.read_bytes() == twin.read_bytes() == before


def test_maps_inside_the_input_folder_are_not_inspected(folder, capsys):
    command = ["inspect", str(folder / "in"), "--map", str(folder / "in/maps"), "--json"]
    for _ in range(2):
        main(command)
        assert len(json.loads(capsys.readouterr().out)["pictures"]) == 4
    assert sorted(path.name for path in (folder / "in/maps").iterdir()) == ["clean.jpg.png", "noisy.png.png"]


def test_the_estimates_are_printed_even_if_the_map_failed(folder, capsys):
    picture = folder / "in/noisy.png"
    Image.open(picture).crop((0, 0, 40, 40)).save(picture)
    assert main(["inspect", str(picture), "--map", str(folder / "map.png"), "--json"]) == 1
    out, err = capsys.readouterr()
    [one] = json.loads(out)["pictures"]
    assert (one["status"], one["model"], one["size"]) == ("failed", REAL, [40, 40])
    assert one["reason"] == "40x40 pixels, too few for a map; at least 64 per side"
    assert "Written" not in err


@pytest.mark.parametrize(
    ("inputs", "out", "message"),
    [
        ("in", "map.png", "one file for several pictures; name a folder"),
        ("in/clean.jpg", "map.jpg", "the map must be named .png"),
        ("in/none.jpg", "map.png", "no such file or folder"),
    ],
)
def test_refused_before_anything_is_done(folder, capsys, inputs, out, message):
    assert main(["inspect", str(folder / inputs), "--map", str(folder / out)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / out).exists()


@pytest.mark.parametrize("command", [["inspect"], ["upscale", "-m", "auto", "-q", "-o", "out"]])
def test_a_fit_of_other_weights_is_refused(folder, capsys, monkeypatch, command):
    shipped = Fit.load(inspection.shipped.folder() / inspection.FILE)
    other = Fit(**{**vars(shipped), "weights": np.array('{"kdsr_srmd_x4_iso": "0"}')})
    monkeypatch.setattr(Fit, "load", lambda path: other)
    monkeypatch.chdir(folder)
    assert main([*command, "in/clean.jpg"]) == 2
    err = capsys.readouterr().err
    assert "kdsr_srmd_x4_iso.safetensors: other weights than those that lightbsr inspect was fitted to" in err
    assert err.count("\n") == 1
    assert not (folder / "out").exists()


def test_upscale_auto_uses_the_weights_that_inspect_names(folder, capsys):
    main(["inspect", str(folder / "in"), "--json"])
    named = {Path(one["input"]).name: one.get("model") for one in json.loads(capsys.readouterr().out)["pictures"]}
    assert {named["clean.jpg"], named["noisy.png"]} <= {CLEAN, REAL}
    out = folder / "out"
    assert main(["upscale", str(folder / "in"), "-o", str(out), "-m", "auto", "-q", "--format", "png"]) == 1
    err = capsys.readouterr().err
    for name in ("clean", "noisy"):
        [source] = (folder / "in").glob(f"{name}.*")
        assert err.count(f"{source}: -m auto: {named[source.name]}: ") == 1
        expected = upscale(np.asarray(Image.open(source)), named[source.name])
        assert np.abs(np.asarray(Image.open(out / f"{name}.png")).astype(int) - expected).max() <= 1
    assert f"small.png: -m auto: {REAL}: 20x20 pixels, too few to inspect" in err
    assert Image.open(out / "small.png").size == (80, 80)
    assert not (out / "broken.png").exists()
