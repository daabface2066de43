"""The peak memory of training steps, computed with small networks."""

import sys

import pytest
import torch


@pytest.mark.slow
def test_the_largest_batch_does_not_depend_on_the_batches_of_the_estimate(script, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- train_memory: begin -->\n<!-- train_memory: end -->\n")
    arguments = ["--tiny", "--only", "student", "--batch", "2", "4", "--gpu-gb", "1", "--page", str(page)]
    monkeypatch.setattr(sys, "argv", ["train_memory.py", *arguments])
    script("train_memory").main()
    printed = capsys.readouterr().out
    assert printed.strip() in page.read_text()
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines()[2:]]
    names = ["KDSR-M student", "KDSR-L student", "LightBSR student", "KDSR-real student, second-order"]
    assert [row[0] for row in rows] == [name for name in names for _ in range(2)]
    assert [row[1] for row in rows] == ["2", "4"] * 4
    for column in (6, 7):
        largest = [int(row[column]) for row in rows]
        assert largest[1::2] == pytest.approx(largest[::2], rel=0.02)
        assert min(largest) > 100


@pytest.mark.parametrize(
    ("name", "sizes"), [("KDSR-M student", {"num_block": 40}), ("LightBSR student", {"num_group": 4, "num_block": 4})]
)
def test_checkpointed_activations_need_less_memory(script, name, sizes, tmp_path):
    benchmark, steps = script("train_memory"), script("recipe_steps")
    opt = steps.options_of(steps.STEPS[name], tmp_path, torch.device("cpu"), tiny=True)
    for network in ("network_g", "network_teacher"):
        opt[network]["restorer"] |= sizes
    weights, peak = benchmark.measure(opt, 2)
    same_weights, less = benchmark.measure(opt, 2, checkpointed=True)
    assert weights == same_weights
    assert less < 0.8 * peak


def test_the_meter_counts_the_tensors_that_exist(script):
    meter = script("train_memory").MemoryMeter()
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
