"""The nodes for ComfyUI compute what ``lightbsr_arch.upscale`` computes, inside ComfyUI and outside."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import lightbsr_arch
from lightbsr.errors import UserError
from lightbsr.shipped import default_name, students
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.checkpoint import Checkpoint, load
from lightbsr_arch.inference.given_idr import with_idr
from lightbsr_arch.inference.strength import with_strength
from tests.inference.networks import network

FOLDER = Path(__file__).parents[2] / "comfyui"
IMAGES = torch.rand(2, 22, 19, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def nodes():
    """Load the package as ComfyUI does, by its path, and return its nodes by name."""
    spec = importlib.util.spec_from_file_location("custom_nodes_lightbsr", FOLDER / "__init__.py")
    package = importlib.util.module_from_spec(spec)
    sys.modules["custom_nodes_lightbsr"] = package
    spec.loader.exec_module(package)
    yield package.NODE_CLASS_MAPPINGS
    for name in [name for name in sys.modules if name.startswith("custom_nodes_lightbsr")]:
        del sys.modules[name]


@pytest.fixture
def comfy(monkeypatch, tmp_path):
    """Stand in for the modules of ComfyUI, and return the values that its progress bars received."""
    net = network("kdsr", scale=2)
    Checkpoint(net.state_dict(), net.config).save(tmp_path / "net.safetensors")
    modules = {name: ModuleType(name) for name in ("comfy", "comfy.utils", "comfy.model_management", "folder_paths")}
    shown = []

    class ProgressBar:
        def __init__(self, total):
            self.total = total

        def update_absolute(self, value, total=None, preview=None):
            shown.append((value, self.total))

    modules["comfy.utils"].ProgressBar = ProgressBar
    modules["comfy.model_management"].get_torch_device = lambda: torch.device("cpu")
    modules["comfy.model_management"].throw_exception_if_processing_interrupted = lambda: None
    modules["folder_paths"].get_filename_list = lambda folder: {"upscale_models": ["net.safetensors"]}[folder]
    modules["folder_paths"].get_full_path = lambda folder, name: str(tmp_path / name)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return shown


def run(node, **inputs):
    """Run a node as ComfyUI does. Inputs that are left out have their defaults."""
    declared = node.INPUT_TYPES()
    assert set(declared) <= {"required", "optional"}
    defaults = {
        name: kind[1]["default"] if len(kind) > 1 else kind[0][0]
        for name, kind in declared["required"].items()
        if isinstance(kind[0], list) or (len(kind) > 1 and "default" in kind[1])
    }
    assert set(inputs) <= {**declared["required"], **declared.get("optional", {})}.keys()
    outputs = getattr(node(), node.FUNCTION)(**{**defaults, **inputs})
    assert isinstance(outputs, tuple)
    assert len(outputs) == len(node.RETURN_TYPES) == 1
    return outputs[0]


def expected(image, model):
    return lightbsr_arch.upscale(image.numpy(), model, tile=0)


def test_every_node_has_comfyuis_interface(nodes):
    assert list(nodes) == ["LightBSRLoadModel", "LightBSRStrength", "LightBSREstimateIDR", "LightBSRUpscale"]
    for node in nodes.values():
        assert callable(getattr(node, node.FUNCTION))
        assert isinstance(node.CATEGORY, str)
    names = nodes["LightBSRLoadModel"].INPUT_TYPES()["required"]["name"][0]
    assert names[0] == default_name()
    assert sorted(names) == students()


@pytest.mark.parametrize("name", ["kdsr_s_x4_iso", "lightbsr_s_x4_iso"])
@pytest.mark.parametrize("tile", [-1, 0, 8])
def test_the_output_equals_that_of_upscale(nodes, name, tile):
    model = run(nodes["LightBSRLoadModel"], name=name)
    sr = run(nodes["LightBSRUpscale"], model=model, image=IMAGES, tile=tile)
    assert sr.shape == (2, 88, 76, 3)
    assert sr.dtype == torch.float32
    for one, image in zip(sr, IMAGES, strict=True):
        np.testing.assert_allclose(one.numpy(), expected(image, name), atol=2e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_alpha_keep_their_channels(nodes, channels):
    images = torch.rand(1, 9, 11, channels, generator=torch.Generator().manual_seed(1))
    model = network("kdsr", scale=2)
    sr = run(nodes["LightBSRUpscale"], model=model, image=images)
    assert sr.shape == (1, 18, 22, channels)
    wanted = expected(images[0, ..., 0] if channels == 1 else images[0], model)
    np.testing.assert_allclose(sr[0].numpy(), wanted.reshape(sr[0].shape), atol=2e-5)
    assert run(nodes["LightBSREstimateIDR"], model=model, image=images).shape == (1, 16)


def test_overshoot_is_clamped_first(nodes):
    model = network("kdsr", scale=2)
    sr = run(nodes["LightBSRUpscale"], model=model, image=IMAGES * 3 - 1)
    wanted = expected((IMAGES[1] * 3 - 1).clamp(0, 1), model)
    np.testing.assert_allclose(sr[1].numpy(), wanted, atol=2e-5)


@pytest.mark.parametrize("name", ["kdsr_s_x4_iso", "lightbsr_s_x4_iso"])
def test_an_images_own_idr_changes_nothing_and_another_ones_does(nodes, name):
    model = load(name)
    idr = run(nodes["LightBSREstimateIDR"], model=model, image=IMAGES, tile=8)
    with torch.inference_mode():
        torch.testing.assert_close(idr, model.estimator(IMAGES.movedim(3, 1)), rtol=1e-4, atol=1e-4)
    usual = run(nodes["LightBSRUpscale"], model=model, image=IMAGES)
    own = run(nodes["LightBSRUpscale"], model=model, image=IMAGES, idr=idr)
    torch.testing.assert_close(own, usual, rtol=0, atol=2e-5)
    shared = run(nodes["LightBSRUpscale"], model=model, image=IMAGES, idr=idr[:1])
    torch.testing.assert_close(shared[0], usual[0], rtol=0, atol=2e-5)
    assert (shared[1] - usual[1]).abs().max() > 1e-4


def test_a_crop_with_the_idr_of_the_whole_image(nodes):
    """Away from the crop's border, the output is that of the whole image. A map is replaced by its mean."""
    model = network("kdsr")
    idr = run(nodes["LightBSREstimateIDR"], model=model, image=IMAGES[:1])
    crop = run(nodes["LightBSRUpscale"], model=model, image=IMAGES[:1, :18], idr=idr)
    whole = run(nodes["LightBSRUpscale"], model=model, image=IMAGES[:1])
    torch.testing.assert_close(crop[:, :8], whole[:, :8], rtol=0, atol=2e-5)
    of_map = network("lightbsr")
    a_map = run(nodes["LightBSREstimateIDR"], model=of_map, image=IMAGES[:1])
    assert a_map.shape == (1, 16, 6, 5)
    smaller = IMAGES[:1, :14, :10]
    given = [run(nodes["LightBSRUpscale"], model=of_map, image=smaller, idr=idr) for idr in (a_map, as_vector(a_map))]
    torch.testing.assert_close(*given, rtol=0, atol=0)


