"""Training steps on the CPU, in the published plain form and in the fast forms of this package.

    python benchmarks/cpu_training.py [--threads 2] [--page docs/speed.md]
    python benchmarks/cpu_training.py --tiny                           # a dry run

A step is that of a student: KDSR-M and LightBSR as published, with 4 images of 192x192 pixels, and the recipes of the
shipped weights with their own batches. It includes degradation, teacher, losses and optimiser. It does not include the
reading of pictures. Weights and pictures are random. In the plain form, networks run in fp32, in NCHW memory and
eagerly, layer by layer (``published.py``). The forms of a recipe run in turn, and the table has the median of the
ratios to the plain form.

Compiled forms come last, and only for the shipped recipes, because the compilation of the large networks takes minutes
(`--compile-all`). Entries that would begin after the time limit are left out and listed.

A second table has the share of each part of a step, for the options of the recipe.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu import PLAIN, Entry, Form, measure, print_entry, training_step
from machine import cores, describe
from pages import table, write_between
from recipe_steps import CPU_STEPS, batch_of, build_step, networks_of, options_of, run_step

from lightbsr.errors import UserError
from lightbsr_arch.io import write_whole

CPU = torch.device("cpu")
EAGER = (PLAIN, Form("bf16"), Form("fp32", channels_last=True), Form("bf16", channels_last=True))
COMPILED = tuple(Form(dtype, channels_last=True, compiled=True) for dtype in ("bf16", "fp32"))
LARGE = ("KDSR-M", "LightBSR")
LARGE_ROUNDS, ROUNDS = 3, 5

PARTS = ("degradation", "teacher", "estimator", "restorer", "losses", "backward", "optimiser", "moving average", "rest")
"""Parts of a step. Estimator and restorer are the student's forward passes."""

