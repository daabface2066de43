"""OpenVINO returns the pictures of PyTorch."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from lightbsr.commands import main
from lightbsr.errors import UserError
from lightbsr_arch import upscale
from lightbsr_arch.archs.fast import memory
from lightbsr_arch.checkpoint import Checkpoint, load
from lightbsr_arch.inference import openvino_backend
from lightbsr_arch.inference.given_idr import with_idr
from lightbsr_arch.inference.strength import with_strength
from lightbsr_arch.inference.upscaler import load_student
from tests.inference.networks import network

CONVERTIBLE = ("kdsr", "lightbsr", "a map guides IDRDCRBNet")

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Set an empty cache for the tests of this file, and return its folder."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "lightbsr" / "openvino"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Write small networks, and return their files by name."""
    files = {}
    for number, name in enumerate(CONVERTIBLE):
        model = network(name, scale=2)
        files[name] = tmp_path_factory.mktemp("weights") / f"{number}.safetensors"
        Checkpoint(model.state_dict(), model.config).save(files[name])
    return files


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3), np.float32)


def difference(fast, slow, height, width, **options) -> float:
    """Return the largest difference between the pictures of two models."""
    lq = picture(height, width)
    wanted = upscale(lq, slow, **options)
    assert wanted.std() > 0.01  # otherwise errors would not be visible
    return np.abs(upscale(lq, fast, **options) - wanted).max()


@needs_openvino
@pytest.mark.slow
@pytest.mark.parametrize("name", ["kdsr_s_x4_iso", "lightbsr_s_x4_iso"])
def test_the_pictures_of_shipped_weights_equal_those_of_pytorch(name):
    slow, fast = load(name), load_student(name, backend="openvino")
    for height, width in ((33, 21), (64, 60), (1, 3)):
        assert difference(fast, slow, height, width) < 1e-4


@needs_openvino
@pytest.mark.slow
@pytest.mark.parametrize("name", CONVERTIBLE)
def test_the_pictures_of_small_networks_equal_those_of_pytorch(name, weights):
    slow, fast = load(weights[name]), load_student(weights[name], backend="openvino")
    for height, width in ((33, 21), (5, 7)):
        assert difference(fast, slow, height, width) < 1e-4
    assert difference(fast, slow, 9, 14, self_ensemble=True) < 1e-4
    assert difference(with_strength(fast, 0.3), with_strength(slow, 0.3), 12, 17) < 1e-4
    with torch.no_grad():
        vector = openvino_backend.as_vector(slow.estimator(torch.rand(1, 3, 20, 20)))
    assert difference(with_idr(fast, vector), with_idr(slow, vector), 12, 17) < 1e-4
    batch = torch.rand(2, 3, 11, 8)
    assert (upscale(batch, fast) - upscale(batch, slow)).abs().max() < 1e-4


@needs_openvino
@pytest.mark.slow
def test_a_network_is_converted_once(weights, cache, monkeypatch):
    load_student(weights["kdsr"], backend="openvino")
    load_student(weights["lightbsr"], backend="openvino")
    folders = sorted(cache.iterdir())
    for folder in folders:
        files = {f"{part}.{kind}" for part in ("estimator", "restorer") for kind in ("xml", "bin")}
        assert {file.name for file in folder.iterdir()} == files
    monkeypatch.setattr(openvino_backend, "_convert", None)  # a call would fail
    load_student(weights["kdsr"], backend="openvino")
    assert sorted(cache.iterdir()) == folders


@needs_openvino
@pytest.mark.slow
def test_nothing_is_written_if_the_output_differs(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(openvino_backend, "TOLERANCE", 0)
    with pytest.raises(UserError, match="OpenVINO's output differs from PyTorch's"):
        load_student(weights["kdsr"], backend="openvino")
    assert list((tmp_path / "lightbsr" / "openvino").iterdir()) == []


@needs_openvino
@pytest.mark.slow
def test_unusable_caches_are_named(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="set XDG_CACHE_HOME to another folder"):
        load_student(weights["kdsr"], backend="openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_student(weights["kdsr"], backend="openvino")
    (folder,) = (tmp_path / "lightbsr" / "openvino").iterdir()
    (folder / "restorer.xml").write_text("no network")
    with pytest.raises(UserError, match="delete its folder to convert the network again"):
        load_student(weights["kdsr"], backend="openvino")


@needs_openvino
@pytest.mark.slow
def test_the_command_writes_the_pictures_of_pytorch(weights, tmp_path, capsys):
    Image.fromarray((255 * picture(30, 9)).astype(np.uint8)).save(tmp_path / "a.png")
    args = ["upscale", str(tmp_path / "a.png"), "-q", "-m", str(weights["kdsr"])]
    for backend in ("openvino", "torch"):
        assert main([*args, "-o", str(tmp_path / backend), "--backend", backend]) == 0
    made = [np.asarray(Image.open(tmp_path / backend / "a.png")).astype(int) for backend in ("openvino", "torch")]
    assert np.abs(made[0] - made[1]).max() <= 1
    capsys.readouterr()
    assert main([*args, "-o", str(tmp_path / "strips"), "--backend", "openvino", "--tile", "8"]) == 1
    line = capsys.readouterr().err.splitlines()[0]
    assert "OpenVINO restores a picture of 9x30 as a whole, not 8 rows at a time; use --tile 0" in line


def refused(*args: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["upscale", "-o", "nowhere", "-q", "--backend", "openvino", *args]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_openvino_cannot_do_is_refused(weights, tmp_path, capsys, monkeypatch):
    Image.fromarray((255 * picture(4, 4)).astype(np.uint8)).save(tmp_path / "a.png")
    args = [str(tmp_path / "a.png"), "-m", str(weights["kdsr"])]
    assert "device cuda: OpenVINO runs on the CPU; use --device cpu" in refused(
        *args, "--device", "cuda", capsys=capsys
    )
    assert "OpenVINO computes in fp32; use --dtype fp32" in refused(*args, "--dtype", "bf16", capsys=capsys)
    monkeypatch.setattr(openvino_backend, "find_spec", lambda name: None)
    assert "openvino is not installed: pip install 'lightbsr-arch[openvino]'" in refused(*args, capsys=capsys)
    with pytest.raises(UserError, match="backend tpu: expected torch or openvino"):
        load_student(weights["kdsr"], backend="tpu")


def test_a_network_can_have_another_limit_of_a_strip():
    lq = torch.zeros(1, 3, 4000, 1000)
    assert memory.rows_that_fit(1, lq) == 2**17 // 1000
    assert memory.rows_that_fit(1, lq, most_pixels=2**18) == 2**18 // 1000
