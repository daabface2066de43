"""The inner loop of meta-learning: a few steps of gradient descent on the images of one degradation."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.func import functional_call

Weights = dict[str, torch.Tensor]
PixelLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def adapt(
    net: nn.Module, weights: Mapping[str, torch.Tensor], lq: torch.Tensor, gt: torch.Tensor, rates: Sequence[float],
    loss: PixelLoss,
) -> Weights:  # fmt: skip
    """Return the weights of a network after one step of gradient descent per rate. The network is not changed.

    Args:
        net: the network, called as ``net(lq)``.
        weights: its parameters by name, from which the descent starts.
        lq: low-quality images, N x 3 x H x W.
        gt: their ground truth, N x 3 x H*scale x W*scale.
        rates: learning rate of each step.
        loss: loss between restored images and ground truth.

    Returns:
        The adapted parameters by name, without a graph.
    """
    adapted = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    for rate in rates:
        gradients = torch.autograd.grad(loss(functional_call(net, adapted, (lq,)), gt), list(adapted.values()))
        adapted = {
            name: (weight - rate * gradient).detach().requires_grad_()
            for (name, weight), gradient in zip(adapted.items(), gradients)
        }
    return {name: weight.detach() for name, weight in adapted.items()}
