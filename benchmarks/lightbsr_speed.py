"""Times of the forward passes of LightBSR, of a plain version of it, and of KDSR-M, on the CPU in fp32 and bf16.

    python benchmarks/lightbsr_speed.py [--height 180] [--width 320] [--runs 7]

The plain version calls the ``forward`` of the blocks, in NCHW and on the whole image, with the same weights. The
outputs are compared first, then all networks are timed in turn.

In both networks, upsampler and tail run as one convolution. KDSR-M is also timed with separate layers, as published.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from machine import describe
from torch import nn

from lightbsr_arch.archs import BlindSR

LIGHTBSR: tuple[dict[str, Any], dict[str, Any]] = ({"type": "LightIDEStudent"}, {"type": "LightBSRNet", "scale": 4})
KDSR_M: tuple[dict[str, Any], dict[str, Any]] = (
    {"type": "KDIDEStudent", "num_feat": 64, "num_block": 9},
    {"type": "IDRDCRBNet", "num_feat": 64, "num_block": 53, "scale": 4},
)
# Multiply-adds of the published networks at LR 180x320, in 10^9.
GMACS = {"LightBSR": 182.5, "LightBSR, plain": 182.5, "KDSR-M": 228.7, "KDSR-M, layer by layer": 228.7}


def plain_forward(model: BlindSR, lq: torch.Tensor) -> torch.Tensor:
    net: Any = model.restorer
    guides = model.restorer.guides(model.estimator.estimate(lq)[0], *lq.shape[-2:])
    channel, spatial = guides["channel_guide"], guides["spatial_guide"]
    head = x = net.head(net.mean_in.subtract(lq))
    for group in net.body:
        channel = channel + group.refine_channel(channel)
        spatial = spatial + group.refine_spatial(spatial)
        *idr_blocks, convnext = group.body
        y = x
        for block in idr_blocks:
            y = block(y, channel, spatial)
        x = x + group.conv(convnext(y))
    return net.mean_out.add(net.tail(net.upsample(head + net.after_body(x))))


def kdsr_by_layers(model: BlindSR, lq: torch.Tensor) -> torch.Tensor:
    net: Any = model.restorer
    vector = net.guides(model.estimator.estimate(lq)[0], *lq.shape[-2:])["vector"]
    head = x = net.head(net.mean_in.subtract(lq))
    for block in net.body:
        x = block(x, vector)
    return net.mean_out.add(net.tail(net.upsample(head + net.after_body(x))))


def build(estimator: dict[str, Any], restorer: dict[str, Any]) -> BlindSR:
    torch.manual_seed(0)
    model = BlindSR(estimator, restorer).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.normal_(parameter, std=0.3)  # at the initial 1e-6, errors in a block would not be visible
    return model


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=180, help="height of the low-quality image")
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--runs", type=int, default=7, help="timed runs per network, in turn")
    args = parser.parse_args()
    print(f"machine: {describe('torch')}; {torch.get_num_threads()} threads")
    print(f"LR {args.height}x{args.width}, x4, batch 1; seconds: median (min to max)")
    medians = {}
    for dtype in (torch.float32, torch.bfloat16):
        lq = torch.rand(1, 3, args.height, args.width, generator=torch.Generator().manual_seed(0)).to(dtype)
        nhwc = lq.contiguous(memory_format=torch.channels_last)
        light, kdsr = (build(*parts).to(dtype).to(memory_format=torch.channels_last) for parts in (LIGHTBSR, KDSR_M))
        plain = build(*LIGHTBSR).to(dtype)
        if dtype == torch.float32:
            difference = (light(nhwc) - plain_forward(plain, lq)).abs().max().item()
            assert difference < 1e-4, f"the outputs differ by {difference}"
            print(f"largest difference of LightBSR and its plain version: {difference:.1e}")
        ways: dict[str, Callable[[], object]] = {
            "LightBSR": partial(light, nhwc),
            "LightBSR, plain": partial(plain_forward, plain, lq),
            "KDSR-M": partial(kdsr, nhwc),
            "KDSR-M, layer by layer": partial(kdsr_by_layers, kdsr, nhwc),
        }
        times = time_in_turn(ways, args.runs)
        ceiling = convolution_ceiling(dtype, args.height, args.width)
        pixels = args.height * args.width / (180 * 320)
        name = str(dtype).removeprefix("torch.")
        print(f"{name}: a 3x3 convolution 64 -> 64 runs at {ceiling:.0f} GFLOP/s")
        for way, values in times.items():
            medians[way, dtype] = median = statistics.median(values)
            bound = 2 * GMACS[way] * pixels / ceiling
            print(
                f"  {way:22} {median:.2f} ({min(values):.2f} to {max(values):.2f}), {median / bound:.1f}x its ceiling"
            )
        ours = medians["LightBSR", dtype]
        for other in ("KDSR-M", "KDSR-M, layer by layer", "LightBSR, plain"):
            print(f"  ratio LightBSR / {other}: {ours / medians[other, dtype]:.2f}")
    print(f"ratio bfloat16 / float32: {medians['LightBSR', torch.bfloat16] / medians['LightBSR', torch.float32]:.2f}")


def time_in_turn(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Return the seconds of each run after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(runs + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def convolution_ceiling(dtype: torch.dtype, height: int, width: int) -> float:
    """Return GFLOP/s of a dense convolution for images of that size, in the best of many runs."""
    conv = nn.Conv2d(64, 64, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    x = torch.rand(1, 64, height, width, dtype=dtype).contiguous(memory_format=torch.channels_last)
    best = min(time_in_turn({"conv": partial(conv, x)}, 20)["conv"])
    return 2 * 64 * 64 * 9 * height * width / best / 1e9


if __name__ == "__main__":
    main()
