"""benchmarks/grow_weights.py: the larger network computes the same image, and wrong arguments give one line."""

import json
import sys

import pytest
import torch

from lightbsr.errors import UserError
from lightbsr_arch.checkpoint import Checkpoint, load
from tests.inference.networks import network

LARGER = {
    "estimator": {"type": "KDIDEStudent", "num_feat": 24, "num_block": 2},
    "restorer": {"type": "IDRDCRBNet", "num_feat": 24, "num_block": 6, "scale": 4},
}


@pytest.fixture
def grow(tmp_path, monkeypatch, script):
    """Return a function that grows weights to a network_g, and the file that it writes."""
    for name in ("kdsr", "lightbsr"):
        net = network(name)
        Checkpoint(net.state_dict(), net.config).save(tmp_path / f"{name}.safetensors")

    def grow(network_g: object, weights: str = "kdsr", out: str = "grown.pth") -> None:
        options = {} if network_g is None else {"network_g": network_g}
        (tmp_path / "options.yml").write_text(json.dumps({"name": "large", **options}))
        argv = [str(tmp_path / f"{weights}.safetensors"), str(tmp_path / "options.yml"), "-o", str(tmp_path / out)]
        monkeypatch.setattr(sys, "argv", ["grow_weights.py", *argv])
        assert script("grow_weights").main() == 0

    return grow


@pytest.mark.parametrize("max_norm", [None, 2.0])  # the IDR of the small network is longer than 2
def test_the_larger_network_computes_the_same_image(grow, tmp_path, capsys, max_norm):
    small, large = network("kdsr"), {"type": "BlindSR", **LARGER}
    if max_norm is not None:
        small.estimator.max_norm = max_norm
        large = of("estimator", max_norm=max_norm)
        config = small.config | {"estimator": small.config["estimator"] | {"max_norm": max_norm}}
        Checkpoint(small.state_dict(), config).save(tmp_path / "kdsr.safetensors")
    grow(large)
    assert "grown.pth: 0." in capsys.readouterr().out
    lq = torch.rand(1, 3, 20, 16, generator=torch.Generator().manual_seed(0))
    grown = load(tmp_path / "grown.pth")
    assert grown.num_feat == 24
    assert grown.estimator.max_norm == max_norm
    with torch.inference_mode():
        torch.testing.assert_close(grown(lq), small(lq), rtol=0, atol=1e-6)


def test_another_scale_starts_with_the_layers_before_the_upsampler(grow, tmp_path, capsys):
    small = network("kdsr")
    grow({"type": "BlindSR", **small.config, "restorer": {**small.config["restorer"], "scale": 2}})
    assert "scale 2 from 4" in capsys.readouterr().out
    x2 = load(tmp_path / "grown.pth").state_dict()
    for name, value in small.state_dict().items():
        if "upsample.2" not in name:
            assert torch.equal(x2[name], value), name


def of(part, **changed):
    return {"type": "BlindSR", **LARGER, part: {**LARGER[part], **changed}}


@pytest.mark.parametrize(
    ("network_g", "message"),
    [
        (None, "options.yml: expected a network_g of type BlindSR"),
        ([1], "options.yml: expected a network_g of type BlindSR"),
        ({"type": "RRDBNet"}, "options.yml: expected a network_g of type BlindSR"),
        ({"type": "BlindSR", "estimator": LARGER["estimator"]}, "options.yml: network_g cannot be built: "),
        (of("restorer", num_feat="wide"), "options.yml: network_g cannot be built: "),
        (of("restorer", type="None"), "options.yml: network_g cannot be built: "),
        (of("estimator", num_feat=32), "options.yml: network_g cannot be built: "),
        (of("restorer", num_block=3), r"network_g is smaller than .*kdsr.safetensors: it has no restorer\.body\.3"),
        (
            {
                "type": "BlindSR",
                "estimator": {**LARGER["estimator"], "num_feat": 8},
                "restorer": {**LARGER["restorer"], "num_feat": 8},
            },
            r"network_g is smaller than .*: estimator.features.0.weight is \(8, 3, 3, 3\), less than \(16, 3, 3, 3\)",
        ),
        ({"type": "BlindSR", **network("lightbsr").config}, "options.yml: expected a student of KDSR"),
    ],
)
def test_a_network_that_does_not_fit(grow, tmp_path, network_g, message):
    with pytest.raises(UserError, match=message) as error:
        grow(network_g)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "grown.pth").exists()


@pytest.mark.parametrize(
    ("weights", "out", "message"),
    [
        ("lightbsr", "grown.pth", "lightbsr.safetensors: expected a student of KDSR"),
        ("none", "grown.pth", "none.safetensors: no such file"),
        ("kdsr", "grown.txt", "grown.txt: the grown weights must be named .pth"),
        ("kdsr", "kdsr.safetensors/grown.pth", "grown.pth: cannot be written"),
    ],
)
def test_an_argument_that_does_not_fit(grow, tmp_path, weights, out, message):
    with pytest.raises(UserError, match=message):
        grow({"type": "BlindSR", **LARGER}, weights, out)
    assert not list(tmp_path.glob("**/grown*"))
