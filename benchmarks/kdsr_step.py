"""Time of a training step of KDSR-M on the CPU, for the package's network and for a plain PyTorch version.

    python benchmarks/kdsr_step.py [--batch 4] [--size 48] [--steps 15]

The plain version follows the formulas: NCHW, and the dynamic depthwise convolution as one grouped convolution per
sample. Both start from the same weights. Their losses are compared first, then both are timed in turn.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from machine import describe
from torch import nn

from lightbsr_arch.archs import BlindSR

NUM_FEAT, NUM_BLOCK, ESTIMATOR_BLOCK, SCALE = 64, 53, 9, 4


class PlainKDSR(nn.Module):
    """A KDSR student that uses the parameters of a ``BlindSR`` by name."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.names = list(state)
        self.weights = nn.ParameterList(nn.Parameter(value.clone().contiguous()) for value in state.values())

    def forward(self, lq: torch.Tensor) -> torch.Tensor:
        p = dict(zip(self.names, self.weights))

        def conv(x: torch.Tensor, name: str) -> torch.Tensor:
            return F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], padding=1)

        def linear(x: torch.Tensor, name: str) -> torch.Tensor:
            return F.leaky_relu(F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"]), 0.1)

        e = F.leaky_relu(conv(lq, "estimator.features.0"), 0.1)
        for i in range(ESTIMATOR_BLOCK):
            body = f"estimator.features.{2 + i}.body"
            e = e + conv(F.leaky_relu(conv(e, f"{body}.0"), 0.1), f"{body}.2")
        for i in range(3):
            e = F.leaky_relu(conv(e, f"estimator.features.{2 + ESTIMATOR_BLOCK + 2 * i}"), 0.1)
        idr = linear(linear(linear(e.mean((2, 3)), "estimator.mlp.0"), "estimator.mlp.2"), "estimator.to_idr.0")

        mean = lq.new_tensor((0.4488, 0.4371, 0.4040)).view(1, 3, 1, 1)
        head = x = conv(lq - mean, "restorer.head")
        for i in range(NUM_BLOCK):
            block = f"restorer.body.{i}"
            hidden = F.leaky_relu(F.linear(idr, p[f"{block}.ddc.kernel.0.weight"]), 0.1)
            kernels = F.linear(hidden, p[f"{block}.ddc.kernel.2.weight"]).view(-1, NUM_FEAT, 1, 3, 3)
            y = torch.cat([F.conv2d(s, k, padding=1, groups=NUM_FEAT) for s, k in zip(x.split(1), kernels)])
            x = x + conv(F.leaky_relu(y, 0.1), f"{block}.conv")
        x = head + conv(x, "restorer.after_body")
        for i in (0, 2):
            x = F.pixel_shuffle(conv(x, f"restorer.upsample.{i}"), 2)
        return conv(x, "restorer.tail") + mean


def training_step(network: nn.Module, lq: torch.Tensor, gt: torch.Tensor) -> Callable[[], float]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def step() -> float:
        optimizer.zero_grad()
        loss = F.l1_loss(network(lq), gt)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=48, help="side of the low-quality patches")
    parser.add_argument("--steps", type=int, default=15, help="timed steps per network")
    args = parser.parse_args()

    torch.manual_seed(0)
    ours = BlindSR(
        {"type": "KDIDEStudent", "num_feat": NUM_FEAT, "num_block": ESTIMATOR_BLOCK},
        {"type": "IDRDCRBNet", "num_feat": NUM_FEAT, "num_block": NUM_BLOCK, "scale": SCALE},
    )
    plain = PlainKDSR(ours.state_dict())
    ours = ours.to(memory_format=torch.channels_last)
    lq = torch.rand(args.batch, 3, args.size, args.size)
    gt = torch.rand(args.batch, 3, args.size * SCALE, args.size * SCALE)
    steps = {
        "ours (channels_last)": training_step(ours, lq.contiguous(memory_format=torch.channels_last), gt),
        "plain (NCHW, a grouped convolution per sample)": training_step(plain, lq, gt),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(args.steps + 3):
        losses = {}
        for name, step in steps.items():
            start = time.perf_counter()
            losses[name] = step()
            times[name].append(time.perf_counter() - start)
        if number == 0:
            one, other = losses.values()
            assert abs(one - other) < 1e-5, f"not the same network: losses {losses}"
    print(f"machine: {describe('torch')}; {torch.get_num_threads()} threads")
    print(f"KDSR-M x4, one training step, batch {args.batch}, LR {args.size}x{args.size}, fp32:")
    warm = {name: values[3:] for name, values in times.items()}
    for name, values in warm.items():
        print(f"  {name}: median {statistics.median(values):.3f} s (min {min(values):.3f}, max {max(values):.3f})")
    ratios = [mine / other for mine, other in zip(*warm.values())]
    print(f"  ratio ours / plain: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
