"""Throughput of training in 1, 2 and 4 processes on the CPU, one thread each, with gloo.

    python benchmarks/scale.py [--processes 1 2 4] [--page docs/speed.md]
    python benchmarks/scale.py --tiny --processes 2                    # a dry run

Each process trains the small KDSR of the shipped weights with the batch of its recipe, so that the whole batch grows
with the number of processes. `torchrun --standalone` starts them, as in docs/training.md. The numbers of processes are
measured in turn. A step includes degradation, teacher, losses, the exchange of gradients and the optimiser. It does not
include the reading of pictures.

The efficiency is the throughput relative to that of one process, divided by the number of processes that have a core.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from machine import cores, describe
from pages import table, write_between
from recipe_steps import CPU_STEPS, batch_of, build_step, options_of, run_step
from torch import distributed

from lightbsr.errors import UserError
from lightbsr_arch.io import write_whole
from lightbsr_arch.training.processes import init_dist

RECIPE = "kdsr_s_x4_iso"
ROUNDS = 2
SECONDS = 10.0
"""Time of a measurement."""

WARM_UP = 3


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="1 2 4")
    parser.add_argument("--output", type=Path, default=Path("scale.json"), metavar="FILE", help="results")
    parser.add_argument("--page", type=Path, help="also write the table into this page")
    parser.add_argument("--tiny", action="store_true", help="a tiny network and one step, for a dry run")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.worker:
        work(args.tiny)
        return
    if min(args.processes) < 1:
        raise UserError(f"--processes {min(args.processes)}: expected positive numbers")
    rates: dict[int, list[float]] = {number: [] for number in args.processes}
    for _ in range(1 if args.tiny else ROUNDS):
        for number, of_number in rates.items():
            of_number.append(images_per_second(number, args.tiny))
            print(f"{number} processes: {of_number[-1]:.2f} images per s", file=sys.stderr, flush=True)
    report = {
        "machine": describe("torch", "basicsr"),
        "recipe": RECIPE,
        "tiny": args.tiny,
        "cores": cores(),
        "images_per_second": {number: statistics.median(of_number) for number, of_number in rates.items()},
    }
    write_whole(args.output, json.dumps(report, indent=2).encode() + b"\n")
    text = shown(report)
    print(text)
    if args.page:
        write_between(args.page, "scale", text)


def images_per_second(processes: int, tiny: bool) -> float:
    """Train in several processes and return the throughput of all of them.

    Raises:
        UserError: a process failed.
    """
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={processes}", __file__, "--worker", *["--tiny"] * tiny]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    results = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not results:
        errors = [line for line in done.stderr.splitlines() if "Error" in line] or [f"exit code {done.returncode}"]
        raise UserError(f"{processes} processes: {errors[0].strip()}")
    rate: float = json.loads(results[-1])["images_per_second"]
    return rate


def work(tiny: bool) -> None:
    """Train in this process, with the others. The first process prints the throughput of all as JSON."""
    torch.set_num_threads(1)
    init_dist("pytorch")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    with tempfile.TemporaryDirectory() as folder:
        opt = options_of(CPU_STEPS[RECIPE], Path(folder), torch.device("cpu"), tiny)
        opt.update(dist=True, rank=rank, world_size=world)
        model = build_step(opt)
    batch = batch_of(opt, torch.device("cpu"))
    once = timed(model, batch, 1 if tiny else WARM_UP, 1)
    steps = torch.tensor(1 if tiny else max(round(SECONDS / once), 1))
    distributed.broadcast(steps, 0)
    seconds = timed(model, batch, int(steps), 1 + WARM_UP) * int(steps)
    if rank == 0:
        print(json.dumps({"images_per_second": world * len(batch["gt"]) * int(steps) / seconds}), flush=True)
    distributed.destroy_process_group()


def timed(model: Any, batch: dict[str, torch.Tensor], steps: int, first: int) -> float:
    """Return the mean seconds of some steps, which all processes begin and end together."""
    distributed.barrier()
    start = time.perf_counter()
    for iteration in range(first, first + steps):
        run_step(model, batch, iteration)
    distributed.barrier()
    return (time.perf_counter() - start) / steps


def shown(report: dict[str, Any]) -> str:
    """Return the results as text and a table in Markdown."""
    rates = report["images_per_second"]
    rows = []
    for number, rate in rates.items():
        share = min(number, report["cores"])
        times = [f"{rate / rates[1]:.2f}", f"{rate / rates[1] / share:.0%}"] if 1 in rates else ["", ""]
        rows.append([str(number), f"{rate:.1f}", f"{rate / number:.1f}", *times])
    heads = ["processes", "images per s", "per process", "times one process", "efficiency"]
    return f"{report['recipe']}. Machine: {report['machine']}.\n\n{table(heads, rows)}"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"scale: {error}") from None
