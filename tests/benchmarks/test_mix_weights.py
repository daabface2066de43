"""benchmarks/mix_weights.py: the mean of checkpoints, mixed with the network that the training started from."""

import json
import sys
from pathlib import Path

import pytest
import torch

from lightbsr.errors import UserError
from lightbsr_arch.checkpoint import Checkpoint, load
from tests.inference.networks import network

LAYER = "restorer.head.weight"


@pytest.fixture
def mix(tmp_path, monkeypatch, script):
    """Return a function that mixes three checkpoints whose weights are 1, 2 and 6 times those of the start."""
    monkeypatch.chdir(tmp_path)
    start = network("kdsr")
    Checkpoint(start.state_dict(), start.config).save(tmp_path / "start.safetensors")
    models = tmp_path / "experiments/gan/models"
    models.mkdir(parents=True)
    for name, factor in (("100", 1.0), ("200", 2.0), ("300", 6.0), ("latest", 9.0)):
        state = {key: value * factor for key, value in start.state_dict().items()}
        torch.save({"params": start.state_dict(), "params_ema": state}, models / f"net_g_{name}.pth")
    options = {"name": "gan", "path": {"pretrain_network_g": "start.safetensors"}}
    Path("gan.yml").write_text(json.dumps(options))

    def mix(*arguments: str) -> float:
        monkeypatch.setattr(sys, "argv", ["mix_weights.py", "gan.yml", *arguments])
        assert script("mix_weights").main() == 0
        mixed = load("experiments/gan/models/net_g_mixed.pth")
        ratio = mixed.state_dict()[LAYER] / start.state_dict()[LAYER]
        assert ratio.std() < 1e-5
        return ratio.mean().item()

    return mix


def test_the_mean_of_the_later_checkpoints_is_mixed_with_the_start(mix):
    assert mix("--after", "200", "--share", "0.25") == pytest.approx(0.75 + 0.25 * 4, abs=1e-5)
    assert mix("--after", "0", "--share", "1") == pytest.approx(3, abs=1e-5)


def test_mistakes_are_one_line(mix):
    with pytest.raises(
        UserError, match=r"experiments/gan/models: no checkpoint of iteration 400 or later; train gan.yml"
    ):
        mix("--after", "400")
    with pytest.raises(UserError, match=r"--share 1.5: expected 0 to 1"):
        mix("--share", "1.5")
