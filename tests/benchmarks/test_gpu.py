"""The benchmark of training and inference on a GPU runs without one, with small networks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script, *arguments):
    """Run a benchmark and return its exit code, standard output and standard error."""
    command = [sys.executable, "-W", "ignore", str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_every_form_of_a_step_and_of_a_picture_is_measured(tmp_path):
    file = tmp_path / "gpu.json"
    code, printed, errors = run("gpu.py", "--tiny", "--device", "cpu", "--entry", 1, 7, "--output", file)
    assert code == 0, errors
    report = json.loads(file.read_text())
    assert (report["device"], report["tiny"], report["triton"], report["left_out"]) == ("CPU", True, False, [])
    assert [*report["entries"]] == ["train KDSR-M student", "infer KDSR-M 20x24"]
    forms = ["plain", "fp32, NCHW, Triton", "fp32, channels_last, Triton", "bf16, channels_last"]
    forms += ["bf16, channels_last, Triton", "bf16, NCHW, Triton"]
    step, picture = report["entries"].values()
    assert [*step] == forms[:-1]
    assert [*picture] == forms
    for figures in (*step.values(), *picture.values()):
        assert min(figures["seconds"], figures["faster"]) > 0
        assert figures["rounds"] == 1
        assert f" {figures['seconds']:.4f} " in printed
    assert step["plain"]["faster"] == picture["plain"]["faster"] == 1
