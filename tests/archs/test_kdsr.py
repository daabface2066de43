"""KDSR's networks compared with the outputs of the published ones, and their interfaces."""

import pytest
import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils.registry import ARCH_REGISTRY
from torch.nn.functional import conv2d

from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR, IDRDCRBNet, KDIDEStudent, KDIDETeacher
from lightbsr_arch.archs.fast import dynamic_conv as ddc
from lightbsr_arch.checkpoint import Checkpoint, convert, load
from tests.golden import golden, needs_golden

FILES = ["kdsr_student_x2_f16b2r1", "kdsr_student_x4_f16b3r2", "kdsr_teacher_x4_f16b3r2"]


def small(scale: int = 4, teacher: bool = False, num_feat: int = 8) -> BlindSR:
    torch.manual_seed(0)
    estimator = {"type": "KDIDETeacher", "scale": scale} if teacher else {"type": "KDIDEStudent"}
    return BlindSR(
        {**estimator, "num_feat": num_feat, "num_block": 1},
        {"type": "IDRDCRBNet", "num_feat": num_feat, "num_block": 2, "scale": scale},
    ).eval()


@needs_golden
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("name", FILES)
def test_outputs_are_those_of_the_published_network(name, memory_format, tmp_path):
    torch.save(golden(name, "w"), tmp_path / "published.pth")
    convert(tmp_path / "published.pth", tmp_path / "ours.safetensors")
    model = load(tmp_path / "ours.safetensors").to(memory_format=memory_format)
    io = golden(name, "io")
    lq = io["lq"].contiguous(memory_format=memory_format)
    with torch.inference_mode():
        sr, knowledge = model(lq, io.get("gt"), knowledge=["idr"])
        idr = model.estimator(lq, io.get("gt"))
    torch.testing.assert_close(sr, io["sr"], atol=1e-4, rtol=0)
    torch.testing.assert_close(idr, io["idr"], atol=1e-4, rtol=0)
    torch.testing.assert_close(knowledge["idr"], io["distill"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("num_feat", "num_block", "estimator_block", "millions"), [(64, 53, 9, 5.795), (128, 28, 5, 14.191)], ids=["M", "L"]
)
def test_published_sizes(num_feat, num_block, estimator_block, millions):
    with torch.device("meta"):
        model = BlindSR(
            {"type": "KDIDEStudent", "num_feat": num_feat, "num_block": estimator_block},
            {"type": "IDRDCRBNet", "num_feat": num_feat, "num_block": num_block, "scale": 4},
        )
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("teacher", [False, True], ids=["student", "teacher"])
def test_scales(scale, teacher):
    model = small(scale, teacher)
    lq = torch.rand(2, 3, 9, 11)
    gt = torch.rand(2, 3, 9 * scale, 11 * scale) if teacher else None
    sr = model(lq, gt)
    assert sr.shape == (2, 3, 9 * scale, 11 * scale)
    assert model.scale == scale
    # The samples of a batch are independent.
    alone = model(lq[1:], gt[1:] if teacher else None)
    torch.testing.assert_close(sr[1:], alone, atol=1e-5, rtol=0)


def test_a_teacher_depends_on_its_privileged_input():
    model = small(teacher=True)
    lq, gt = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 32, 32)
    assert not torch.equal(model.estimator(lq, gt), model.estimator(lq, gt.flip(0, 1)))
    assert model.privileged == "gt"
    assert small().privileged is None


def test_a_limit_shortens_the_longer_idrs_only():
    estimator = small().estimator
    lq = torch.rand(6, 3, 8, 8)
    idr, known = estimator.estimate(lq)
    norms = idr.norm(dim=1)
    limit = norms.median().item()
    estimator.max_norm = limit
    limited, same = estimator.estimate(lq)
    assert torch.equal(known["idr"], same["idr"])
    longer = norms > limit
    assert longer.sum() == 3
    assert torch.equal(limited[~longer], idr[~longer])
    torch.testing.assert_close(limited[longer], idr[longer] * (limit / norms[longer])[:, None])


