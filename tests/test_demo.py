"""The commands of the demo with a shorter training: data, teacher, student, report."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import run_module

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SHORT = [
    "train:total_iter=24", "logger:print_freq=1", "val:val_freq=100", "datasets:val:settings=[{sigma: 2.6}]",
]  # fmt: skip


def run(folder, *arguments):
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=300)


def basicsr(folder, command, options, *overrides):
    arguments = [command, "-opt", f"options/{options}.yml", "--force_yml", *overrides]
    return run_module("lightbsr_arch.training", *arguments, cwd=folder, timeout=300)


def train(folder, options, *more):
    return basicsr(folder, "train", options, *SHORT, *more)


def losses(log, name):
    return [float(value) for value in re.findall(rf"{name}: (\S+)", log)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with the options and the demo's LMDBs, and the output of the training there."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(ROOT / "options", folder / "options")
    for name in ("train", "held_out"):
        photos, lmdb = ROOT / "examples" / "photos" / name, f"datasets/demo/{name}.lmdb"
        made = run_module("lightbsr", "data", "prepare", photos, lmdb, "--crop", "0", "--codec", "bmp", cwd=folder)
        assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def too_early(folder):
    return train(folder, "student")


@pytest.fixture(scope="module")
def teacher(folder, too_early):
    return train(folder, "teacher")


@pytest.fixture(scope="module")
def student(folder, teacher):
    return train(folder, "student")


def test_a_student_before_its_teacher_is_told_what_makes_it(folder, too_early):
    assert too_early.returncode == 2
    (line,) = too_early.stderr.strip().splitlines()
    assert re.match(r"options/student.yml:\d+: path.pretrain_network_teacher: ", line)
    assert line.endswith("train it first: basicsr train -opt options/teacher.yml")
    assert not (folder / "tb_logger" / "kdsr_s_x4_iso_student").exists()


def test_the_teacher_learns_and_is_saved(folder, teacher):
    assert teacher.returncode == 0, teacher.stderr
    logged = losses(teacher.stdout + teacher.stderr, "l_pix")
    assert len(logged) == 24
    assert sum(logged[-4:]) < 0.5 * sum(logged[:4])
    assert (folder / "experiments/kdsr_s_x4_iso_teacher/models/net_g_latest.pth").is_file()


def test_the_student_learns_from_it(folder, student):
    assert student.returncode == 0, student.stderr
    log = student.stdout + student.stderr
    assert re.search(r"starts? from the teacher's", log)
    distilled = losses(log, "l_distill")
    assert sum(distilled[-4:]) < 0.5 * sum(distilled[:4])
    assert re.search(r"Validation DemoHeldOut\n\t # psnr_y: \d+\.\d+", log)


def test_a_student_may_start_from_the_shipped_teacher(folder):
    made = train(
        folder, "student", "name=from_shipped", "path:pretrain_network_teacher=kdsr_s_x4_iso_teacher",
        "network_g:restorer:num_block=16", "network_teacher:restorer:num_block=16",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    measured = re.findall(r"Validation DemoHeldOut\n\t # psnr_y: (\d+\.\d+)", made.stdout + made.stderr)
    assert float(measured[-1]) > 25.3  # bicubic: 24.91


def test_basicsr_test_measures_and_saves_pictures(folder, student):
    tested = basicsr(folder, "test", "test", "datasets:test:settings=[{sigma: 2.6}]")
    assert tested.returncode == 0, tested.stderr
    figure = r"Validation DemoHeldOut\n\t # psnr_y: (\d+\.\d+)"
    (measured,) = re.findall(figure, tested.stdout + tested.stderr)
    # The last validation of the training has the same weights and photos.
    assert measured == re.findall(figure, student.stdout + student.stderr)[-1]
    assert len(list((folder / "results").rglob("*_sigma2.6_*.png"))) == 8


def test_the_report_shows_table_pictures_and_curves(folder, student):
    report = run(folder, ROOT / "examples" / "demo_report.py")
    assert report.returncode == 0, report.stderr
    table = (folder / "demo_output" / "table.md").read_text(encoding="utf-8")
    assert table.strip() in report.stdout
    # Bicubic needs no training: its figures are those of the photos, up to rounding of another library's pixels.
    (bicubic,) = re.findall(r"^\| bicubic \| ([\d.]+) \| ([\d.]+) \|", table, re.MULTILINE)
    assert [float(figure) for figure in bicubic] == pytest.approx([25.72, 25.52], abs=0.02)
    for picture in ("before_after.png", "loss_curves.png"):
        assert (folder / "demo_output" / picture).read_bytes().startswith(b"\x89PNG")
