"""Training and inference on one GPU, in the published plain form and in the fast forms of this package.

    python benchmarks/gpu.py [--minutes 10] [--output gpu.json] [--only TEXT] [--list] [--entry N ...]
    python benchmarks/gpu.py --tiny --device cpu                       # a dry run

An entry is a training step of a published recipe, or the inference of a published network for one picture size. The
forms of an entry run in turn, and the table has the median of the ratios to the plain form. In the plain form, networks
run in fp32, in NCHW memory and eagerly, layer by layer (``published.py``). Weights and pictures are random. A training
step includes degradation, losses and optimiser. It does not include the reading of pictures.

After each entry, the results so far are written to a JSON file. Entries that would begin after the time limit are left
out and listed. `--entry` runs single entries, such as one of a SLURM array (`docs/gpu.md`).
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import describe
from published import NETWORKS, make_plain, random_student
from recipe_steps import STEPS, Step, batch_of, build_step, options_of, run_step

from lightbsr.errors import UserError
from lightbsr_arch.archs.fast import dynamic_conv
from lightbsr_arch.bench.cost import wait_for
from lightbsr_arch.io import write_whole

ROUNDS = 5
"""Measured rounds, in each of which every form runs once."""

LEAST_SECONDS = 0.5
"""Shortest time of one measurement. Short steps are repeated."""

SIZES = ((180, 320), (360, 640), (720, 1280))
"""Height and width of the low-quality pictures."""


@dataclass(frozen=True)
class Form:
    """A way to run a network."""

    dtype: str = "fp32"
    channels_last: bool = False
    triton: bool = False
    compiled: bool = False

    @property
    def plain(self) -> bool:
        """Return whether the networks run layer by layer as published, see ``published``."""
        return not (self.channels_last or self.triton or self.compiled)

    def __str__(self) -> str:
        if self.plain:
            return "plain" if self == PLAIN else f"plain, {self.dtype}"
        parts = [self.dtype, "channels_last" if self.channels_last else "NCHW"]
        return ", ".join(parts + ["Triton"] * self.triton + ["compile"] * self.compiled)


PLAIN = Form()
TRAINING = (PLAIN, Form(triton=True), Form("fp32", True, True), Form("bf16", True), Form("bf16", True, True))
COMPILED_TRAINING = (PLAIN, Form("bf16", True, True), Form("bf16", True, True, True))
INFERENCE = (*TRAINING, Form("bf16", False, True))
COMPILED_INFERENCE = (
    PLAIN,
    Form("fp32", True, True, True),
    Form("bf16", True, False, True),
    Form("bf16", True, True, True),
)

Run = Callable[[], object]


@dataclass(frozen=True)
class Entry:
    """Forms that run in turn.

    Attributes:
        name: name in the table.
        forms: the forms, of which the first is the plain one.
        prepare: takes a form. Returns a function that runs one step or one picture.
    """

    name: str
    forms: tuple[Form, ...]
    prepare: Callable[[Form], Run]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (cuda)")
    parser.add_argument("--minutes", type=float, default=10.0, help="time limit (10)")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), metavar="FILE", help="results (gpu.json)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only entries whose name contains TEXT")
    parser.add_argument("--entry", type=int, nargs="+", metavar="N", help="only the entries with these numbers")
    parser.add_argument("--list", action="store_true", help="list the entries with their numbers")
    parser.add_argument("--tiny", action="store_true", help="small networks and pictures, for a dry run")
    args = parser.parse_args()
    device = torch.device(args.device)
    deadline = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as folder:
        entries = list(all_entries(Path(folder), device, args.tiny))
        if args.list:
            print("\n".join(f"{number} {entry.name}" for number, entry in enumerate(entries)))
            return
        if device.type == "cuda" and not torch.cuda.is_available():
            raise UserError("there is no CUDA GPU; a dry run needs --device cpu --tiny")
        if args.entry is not None:
            if not all(0 <= number < len(entries) for number in args.entry):
                raise UserError(f"--entry: expected numbers from 0 to {len(entries) - 1}, see --list")
            entries = [entries[number] for number in args.entry]
        report: dict[str, Any] = {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
            "machine": describe("torch"),
            "tiny": args.tiny,
            "triton": device.type == dynamic_conv.TRITON_DEVICE and dynamic_conv.uses_triton(device),
            "entries": {},
            "left_out": [],
        }
        print(f"{report['device']}; {report['machine']}{'; tiny' if args.tiny else ''}", flush=True)
        if not report["triton"]:
            print("The Triton kernels are not used: the forms with Triton use the grouped convolution.", flush=True)
        for entry in entries:
            if args.only not in entry.name:
                continue
            if time.monotonic() > deadline:
                report["left_out"].append(entry.name)
            else:
                report["entries"][entry.name] = measured = measure(entry, device, deadline, args.tiny)
                print_entry(entry.name, measured)
            write_whole(args.output, json.dumps(report, indent=2).encode())
    if report["left_out"]:
        print(f"left out after {args.minutes:g} minutes: {', '.join(report['left_out'])}")


def all_entries(folder: Path, device: torch.device, tiny: bool) -> Iterator[Entry]:
    """Yield the entries, the most important ones first. Those with a compilation come last."""
    sizes = ((24, 20),) if tiny else SIZES
    for name in STEPS:
        yield Entry(f"train {name}", TRAINING, partial(training_step, STEPS[name], folder, device, tiny))
    for height, width in sizes:
        for name in NETWORKS:
            prepare = partial(one_picture, name, height, width, device, tiny)
            yield Entry(f"infer {name} {width}x{height}", INFERENCE, prepare)
    for name in ("KDSR-M student", "LightBSR student"):
        prepare = partial(training_step, STEPS[name], folder, device, tiny)
        yield Entry(f"train {name}, compiled", COMPILED_TRAINING, prepare)
    height, width = sizes[len(sizes) // 2]
    for name in ("KDSR-M", "LightBSR"):
        prepare = partial(one_picture, name, height, width, device, tiny)
        yield Entry(f"infer {name} {width}x{height}, compiled", COMPILED_INFERENCE, prepare)


def training_step(step: Step, folder: Path, device: torch.device, tiny: bool, form: Form) -> Run:
    """Return a function that runs one training step."""
    amp = None if form.dtype == "fp32" else form.dtype
    forms = {"amp": amp, "channels_last": form.channels_last, "compile": form.compiled}
    opt = options_of(step, folder, device, tiny, **forms)
    model, batch = build_step(opt, plain=form.plain), batch_of(opt, device)
    iterations = iter(range(1, 10**9))
    return lambda: run_step(model, batch, next(iterations))


def one_picture(name: str, height: int, width: int, device: torch.device, tiny: bool, form: Form) -> Run:
    """Return a function that upscales a picture as a whole."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[form.dtype]
    memory_format = torch.channels_last if form.channels_last else torch.contiguous_format
    net = random_student(name, tiny).to(device, dtype).to(memory_format=memory_format)
    if form.plain:
        make_plain(net)
    if form.compiled:
        net.compile()
    lq = torch.rand(1, 3, height, width, device=device, dtype=dtype).contiguous(memory_format=memory_format)

    @torch.inference_mode()
    def run() -> object:
        return net(lq)

    return run


