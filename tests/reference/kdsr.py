"""KDSR (ICLR 2023)."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, leaky_relu, linear, pixel_shuffle

from tests.reference.weights import RGB_MEAN, Weights, add_shell

CHANNELS, BLOCKS, ESTIMATOR_BLOCKS = 8, 2, 2


def weights(scale: int, teacher: bool) -> Weights:
    c, w = CHANNELS, Weights(seed=scale)
    e = "E" if teacher else "E_st"
    w.conv(f"{e}.E.0", 3 + 3 * scale**2 if teacher else 3, c, 3)
    for block in range(2, 2 + ESTIMATOR_BLOCKS):
        w.conv(f"{e}.E.{block}.body.0", c, c, 3)
        w.conv(f"{e}.E.{block}.body.2", c, c, 3)
    for i, (before, after) in enumerate(((c, 2 * c), (2 * c, 2 * c), (2 * c, 4 * c))):
        w.conv(f"{e}.E.{2 + ESTIMATOR_BLOCKS + 2 * i}", before, after, 3)
    w.linear(f"{e}.mlp.0", 4 * c, 4 * c)
    w.linear(f"{e}.mlp.2", 4 * c, 4 * c)
    w.linear(f"{e}.compress.0", 4 * c, c)
    for block in range(BLOCKS):
        w.linear(f"G.body.0.body.{block}.da_conv1.kernel.0", c, c, bias=False)
        w.linear(f"G.body.0.body.{block}.da_conv1.kernel.2", c, 9 * c, bias=False)
        w.conv(f"G.body.0.body.{block}.conv1", c, c, 3)
    add_shell(w, c, scale, last=1)
    return w


def estimate(w: Weights, lq: Tensor, gt: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the IDR and the distilled vector."""
    e = "E_st" if gt is None else "E"

    def conv(name: str, x: Tensor) -> Tensor:
        return conv2d(x, w[f"{e}.E.{name}.weight"], w[f"{e}.E.{name}.bias"], padding=1)

    def fully(name: str, x: Tensor) -> Tensor:
        return leaky_relu(linear(x, w[f"{e}.{name}.weight"], w[f"{e}.{name}.bias"]), 0.1)

    x = lq
    if gt is not None:
        scale = gt.shape[2] // lq.shape[2]
        # The low-quality image is first. Then come the pixels of each block, colour by colour and row by row.
        phases = [gt[:, c : c + 1, i::scale, j::scale] for c in range(3) for i in range(scale) for j in range(scale)]
        x = torch.cat([lq, *phases], dim=1)
    x = leaky_relu(conv("0", x), 0.1)
    for block in range(2, 2 + ESTIMATOR_BLOCKS):
        x = x + conv(f"{block}.body.2", leaky_relu(conv(f"{block}.body.0", x), 0.1))
    for i in range(3):
        x = leaky_relu(conv(str(2 + ESTIMATOR_BLOCKS + 2 * i), x), 0.1)
    distilled = fully("mlp.2", fully("mlp.0", x.mean(dim=(2, 3))))
    return fully("compress.0", distilled), distilled


def restore(w: Weights, lq: Tensor, idr: Tensor) -> Tensor:
    def conv(name: str, x: Tensor) -> Tensor:
        return conv2d(x, w[f"G.{name}.weight"], w[f"G.{name}.bias"], padding=1)

    head = x = conv("head.0", lq - RGB_MEAN)
    for block in range(BLOCKS):
        ddc = f"G.body.0.body.{block}.da_conv1.kernel"
        kernels = linear(leaky_relu(linear(idr, w[f"{ddc}.0.weight"]), 0.1), w[f"{ddc}.2.weight"])
        samples = [
            conv2d(x[n : n + 1], kernels[n].view(CHANNELS, 1, 3, 3), padding=1, groups=CHANNELS) for n in range(len(x))
        ]
        x = x + conv(f"body.0.body.{block}.conv1", leaky_relu(torch.cat(samples), 0.1))
    x = head + conv("body.1", x)
    return upsampled(w, x) + RGB_MEAN


def upsampled(w: Weights, x: Tensor) -> Tensor:
    """Apply alternating convolutions and pixel shuffles without activation, then the tail."""
    for name in ("G.tail.0.0", "G.tail.0.2"):
        if f"{name}.weight" in w:
            x = conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)
            x = pixel_shuffle(x, 3 if x.shape[1] == 9 * w["G.tail.1.weight"].shape[1] else 2)
    return conv2d(x, w["G.tail.1.weight"], w["G.tail.1.bias"], padding=1)


def distill_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the KL divergence at a temperature of 0.15, as the mean over the batch."""
    p, q = (teacher / 0.15).softmax(dim=1), (student / 0.15).softmax(dim=1)
    return (p * (p.log() - q.log())).sum() / len(p)