def test_the_limit_holds_in_strips_and_in_a_stored_network(tmp_path):
    model = small()
    lq = torch.rand(1, 3, 24, 10)
    limit = model.estimator(lq).norm().item() / 2
    Checkpoint(
        model.state_dict(), {**model.config, "estimator": {**model.config["estimator"], "max_norm": limit}}, {}
    ).save(tmp_path / "limited.safetensors")
    estimator = load(tmp_path / "limited.safetensors").estimator
    idr = estimator(lq)
    assert idr.norm().item() == pytest.approx(limit, rel=1e-5)
    torch.testing.assert_close(estimator.estimate_in_strips(lq, 5, lambda share: None), idr)


def test_the_limit_of_a_file_holds_unless_the_network_has_one_of_its_own(tmp_path):
    for limit in (None, 0.3, 0.1):
        model = small()
        model.estimator.max_norm = limit
        torch.save({"params": model.state_dict()}, tmp_path / f"{limit}.pth")
        assert load(tmp_path / f"{limit}.pth").estimator.max_norm == limit
    for limit in (None, 0.3):
        model = small()
        model.estimator.max_norm = limit
        for file in ("None.pth", "0.1.pth"):
            BaseModel({"num_gpu": 0, "dist": False, "is_train": False}).load_network(model, str(tmp_path / file))
            assert model.estimator.max_norm == limit
    assert "estimator.max_norm" not in small().state_dict()


@pytest.mark.parametrize(
    ("limit", "message"),
    [([1.0, 2.0], "weights of no network of this package"), ([-1.0], "max_norm of KDIDEStudent is -1")],
)
def test_a_damaged_limit_is_named(limit, message, tmp_path):
    torch.save({"params": {**small().state_dict(), "estimator.max_norm": torch.tensor(limit)}}, tmp_path / "net.pth")
    with pytest.raises(UserError, match=message):
        load(tmp_path / "net.pth")


def test_wrong_inputs_are_named():
    lq, gt = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 32, 32)
    with pytest.raises(ValueError, match=r"needs its privileged input"):
        small(teacher=True)(lq)
    with pytest.raises(ValueError, match=r"gt for lq \(1, 3, 8, 8\) at x4 is \(1, 3, 32, 32\), not \(1, 3, 30, 32\)"):
        small(teacher=True)(lq, gt[:, :, :30])
    with pytest.raises(ValueError, match=r"sees the low-quality image alone"):
        small()(lq, gt)


def test_a_pair_whose_idrs_differ_is_refused():
    with pytest.raises(ValueError, match=r"the IDR of KDIDEStudent has 8 channels, but IDRDCRBNet needs 16"):
        BlindSR({"type": "KDIDEStudent", "num_feat": 8}, {"type": "IDRDCRBNet", "num_feat": 16, "num_block": 1})


def test_registered_and_rebuilt_from_their_configuration():
    for arch in (BlindSR, IDRDCRBNet, KDIDEStudent, KDIDETeacher):
        assert ARCH_REGISTRY.get(arch.__name__) is arch
    model = small()
    again = BlindSR(**model.config)
    again.load_state_dict(model.state_dict())
    lq = torch.rand(1, 3, 8, 8)
    assert torch.equal(again.eval()(lq), model(lq))


def test_the_ways_of_the_dynamic_convolution_agree():
    torch.manual_seed(0)
    x = torch.rand(3, 4, 7, 6, dtype=torch.double)
    kernel = torch.rand(3, 4, 3, 3, dtype=torch.double)
    alone = [conv2d(x[n : n + 1], kernel[n].unsqueeze(1), padding=1, groups=4) for n in range(3)]
    wanted = torch.cat(alone)
    for way in (ddc._folded_into_groups, ddc._sample_by_sample, ddc._as_shifted_sum):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            torch.testing.assert_close(way(x.contiguous(memory_format=memory_format), kernel), wanted)


@pytest.mark.slow
def test_exports_with_a_dynamic_batch_and_size():
    n, h, w = (torch.export.Dim(name, min=2, max=64) for name in "nhw")
    model = small(scale=2)
    exported = torch.export.export(model, (torch.rand(2, 3, 8, 9),), dynamic_shapes=({0: n, 2: h, 3: w},))
    lq = torch.rand(3, 3, 12, 7)
    torch.testing.assert_close(exported.module()(lq), model(lq), atol=1e-5, rtol=0)
