"""spandrel's loader with the architectures of this package in its registry."""

import pytest
import spandrel
import torch
from spandrel import MAIN_REGISTRY, ImageModelDescriptor, ModelLoader, ModelTiling, UnsupportedModelError
from spandrel.architectures.Compact import Compact
from spandrel.architectures.SPAN import SPAN

from lightbsr_arch import spandrel_plugin
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import Checkpoint, load
from tests.golden import golden, needs_golden
from tests.inference.networks import PAIRS, network

OURS = {"kdsr": "KDSR", "a map guides IDRDCRBNet": "KDSR"}  # named after the restorer; the others are LightBSR


@pytest.fixture(autouse=True)
def installed():
    """Install the plug-in as in a program, and restore the registry afterwards."""
    before = MAIN_REGISTRY.copy()
    spandrel_plugin.install()
    yield
    MAIN_REGISTRY.__dict__.update(before.__dict__)


def assert_same_result(descriptor, model: BlindSR, sizes=((1, 3, 16, 20), (1, 3, 9, 37), (1, 3, 1, 2))) -> None:
    for size in sizes:
        lq = torch.rand(size)
        with torch.inference_mode():
            sr = model(lq)
            torch.testing.assert_close(descriptor.model(lq), sr, atol=1e-6, rtol=0)
            # Strips change the order of sums.
            torch.testing.assert_close(descriptor(lq), sr.clamp(0, 1), atol=2e-5, rtol=0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("pair", PAIRS)
def test_loads_as_any_other(pair, scale, suffix, tmp_path):
    model, path = network(pair, scale), tmp_path / f"net{suffix}"
    if suffix == ".pth":
        other = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
        torch.save({"params": other, "params_ema": model.state_dict()}, path)
    else:
        Checkpoint(model.state_dict(), model.config).save(path)
    descriptor = ModelLoader().load_from_file(path)
    assert isinstance(descriptor, ImageModelDescriptor)
    assert descriptor.architecture.id == OURS.get(pair, "LightBSR")
    assert (descriptor.scale, descriptor.input_channels, descriptor.output_channels) == (scale, 3, 3)
    assert (descriptor.purpose, descriptor.tiling) == ("SR", ModelTiling.INTERNAL)
    assert descriptor.size_requirements.none
    assert descriptor.tags == (["16nf", "5nb"] if descriptor.architecture.id == "KDSR" else ["16nf", "2ng", "2nb"])
    assert_same_result(descriptor, load(path))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_long_idrs_are_shortened(suffix, tmp_path):
    model, path = network("kdsr", max_norm=2.0), tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save({"params": model.state_dict()}, path)
    else:
        Checkpoint(model.state_dict(), model.config).save(path)
    descriptor, lq = ModelLoader().load_from_file(path), torch.rand(1, 3, 16, 20)
    assert descriptor.model.estimator(lq).norm().item() == pytest.approx(2.0)
    assert_same_result(descriptor, model)


@needs_golden
@pytest.mark.parametrize("name", ["kdsr_student_x4_f16b3r2", "kdsr_student_x2_f16b2r1", "lightbsr_student_x4"])
def test_published_weights(name, tmp_path):
    torch.save(golden(name, "w"), tmp_path / "net.pth")
    descriptor = ModelLoader().load_from_file(tmp_path / "net.pth")
    assert descriptor.architecture.id == ("KDSR" if "kdsr" in name else "LightBSR")
    assert_same_result(descriptor, load(tmp_path / "net.pth"), sizes=[(1, 3, 16, 17)])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("pair", ["kdsr", "lightbsr"])
def test_half_precision(pair, dtype):
    model, lq = network(pair), torch.rand(1, 3, 16, 16)
    descriptor = ModelLoader().load_from_state_dict(model.state_dict()).to(dtype)
    sr = descriptor(lq.to(dtype))
    assert sr.dtype == dtype
    with torch.inference_mode():
        assert (sr.float() - model(lq).clamp(0, 1)).abs().mean() < 0.01


def test_a_teacher_is_refused():
    teacher = BlindSR(
        {"type": "KDIDETeacher", "num_feat": 8, "num_block": 1}, {"type": "IDRDCRBNet", "num_feat": 8, "num_block": 1}
    )
    with pytest.raises(UnsupportedModelError, match=r"KDSR: the weights of a teacher, which also sees the gt"):
        ModelLoader().load_from_state_dict(teacher.state_dict())


def test_tensors_that_do_not_fit_are_named():
    state = network("kdsr").state_dict()
    del state["restorer.tail.bias"]
    with pytest.raises(UnsupportedModelError, match=r"1 weights do not fit BlindSR: restorer.tail.bias"):
        ModelLoader().load_from_state_dict(state)


@pytest.mark.parametrize("pair", PAIRS)
def test_no_other_architecture_claims_ours(pair):
    state = network(pair).state_dict()
    claiming = [support.architecture.id for support in MAIN_REGISTRY if support.detect(state)]
    assert claiming == [OURS.get(pair, "LightBSR")]


def test_we_claim_no_others():
    for model, id in (
        (Compact(num_feat=8, num_conv=1), "Compact"),
        (SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8), "SPAN"),
    ):
        assert ModelLoader().load_from_state_dict(model.state_dict()).architecture.id == id
    # spandrel has no architecture for DASR (CVPR 2021). Its restorer has the names of KDSR's.
    dasr = {"G.head.0.weight", "G.body.0.body.0.da_conv1.kernel.0.weight", "E.encoder_q.E.0.weight", "G.tail.1.weight"}
    with pytest.raises(UnsupportedModelError):
        ModelLoader().load_from_state_dict({key: torch.zeros(1) for key in dasr})


def test_installed_twice():
    with pytest.raises(spandrel.DuplicateArchitectureError, match="LightBSR"):
        spandrel_plugin.install()
    assert spandrel_plugin.install(ignore_duplicates=True) == []