def test_strength(nodes):
    model = load("kdsr_s_x4_iso")
    assert run(nodes["LightBSRStrength"], model=model) is model
    weaker = run(nodes["LightBSRStrength"], model=model, strength=0.3)
    sr = run(nodes["LightBSRUpscale"], model=weaker, image=IMAGES[:1])
    np.testing.assert_allclose(sr[0].numpy(), expected(IMAGES[0], with_strength(model, 0.3)), atol=2e-5)
    idr = run(nodes["LightBSREstimateIDR"], model=weaker, image=IMAGES[:1])
    torch.testing.assert_close(run(nodes["LightBSRUpscale"], model=weaker, image=IMAGES[:1], idr=idr), sr)


def test_files_progress_and_cancel_in_comfyui(nodes, comfy, monkeypatch):
    assert "net.safetensors" in nodes["LightBSRLoadModel"].INPUT_TYPES()["required"]["name"][0]
    model = run(nodes["LightBSRLoadModel"], name="net.safetensors")
    assert model.scale == 2
    run(nodes["LightBSRUpscale"], model=model, image=IMAGES, tile=8)
    values = [value for value, _ in comfy]
    assert values == sorted(values)
    assert comfy[-1] == (200, 200)
    assert len(set(values)) > 4
    assert run(nodes["LightBSRLoadModel"], name="net.safetensors", path=" kdsr_s_x4_iso ").scale == 4

    def interrupted():
        raise InterruptedError

    management = sys.modules["comfy.model_management"]
    monkeypatch.setattr(management, "throw_exception_if_processing_interrupted", interrupted)
    with pytest.raises(InterruptedError):
        run(nodes["LightBSRUpscale"], model=model, image=IMAGES)


@pytest.mark.parametrize(
    ("image", "idr", "message"),
    [
        (torch.rand(1, 9, 9, 2), None, "an image of shape 1 x 9 x 9 x 2; expected B x H x W x C with 1, 3 or 4"),
        (torch.rand(9, 9, 3), None, "an image of shape 9 x 9 x 3"),
        (torch.rand(0, 9, 9, 3), None, "an image of shape 0 x 9 x 9 x 3"),
        (torch.rand(3, 9, 9, 3), torch.rand(2, 16), "2 IDRs for 3 images"),
        (torch.rand(1, 9, 9, 3), torch.rand(1, 8), "an IDR of shape 1 x 8; expected 1 x 16"),
    ],
)
def test_inputs_that_do_not_fit(nodes, image, idr, message):
    with pytest.raises(UserError, match=message):
        run(nodes["LightBSRUpscale"], model=network("kdsr"), image=image, idr=idr)


def test_an_idr_needs_a_network_with_an_idr():
    with pytest.raises(UserError, match="a Network has no IDR"):
        with_idr(lightbsr_arch.archs.part.Network(), torch.rand(1, 16))
