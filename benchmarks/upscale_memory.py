"""Peak memory and time of upscaling a large picture from file to file. Each run is a separate process.

    python benchmarks/upscale_memory.py [--model kdsr-m] [--height 2000] [--width 3000] [--tile auto] [--threads 2]

MODEL is the name or file of weights, or ``kdsr-m``, ``kdsr-l`` or ``lightbsr`` for the published sizes at x4 with
random weights, which take as long as trained ones. The script makes the picture. Peak memory is the largest resident
set of the process, including imports.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from published import NETWORKS, section

from lightbsr.commands import main as lightbsr
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import Checkpoint

RANDOM = {name.lower(): section(name) for name in NETWORKS}
"""Arguments of the networks of published sizes, which get random weights."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="kdsr-m", help=f"{', '.join(RANDOM)}, or weights")
    parser.add_argument("--height", type=int, default=2000, help="height of the low-quality picture")
    parser.add_argument("--width", type=int, default=3000)
    parser.add_argument("--tile", default="auto", help="as in lightbsr upscale")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        model, source = args.model, Path(folder) / "lq.png"
        if model in RANDOM:
            torch.manual_seed(0)
            net = BlindSR(**RANDOM[model])
            model = str(Path(folder) / "random.safetensors")
            Checkpoint(net.state_dict(), net.config).save(model)
        Image.fromarray(smooth_noise(args.height, args.width)).save(source)
        print(f"before: {peak():.2f} GB", flush=True)
        start, work = time.perf_counter(), time.process_time()
        options = ["--model", model, "--tile", args.tile, "--dtype", args.dtype, "--device", "cpu"]
        code = lightbsr(["upscale", str(source), "-o", f"{folder}/sr.png", *options])
        seconds, work = time.perf_counter() - start, time.process_time() - work
        print(
            f"{args.model}, {args.width}x{args.height}, tile {args.tile}, {args.dtype}, {args.threads} threads: "
            f"peak {peak():.2f} GB, {seconds:.0f} s ({work:.0f} s of processor time)"
        )
    sys.exit(code)


def peak() -> float:
    """Return the peak memory of the process in gigabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def smooth_noise(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
