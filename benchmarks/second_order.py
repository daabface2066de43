"""Samples per second of the second-order degradation here and in BasicSR's RealESRNetModel, with equal seeds.

    python benchmarks/second_order.py [--batch 16] [--crop 400] [--gt-size 256] [--batches 24] [--threads 2]

The time of this package includes the drawing of kernels, which BasicSR's data loader does in advance. Both sharpen,
degrade, crop, and mix batches in a pool of 180 pairs, as published.
"""

import argparse
import inspect
import time
from statistics import median
from unittest.mock import patch

import torch
from machine import describe
from torch.nn import functional as F
from tqdm import tqdm

from lightbsr_arch.degradations import Draws, SecondOrderDegradation
from lightbsr_arch.seeds import seeded

# isort: split
from basicsr.models.realesrnet_model import RealESRNetModel
from basicsr.utils import DiffJPEG, USMSharp

POOL = 180


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=400, help="side of the images that are degraded")
    parser.add_argument("--gt-size", type=int, default=256, help="side of their crop after the degradation")
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ours = SecondOrderDegradation(4, gt_size=args.gt_size, gt_usm=True, queue_size=POOL)
    theirs = basicsr(args.gt_size, POOL - POOL % args.batch)  # BasicSR needs a multiple
    shapes = F.interpolate(torch.rand(args.batch, 3, 50, 50), size=(args.crop, args.crop), mode="bicubic")
    gt = (shapes.clamp(0, 1) * 255).round() / 255
    seconds: dict[str, list[float]] = {"ours": [], "BasicSR": []}
    for seed in tqdm(range(args.batches), unit="batch"):
        start = time.perf_counter()
        ours(gt, Draws(torch.Generator().manual_seed(seed)))
        seconds["ours"].append(time.perf_counter() - start)
        with seeded(int(torch.randint(2**31, (), generator=torch.Generator().manual_seed(seed)))):
            kernels = ours.draw_kernels(args.batch, gt.device)
            start = time.perf_counter()
            theirs.feed_data({"gt": gt, **dict(zip(("kernel1", "kernel2", "sinc_kernel"), kernels))})
            seconds["BasicSR"].append(time.perf_counter() - start)
    print(f"{describe('torch')}, {args.threads} threads; batch {args.batch}, {args.crop} to {args.gt_size} pixels")
    for name, times in seconds.items():
        rate = args.batch * len(times) / sum(times)
        print(f"{name:8} {rate:6.2f} samples/s, a batch {median(times):.2f} s (median)")
    print(f"ratio: {sum(seconds['BasicSR']) / sum(seconds['ours']):.2f} times BasicSR's throughput")


def basicsr(gt_size: int, queue_size: int) -> RealESRNetModel:
    """Return BasicSR's model without its networks, on the CPU."""
    model = RealESRNetModel.__new__(RealESRNetModel)
    published = {name: value.default for name, value in inspect.signature(SecondOrderDegradation).parameters.items()}
    model.opt = {**published, "gt_usm": True, "gt_size": gt_size, "scale": 4}
    model.is_train, model.device, model.queue_size = True, torch.device("cpu"), queue_size
    model.jpeger, model.usm_sharpener = DiffJPEG(differentiable=False), USMSharp()
    # On the CPU, BasicSR's next blur does not accept the memory layout of the JPEG output.
    model.jpeger.register_forward_hook(lambda module, inputs, output: output.contiguous())
    return model


if __name__ == "__main__":
    with patch.object(torch.Tensor, "cuda", lambda tensor: tensor):  # BasicSR's pool needs a GPU
        main()