def measure(entry: Entry, device: torch.device, deadline: float, tiny: bool, rounds: int = ROUNDS) -> dict[str, Any]:
    """Return seconds, memory and the ratio to the plain form per form, or the reason why a form failed."""
    results: dict[str, Any] = {}
    runs: dict[Form, tuple[Run, int]] = {}
    for form in entry.forms:
        try:
            with triton_switched(form.triton):
                runs[form] = started(entry.prepare(form), device, results.setdefault(str(form), {}), tiny)
        except Exception as error:  # out of memory, a missing compiler: the other forms continue
            results[str(form)] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
            runs.pop(form, None)
            _release(device)
    seconds: dict[Form, list[float]] = {form: [] for form in runs}
    for number in range(1 if tiny else rounds):
        if number and time.monotonic() > deadline:
            break
        for form, (run, repeats) in runs.items():
            with triton_switched(form.triton):
                seconds[form].append(_seconds(run, repeats, device))
    for form, times in seconds.items():
        figures = {
            "seconds": statistics.median(times),
            "per_second": 1 / statistics.median(times),
            "rounds": len(times),
        }
        if PLAIN in seconds:
            ratios = [plain / mine for plain, mine in zip(seconds[PLAIN], times)]
            figures |= {"faster": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        results[str(form)] |= figures
    runs.clear()
    _release(device)
    return results


def started(run: Run, device: torch.device, figures: dict[str, Any], tiny: bool) -> tuple[Run, int]:
    """Warm up, and return how often a measurement repeats the run. ``figures`` receives start time and memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    figures["first_seconds"] = _seconds(run, 1, device)
    once = _seconds(run, 1 if tiny else 2, device)
    if device.type == "cuda":
        figures["peak_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return run, 1 if tiny else max(round(LEAST_SECONDS / once), 1)


@contextmanager
def triton_switched(on: bool) -> Iterator[None]:
    """Switch the Triton kernels on or off within the block. Networks are compiled separately for each case."""
    usual = dynamic_conv.TRITON_DEVICE
    dynamic_conv.TRITON_DEVICE = usual if on else "none"
    try:
        yield
    finally:
        dynamic_conv.TRITON_DEVICE = usual


def print_entry(name: str, measured: dict[str, Any]) -> None:
    print(f"\n{name}")
    print(f"  {'form':38} {'s':>9} {'1/s':>8} {'times plain':>22} {'peak GB':>8}")
    for form, figures in measured.items():
        if "failed" in figures:
            print(f"  {form:38} {figures['failed']}")
            continue
        ratio = "{faster:.2f} ({least:.2f} to {most:.2f})".format(**figures) if "faster" in figures else ""
        peak = f"{figures['peak_gb']:8.2f}" if "peak_gb" in figures else ""
        print(f"  {form:38} {figures['seconds']:9.4f} {figures['per_second']:8.2f} {ratio:>22} {peak}", flush=True)


def _seconds(run: Run, repeats: int, device: torch.device) -> float:
    """Return the mean seconds of consecutive runs."""
    wait_for(device)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    wait_for(device)
    return (time.perf_counter() - start) / repeats


def _release(device: torch.device) -> None:
    gc.collect()
    torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
