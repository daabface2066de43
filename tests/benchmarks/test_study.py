"""The comparison of estimators and restorers trains, measures, and continues where it stopped."""

import json
import re

import pytest

from lightbsr_arch.config.load import load_options
from tests.bench.toys import pictures
from tests.commands import run_module

TEACHER, STUDENT = "kdideteacher_idrdcrbnet", "kdide_idrdcrbnet"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return pictures(tmp_path_factory.mktemp("study") / "photos", 4, side=136)


@pytest.fixture
def study(script, capsys):
    """Return a function that runs the script, and returns its exit code and standard output."""
    main = script("study").main

    def run(*arguments):
        capsys.readouterr()
        code = main([*map(str, arguments)])
        return code, capsys.readouterr().out

    return run


def train_in_fork(options, *, folder, log):
    done = run_module("lightbsr_arch.training", "train", "-opt", options, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    log.write_text(done.stdout)


def test_every_estimator_meets_every_restorer_and_teachers_come_first(study):
    names, teachers, others = (study("--list", kind)[1].split() for kind in ("all", "teachers", "others"))
    assert len(names) == len({*names}) == 63
    assert sorted(names) == sorted(teachers + others)
    assert (len(teachers), len(others)) == (14, 49)
    assert names.index(TEACHER) < names.index(STUDENT)


@pytest.mark.slow
def test_a_tiny_study_has_all_figures_and_continues(study, photos, script, monkeypatch, tmp_path):
    out = tmp_path / "out"
    arguments = ("--tiny", "--output", out, "--photos", photos, "--images", photos)
    with monkeypatch.context() as patch:
        patch.setattr(script("study"), "train", train_in_fork)  # continued below by the script's own processes
        code, printed = study(*arguments, "--jobs", 1)
    assert code == 0, printed
    assert [line.split()[0] for line in printed.splitlines()[1:]] == [TEACHER, STUDENT]
    results = {name: json.loads((out / f"results/{name}.json").read_text()) for name in (TEACHER, STUDENT)}
    for result in results.values():
        assert result["steps"] == 4
        assert 5 < result["psnr_y"] < 60
        assert 0 <= result["idr"]["knn"] <= 1
        assert result["params"] > 100_000
        assert result["seconds_per_step"] > 0
        assert {"r2", "wrong_costs"} <= result["idr"].keys()
    rows = [line for line in (out / "table.md").read_text().splitlines() if "IDRDCRBNet" in line]
    assert len(rows) == 2
    assert "| 4 + 4 |" in rows[1]
    assert f"{results[STUDENT]['psnr_y']:.2f}" in rows[1]
    assert (out / "study.png").read_bytes().startswith(b"\x89PNG")

    opt = load_options(out / f"options/{STUDENT}.yml", is_train=True, overrides=[
        f"path:pretrain_network_teacher={out}/experiments/{TEACHER}/models/net_g_latest.pth"
    ])  # fmt: skip
    assert opt["train"]["total_iter"] == 4

    # The student's run is left as if it had been killed after its second step.
    run = out / "experiments" / STUDENT
    for file in [*run.glob("models/net_g_[34l]*.pth"), *run.glob("training_states/[34]*.state")]:
        file.unlink()
    (out / f"results/{STUDENT}.json").unlink()
    before = (out / f"results/{TEACHER}.json").stat().st_mtime_ns
    code, printed = study(*arguments, "--jobs", 2)
    assert code == 0, printed
    assert re.search(rf"{TEACHER} .*complete before", printed)
    assert (out / f"results/{TEACHER}.json").stat().st_mtime_ns == before
    logs = sorted(run.glob("train_*.log"), key=lambda log: log.stat().st_mtime)
    assert "Resuming training from epoch: " in logs[-1].read_text()
    assert "iter: 2." in logs[-1].read_text()
    again = json.loads((out / f"results/{STUDENT}.json").read_text())
    assert again["psnr_y"] == pytest.approx(results[STUDENT]["psnr_y"], abs=0.02)

    code, printed = study(*arguments, "--steps", 10)
    assert code == 1
    assert printed.count("has other options than this study; choose another --output") == 2

    page = tmp_path / "docs/study.md"
    (page.parent / "images").mkdir(parents=True)
    page.write_text("Before\n<!-- study: begin -->\nold\n<!-- study: end -->\nAfter\n")
    assert study(*arguments, "--page", page)[0] == 0
    text = page.read_text()
    assert text.startswith("Before\n")
    assert text.endswith("After\n")
    assert "old" not in text
    table = (out / "table.md").read_text().splitlines()  # measured again since the first run
    assert table[-1].startswith("| KDIDE | IDRDCRBNet | 4 + 4 |")
    assert table[-1] in text
    assert (page.parent / "images/study.png").is_file()
