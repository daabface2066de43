"""Properties that degradations keep for all their options."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbsr_arch.degradations import ClassicalDegradation, Draws, SecondOrderDegradation, gaussian_kernels

SIGMAS = st.floats(0, 12)
SEEDS = st.integers(0, 2**32 - 1)


def ordered(largest: float) -> st.SearchStrategy[tuple[float, float]]:
    """Return ranges from 0 to ``largest``, empty ones included."""
    return st.tuples(st.floats(0, largest), st.floats(0, largest)).map(lambda ends: (min(ends), max(ends)))


def draws(seed: int) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


def check_image(lq: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Check the shape, and that all values are those of 8 bits."""
    assert lq.shape == shape
    assert lq.min() >= 0
    assert lq.max() <= 1
    torch.testing.assert_close(lq * 255, (lq * 255).round(), atol=1e-4, rtol=0)


@given(sides=st.integers(0, 20), sigmas=st.tuples(SIGMAS, SIGMAS), theta=st.floats(-math.pi, math.pi))
def test_a_kernel_sums_to_one_and_has_no_direction(sides: int, sigmas: tuple[float, float], theta: float) -> None:
    x, y, angle = torch.tensor([[sigmas[0]], [sigmas[1]], [theta]])
    (kernel,) = gaussian_kernels(x, y, angle, 2 * sides + 1)
    assert kernel.shape == (2 * sides + 1, 2 * sides + 1)
    assert kernel.min() >= 0
    assert abs(kernel.sum().item() - 1) < 1e-5
    torch.testing.assert_close(kernel, kernel.flip(0, 1), atol=1e-6, rtol=0)
    assert kernel.argmax() == kernel.numel() // 2 or kernel.max() - kernel[sides, sides] < 1e-6


@given(data=st.data(), seed=SEEDS)
def test_classical(data: st.DataObject, seed: int) -> None:
    scale, sides = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 20))
    degradation = ClassicalDegradation(
        scale,
        kernel=data.draw(st.sampled_from(("iso", "aniso"))),
        sigma=data.draw(ordered(12)),
        noise=data.draw(ordered(100)),
        kernel_size=2 * sides + 1,
        downsample=data.draw(st.sampled_from(("bicubic", "s-fold"))),
        per=data.draw(st.sampled_from(("sample", "batch"))),
    )
    rows, columns = (sides // scale + data.draw(st.integers(1, 8)) for _ in range(2))
    gt = torch.rand(2, 3, scale * rows, scale * columns, generator=torch.Generator().manual_seed(0))
    degraded = degradation(gt, draws(seed))
    check_image(degraded.lq, (2, 3, rows, columns))
    kernel, noise = degraded.parameters
    torch.testing.assert_close(kernel.sum(dim=(1, 2)), torch.ones(2))
    low, high = degradation.noise
    assert low - 1e-3 <= noise.min()
    assert noise.max() <= high + 1e-3
    again = degradation(gt, draws(seed))
    assert torch.equal(again.lq, degraded.lq)
    assert torch.equal(again.parameters.kernel, kernel)


@settings(max_examples=8)
@given(scale=st.integers(1, 2), order=st.sampled_from(("fixed", "shuffled")), usm=st.booleans(), seed=SEEDS)
def test_second_order(scale: int, order: str, usm: bool, seed: int) -> None:
    degradation = SecondOrderDegradation(scale, gt_size=64, gt_usm=usm, order=order)
    gt = torch.rand(1, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    before = torch.random.get_rng_state()
    degraded = degradation(gt, draws(seed))
    check_image(degraded.lq, (1, 3, 64 // scale, 64 // scale))
    assert degraded.gt.shape == (1, 3, 64, 64)
    again = degradation(gt, draws(seed))
    assert torch.equal(again.lq, degraded.lq)
    assert torch.equal(again.gt, degraded.gt)
    assert torch.equal(torch.random.get_rng_state(), before)  # other random numbers are left alone
