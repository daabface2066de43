"""The benchmarks of training and inference on a GPU run without one, with small networks."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


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


@pytest.mark.slow
def test_the_largest_batch_does_not_depend_on_the_batches_of_the_estimate():
    code, printed, errors = run("train_memory.py", "--tiny", "--only", "student", "--batch", 2, 4, "--gpu-gb", 1)
    assert code == 0, errors
    rows = [line.rsplit(maxsplit=5) for line in printed.splitlines()[1:]]
    names = ["KDSR-M student", "KDSR-L student", "LightBSR student", "KDSR-real student, second-order"]
    assert [row[0] for row in rows] == [name for name in names for _ in range(2)]
    assert [row[1] for row in rows] == ["2", "4"] * 4
    largest = [int(row[5]) for row in rows]
    assert largest[1::2] == pytest.approx(largest[::2], rel=0.02)
    assert min(largest) > 100


def test_the_meter_counts_the_tensors_that_exist(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    meter = importlib.import_module("train_memory").MemoryMeter()
    weights = [torch.empty(100, 100, device="meta", requires_grad=True) for _ in range(4)]
    features = torch.empty(1000, 100, device="meta")
    for tensor in (features, *weights):
        meter.add(tensor)
    assert meter.now == 4 * 40_000 + 400_000
    with meter:
        for weight in weights:
            features = (features @ weight).sigmoid()
        # Backpropagation needs all sigmoids. The last product exists together with its sigmoid.
        assert (meter.now, meter.peak) == (2_160_000, 2_560_000)
        features.sum().backward()
        del features
        assert meter.now == 160_000 + 160_000
