"""Figures of the papers and of the published code that are the package's defaults."""

import inspect

import pytest
import torch

from lightbsr_arch import archs, degradations, losses
from lightbsr_arch.archs.degradation_prior import DegradationPrior, published_kernels
from lightbsr_arch.archs.idr_block import IDRBlock
from tests.degradations.test_second_order import KERNELS, REAL_ESRGAN

DEFAULTS = {
    # KDSR-M
    archs.KDIDEStudent: {"num_feat": 64, "num_block": 9},
    archs.KDIDETeacher: {"num_feat": 64, "num_block": 9, "scale": 4},
    archs.IDRDCRBNet: {"num_feat": 64, "num_block": 53, "scale": 4},
    losses.KDSRDistillLoss: {"loss_weight": 1.0, "temperature": 0.15, "kl_weight": 1.0, "l1_weight": 0.0},
    # LightBSR
    archs.LightIDEStudent: {"num_feat": 32},
    archs.LightIDETeacher: {"num_feat": 32, "num_kernel_ch": 15, "num_noise_ch": 0, "kernel_size": 21},
    archs.LightBSRNet: {"num_feat": 64, "num_group": 8, "num_block": 8, "idr_ch": 128, "scale": 4},
    losses.LightBSRDistillLoss: {
        "loss_weight": 1.0, "temperature": 0.15, "kl_weight": 1.0, "l1_weight": 0.1, "spatial_weight": 1.0,
    },
    losses.MomentumContrastLoss: {
        "loss_weight": 1.0, "num_patch": 4, "temperature": 0.07, "queue_size": 8192, "momentum": 0.999,
        "queries": "every",
    },
    # DASR, CdCL, MRDA and SRMD
    archs.DASREncoder: {"num_feat": 64},
    archs.DASRNet: {"num_feat": 64, "num_group": 5, "num_block": 5, "idr_ch": 256},
    archs.CdCLEncoder: {"num_feat": 64},
    archs.CdCLNet: {"num_feat": 64, "num_group": 6, "num_block": 6, "idr_ch": 256},
    losses.FastMoCoLoss: {"loss_weight": 1.0, "num_patch": 4, "temperature": 1.0, "momentum": 0.99},
    archs.MRDAEncoder: {"num_feat": 64},
    archs.RDANet: {"num_feat": 64, "num_block": 27, "idr_ch": 256},
    archs.KnownDegradation: {"num_kernel_ch": 15, "num_noise_ch": 1},
    archs.SRMDNet: {"num_feat": 128, "num_block": 12, "idr_ch": 16},
    # MM-RealSR
    archs.DegreeEstimator: {"num_feat": 64, "num_block": 2, "num_hidden": 512, "num_degree": 2},
    archs.MMRealSRNet: {"num_feat": 64, "num_block": 23, "num_grow_ch": 32, "num_embed": 512, "num_hidden": 320},
    losses.DegreeRankingLoss: {"margin": 0.05, "rank_weight": 0.01, "anchor_weight": 1e-4},
    # Setting 1, and Real-ESRGAN's degradation
    degradations.ClassicalDegradation: {
        "kernel": "iso", "sigma": (0.2, 4.0), "noise": (0.0, 0.0), "kernel_size": 21, "downsample": "bicubic",
        "per": "sample",
    },
    degradations.SecondOrderDegradation: {
        **REAL_ESRGAN,
        **{key: value for key, value in KERNELS.items() if "size" not in key},
        "final_sinc_prob": 0.8,
        "order": "fixed",
    },
}  # fmt: skip


@pytest.mark.parametrize("cls", DEFAULTS, ids=lambda cls: cls.__name__)
def test_defaults_are_the_published_figures(cls: type) -> None:
    parameters = inspect.signature(cls).parameters
    found = {name: parameters[name].default for name in DEFAULTS[cls]}
    assert {name: [*value] if isinstance(value, tuple) else value for name, value in found.items()} == {
        name: [*value] if isinstance(value, tuple) else value for name, value in DEFAULTS[cls].items()
    }


def test_a_block_of_lightbsr_starts_close_to_the_identity() -> None:
    block = IDRBlock(16, 2)
    assert block.layer_scale.tolist() == pytest.approx([1e-6] * 16)
    assert block.norm.eps == 1e-6


def test_the_published_pca_is_not_centred_and_has_the_largest_component_last() -> None:
    kernels = published_kernels(21, torch.Generator().manual_seed(0))
    prior = DegradationPrior(15, 0, 21, "published")
    prior.fit(kernels)
    rows = kernels.flatten(1).double()
    moments = torch.linalg.eigvalsh(rows.T @ rows / len(rows))[-15:]
    numbers = prior((kernels, torch.zeros(len(kernels)))).double()
    torch.testing.assert_close(numbers.square().mean(dim=0), moments, rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(prior.components @ prior.components.T, torch.eye(15), atol=1e-5, rtol=0)


def test_the_kernels_of_the_published_pca_have_variances_up_to_10() -> None:
    kernels = published_kernels(21, torch.Generator().manual_seed(0)).double()
    assert kernels.shape == (5000, 21, 21)
    axis = torch.arange(-10.0, 11.0, dtype=torch.double)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    covariance = torch.stack([(kernels * a * b).sum(dim=(1, 2)) for a in (x, y) for b in (x, y)], dim=1)
    variances = torch.linalg.eigvalsh(covariance.unflatten(1, (2, 2)))  # the smaller one first
    # A kernel of 21 pixels cuts off what little of a variance of 10 lies outside.
    assert 9.5 < variances.max() < 10.1
    assert 4.8 < variances[:, 1].mean() < 5.3
    assert 2.3 < variances[:, 0].mean() < 2.8
