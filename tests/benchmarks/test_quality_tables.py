"""The tables of benchmarks/adapt_gain.py and benchmarks/degrees.py: figures, continuation, and the page."""

import json
import re

import cv2
import pytest

from lightbsr.errors import UserError
from lightbsr_arch.checkpoint import Checkpoint
from tests.bench.toys import pictures
from tests.inference.networks import network
from tests.inference.test_degrees import controlled


@pytest.fixture
def photos(tmp_path):
    return pictures(tmp_path / "photos", 2, side=96)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_adaptations_are_measured_once_each(script, photos, tmp_path, capsys):
    adapt_gain = script("adapt_gain")
    net = network("kdsr")
    Checkpoint(net.state_dict(), net.config).save(tmp_path / "net.safetensors")
    page, out, name = tmp_path / "page.md", tmp_path / "out/gains.json", str(tmp_path / "net.safetensors")
    page.write_text("Before\n<!-- adapt: begin -->\nold\n<!-- adapt: end -->\nAfter\n")
    arguments = [str(photos), name, "--count", "2", "--steps", "1", "--output", str(out), "--page", str(page)]
    assert adapt_gain.main(arguments) == 0
    results = json.loads(out.read_bytes())
    assert len(results) == 2 * 3
    shown = capsys.readouterr()
    assert "6/6" in shown.err
    lines = shown.out.splitlines()
    means = [cells(line) for line in lines if line.startswith(f"| {name} |")]
    isotropic = [value for key, value in results.items() if '"sigma": 2.6' in key]
    assert len(means) == 3
    assert float(means[0][2]) == pytest.approx(sum(before for before, _ in isotropic) / 2, abs=0.006)
    assert float(means[0][3]) == pytest.approx(sum(after - before for before, after in isotropic) / 2, abs=0.006)
    text = page.read_text()
    assert text.startswith("Before\n<!-- adapt: begin -->\n\n| weights |")
    assert text.endswith("\n\n<!-- adapt: end -->\nAfter\n")
    assert "old" not in text

    # A complete entry is kept, and a missing one is measured again to the same figures.
    first, *_, last = results
    changed = {key: value for key, value in results.items() if key != last} | {first: [10.0, 90.0]}
    out.write_text(json.dumps(changed))
    assert adapt_gain.main(arguments) == 0
    assert json.loads(out.read_bytes()) == {**results, first: [10.0, 90.0]}
    assert "+80.00 |" in capsys.readouterr().out

    out.write_text("[]")
    with pytest.raises(UserError, match=r"gains.json: not the results of this script"):
        adapt_gain.main(arguments)
    out.unlink()
    page.write_text("no lines")
    with pytest.raises(UserError, match=r"page.md: needs the lines <!-- adapt: begin -->"):
        adapt_gain.main([*arguments, "--count", "1"])
    assert len(json.loads(out.read_bytes())) == 3


def test_the_effect_of_degrees_is_measured_and_shown(script, photos, tmp_path, capsys):
    degrees = script("degrees")
    net = controlled()
    Checkpoint(net.state_dict(), net.config).save(tmp_path / "net.safetensors")
    other = network("kdsr")
    Checkpoint(other.state_dict(), other.config).save(tmp_path / "other.safetensors")
    page, strip = tmp_path / "page.md", tmp_path / "strip.webp"
    page.write_text("<!-- degrees: begin -->\n<!-- degrees: end -->\n")
    arguments = [str(tmp_path / "net.safetensors"), "--images", str(photos), "--crop", "96"]
    assert degrees.main([*arguments, "--page", str(page)]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed in page.read_text()
    rows = [cells(line) for line in printed.splitlines()[2:]]
    assert [row[1] for row in rows] == ["blur", "noise"] * 4
    for row in rows:
        assert len(row) == 9
        assert all(re.fullmatch(r"-?\d+\.\d\d, \d+\.\d\d", cell) for cell in row[2:8])
        assert row[8] in {"0 of 2", "1 of 2", "2 of 2"}
    assert [row[2] for row in rows[::2]] == [row[2] for row in rows[1::2]]  # nothing is set

    assert degrees.main([*arguments, "--strip", str(strip)]) == 0
    assert cv2.imread(str(strip)).shape[1] == 5 * (96 + 4)
    with pytest.raises(UserError, match=r"strip.png: the strip must be named .webp"):
        degrees.main([*arguments, "--strip", str(tmp_path / "strip.png")])
    with pytest.raises(UserError, match="estimates no degrees of blur and noise"):
        degrees.main([str(tmp_path / "other.safetensors"), "--images", str(photos)])