SHARE_SECONDS = 5.0
"""Shortest time over which the parts of a step are measured."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=cores(), help="threads of PyTorch (all cores)")
    parser.add_argument("--minutes", type=float, default=8.0, help="no further entry begins after this time (8)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only recipes whose name contains TEXT")
    parser.add_argument("--compile-all", action="store_true", help="also compile the networks of published sizes")
    parser.add_argument("--output", type=Path, default=Path("cpu_training.json"), metavar="FILE", help="results")
    parser.add_argument("--page", type=Path, help="also write the tables into this page")
    parser.add_argument("--tiny", action="store_true", help="small networks, one round, no compilation: a dry run")
    args = parser.parse_args(arguments)
    names = [name for name in CPU_STEPS if args.only in name]
    if not names:
        raise UserError(f"--only {args.only}: no recipe has this text in its name; there are {', '.join(CPU_STEPS)}")
    deadline = time.monotonic() + 60 * args.minutes
    torch.set_num_threads(args.threads)
    machine = f"{describe('torch', 'basicsr')}; {args.threads} threads"
    report: dict[str, Any] = {"machine": machine, "tiny": args.tiny, "steps": {}, "entries": {}, "left_out": []}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            report["steps"][name] = shares(name, Path(folder), args.tiny)
        for recipe, entry in all_entries(names, Path(folder), args.compile_all, args.tiny):
            if time.monotonic() > deadline:
                report["left_out"].append(entry.name)
                continue
            rounds = LARGE_ROUNDS if recipe in LARGE else ROUNDS
            measured = measure(entry, CPU, deadline, args.tiny, rounds)
            print_entry(entry.name, measured)
            # Each entry has the plain form, with which the others are compared. Only that of the first is shown.
            known = report["entries"].setdefault(recipe, {})
            known |= {form: figures for form, figures in measured.items() if form not in known}
            write_whole(args.output, json.dumps(report, indent=2).encode() + b"\n")
    text = shown(report)
    print(f"\n{text}")
    if args.page:
        write_between(args.page, "cpu_training", text)


def all_entries(names: list[str], folder: Path, compile_all: bool, tiny: bool) -> Iterator[tuple[str, Entry]]:
    """Yield recipes and their entries, those with a compilation last."""
    for name in names:
        prepare = partial(training_step, CPU_STEPS[name], folder, CPU, tiny)
        yield name, Entry(name, EAGER, prepare)
    for form in () if tiny else COMPILED:
        for name in names:
            if name not in LARGE or compile_all:
                prepare = partial(training_step, CPU_STEPS[name], folder, CPU, tiny)
                yield name, Entry(f"{name}, {form}", (PLAIN, form), prepare)


def shares(name: str, folder: Path, tiny: bool) -> dict[str, Any]:
    """Return batch, size and the share of each part of a step with the options of the recipe."""
    opt = options_of(CPU_STEPS[name], folder, CPU, tiny)
    model, batch = build_step(opt), batch_of(opt, CPU)
    watch = Stopwatch()
    student, *teachers = networks_of(model)
    watch.time(model, "feed_data", "degradation")
    watch.time(student.estimator, "estimate", "estimator")
    watch.time(student.restorer, "forward", "restorer")
    for teacher in teachers:
        watch.time(teacher.estimator, "estimate", "teacher")
    watch.time(model, "losses", "forward")
    watch.time(model, "take_step", "optimiser")
    watch.time(model, "update_weights", "update")
    watch.time(model, "model_ema", "moving average")
    run_step(model, batch, 1)  # the first step is slower
    watch.seconds.clear()
    start, steps = time.perf_counter(), 0
    while not steps or (time.perf_counter() - start < SHARE_SECONDS and not tiny):
        steps += 1
        run_step(model, batch, 1 + steps)
    total, seconds = time.perf_counter() - start, watch.seconds
    seconds["losses"] = seconds["forward"] - sum(seconds[part] for part in ("estimator", "restorer", "teacher"))
    seconds["backward"] = seconds["update"] - seconds["forward"] - seconds["optimiser"]
    seconds["rest"] = total - sum(seconds[part] for part in PARTS if part != "rest")
    size = opt["degradation"].get("gt_size", opt["datasets"]["train"]["gt_size"])
    return {
        "batch": len(batch["gt"]),
        "lq": size // opt["scale"],
        "amp": opt["train"].get("amp") or "fp32",
        "seconds": total / steps,
        "shares": {part: seconds[part] / total for part in PARTS},
    }


class Stopwatch:
    """Adds up the seconds that functions take, by the names of parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def time(self, owner: Any, name: str, part: str) -> None:
        """Replace a method of an object by one that is timed."""
        run = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            out = run(*args, **kwargs)
            self.seconds[part] += time.perf_counter() - start
            return out

        setattr(owner, name, timed)


def shown(report: dict[str, Any]) -> str:
    """Return the results as text and two tables in Markdown."""
    rows: list[list[str]] = []
    parts: list[list[str]] = []
    for name, step in report["steps"].items():
        for form, figures in report["entries"].get(name, {}).items():
            if "failed" in figures:
                rows.append([name, form, f"failed: {figures['failed']}", "", ""])
                continue
            ratio = "{faster:.2f} ({least:.2f} to {most:.2f})".format(**figures) if "faster" in figures else ""
            rows.append([name, form, f"{figures['seconds']:.3f}", f"{step['batch'] / figures['seconds']:.2f}", ratio])
        batch = f"{step['batch']} x {step['lq']}x{step['lq']}"
        parts.append([name, batch, step["amp"], *(f"{step['shares'][part]:.0%}" for part in PARTS)])
    heads = ["recipe", "form", "s per step", "images per s", "times plain"]
    text = f"Machine: {report['machine']}.\n\n{table(heads, rows, left=2)}"
    if report["left_out"]:
        text += f"\n\nLeft out because of the time limit: {'; '.join(report['left_out'])}."
    return f"{text}\n\n{table(['recipe', 'LR batch', 'dtype', *PARTS], parts, left=3)}"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"cpu_training: {error}") from None
