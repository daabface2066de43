"""Properties of the estimators and restorers of all systems, and of every pair of them."""

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

from lightbsr_arch import archs
from lightbsr_arch.archs import BlindSR, CdCLEncoder, DASREncoder, DegreeEstimator, MRDAEncoder

IDR_CH = 16
ESTIMATORS = {
    "KDIDEStudent": {"num_feat": 16, "num_block": 1},
    "LightIDEStudent": {"num_feat": 4},
    "DASREncoder": {"num_feat": 4},
    "CdCLEncoder": {"num_feat": 4},
    "MRDAEncoder": {"num_feat": 4},
    "DegreeEstimator": {"num_feat": 4, "num_block": 1, "num_hidden": 8, "idr_ch": IDR_CH},
    "KnownDegradation": {},
}
RESTORERS = {
    "IDRDCRBNet": {"num_feat": 16, "num_block": 1},
    "LightBSRNet": {"num_feat": 8, "num_group": 1, "num_block": 1},
    "DASRNet": {"num_feat": 8, "num_group": 2, "num_block": 1},
    "CdCLNet": {"num_feat": 8, "num_group": 1, "num_block": 2},
    "RDANet": {"num_feat": 8, "num_block": 1},
    "MMRealSRNet": {"num_feat": 8, "num_block": 1, "num_grow_ch": 4, "num_embed": 9, "num_hidden": 10},
    "SRMDNet": {"num_feat": 8, "num_block": 3},
}
OWN_SHAPES = [
    "DASREncoder", "CdCLEncoder", "MRDAEncoder", "DegreeEstimator", "DASRNet", "CdCLNet", "RDANet", "MMRealSRNet",
    "SRMDNet",
]  # fmt: skip


def options(name: str, scale: int = 4) -> dict:
    if name in ESTIMATORS:
        return {"type": name, **ESTIMATORS[name]}
    idr_ch = {} if name == "IDRDCRBNet" else {"idr_ch": IDR_CH}
    return {"type": name, **RESTORERS[name], **idr_ch, "scale": scale}


def network(estimator: str, restorer: str, scale: int = 4) -> BlindSR:
    """Return a small network in which every part affects the output."""
    torch.manual_seed(0)
    model = BlindSR(options(estimator), options(restorer, scale)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale"):
            torch.nn.init.normal_(parameter)  # at the initial 1e-6, a block hardly affects the output
    return model


@pytest.mark.parametrize("restorer", ["IDRDCRBNet", "LightBSRNet", "DASRNet", "CdCLNet", "RDANet"])
def test_checkpointed_activations_do_not_change_the_gradients(restorer):
    lq = torch.rand(2, 3, 9, 10, generator=torch.Generator().manual_seed(0))
    gradients, runs = [], []
    for checkpointed in (False, True):
        model = network("KDIDEStudent", restorer)
        model.restorer.checkpoint_activations = checkpointed
        model.restorer.body[0].register_forward_pre_hook(lambda *_, ran=checkpointed: runs.append(ran))
        model(lq).square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert runs == [False, True, True]  # backpropagation runs the part again
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5, msg=name)
    with torch.no_grad():
        model(lq)
    assert runs == [False, True, True, True]


