"""KDSR (ICLR 2023)."""

import torch
from torch import Tensor

from tests.reference.layers import State, conv, count, dense, dynamic_conv, leaky, restored
from tests.reference.weights import Weights

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
    w.perceptron(f"{e}.mlp", 4 * c, 4 * c, 4 * c)
    w.linear(f"{e}.compress.0", 4 * c, c)
    for block in range(BLOCKS):
        w.perceptron(f"G.body.0.body.{block}.da_conv1.kernel", c, c, 9 * c, bias=False)
        w.conv(f"G.body.0.body.{block}.conv1", c, c, 3)
    w.shell(c, scale, last=1)
    return w


def estimate(w: State, lq: Tensor, gt: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the IDR and the distilled vector."""
    e = "E_st" if gt is None else "E"
    x = lq
    if gt is not None:
        scale = gt.shape[2] // lq.shape[2]
        # The low-quality image is first. Then come the pixels of each block, colour by colour and row by row.
        phases = [gt[:, c : c + 1, i::scale, j::scale] for c in range(3) for i in range(scale) for j in range(scale)]
        x = torch.cat([lq, *phases], dim=1)
    x = leaky(conv(w, f"{e}.E.0", x))
    blocks = count(w, rf"{e}\.E\.(\d+)\.body\.0\.weight")
    for block in range(2, 2 + blocks):
        x = x + conv(w, f"{e}.E.{block}.body.2", leaky(conv(w, f"{e}.E.{block}.body.0", x)))
    for i in range(3):
        x = leaky(conv(w, f"{e}.E.{2 + blocks + 2 * i}", x))
    hidden = leaky(dense(w, f"{e}.mlp.0", x.mean(dim=(2, 3))))
    distilled = leaky(dense(w, f"{e}.mlp.2", hidden))
    return leaky(dense(w, f"{e}.compress.0", distilled)), distilled


def restore(w: State, lq: Tensor, idr: Tensor) -> Tensor:
    def body(x: Tensor) -> Tensor:
        for block in range(count(w, r"G\.body\.0\.body\.(\d+)\.conv1\.weight")):
            b = f"G.body.0.body.{block}"
            x = x + conv(w, f"{b}.conv1", leaky(dynamic_conv(w, f"{b}.da_conv1.kernel", x, idr)))
        return x

    return restored(w, lq, body)


def outputs(w: State, lq: Tensor, gt: Tensor | None = None) -> dict[str, Tensor]:
    idr, distilled = estimate(w, lq, gt)
    return {"idr": idr, "distill": distilled, "sr": restore(w, lq, idr)}


def distill_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the KL divergence at a temperature of 0.15, as the mean over the batch."""
    p, q = (teacher / 0.15).softmax(dim=1), (student / 0.15).softmax(dim=1)
    return (p * (p.log() - q.log())).sum() / len(p)
