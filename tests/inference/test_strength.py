"""The strength of restoration: the IDR moved between that of a clean picture and the one that is read."""

import numpy as np
import pytest
import torch

import lightbsr_arch
from lightbsr.errors import UserError
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.part import Network
from lightbsr_arch.checkpoint import load
from lightbsr_arch.inference.strength import check_effect, clean_idr, with_strength
from tests.inference.networks import network

SHARPER = ["kdsr_s_x4_iso", "lightbsr_s_x4_iso"]
LQ = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SHARPER)
def test_the_idr_is_moved_along_the_line(name):
    model = load(name)
    clean = clean_idr(model)
    assert clean.shape == (1, model.estimator.idr_ch)
    with torch.inference_mode():
        read = model.estimator(LQ)
        origin = clean if read.dim() == 2 else clean[:, :, None, None]
        assert (read - origin).abs().max() > 0.01
        for strength in (0, 0.5, 1, 1.5):
            moved = with_strength(model, strength)
            idr = moved.estimator(LQ)
            torch.testing.assert_close(idr, origin + strength * (read - origin))
            wanted = model.restorer(LQ, model.restorer.guides(idr, 24, 20))
            torch.testing.assert_close(moved(LQ), wanted)
        torch.testing.assert_close(model.estimator(LQ), read)  # the model itself is unchanged


@pytest.mark.parametrize("name", SHARPER)
def test_strips_have_the_same_strength(name):
    image = LQ[0].permute(1, 2, 0).numpy()
    model = with_strength(load(name), 0.3)
    whole = lightbsr_arch.upscale(image, model, tile=0)
    np.testing.assert_allclose(lightbsr_arch.upscale(image, model, tile=8), whole, atol=2e-5)
    assert np.abs(whole - lightbsr_arch.upscale(image, name, tile=0)).max() > 1e-3


def test_clean_pictures_are_the_same_in_every_call():
    model = network("lightbsr")
    torch.testing.assert_close(clean_idr(model), clean_idr(model), rtol=0, atol=0)
    assert as_vector(model.estimator(LQ)).shape == (2, 16)
    assert clean_idr(model.to(torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("strength", [-0.1, 1.51, float("nan"), float("inf")])
def test_a_strength_out_of_range(strength):
    with pytest.raises(UserError, match=r"strength .*: expected 0 to 1.5"):
        with_strength(network("kdsr"), strength)


def test_a_network_without_idr():
    with pytest.raises(UserError, match="a Network has no IDR"):
        with_strength(Network(), 0.5)
    with pytest.raises(UserError, match="a Network has no IDR"):
        check_effect(Network())


@pytest.mark.parametrize("name", SHARPER)
def test_models_that_become_sharper_are_accepted(name):
    check_effect(load(name))


def test_a_model_that_ignores_its_idr_is_refused():
    model = network("kdsr")
    with torch.no_grad():
        for block in model.restorer.body:
            block.ddc.kernel[0].weight.zero_()
    with pytest.raises(UserError, match="hardly follows its IDR"):
        check_effect(model)