@pytest.mark.parametrize("restorer", RESTORERS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_guides_every_restorer(estimator, restorer):
    model = network(estimator, restorer)
    lq = torch.rand(2, 3, 9, 10)
    extra = torch.randn(2, IDR_CH) if model.extra_input else None
    with torch.inference_mode():
        sr = model(lq, extra)
        # The samples of a batch are independent.
        alone = model(lq[1:], None if extra is None else extra[1:])
        idr = model.estimator(lq, extra)
        wrong = model.restorer(lq, model.restorer.guides(10 * torch.randn_like(idr), 9, 10))
    assert sr.shape == (2, 3, 36, 40)
    torch.testing.assert_close(sr[1:], alone, atol=1e-4, rtol=0)
    assert (sr - wrong).abs().max() > 1e-4


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("restorer", [name for name in RESTORERS if name != "MMRealSRNet"])
def test_scales(restorer, scale):
    model = network("DASREncoder", restorer, scale)
    assert model.scale == scale
    assert model(torch.rand(1, 3, 5, 6)).shape == (1, 3, 5 * scale, 6 * scale)


@pytest.mark.parametrize("name", [*ESTIMATORS, *RESTORERS])
def test_registered(name):
    assert ARCH_REGISTRY.get(name) is getattr(archs, name)


@pytest.mark.parametrize("name", OWN_SHAPES)
def test_arguments_are_read_off_the_shapes(name):
    cls = getattr(archs, name)
    arguments = {key: value for key, value in options(name, scale=2).items() if key != "type"}
    net = cls(**arguments)
    read = cls.from_state(net.state_dict())
    assert {key: read[key] for key in arguments} == arguments
    again = cls(**read)
    shapes, shapes_again = ({key: value.shape for key, value in of.state_dict().items()} for of in (net, again))
    assert shapes_again == shapes


@pytest.mark.parametrize("cls", [CdCLEncoder, DASREncoder, DegreeEstimator, MRDAEncoder])
def test_estimators_see_only_the_low_quality_image(cls):
    estimator = cls(num_feat=4)
    assert estimator.extra_input is None
    with pytest.raises(ValueError, match=rf"{cls.__name__} sees the low-quality image alone"):
        estimator(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))


def first_convolution(estimator):
    return estimator.first[0] if isinstance(estimator, DegreeEstimator) else estimator.features[0]


@pytest.mark.parametrize("cls", [CdCLEncoder, DASREncoder, DegreeEstimator, MRDAEncoder])
def test_estimators_start_blind_to_flat_colours(cls):
    first = first_convolution(cls(num_feat=8))
    torch.testing.assert_close(first.weight.sum(dim=(2, 3)), torch.zeros(8, 3), atol=1e-6, rtol=0)
    assert first.weight.std() > 0.05
    # PyTorch draws uniformly up to 1 / sqrt(fan in).
    weight = first_convolution(cls(num_feat=8, init="pytorch")).weight
    assert 0.9 * 27**-0.5 < weight.abs().max() <= 27**-0.5


def test_a_pair_whose_idrs_differ_is_refused():
    with pytest.raises(ValueError, match=r"the IDR of DegreeEstimator has 2 channels, but IDRDCRBNet needs 16"):
        BlindSR({"type": "DegreeEstimator"}, {"type": "IDRDCRBNet", "num_feat": 16, "num_block": 1})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "restorer"),
    [("DASREncoder", "DASRNet"), ("CdCLEncoder", "CdCLNet"), ("MRDAEncoder", "RDANet"),
     ("DegreeEstimator", "MMRealSRNet"), ("DASREncoder", "SRMDNet")],
)  # fmt: skip
def test_exports_with_a_dynamic_batch_and_size(estimator, restorer):
    n = torch.export.Dim("n", min=2, max=64)
    h, w = (torch.export.Dim(name, min=8, max=64) for name in "hw")  # a map of one pixel is a special case
    model = network(estimator, restorer)
    exported = torch.export.export(model, (torch.rand(2, 3, 8, 9),), dynamic_shapes=({0: n, 2: h, 3: w},))
    lq = torch.rand(3, 3, 12, 11)
    torch.testing.assert_close(exported.module()(lq), model(lq), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", [3, 8])
@pytest.mark.parametrize(
    ("estimator", "restorer"),
    [("DASREncoder", "DASRNet"), ("CdCLEncoder", "CdCLNet"), ("MRDAEncoder", "RDANet"),
     ("DegreeEstimator", "MMRealSRNet"), ("DASREncoder", "SRMDNet")],
)  # fmt: skip
def test_strips_equal_the_whole(estimator, restorer, rows):
    model = network(estimator, restorer)
    lq, shares = torch.rand(1, 3, 45, 7), []
    with torch.inference_mode():
        strips = list(model.sr_in_strips(lq, rows, shares.append))
        torch.testing.assert_close(torch.cat(strips, dim=2), model(lq), atol=1e-5, rtol=0)
    assert len(strips) > 2
    assert sum(shares) == pytest.approx(1)


def test_a_part_of_the_wrong_kind_is_refused() -> None:
    estimator = {"type": "KDIDEStudent", "num_feat": 8, "num_block": 1}
    with pytest.raises(ValueError, match=r"restorer: KDIDEStudent is no restorer; choose one of .*IDRDCRBNet"):
        BlindSR(estimator=estimator, restorer=estimator)
