"""The upscaled image has the values of ``model(lq)``."""

import numpy as np
import pytest
import torch
from PIL import Image

import lightbsr_arch
from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.fast import memory
from lightbsr_arch.checkpoint import Checkpoint
from lightbsr_arch.device import find_device, slow_dtype
from lightbsr_arch.inference import upscaler
from tests.inference.networks import IDRDCRBNET, network

TILES = [0, 5, "auto"]
RGB = np.random.default_rng(0).integers(0, 65536, (23, 17, 3), dtype=np.uint16)


@pytest.fixture(scope="module", params=["kdsr", "lightbsr"])
def model(request) -> BlindSR:
    model = network(request.param, scale=2)
    with torch.no_grad():  # more contrast makes rounding and clamping visible
        model.restorer.tail.weight.mul_(4)
    return model


def whole(model: BlindSR, rgb: np.ndarray, low: float = 0, high: float = 1) -> np.ndarray:
    """Return ``model(lq)`` of H x W x 3 in [0, 1], clamped."""
    with torch.inference_mode():
        sr = model(torch.from_numpy(rgb.astype(np.float32)).permute(2, 0, 1)[None])
    return sr[0].permute(1, 2, 0).clamp(low, high).numpy()


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers(model, dtype, tile):
    largest = np.iinfo(dtype).max
    image = (RGB // (65536 // (largest + 1))).astype(dtype)
    sr = lightbsr_arch.upscale(image, model, tile=tile)
    wanted = whole(model, image / largest) * largest
    assert sr.dtype == dtype
    assert sr.shape == (46, 34, 3)
    assert np.unique(sr).size > 50
    assert np.abs(sr - wanted).max() < 0.51 + 2e-5 * largest


@pytest.mark.parametrize("tile", TILES)
def test_floats_and_tensors(model, tile):
    image = (RGB / 65535).astype(np.float32)
    wanted = whole(model, image)
    np.testing.assert_allclose(lightbsr_arch.upscale(image, model, tile=tile), wanted, atol=2e-5)
    double = lightbsr_arch.upscale(image.astype(np.float64), model, tile=tile)
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, wanted, atol=2e-5)
    chw = torch.from_numpy(image).permute(2, 0, 1)
    wanted_chw = torch.from_numpy(wanted).permute(2, 0, 1)
    torch.testing.assert_close(lightbsr_arch.upscale(chw, model, tile=tile), wanted_chw, atol=2e-5, rtol=0)
    batch = torch.stack([chw, chw.flip(-1)])
    sr = lightbsr_arch.upscale(batch, model, tile=tile)
    torch.testing.assert_close(sr[0], wanted_chw, atol=2e-5, rtol=0)
    with torch.inference_mode():
        torch.testing.assert_close(sr, model(batch).clamp(0, 1), atol=2e-5, rtol=0)


def test_grey_is_three_equal_channels(model):
    grey = (RGB[..., 0] >> 8).astype(np.uint8)
    wanted = whole(model, np.repeat(grey[..., None], 3, axis=2) / 255, -9, 9).mean(axis=2).clip(0, 1)
    sr = lightbsr_arch.upscale(grey, model)
    assert sr.shape == (46, 34)
    assert np.unique(sr).size > 50
    assert np.abs(sr - 255 * wanted).max() < 0.51
    tensor = lightbsr_arch.upscale(torch.from_numpy(grey / 255)[None], model)
    assert tensor.dtype == torch.float64
    np.testing.assert_allclose(tensor[0].numpy() * 255, sr, atol=0.51)


def test_alpha_is_upscaled_as_grey(model):
    rgb, alpha = (RGB >> 8).astype(np.uint8), (RGB[..., 1] >> 8).astype(np.uint8)
    sr = lightbsr_arch.upscale(np.dstack([rgb, alpha]), model, tile=6)
    np.testing.assert_array_equal(sr[..., :3], lightbsr_arch.upscale(rgb, model, tile=6))
    np.testing.assert_array_equal(sr[..., 3], lightbsr_arch.upscale(alpha, model, tile=6))
    grey_alpha = lightbsr_arch.upscale(np.dstack([alpha, np.full_like(alpha, 7)]), model)
    assert (grey_alpha[..., 1] == 7).all()


