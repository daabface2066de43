"""LightBSR's networks compared with the outputs of the published ones, and their interfaces."""

import pytest
import torch

from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.degradation_prior import DegradationPrior
from lightbsr_arch.checkpoint import convert, load
from lightbsr_arch.degradations import ClassicalDegradation, Draws, gaussian_kernels
from tests.golden import golden, needs_golden

NAME = "lightbsr_student_x4"


def small(scale: int = 4, teacher: bool = False, noise: bool = False) -> BlindSR:
    torch.manual_seed(0)
    estimator = {"type": "LightIDETeacher", "num_noise_ch": 3 * noise} if teacher else {"type": "LightIDEStudent"}
    model = BlindSR(
        {**estimator, "num_feat": 8},
        {"type": "LightBSRNet", "num_feat": 16, "num_group": 2, "num_block": 2, "idr_ch": 32, "scale": scale},
    ).eval()
    for module in model.modules():
        if hasattr(module, "layer_scale"):
            torch.nn.init.normal_(module.layer_scale)  # at the initial 1e-6, the blocks hardly affect the output
    if teacher:
        model.estimator.prior.fit(kernels(1000))
    return model


def kernels(n: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.rand(3, n, generator=torch.Generator().manual_seed(seed))
    return gaussian_kernels(0.2 + 3.8 * drawn[0], 0.2 + 3.8 * drawn[1], torch.pi * drawn[2])


@needs_golden
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_outputs_are_those_of_the_published_network(memory_format, tmp_path):
    torch.save(golden(NAME, "w"), tmp_path / "published.pth")
    convert(tmp_path / "published.pth", tmp_path / "ours.safetensors")
    model = load(tmp_path / "ours.safetensors").to(memory_format=memory_format)
    io = golden(NAME, "io")
    lq = io["lq"].contiguous(memory_format=memory_format)
    with torch.inference_mode():
        sr, knowledge = model(lq, knowledge=["channel_guide", "spatial_guide"])
        idr = model.estimator(lq)
    ours = {"sr": sr, "fea": idr, "idr_channel": knowledge["channel_guide"], "idr_spatial": knowledge["spatial_guide"]}
    for name, output in ours.items():
        torch.testing.assert_close(output, io[name], atol=1e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@needs_golden
@pytest.mark.parametrize("noise", [False, True], ids=["iso", "noise"])
def test_a_teacher_under_the_published_names(noise, tmp_path):
    # This is the published student with the prior's channels and an embedding. The file has no PCA, so numbers are
    # given.
    weights = {key: value.float() for key, value in golden(NAME, "w").items()}
    prior_ch = 18 if noise else 15
    weights["E.E.0.weight"] = torch.cat([weights["E.E.0.weight"], torch.randn(32, prior_ch, 3, 3) * 0.1], dim=1)
    for layer in (0, 2):
        weights[f"E.mlp.{layer}.weight"], weights[f"E.mlp.{layer}.bias"] = torch.randn(128, 128), torch.randn(128)
    torch.save({"state_dict": weights}, tmp_path / "teacher.pth")
    checkpoint = convert(tmp_path / "teacher.pth", tmp_path / "teacher.safetensors")
    assert checkpoint.network["estimator"] == {
        "type": "LightIDETeacher", "num_feat": 32, "num_kernel_ch": 15, "num_noise_ch": 3 * noise, "kernel_size": 21,
    }  # fmt: skip
    model = load(tmp_path / "teacher.safetensors")
    assert torch.equal(model.estimator.mlp[2].weight, weights["E.mlp.2.weight"])
    lq = golden(NAME, "io")["lq"]
    with torch.inference_mode():
        # With maps of zeros, the network equals the published student.
        torch.testing.assert_close(model(lq, torch.zeros(1, prior_ch)), golden(NAME, "io")["sr"], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"the PCA of blur kernels is not fitted"):
        model(lq, (kernels(1), torch.zeros(1)))


def test_published_size():
    with torch.device("meta"):
        model = BlindSR({"type": "LightIDEStudent"}, {"type": "LightBSRNet", "scale": 4})
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(3.260, abs=5e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("teacher", [False, True], ids=["student", "teacher"])
@pytest.mark.parametrize("size", [(8, 8), (9, 11), (14, 21)], ids=str)
def test_scales_and_sizes(scale, teacher, size):
    model = small(scale, teacher)
    lq = torch.rand(2, 3, *size)
    prior = (kernels(2), torch.zeros(2)) if teacher else None
    with torch.inference_mode():
        sr = model(lq, prior)
        alone = model(lq[1:], tuple(part[1:] for part in prior) if teacher else None)
        mirrored = model(lq.flip(3), prior)
    assert sr.shape == (2, 3, size[0] * scale, size[1] * scale)
    assert model.estimator(lq, prior).shape == (2, 32, -(-size[0] // 4), -(-size[1] // 4))
    # The samples of a batch are independent. The map differs between the positions of an image.
    torch.testing.assert_close(sr[1:], alone, atol=1e-5, rtol=0)
    assert not torch.allclose(mirrored.flip(3), sr, atol=1e-3)


@pytest.mark.parametrize("noise", [False, True], ids=["iso", "noise"])
def test_a_teacher_depends_on_kernel_and_noise(noise):
    model = small(teacher=True, noise=noise)
    lq, (one, other) = torch.rand(1, 3, 8, 8), kernels(2)[:, None]
    idr = model.estimator(lq, (one, torch.tensor([5.0])))
    assert not torch.equal(idr, model.estimator(lq, (other, torch.tensor([5.0]))))
    assert torch.equal(idr, model.estimator(lq, (one, torch.tensor([20.0])))) == (not noise)
    assert (model.privileged, small().privileged) == ("prior", None)


@pytest.mark.parametrize("teacher", [False, True], ids=["student", "teacher"])
def test_half_precision_agrees(teacher):
    model, lq = small(teacher=teacher, noise=teacher), torch.rand(1, 3, 16, 16)
    prior = (kernels(1), torch.tensor([10.0])) if teacher else None
    with torch.inference_mode():
        full = model(lq, prior)
        half = model.bfloat16()(lq.bfloat16(), prior)
    assert half.dtype == torch.bfloat16
    assert (half - full).abs().mean() < 0.02 * full.std()


def test_wrong_inputs_are_named():
    lq = torch.rand(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"needs its privileged input, the degradation"):
        small(teacher=True)(lq)
    with pytest.raises(ValueError, match=r"the prior is N x 18, not \(1, 15\)"):
        small(teacher=True, noise=True)(lq, torch.rand(1, 15))
    with pytest.raises(ValueError, match=r"sees the low-quality image alone"):
        small()(lq, (kernels(1), torch.zeros(1)))


def test_the_prior_keeps_what_makes_kernels_differ():
    fitted, again = DegradationPrior(15, 0, 21), DegradationPrior(15, 0, 21)
    fitted.fit(kernels(2000))
    again.fit(kernels(2000))
    assert torch.equal(fitted.components, again.components)
    unseen = kernels(200, seed=1)
    numbers = fitted((unseen, torch.zeros(200)))
    directions = fitted.components / fitted.components.square().sum(dim=1, keepdim=True)
    rebuilt = (numbers @ directions + fitted.mean).view_as(unseen)
    spread = (unseen - unseen.mean(dim=0)).square().sum()
    assert (rebuilt - unseen).square().sum() < 0.05 * spread
    assert numbers.std(dim=0).tolist() == pytest.approx([1.0] * 15, abs=0.3)
    wide = torch.tensor([2.0, 3.0])
    one, other = fitted((gaussian_kernels(wide, wide, torch.zeros(2)), torch.zeros(2)))
    assert (one - other).norm() > 0.5
    restored = DegradationPrior(15, 0, 21)
    restored.load_state_dict(fitted.state_dict())
    assert torch.equal(restored((unseen, torch.zeros(200))), numbers)


def test_noise_maps_are_ones_at_the_strongest_noise_of_setting_2():
    prior = DegradationPrior(15, 3, 21)
    prior.fit(kernels(100))
    degradation = ClassicalDegradation(4, kernel="aniso", noise=(25, 25))
    parameters = degradation(torch.rand(2, 3, 64, 64), Draws(torch.Generator())).parameters
    assert torch.equal(prior(parameters)[:, 15:], torch.ones(2, 3))


@pytest.mark.parametrize(
    ("estimator", "restorer"),
    [
        (
            {"type": "KDIDEStudent", "num_feat": 32, "num_block": 1},
            {"type": "LightBSRNet", "num_feat": 16, "idr_ch": 32},
        ),
        ({"type": "LightIDEStudent", "num_feat": 8}, {"type": "IDRDCRBNet", "num_feat": 32, "num_block": 1}),
    ],
    ids=lambda part: part["type"],
)
def test_mixed_pairs_build_where_their_idrs_fit(estimator, restorer):
    model = BlindSR(estimator, {**restorer, "scale": 2}).eval()
    with torch.inference_mode():
        assert model(torch.rand(2, 3, 9, 10)).shape == (2, 3, 18, 20)
    with pytest.raises(ValueError, match=rf"has \d+ channels, but {restorer['type']} needs 32: make their"):
        BlindSR({**estimator, "num_feat": 16}, {**restorer, "scale": 2})


@pytest.mark.slow
def test_rebuilt_from_shapes_and_exported(tmp_path):
    model = small(scale=2)
    torch.save({"params": model.state_dict()}, tmp_path / "net.pth")
    loaded = load(tmp_path / "net.pth")
    assert loaded.config == model.config
    n, h, w = (torch.export.Dim(name, min=8 if name != "n" else 2, max=64) for name in "nhw")
    exported = torch.export.export(loaded, (torch.rand(2, 3, 8, 9),), dynamic_shapes=({0: n, 2: h, 3: w},))
    lq = torch.rand(3, 3, 13, 10)
    torch.testing.assert_close(exported.module()(lq), model(lq), atol=1e-5, rtol=0)
