"""ConvMuon steps as torch.optim.Muon for kernels, and as Adam for all other parameters."""

import pytest
import torch
from torch import nn

from lightbsr_arch.optim import ConvMuon, orthogonal

STEPS = 5


def trained(cls, parameters: list[torch.Tensor], **arguments) -> list[torch.Tensor]:
    """Return the parameters after a few steps with gradients that are the same for every optimiser."""
    parameters = [nn.Parameter(parameter.clone()) for parameter in parameters]
    optimizer = cls(parameters, lr=0.01, **arguments)
    random = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=random)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("shape", [(1, 32, 288), (3, 48, 16), (2, 8, 8)])
def test_the_singular_values_of_an_update_are_near_1(shape):
    matrices = torch.randn(shape)
    result = orthogonal(matrices)
    singular = torch.linalg.svdvals(result)
    assert singular.max() < 1.25
    assert singular.median() > 0.6
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    cosine = torch.nn.functional.cosine_similarity((u @ v).flatten(1), result.flatten(1))
    assert cosine.min() > 0.95


def test_a_gradient_of_zeros_changes_no_kernel():
    kernel = nn.Parameter(torch.randn(4, 4, 3, 3))
    before = kernel.detach().clone()
    optimizer = ConvMuon([kernel])
    kernel.grad = torch.zeros_like(kernel)
    optimizer.step()
    assert torch.equal(kernel, before)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="older PyTorch, without torch.optim.Muon")
@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_matrices_are_updated_as_by_pytorch(shape):
    start = torch.randn(shape)
    (ours,) = trained(ConvMuon, [start])
    (pytorch,) = trained(torch.optim.Muon, [start], weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    moved = (pytorch - start).square().mean().sqrt()
    assert 0.2 * 0.01 < moved < STEPS * 0.2 * 0.01
    assert (ours - pytorch).square().mean().sqrt() < 0.02 * moved  # PyTorch's computes in bf16


def test_a_kernel_is_updated_as_the_matrix_of_its_rows():
    start = torch.randn(6, 4, 3, 3)
    (kernel,) = trained(ConvMuon, [start])
    (matrix,) = trained(ConvMuon, [start.flatten(1)])
    assert torch.allclose(kernel.flatten(1), matrix, atol=1e-6)
    (last,) = trained(ConvMuon, [start.to(memory_format=torch.channels_last)])
    assert torch.allclose(last, kernel, atol=1e-6)


def test_kernels_of_one_shape_do_not_mix():
    first, second = torch.randn(6, 4, 3, 3), torch.randn(6, 4, 3, 3)
    both = [nn.Parameter(first.clone()), nn.Parameter(second.clone())]
    optimizer = ConvMuon(both, lr=0.01)
    gradients = [torch.randn_like(first), torch.randn_like(second)]
    for parameter, gradient in zip(both, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    alone = nn.Parameter(second.clone())
    alone.grad = gradients[1]
    ConvMuon([alone], lr=0.01).step()
    assert torch.allclose(both[1], alone, atol=1e-6)


def test_other_parameters_are_updated_as_by_adam():
    others = [torch.randn(16), torch.randn(8, 1, 3, 3), torch.randn(1, 8), torch.randn(())]
    ours = trained(ConvMuon, others, betas=(0.8, 0.95))
    adam = trained(torch.optim.Adam, others, betas=(0.8, 0.95))
    for one, other, start in zip(ours, adam, others, strict=True):
        assert (other - start).abs().max() > 1e-3
        assert torch.allclose(one, other, atol=1e-7)


@pytest.mark.parametrize("arguments", [{"momentum": 1.0}, {"betas": (0.9, 1.5)}, {"betas": (-0.1, 0.9)}])
def test_impossible_decays_are_refused(arguments):
    with pytest.raises(ValueError, match="must be at least 0 and below 1"):
        ConvMuon([nn.Parameter(torch.zeros(2))], **arguments)
