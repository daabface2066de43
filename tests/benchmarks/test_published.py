"""The plain form, with which benchmarks compare, is that of the published networks."""

import pytest
import torch

from lightbsr_arch.checkpoint import recognise
from tests.reference.systems import SYSTEMS


@pytest.mark.parametrize("name", ["kdsr student", "lightbsr student"])
@pytest.mark.parametrize("gradients", [False, True], ids=["inference", "training"])
def test_the_plain_form_computes_the_published_image(script, name, gradients):
    system = SYSTEMS[name]
    model = recognise(dict(system.weights(4)), "published").build()
    script("published").make_plain(model)
    with torch.set_grad_enabled(gradients):
        sr = model(*system.inputs(4))
    torch.testing.assert_close(sr.detach(), system.outputs(4)["sr"], atol=1e-4, rtol=1e-4)


def test_the_plain_form_has_no_fast_block_and_no_channels_last_memory(script, monkeypatch):
    published = script("published")
    seen = []
    for name in ("KDSR-M", "LightBSR"):
        model = published.random_student(name, tiny=True).to(memory_format=torch.channels_last)
        published.make_plain(model)
        model.restorer.after_body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous()))
        for module in ("lightbsrnet_arch.run_idr_block", "lightbsrnet_arch.run_convnext_block"):
            monkeypatch.setattr(f"lightbsr_arch.archs.{module}", None)
        monkeypatch.setattr("lightbsr_arch.archs.residual_restorer.upscale", None)
        with torch.inference_mode():
            assert model(torch.rand(2, 3, 12, 16)).shape == (2, 3, 48, 64)
    assert seen == [True, True]


def test_tiny_networks_have_one_block_and_the_other_arguments(script):
    published = script("published")
    assert published.section("LightBSR", tiny=True)["restorer"] == {
        **published.NETWORKS["LightBSR"]["restorer"], "num_group": 1, "num_block": 1,
    }  # fmt: skip
    assert published.section("KDSR-M") == published.NETWORKS["KDSR-M"]
