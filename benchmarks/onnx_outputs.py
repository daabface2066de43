"""Outputs of an exported network in onnxruntime, compared with PyTorch on the CPU.

    python benchmarks/onnx_outputs.py [--model NAME_OR_PATH] [--dtype fp16]

The file is exported as in `lightbsr export`. Its output is compared with PyTorch's fp32 output at three sizes, of which
the second has a batch of two. `random-kdsr-m` and similar names are those of `seams.py`. `cpu_inference.py` measures
times.
"""

import argparse
import tempfile
from pathlib import Path

import onnxruntime
import torch
from machine import describe
from seams import random_network

from lightbsr.shipped import default_name
from lightbsr_arch.checkpoint import Checkpoint, load
from lightbsr_arch.inference.export_onnx import export_onnx

SIZES = [(1, 24, 20), (2, 37, 41), (1, 16, 50)]
"""Batch, height and width of the images on which the outputs are compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="shipped weights, a file, or random-kdsr-m etc.; default: the best shipped")
    parser.add_argument("--dtype", choices=("fp32", "fp16"), default="fp32", help="dtype of the ONNX file (fp32)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, onnx = args.model or default_name(), Path(folder) / "net.onnx"
        name = Path(source).stem
        if name.startswith("random-"):
            net = random_network(name.removeprefix("random-"))
            source = Path(folder) / f"{name}.safetensors"
            Checkpoint(net.state_dict(), net.config).save(source)
        export_onnx(source, onnx, args.dtype)
        session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
        model = load(source)
    print(f"machine: {describe('torch', 'onnxruntime')}")
    print(f"{name}, ONNX in {args.dtype} against PyTorch in fp32, images in [0, 1]; largest difference:")
    for size in SIZES:
        n, height, width = size
        lq = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            sr = model(lq)
        difference = (torch.from_numpy(session.run(None, {"lq": lq.numpy()})[0]) - sr).abs().max().item()
        print(f"  {' x '.join(map(str, size))}: {difference:.1e}", flush=True)


if __name__ == "__main__":
    main()
