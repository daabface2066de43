"""Time and memory of upscaling one image on the CPU, for networks of this package and others, in several programs.

    python benchmarks/cpu_inference.py [--size 180 320] [--threads 2] [--page docs/speed.md]
    python benchmarks/cpu_inference.py --tiny                          # a dry run

The rows are KDSR-M and LightBSR of the published sizes, with random weights, and the shipped weights. Each of them runs
in the plain form in which the networks were published (``published.py``), as in `lightbsr upscale` in fp32 and bf16,
and as an exported file in onnxruntime and in OpenVINO. The last rows are Real-ESRGAN's networks in ncnn (`pip install
"lightbsr-arch[rivals]"`). Rows whose program is not installed are left out and listed.

Each row runs in a process of its own, so that its memory is that of its own network. The rows of a network run in turn,
and the table has the median of the rounds. Rows that are slow are repeated less often. The rows of
a network in fp32 must agree first, on a small image. Networks that would begin after the time limit are left out and
listed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import torch
from machine import cores, describe
from pages import table, write_between
from published import make_plain, random_student

import lightbsr_arch
from lightbsr.errors import UserError, reason_of
from lightbsr_arch.bench.cost import peak_memory
from lightbsr_arch.bench.models import ModelSpec
from lightbsr_arch.bench.pairs import Pair
from lightbsr_arch.bench.rivals import find_rival
from lightbsr_arch.checkpoint import Checkpoint
from lightbsr_arch.io import write_whole

SCALE = 4
PUBLISHED = ("KDSR-M", "LightBSR")
REAL_ESRGAN = ("realesrgan-x4plus", "realesrgan-x4plus-anime", "realesr-animevideov3")
SHIPPED = ("kdsr_s_x4_real", "kdsr_s_x4_iso", "lightbsr_s_x4_iso")

PLAIN, OURS, ONNX, OPENVINO, NCNN = "PyTorch, plain", "PyTorch", "onnxruntime", "OpenVINO", "ncnn"
LIBRARIES = {ONNX: "onnxruntime", OPENVINO: "openvino", NCNN: "ncnn"}

ROUNDS = 5
LONGEST = 8.0
"""Time limit of the repeats of a row in seconds."""

SMALL = (64, 64)
"""Height and width of the image of the first run, on which the forms of a network must agree."""

TOLERANCE = 1e-3
"""Largest accepted difference of the rows in fp32 from the plain form, for images in [0, 1]."""

Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Row:
    """A network in a program.

    Attributes:
        network: name of the network in the table.
        program: one of the programs above.
        dtype: "fp32" or "bf16".
        file: name of shipped weights, a file of weights, an ONNX file, or a name in ``REAL_ESRGAN``.
    """

    network: str
    program: str
    dtype: str
    file: str


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(180, 320), metavar=("H", "W"), help="LR image (180 320)")
    parser.add_argument("--threads", type=int, default=cores(), help="threads of each program (all cores)")
    parser.add_argument("--minutes", type=float, default=6.0, help="no further network begins after this time (6)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only networks whose name contains TEXT")
    parser.add_argument("--output", type=Path, default=Path("cpu_inference.json"), metavar="FILE", help="results")
    parser.add_argument("--page", type=Path, help="also write the table into this page")
    parser.add_argument("--tiny", action="store_true", help="a small KDSR and one round, for a dry run")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.row:
        serve(Row(**json.loads(args.row)), args.threads)
        return
    if not any(args.only in name for name in (*PUBLISHED, *SHIPPED, *REAL_ESRGAN)):
        raise UserError(f"--only {args.only}: no network has this text in its name")
    deadline = time.monotonic() + 60 * args.minutes
    size, left_out = (24, 32) if args.tiny else tuple(args.size), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        results: list[dict[str, Any]] = []
        for network, rows in groupby(
            all_rows(Path(folder), args.only, args.threads, deadline, left_out, args.tiny), key=lambda row: row.network
        ):
            print(network, file=sys.stderr, flush=True)
            results += measure([*rows], size, args.threads, 1 if args.tiny else ROUNDS)
    packages = [package for package in LIBRARIES.values() if find_spec(package)]
    report = {
        "machine": f"{describe('torch', *packages)}; {args.threads} threads",
        "size": size,
        "tiny": args.tiny,
        "rows": results,
        "left_out": left_out,
    }
    write_whole(args.output, json.dumps(report, indent=2).encode() + b"\n")
    text = shown(report)
    print(text)
    if args.page:
        write_between(args.page, "cpu_inference", text)


def all_rows(folder: Path, only: str, threads: int, deadline: float, left_out: list[str], tiny: bool) -> Iterator[Row]:
    """Yield the rows, network by network, once the ONNX files of all networks are written into the folder."""

    def in_time(network: str) -> bool:
        if time.monotonic() < deadline:
            return True
        left_out.append(f"{network} (time limit)")
        return False

    files = {}
    for name in (name for name in (("KDSR-M",) if tiny else (*PUBLISHED, *SHIPPED)) if only in name):
        files[name] = name
        if name in PUBLISHED:
            net = random_student(name, tiny)
            files[name] = str(folder / f"{name}.safetensors")
            Checkpoint(net.state_dict(), net.config).save(files[name])
    rivals = [name for name in (REAL_ESRGAN[-1:] if tiny else REAL_ESRGAN) if only in name]
    programs = [name for name, library in LIBRARIES.items() if find_spec(library)]
    left_out += [f"{name} (not installed)" for name in LIBRARIES if name not in programs]
    onnx = export_all(files, folder, threads, left_out) if {ONNX, OPENVINO} & {*programs} else {}
    for name, file in files.items():
        if in_time(name):
            for program, dtype in ((PLAIN, "fp32"), (OURS, "fp32"), (OURS, "bf16")):
                yield Row(name, program, dtype, file)
            for program in (ONNX, OPENVINO):
                if program in programs and name in onnx:
                    yield Row(name, program, "fp32", onnx[name])
    for name in rivals if NCNN in programs else ():
        try:
            find_rival(name, SCALE)
        except UserError as error:
            left_out.append(str(error))
        else:
            if in_time(name):
                yield Row(name, NCNN, "fp32", name)


def export_all(files: dict[str, str], folder: Path, threads: int, left_out: list[str]) -> dict[str, str]:
    """Return the ONNX files of networks, which `lightbsr export` writes, several at a time, by name."""

    def export(name: str) -> str:
        onnx = str(folder / f"{name}.onnx")
        command = [sys.executable, "-W", "ignore", "-m", "lightbsr", "export", files[name], onnx]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if done.returncode:
            left_out.append(f"{name} as ONNX ({(done.stderr.strip().splitlines() or ['no message'])[-1]})")
        return onnx

    print("exports the networks", file=sys.stderr, flush=True)
    with ThreadPoolExecutor(threads) as pool:
        found = dict(zip(files, pool.map(export, files)))
    return {name: onnx for name, onnx in found.items() if Path(onnx).is_file()}


# ------------------------------------------------------------------------------------------ the process of a row


def serve(row: Row, threads: int) -> None:
    """Read lines with height and width from standard input, and write a line of JSON for each of them.

    It contains ``seconds``, the bytes of ``memory`` in addition to the libraries, and some values of the SR image.
    """
    torch.set_num_threads(threads)
    try:
        if row.program in LIBRARIES:
            import_module(LIBRARIES[row.program])
        before = peak_memory(torch.device("cpu"))
        run = loaded(row, threads)
        for line in sys.stdin:
            height, width = map(int, line.split())
            lq = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
            lq = torch.nn.functional.avg_pool2d(lq, 3, 1, 1)
            with torch.inference_mode():
                start = time.perf_counter()
                sr = run(lq)
                seconds = time.perf_counter() - start
            values = sr.float().flatten()[:: max(sr.numel() // 1000, 1)].tolist()
            memory = peak_memory(torch.device("cpu")) - before
            print(json.dumps({"seconds": seconds, "memory": memory, "values": values}), flush=True)
    except Exception as error:  # any exception of a library ends this row only
        print(json.dumps({"failed": f"{type(error).__name__}: {reason_of(error)}"}), flush=True)


def loaded(row: Row, threads: int) -> Run:
    """Return a function that upscales an image, 1 x 3 x H x W."""
    if row.program == OPENVINO:
        return openvino_network(row.file, threads)
    if row.program in (ONNX, NCNN):
        ncnn = find_rival(row.file, SCALE) if row.program == NCNN else None
        upscaler = ModelSpec(row.network, row.file, ncnn=ncnn).load(SCALE, torch.device("cpu"))
        return lambda lq: upscaler.run(Pair(lq, lq, None))
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[row.dtype]
    net = lightbsr_arch.load(row.file, dtype=dtype)
    if row.program == PLAIN:
        make_plain(net)
        return lambda lq: net(lq.to(dtype))
    net.to(memory_format=torch.channels_last)
    return lambda lq: net(lq.to(dtype, memory_format=torch.channels_last))


def openvino_network(file: str, threads: int) -> Run:
    hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    network = import_module("openvino").Core().compile_model(file, "CPU", hints)
    return lambda lq: torch.from_numpy(network(lq.numpy())[0])


# ------------------------------------------------------------------------------------------ measuring


class Process:
    """The process of a row."""

    def __init__(self, row: Row, threads: int) -> None:
        command = [sys.executable, "-W", "ignore", __file__, "--threads", str(threads)]
        self.process = subprocess.Popen(
            [*command, "--row", json.dumps(asdict(row))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            text=True,
        )

    def run(self, size: tuple[int, int]) -> dict[str, Any]:
        """Upscale an image and return the figures, or the reason of a failure under ``failed``."""
        source, target = self._pipes()
        with suppress(BrokenPipeError):  # the process has written the reason
            print(*size, file=source, flush=True)
        for line in target:
            if line.startswith("{"):  # libraries write lines of their own
                found: dict[str, Any] = json.loads(line)
                return found
        return {"failed": f"its process ended with {self.process.wait()} (out of memory?)"}

    def close(self) -> None:
        for pipe in self._pipes():
            pipe.close()
        self.process.wait()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        return self.process.stdin, self.process.stdout


def measure(rows: Sequence[Row], size: tuple[int, int], threads: int, rounds: int) -> list[dict[str, Any]]:
    """Return the figures of the rows of a network, or the reason why a row failed."""
    results = [{**asdict(row), "seconds": list[float]()} for row in rows]
    processes = [Process(row, threads) for row in rows]
    try:
        plain = None
        for process, result in zip(processes, results):
            first = process.run(SMALL)
            values = first.get("values")
            if values and result["program"] == PLAIN:
                plain = values
            elif values and plain:
                result["difference"] = max(abs(one - other) for one, other in zip(values, plain))
                if result["dtype"] == "fp32" and not result["difference"] <= TOLERANCE:
                    result["failed"] = f"differs from the plain form by {result['difference']:.1e}"
            if "failed" in first:
                result["failed"] = first["failed"]
        pixels = size[0] * size[1] / (SMALL[0] * SMALL[1])
        for process, result in zip(processes, results):
            if "failed" not in result and process.run(SMALL).get("seconds", 0.0) * pixels < LONGEST / 4:
                process.run(size)  # networks that are slower are warm after the runs on the small image
        for _ in range(rounds):
            for process, result in zip(processes, results):
                run_once(process, result, size)
    finally:
        for process in processes:
            process.close()
    for result in results:
        result.pop("file")
        if result["seconds"] and "failed" not in result:
            result["median"] = statistics.median(result["seconds"])
            result["per_megapixel"] = result["median"] / (size[0] * size[1] / 1e6)
    return results


def run_once(process: Process, result: dict[str, Any], size: tuple[int, int]) -> None:
    """Add a run to the seconds of a row, unless the row has failed or has run for long enough."""
    if "failed" in result or sum(result["seconds"]) > LONGEST:
        return
    figures = process.run(size)
    if "failed" in figures:
        result["failed"] = figures["failed"]
    else:
        result["memory"] = figures["memory"]
        result["seconds"].append(figures["seconds"])


def shown(report: dict[str, Any]) -> str:
    """Return the results as text and a table in Markdown."""
    height, width = report["size"]
    complete = [row for row in report["rows"] if "median" in row]
    plain = {row["network"]: row["median"] for row in complete if row["program"] == PLAIN}
    lines: list[list[str]] = []
    for row in report["rows"]:
        if "median" not in row:
            lines.append([row["network"], row["program"], row["dtype"], f"failed: {row['failed']}", "", "", "", ""])
            continue
        own = plain.get(row["network"])
        lines.append(
            [
                *(row[key] for key in ("network", "program", "dtype")),
                f"{row['median']:.3f}",
                f"{row['per_megapixel']:.1f}",
                f"{row['memory'] / 1e9:.2f}",
                f"{row['median'] / complete[0]['median']:.2f}",
                f"{row['median'] / own:.2f}" if own else "",
            ]
        )
    heads = ["network", "program", "dtype", "s", "s per LR megapixel", "GB", "s / first row", "s / plain form"]
    text = f"LR {height}x{width}, x4, batch 1. Machine: {report['machine']}.\n\n{table(heads, lines, left=3)}"
    if report["left_out"]:
        text += f"\n\nLeft out: {'; '.join(report['left_out'])}."
    return text


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"cpu_inference: {error}") from None
