"""``lightbsr degrade``."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch

from lightbsr.commands import main
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.degradations import Parameters, gaussian_kernels
from lightbsr_arch.degradations.classical import degrade
from tests.corpus import too_deep


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in (("a b.png", (50, 62)), ("c.png", (48, 64))):
        cv2.imwrite(str(folder / name), np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    return folder


def test_one_blur_is_that_of_the_tables(photos: Path, tmp_path: Path) -> None:
    assert main(["degrade", str(photos), str(tmp_path / "out"), "--sigma", "1.5", "3", "--theta", "90"]) == 0
    folder = tmp_path / "out/sigma1.5x3.0_theta90"
    assert sorted(path.name for path in folder.iterdir()) == ["a_b.png", "c.png"]
    gt = to_tensor(cv2.imread(str(photos / "a b.png"))[:48, :60])[None]
    kernel = gaussian_kernels(torch.tensor([1.5]), torch.tensor([3.0]), torch.tensor([torch.pi / 2]))
    lq = degrade(gt, Parameters(kernel, torch.zeros(1)), 4)[0]
    assert torch.equal((to_tensor(cv2.imread(str(folder / "a_b.png"))) * 255).round(), (lq * 255).round())


def test_jpeg_compresses_after_the_blur(photos: Path, tmp_path: Path) -> None:
    for more in ([], ["--jpeg", "30"]):
        assert main(["degrade", str(photos), str(tmp_path / "out"), "--sigma", "1.2", *more]) == 0
    blurred, compressed = (
        cv2.imread(str(tmp_path / "out" / name / "c.png")) for name in ("sigma1.2", "sigma1.2_jpeg30")
    )
    data = cv2.imencode(".jpg", blurred, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    expected = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert np.abs(expected.astype(int) - compressed).mean() < 0.5 < np.abs(blurred.astype(int) - compressed).mean()


def test_a_setting_is_a_folder_a_degradation(photos: Path, tmp_path: Path) -> None:
    assert main(["degrade", str(photos), str(tmp_path / "out"), "--setting", "setting1", "--scale", "2"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["sigma0", "sigma0.6", "sigma1.2", "sigma1.8"]
    assert cv2.imread(str(tmp_path / "out/sigma0/c.png")).shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--sigma", "1", "2", "3"], "--sigma takes one number, or one for each axis"),
        (["--sigma", "-1"], "neither it nor --noise may be negative"),
        (["--sigma", "nan"], "all are finite"),
        (["--sigma", "1", "inf"], "all are finite"),
        (["--sigma", "1", "--noise", "nan"], "all are finite"),
        (["--sigma", "1", "--theta", "inf"], "all are finite"),
        (["--sigma", "1", "--jpeg", "0"], "--jpeg 0: expected a quality from 1 to 100"),
        (["--setting", "bicubic", "--jpeg", "80"], "--jpeg is for --sigma, but --setting bicubic has its own"),
        (["--sigma", "11"], "the kernel of 21x21 pixels cannot hold such a blur; expected at most 10"),
        (["--setting", "gaussian8", "--noise", "40"], "--noise is for --sigma, but --setting gaussian8 has its own"),
        (["--setting", "second-order", "--downsample", "s-fold"], "--setting second-order draws its own"),
        (["--setting", "gaussian8"], "nothing: no such folder"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["degrade", str(tmp_path / "nothing"), str(tmp_path / "out"), *arguments]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("lightbsr degrade: ")
    assert line in error


@pytest.mark.parametrize(
    ("setting", "named", "least", "number"), [("setting1", "small.png", 11, 4), ("second-order", "a b.png", 74, 1)]
)
def test_a_picture_that_is_too_small_is_named(
    setting: str, named: str, least: int, number: int, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(photos / "small.png"), np.zeros((8, 64, 3), np.uint8))
    assert main(["degrade", str(photos), str(tmp_path / "out"), "--setting", setting, "--scale", "2"]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"failed: {named} in {photos}")]
    assert [line.partition("give images of at least ")[2].split()[0] for line in errors] == [str(least)] * number


def noise(path: Path, seed: int, size: tuple[int, int] = (48, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(folder: Path) -> dict[str, list[int]]:
    return {path.name: cv2.imread(str(path)).ravel().tolist() for path in sorted(folder.glob("*.png"))}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command and returns exit code, last line and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["degrade", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out.rpartition(": ")[2].strip(), said.err

    return run


def test_a_second_call_makes_what_is_new_alone(photos, tmp_path, run):
    out = tmp_path / "out"
    call = (photos, out, "--sigma", "2")
    assert run(*call)[:2] == (0, "2 made, 0 there already, 0 failed; 2 pictures under 1 degradations")
    before = files(out)
    assert run(*call)[:2] == (0, "0 made, 2 there already, 0 failed; 2 pictures under 1 degradations")
    assert files(out) == before
    noise(photos / "b.png", 1)
    assert run(*call)[:2] == (0, "1 made, 2 there already, 0 failed; 3 pictures under 1 degradations")
    assert {**files(out), **before} == files(out)
    assert sorted(files(out)) == ["sigma2/a_b.png", "sigma2/b.png", "sigma2/c.png"]


def test_a_changed_picture_is_made_again(photos, tmp_path, run):
    run(photos, tmp_path / "out", "--sigma", "2")
    noise(photos / "c.png", 7)
    assert run(photos, tmp_path / "out", "--sigma", "2")[:2] == (
        0,
        "1 made, 1 there already, 0 failed; 2 pictures under 1 degradations",
    )
    run(photos, tmp_path / "fresh", "--sigma", "2")
    assert files(tmp_path / "out") == files(tmp_path / "fresh")


def test_noise_is_that_of_the_pictures_place_after_one_was_added(photos, tmp_path, run):
    call = ("--sigma", "2", "--noise", "10")
    run(photos, tmp_path / "out", *call)
    noise(photos / "b.png", 1)
    assert run(photos, tmp_path / "out", *call)[1].startswith("2 made, 1 there already")  # c.png is third now
    run(photos, tmp_path / "fresh", *call)
    assert files(tmp_path / "out") == files(tmp_path / "fresh")


@pytest.mark.parametrize("more", [["--scale", "2"], ["--downsample", "s-fold"], ["--scale", "3"]])
def test_another_degradation_in_the_same_folder_is_refused(more, photos, tmp_path, run):
    out = tmp_path / "out"
    run(photos, out, "--sigma", "2")
    before = files(out)
    noise(photos / "0.png", 1)
    code, _, error = run(photos, out, "--sigma", "2", *more)
    assert code == 2
    assert error.startswith(f"lightbsr degrade: {out}/sigma2/a_b.png: is there, made with x4 bicubic ")
    assert error.count("\n") == 1
    assert files(out) == before


def test_pictures_that_say_nothing_of_their_making_are_compared(photos, tmp_path, run):
    """Such pictures are those of other programs and of earlier versions."""
    out = tmp_path / "out"
    run(photos, out, "--sigma", "2")
    made = pixels(out / "sigma2")
    for path in (out / "sigma2").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path)))  # OpenCV drops the text chunk
    noise(out / "sigma2/c.png", 3, (12, 16))
    before = files(out)
    code, last, error = run(photos, out, "--sigma", "2")
    assert (code, last) == (1, "0 made, 1 there already, 1 failed; 2 pictures under 1 degradations")
    assert f"failed: {out}/sigma2/c.png is there and holds another picture; delete it" in error
    assert files(out) == before
    (out / "sigma2/c.png").unlink()
    assert run(photos, out, "--sigma", "2")[0] == 0
    assert pixels(out / "sigma2") == made


def test_its_own_outputs_are_no_inputs(photos, tmp_path, run):
    for sigma in ("2", "3"):
        for made in ("2 made, 0 there", "0 made, 2 there"):
            code, last, _ = run(photos, photos / "low", "--sigma", sigma)
            assert (code, last.startswith(made), last.endswith("2 pictures under 1 degradations")) == (0, True, True)
    assert sorted(files(photos)) == [
        *("a b.png", "c.png"),
        *(f"low/sigma{sigma}/{name}.png" for sigma in (2, 3) for name in ("a_b", "c")),
    ]


@pytest.mark.parametrize(
    ("source", "out"), [("hr", "hr"), ("hr/", "hr/../hr"), ("low/sigma2", "low"), ("low/sigma2/sub", "low")]
)
def test_inputs_are_not_written_over(source, out, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    noise(tmp_path / source / "a.png", 0)
    before = files(tmp_path)
    code, _, error = run(source, out, "--sigma", "2")
    assert code == 2
    assert error.count("\n") == 1
    assert files(tmp_path) == before


def test_every_picture_but_the_failing_ones_is_made(photos, tmp_path, run):
    noise(photos / "3x3.png", 0, (3, 3))
    (photos / "broken.png").write_bytes((photos / "c.png").read_bytes()[:100])
    (photos / "nothing.png").symlink_to("nowhere")
    noise(photos / ("n" * 251 + ".png"), 0)
    too_deep(photos / "deep")
    code, last, error = run(photos, tmp_path / "out", "--sigma", "2")
    assert (code, last) == (1, "3 made, 0 there already, 4 failed; 7 pictures under 1 degradations")
    lines = [line for line in error.splitlines() if line.startswith("failed: ")]
    assert lines[0] == f"failed: 3x3.png in {photos}: 3x3 pixels, too small for x4; leave it out"
    assert lines[1].startswith(f"failed: {photos}/broken.png: cut short or damaged")
    assert lines[2].startswith(f"failed: {photos}/deep/ddd")
    assert lines[2].endswith(": cannot be listed (File name too long)")
    assert lines[3] == f"failed: {photos}/nothing.png: a link to nothing"
    names = sorted(files(tmp_path / "out"))
    assert names[:2] == ["sigma2/a_b.png", "sigma2/c.png"]
    assert re.fullmatch(r"sigma2/n{150,}.*\.png", *names[2:])


@pytest.mark.parametrize("key", ["/abs", "//abs", "/", "a//b", "x/", " ", "..."])
def test_keys_of_an_lmdb_lead_nowhere_else(key, tmp_path, run):
    root = tmp_path / "x.lmdb"
    picture = cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    key = key.replace("abs", str(tmp_path / "planted").removeprefix("/"))
    with lmdb.open(str(root)) as environment, environment.begin(write=True) as transaction:
        transaction.put(key.encode(), picture)
    (root / "meta_info.txt").write_text(f"{key}.png (64,64,3) 1\n")
    run(root, tmp_path / "out", "--sigma", "2")
    assert {path.name for path in tmp_path.iterdir()} <= {"x.lmdb", "out"}


def test_out_is_a_file(photos, tmp_path, run):
    (tmp_path / "low").mkdir()
    (tmp_path / "low/sigma2").write_text("mine")
    code, _, error = run(photos, tmp_path / "low", "--sigma", "2")
    assert (code, error) == (2, f"lightbsr degrade: {tmp_path}/low/sigma2: a file, where a folder is to be written\n")


def test_odd_names_do_not_break_the_lines(photos, tmp_path, run):
    (photos / os.fsdecode(b"b\n\xff.png")).write_bytes(b"nothing")
    code, said, error = run(photos, tmp_path / "o\nut", "--sigma", "2")
    assert code == 1
    assert said.startswith("2 made, 0 there already, 1 failed")
    assert error.count("failed: ") == 1
    assert rf"{photos}/b\n\udcff.png: not a picture that can be read" in error
