"""Outputs and times of an exported network in onnxruntime, compared with PyTorch on the CPU.

    python benchmarks/onnx_speed.py [--model NAME_OR_PATH] [--dtype fp16] [--height 64] [--width 64] [--runs 15]

The file is exported as in `lightbsr export`. Its output is first compared with PyTorch's fp32 output at three sizes, of
which the second has a batch of two. Both then process the same image with the same number of threads. PyTorch
receives it in channels-last memory, as in `lightbsr upscale`. `random-kdsr-m` and similar names are those of
`seams.py`.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import onnxruntime
import torch
from lightbsr_speed import time_in_turn
from machine import describe
from seams import random_network

from lightbsr.shipped import default_name
from lightbsr_arch.checkpoint import Checkpoint, load
from lightbsr_arch.inference.export import export_onnx

SIZES = [(1, 24, 20), (2, 37, 41), (1, 16, 50)]
"""Batch, height and width of the images on which the outputs are compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="shipped weights, a file, or random-kdsr-m etc.; default: the best shipped")
    parser.add_argument("--dtype", choices=("fp32", "fp16"), default="fp32", help="dtype of the ONNX file (fp32)")
    parser.add_argument("--height", type=int, default=64, help="height of the low-quality image for the timing")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--runs", type=int, default=15, help="timed runs of both, in turn; 0: only compare")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        source, onnx = args.model or default_name(), Path(folder) / "net.onnx"
        name = Path(source).stem
        if name.startswith("random-"):
            net = random_network(name.removeprefix("random-"))
            source = Path(folder) / f"{name}.safetensors"
            Checkpoint(net.state_dict(), net.config).save(source)
        export_onnx(source, onnx, args.dtype)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        model = load(source)

    @torch.inference_mode()
    def pytorch(lq: torch.Tensor) -> torch.Tensor:
        return model(lq)

    print(f"machine: {describe('torch', 'onnxruntime')}; {args.threads} threads")
    print(f"{name}, ONNX in {args.dtype} against PyTorch in fp32, images in [0, 1]; largest difference:")
    for size in SIZES:
        lq = image(*size)
        difference = (torch.from_numpy(session.run(None, {"lq": lq.numpy()})[0]) - pytorch(lq)).abs().max().item()
        print(f"  {' x '.join(map(str, size))}: {difference:.1e}", flush=True)
    if not args.runs:
        return
    lq = image(1, args.height, args.width)
    given, nhwc = lq.numpy(), lq.contiguous(memory_format=torch.channels_last)
    ways = {"onnxruntime": lambda: session.run(None, {"lq": given}), "PyTorch": lambda: pytorch(nhwc)}
    times = time_in_turn(ways, args.runs)
    print(f"LR {args.height}x{args.width}, batch 1; seconds, median (min to max) of {args.runs}:")
    for way, values in times.items():
        print(f"  {way:11} {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})")
    ratios = [one / other for one, other in zip(*times.values())]
    print(f"  ratio onnxruntime / PyTorch: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def image(n: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))


if __name__ == "__main__":
    main()