def test_any_memory_layout(model):
    turned = np.rot90((RGB >> 8).astype(np.uint8))[:, ::-1]
    np.testing.assert_array_equal(
        lightbsr_arch.upscale(turned, model), lightbsr_arch.upscale(np.ascontiguousarray(turned), model)
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.int32), "int32"),
        (np.zeros((4, 4, 5), np.uint8), r"\(4, 4, 5\)"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        (np.full((4, 4, 3), 200.0), r"\[0, 1\], not 200 to 200"),
        (np.full((4, 4), np.nan), r"\[0, 1\], not nan"),
        (np.zeros((0, 4, 4), np.uint8), r"empty image, \(0, 4, 4\)"),
        (np.dstack([np.full((4, 4, 3), 0.5), np.full((4, 4), 255.0)]), r"\[0, 1\], not 255 to 255"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "torch.uint8"),
        (torch.zeros(4, 4), r"\(4, 4\)"),
        (torch.zeros(1, 2, 4, 4), r"\(1, 2, 4, 4\)"),
    ],
    ids=str,
)
def test_what_is_no_image(model, image, message):
    with pytest.raises(ValueError, match=message):
        lightbsr_arch.upscale(image, model)


@pytest.mark.parametrize("tile", [-1, "whole", 1.5])
def test_what_is_no_tile(model, tile):
    with pytest.raises(ValueError, match="tile is a number of rows"):
        lightbsr_arch.upscale(RGB, model, tile=tile)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fit_inside": 100}, "fit_inside is a height and a width in pixels, .* not 100"),
        ({"fit_inside": (50.5, None)}, "fit_inside is a height and a width in pixels"),
        ({"outscale": "3"}, "outscale is a positive number, not '3'"),
        ({"outscale": 2, "fit_inside": (9, 9)}, "exclude each other"),
    ],
)
def test_what_is_no_size(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        lightbsr_arch.upscale(RGB, model, **arguments)


def test_the_arguments_are_checked_before_the_weights_are_read():
    with pytest.raises(ValueError, match="outscale is a positive number, not '2'"):
        lightbsr_arch.upscale(RGB, "no_such_weights", outscale="2")
    with pytest.raises(ValueError, match="tile is a number of rows"):
        lightbsr_arch.upscale(RGB, "no_such_weights", tile=-1)


def test_what_is_no_model():
    with pytest.raises(ValueError, match=r"expected a NumPy array or a tensor, not Image; np\.asarray"):
        lightbsr_arch.upscale(Image.new("P", (4, 4)), "kdsr_s_x2_iso")
    with pytest.raises(ValueError, match=r"model is a network of lightbsr_arch.load, a name or a file, not Conv2d"):
        lightbsr_arch.upscale(RGB, torch.nn.Conv2d(3, 3, 1))
    with pytest.raises(UserError, match="an empty name of weights"):
        lightbsr_arch.upscale(RGB, "")
    with pytest.raises(ValueError, match=r"dtype is a floating-point dtype such as torch.float16, not 'fp16'"):
        lightbsr_arch.load("kdsr_s_x2_iso", dtype="fp16")
    with pytest.raises(UserError, match="device foo: expected auto, cpu, cuda or mps"):
        lightbsr_arch.load("kdsr_s_x2_iso", "foo")


def test_big_endian_is_what_it_means(model):
    deep = RGB.astype(np.uint16) * 257
    np.testing.assert_array_equal(lightbsr_arch.upscale(deep.astype(">u2"), model), lightbsr_arch.upscale(deep, model))


def test_by_path_and_dtype(tmp_path):
    net = network("kdsr", scale=2)
    path = tmp_path / "net.safetensors"
    Checkpoint(net.state_dict(), net.config).save(path)
    image = (RGB >> 8).astype(np.uint8)
    sr = lightbsr_arch.upscale(image, path, device="cpu")
    np.testing.assert_array_equal(sr, lightbsr_arch.upscale(image, net))
    half = lightbsr_arch.upscale(image, path, device="cpu", dtype=torch.bfloat16)
    assert 0 < np.abs(half.astype(int) - sr).max() < 8
    with pytest.raises(ValueError, match="a loaded model keeps its device and dtype"):
        lightbsr_arch.upscale(image, net, device="cpu")


def test_a_teacher_is_refused(tmp_path):
    teacher = BlindSR({"type": "KDIDETeacher", "num_feat": 16, "num_block": 1}, IDRDCRBNET)
    Checkpoint(teacher.state_dict(), teacher.config).save(tmp_path / "teacher.safetensors")
    with pytest.raises(UserError, match=r"teacher.safetensors: the weights of a teacher, which also sees the gt"):
        upscaler.load_student(tmp_path / "teacher.safetensors")


@pytest.mark.parametrize("key", ["num_in_ch", "num_out_ch"])
def test_a_network_of_other_channels_is_refused(key, tmp_path):
    estimator = {"type": "KDIDEStudent", "num_feat": 16, "num_block": 1}
    grey = BlindSR(estimator, {**IDRDCRBNET, key: 1})
    Checkpoint(grey.state_dict(), grey.config).save(tmp_path / "grey.safetensors")
    with pytest.raises(UserError, match=rf"grey\.safetensors: a network with {key} 1; pictures are upscaled as RGB"):
        upscaler.load_student(tmp_path / "grey.safetensors")


def test_devices_that_are_not_there():
    with pytest.raises(UserError, match="expected auto, cpu, cuda or mps"):
        find_device("gpu")
    missing = next(
        kind for kind in ("mps", "cuda") if not getattr(torch, kind if kind == "cuda" else "mps").is_available()
    )
    with pytest.raises(UserError, match=f"device {missing}: PyTorch finds none here"):
        find_device(missing)


@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="this version of PyTorch cannot be asked")
def test_a_dtype_that_the_cpu_must_convert_is_named(monkeypatch):
    has = {"architecture": "x86_64", "avx512_bf16": True, "avx512_fp16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    cpu = torch.device("cpu")
    assert slow_dtype(cpu, torch.float16) == "this CPU has no instructions for fp16; fp32 is faster on it"
    fast = [(cpu, torch.bfloat16), (cpu, torch.float32), (cpu, None), (torch.device("cuda"), torch.float16)]
    assert [slow_dtype(*pair) for pair in fast] == [None] * 4
    has["avx512_bf16"] = False
    assert slow_dtype(cpu, torch.bfloat16) == "this CPU has no instructions for bf16; fp32 is faster on it"
    has["architecture"] = "aarch64"
    assert slow_dtype(cpu, torch.bfloat16) is None


def test_an_overflow_is_said():
    net = network("kdsr", scale=2)
    with torch.no_grad():
        net.restorer.tail.bias.fill_(torch.inf)
    with pytest.raises(UserError, match="numbers that are not finite"):
        lightbsr_arch.upscale(RGB, net)


def test_an_output_that_is_no_image_is_said():
    net = network("kdsr", scale=2)
    with torch.no_grad():
        net.restorer.tail.bias.fill_(-2400)
    with pytest.raises(UserError, match=r"the network returns 2400 where an image has 0 to 1, .*: use other weights"):
        lightbsr_arch.upscale(RGB, net)


def test_memory_that_does_not_suffice_is_said(monkeypatch):
    def fail(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(upscaler, "sr_strips", fail)
    with pytest.raises(UserError, match="memory does not suffice on cpu; use smaller tiles than 64"):
        lightbsr_arch.upscale(RGB, network("kdsr"), tile=64)


def test_rows_follow_the_free_memory(monkeypatch):
    net = network("kdsr")
    lq = torch.empty(1, 3, 2000, 3000)
    rows = {}
    for free in (0, 2**26, 2**29, 2**34, 2**40):
        monkeypatch.setattr(memory, "free_memory", lambda device, free=free: free)
        rows[free] = memory.rows_that_fit(net.num_feat, lq)
    assert rows[0] == memory.FEWEST_ROWS
    assert rows[2**26] < rows[2**29] < rows[2**34] == rows[2**40] == memory.MOST_PIXELS["cpu"] // 3000
    assert memory.rows_that_fit(net.num_feat, lq[:, :, :5]) == 5


def test_a_containers_limit_counts(tmp_path):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 300000\n")
    cpu = torch.device("cpu")
    assert memory.free_memory(cpu, tmp_path) == 400_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory(cpu, tmp_path) > 2**24


@pytest.mark.parametrize("tile", [0, 5])
def test_self_ensemble_is_the_mean_over_flips_and_transposes(model, tile):
    image = (RGB / 65535).astype(np.float32)
    wanted = np.zeros((46, 34, 3))
    for k in range(4):  # four rotations, each plain and mirrored
        for mirror in (False, True):
            turned = np.rot90(image[:, ::-1] if mirror else image, k)
            back = np.rot90(whole(model, turned, -np.inf, np.inf), -k)
            wanted += (back[:, ::-1] if mirror else back) / 8
    sr = lightbsr_arch.upscale(image, model, tile=tile, self_ensemble=True)
    np.testing.assert_allclose(sr, wanted.clip(0, 1), atol=2e-5)
    assert np.abs(sr - whole(model, image)).max() > 1e-3
    shares: list[float] = []
    lightbsr_arch.upscale(image, model, tile=tile, self_ensemble=True, advance=shares.append)
    assert sum(shares) == pytest.approx(1)
