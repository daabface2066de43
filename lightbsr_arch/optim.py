"""The optimisers of ``torch.optim``, and Muon for networks of convolutions."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim.adam import adam

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration, which moves singular values in (0, 1] near 1."""

NEWTON_SCHULZ_STEPS = 5


class ConvMuon(torch.optim.Optimizer):
    """Muon for kernels of convolutions and for matrices; Adam for all other parameters, such as biases.

    Muon makes the momentum of a kernel, seen as a matrix of C_out x (C_in * height * width), orthogonal (Jordan et al.,
    "Muon: An optimizer for hidden layers in neural networks", 2024). The update is scaled to a root mean square of
    0.2 * ``lr``, about that of Adam (Liu et al., "Muon is Scalable for LLM Training", 2025, Eq. 4), so that all
    parameters have the same learning rate. ``torch.optim.Muon`` takes matrices only. The kernels of depthwise
    convolutions belong to Adam.

    Args:
        lr: learning rate.
        momentum: decay of Muon's momentum, which is Nesterov's.
        betas: decay of Adam's averages of the gradients and of their squares.
        eps: added to the root of Adam's average.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
    ) -> None:
        for name, value in {"momentum": momentum, "betas[0]": betas[0], "betas[1]": betas[1]}.items():
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, found {value}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "betas": tuple(betas), "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            kernels: defaultdict[torch.Size, list[torch.Tensor]] = defaultdict(list)
            others: list[torch.Tensor] = []
            for parameter in (parameter for parameter in group["params"] if parameter.grad is not None):
                (kernels[parameter.shape] if _is_kernel(parameter) else others).append(parameter)
            for same_shape in kernels.values():
                self._muon(same_shape, group)
            self._adam(others, group)
        return loss

    def _muon(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        """Update kernels of the same shape, which one batch of matrix products makes orthogonal."""
        updates = []
        for parameter in parameters:
            state, gradient = self.state[parameter], _gradient(parameter)
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
            updates.append(gradient.lerp(state["momentum_buffer"], group["momentum"]).flatten(1))
        matrices = orthogonal(torch.stack(updates))
        rate = group["lr"] * 0.2 * math.sqrt(max(matrices.shape[1:]))
        for parameter, matrix in zip(parameters, matrices, strict=True):
            parameter.add_(matrix.view(parameter.shape), alpha=-rate)

    def _adam(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        states = [self.state[parameter] for parameter in parameters]
        for parameter, state in zip(parameters, states, strict=True):
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        adam(
            parameters,
            [_gradient(parameter) for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Return about UV^T of each matrix USV^T, by Newton and Schulz's iteration.

    Args:
        matrices: N x rows x columns. The singular values of the result lie between 0.7 and 1.2, except for those of
            almost singular matrices.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT).mT
    a, b, c = NEWTON_SCHULZ
    x: torch.Tensor = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def _gradient(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _is_kernel(parameter: torch.Tensor) -> bool:
    """Return whether Muon updates a parameter. Kernels of depthwise convolutions have one input channel."""
    return parameter.dim() > 1 and min(parameter.shape[:2]) > 1


def optimizers() -> dict[str, Callable[..., torch.optim.Optimizer]]:
    """Return the classes that ``train.optim_g`` and ``train.optim_d`` accept, by their names."""
    found = {
        name: optimizer
        for name, optimizer in vars(torch.optim).items()
        if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer) and name != "Optimizer"
    }
    return {**found, ConvMuon.__name__: ConvMuon}
