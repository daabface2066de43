"""Cost of a model at LR 180x320: parameters, multiply-adds, latency and peak memory.

Each model is measured in a separate process, because peak memory is that of a whole process. ``python -m
lightbsr_arch.bench.cost`` reads the model's description as JSON and writes the figures as JSON.
"""

import copy
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lightbsr.errors import UserError
from lightbsr_arch.archs.part import extra_input
from lightbsr_arch.archs.window_padding import upscale_any_size
from lightbsr_arch.bench.models import BICUBIC, ModelSpec
from lightbsr_arch.bench.pairs import Pair
from lightbsr_arch.degradations import Parameters

HEIGHT, WIDTH = 180, 320
REPEATS = 5
LONGEST = 30.0
"""Time limit of the repeats in seconds. Slow models are repeated less often."""

Cost = dict[str, float | str | None]


def measure_apart(spec: ModelSpec, scale: int, device: torch.device) -> Cost:
    """Measure a model in a fresh process.

    Returns:
        ``parameters``; ``macs``, multiply-adds of convolutions and matrix products, or None if they cannot be counted;
        ``latency``, the median in seconds; ``memory``, the bytes in addition to the libraries; ``sees``, the input that
        a teacher receives in addition to the LR image.

    Raises:
        UserError: the process failed, or was killed.
    """
    request = json.dumps({"spec": asdict(spec), "scale": scale, "device": str(device)})
    command = [sys.executable, "-m", "lightbsr_arch.bench.cost"]
    done = subprocess.run(command, input=request, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise UserError(lines[-1] if lines else f"its process ended with {done.returncode} (out of memory?)")
    measured: Cost = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(spec: ModelSpec, scale: int, device: torch.device) -> Cost:
    """Measure a model in this process. The peak memory includes everything that the process did before."""
    before = peak_memory(device)
    model = spec.load(scale, device)
    generator = torch.Generator().manual_seed(0)
    pair = Pair(
        torch.rand(1, 3, HEIGHT, WIDTH, generator=generator),
        torch.rand(1, 3, HEIGHT * scale, WIDTH * scale, generator=generator),
        Parameters(torch.rand(1, 21, 21, generator=generator), torch.zeros(1)),
    )
    model(pair)  # the first run is slower
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < LONGEST:
        wait_for(device)
        start = time.perf_counter()
        model(pair)
        wait_for(device)
        seconds.append(time.perf_counter() - start)
    memory = peak_memory(device) - before
    known = model.net is not None or spec.weights == BICUBIC
    parameters = sum(parameter.numel() for parameter in model.net.parameters()) if model.net is not None else 0
    macs = None if model.net is None else count_macs(model.net, pair)
    return {
        "parameters": parameters if known else None,
        "macs": None if macs is None else macs * model.runs,
        "latency": statistics.median(seconds),
        "memory": memory,
        "sees": model.sees,
    }


def count_macs(net: nn.Module, pair: Pair) -> float | None:
    """Count multiply-adds on the meta device, where networks use countable operations and nothing is computed."""
    net = copy.deepcopy(net).to("meta")
    meta = pair.to(torch.device("meta"))
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            upscale_any_size(net, meta.lq, *extra_input(net, meta._asdict()))
    except Exception:  # a network that reads its values, or does not accept these sizes, may raise any exception
        return None
    macs: float | None = counter.get_total_flops() / 2
    return macs


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, child processes inherit `ru_maxrss`, but not this figure
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _main() -> None:
    request: dict[str, Any] = json.load(sys.stdin)
    device = torch.device(request["device"])
    try:
        cost = measure(msgspec.convert(request["spec"], ModelSpec), request["scale"], device)
    except Exception as error:
        print(f"{error}" if isinstance(error, UserError) else f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(cost), flush=True)


if __name__ == "__main__":
    _main()
