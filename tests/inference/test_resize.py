"""Outputs of other sizes than the model's scale: the picture that Pillow makes of the model's whole output."""

import numpy as np
import pytest
import torch
from PIL import Image

import lightbsr_arch
from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.inference.resize import output_size, resized
from tests.inference.networks import network

RGB = np.random.default_rng(0).integers(0, 65536, (23, 17, 3), dtype=np.uint16)


@pytest.fixture(scope="module", params=["kdsr", "lightbsr"])
def model(request) -> BlindSR:
    return network(request.param, scale=2)


def by_pillow(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize H x W x C, floats, as a whole."""
    planes = [Image.fromarray(np.ascontiguousarray(image[..., i])) for i in range(image.shape[2])]
    resized_planes = [plane.resize((width, height), Image.Resampling.LANCZOS) for plane in planes]
    return np.stack([np.asarray(plane) for plane in resized_planes], axis=2).clip(0, 1)


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
@pytest.mark.parametrize("size", [(700, 21), (263, 50), (500, 33), (1, 1), (3, 40), (799, 33), (801, 32), (1600, 66)])
def test_strips_give_what_pillow_gives_for_the_whole_picture(rows, size):
    image = torch.rand(3, 800, 33, generator=torch.Generator().manual_seed(0))
    strips = list(resized(iter(image.split(rows, dim=1)), 800, size))
    wanted = by_pillow(image.permute(1, 2, 0).numpy(), *size)
    result = torch.cat(strips, dim=1).permute(1, 2, 0).numpy()
    assert result.shape == (*size, 3)
    assert np.abs(result - wanted).max() < 1e-4
    assert result.min() >= 0
    assert result.max() <= 1


def test_few_rows_are_held():
    """A strip is passed on before the next one is asked for, except for the rows within the filter's reach."""
    asked = 0

    def strips():
        nonlocal asked
        for _ in range(100):
            asked += 1
            yield torch.rand(3, 8, 10)

    rows = 0
    for strip in resized(strips(), 800, (400, 5)):
        rows += strip.shape[1]
        assert 4 * asked - rows <= 8
    assert (asked, rows) == (100, 400)


@pytest.mark.parametrize(
    ("of", "arguments", "wanted"),
    [
        ((30, 40), {}, (120, 160)),
        ((30, 40), {"outscale": 3.5}, (105, 140)),
        ((30, 41), {"outscale": 2}, (60, 82)),
        ((3, 5), {"outscale": 2.5}, (8, 13)),
        ((10, 100), {"outscale": 1.15}, (12, 115)),
        ((7, 9), {"outscale": 0.001}, (1, 1)),
        ((30, 40), {"outscale": 8}, (240, 320)),
        ((75, 100), {"fit_inside": (None, 400)}, (300, 400)),
        ((75, 100), {"fit_inside": (300, None)}, (300, 400)),
        ((75, 100), {"fit_inside": (300, 300)}, (225, 300)),
        ((100, 75), {"fit_inside": (300, 300)}, (300, 225)),
        ((667, 1000), {"fit_inside": (3000, 4000)}, (2668, 4000)),
        ((1, 3000), {"fit_inside": (None, 4000)}, (1, 4000)),
        ((3000, 2000), {"fit_inside": (None, 50)}, (75, 50)),
    ],
    ids=str,
)
def test_sizes_are_exact(of, arguments, wanted):
    assert output_size(*of, 4, **arguments) == wanted


@pytest.mark.parametrize("arguments", [{"outscale": 8.01}, {"outscale": 1e300}, {"fit_inside": (None, 801)}])
def test_more_than_twice_the_models_output_is_refused(arguments):
    with pytest.raises(UserError, match=r"x[\d.e+]+ is more than the largest output of a x4 model, x8"):
        output_size(75, 100, 4, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"outscale": 0},
        {"outscale": float("nan")},
        {"outscale": float("inf")},
        {"fit_inside": (None, None)},
        {"fit_inside": (0, 5)},
        {"outscale": 2, "fit_inside": (5, 5)},
    ],
)
def test_sizes_that_are_none(arguments):
    with pytest.raises(ValueError, match=r"outscale|fit_inside"):
        output_size(75, 100, 4, **arguments)


@pytest.mark.parametrize("tile", [0, 5, "auto"])
@pytest.mark.parametrize("outscale", [1.3, 3.1])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_every_kind_of_pixels(model, dtype, outscale, tile):
    largest = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (RGB / 65535 * largest).astype(dtype)
    floats = (image / largest).astype(np.float32)
    size = output_size(23, 17, 2, outscale)
    wanted = by_pillow(lightbsr_arch.upscale(floats, model, tile=0), *size) * largest
    sr = lightbsr_arch.upscale(image, model, tile=tile, outscale=outscale)
    assert (sr.dtype, sr.shape) == (dtype, (*size, 3))
    assert np.unique(sr).size > 40
    assert np.abs(sr - wanted).max() < (1e-3 if largest == 1 else 0.51 + 1e-4 * largest)


def test_alpha_and_grey(model):
    alpha = RGB[..., 1]
    rgba = lightbsr_arch.upscale(np.dstack([RGB, alpha]), model, fit_inside=(50, 30), tile=6)
    assert (rgba.dtype, rgba.shape) == (np.uint16, (41, 30, 4))
    np.testing.assert_array_equal(rgba[..., :3], lightbsr_arch.upscale(RGB, model, fit_inside=(50, 30), tile=6))
    np.testing.assert_array_equal(rgba[..., 3], lightbsr_arch.upscale(alpha, model, fit_inside=(50, 30), tile=6))
    constant = lightbsr_arch.upscale(np.dstack([alpha, np.full_like(alpha, 777)]), model, outscale=1.7)
    assert constant.shape == (39, 29, 2)
    assert (constant[..., 1] == 777).all()


def test_tensors(model):
    batch = torch.from_numpy(RGB / 65535).permute(2, 0, 1)[None].repeat(2, 1, 1, 1)
    sr = lightbsr_arch.upscale(batch, model, outscale=1.5)
    assert (sr.dtype, sr.shape) == (torch.float64, (2, 3, 35, 26))
    single = lightbsr_arch.upscale(batch[0].permute(1, 2, 0).numpy(), model, outscale=1.5)
    np.testing.assert_allclose(sr[1].permute(1, 2, 0).numpy(), single, atol=1e-6)


def test_the_models_own_size_is_its_output_unchanged(model):
    np.testing.assert_array_equal(lightbsr_arch.upscale(RGB, model, outscale=2), lightbsr_arch.upscale(RGB, model))


def test_the_self_ensemble_is_resized(model):
    whole = lightbsr_arch.upscale((RGB / 65535).astype(np.float32), model, self_ensemble=True)
    sr = lightbsr_arch.upscale(RGB, model, self_ensemble=True, outscale=1.4)
    assert np.abs(sr / 65535 - by_pillow(whole, 32, 24)).max() < 1e-4
