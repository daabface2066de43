"""Inference on the CPU: PyTorch in fp32 and bf16, onnxruntime, OpenVINO, and Real-ESRGAN in ncnn.

    python benchmarks/cpu_inference.py [--model kdsr_s_x4_iso ...] [--height 90] [--width 160] [--runs 5] [--threads 1]
    python benchmarks/cpu_inference.py --tiny                          # a dry run

Each library runs each model in a separate process. The processes of a model take turns, so that other load on the
machine affects all of them. The table has the processor time per megapixel of output, its ratio to PyTorch in fp32, and
the peak memory of the process minus its memory before the network was loaded. The picture is processed as a whole.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODELS = ("kdsr_s_x4_iso", "lightbsr_s_x4_iso", "kdsr_m_x4_iso")
RIVAL = "realesrgan-x4plus"
PLAIN = "PyTorch fp32"
WAYS = (PLAIN, "PyTorch bf16", "onnxruntime", "OpenVINO")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=MODELS, help="shipped weights or files")
    parser.add_argument("--height", type=int, default=90, help="height of the low-quality picture")
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each process, in turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="one model, a small picture and one run")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(**json.loads(args.worker))
        return
    if args.tiny:
        args.model, args.height, args.width, args.runs = args.model[:1], 24, 20, 1

    from machine import describe

    print(f"machine: {describe('torch')}; {args.threads} threads; LR {args.width}x{args.height}; x4")
    print("| network | library | s/MP | relative to PyTorch fp32 | peak memory, GB |\n| --- | --- | --- | --- | --- |")
    for number, model in enumerate(args.model):
        jobs = [(model, way) for way in WAYS] + [(RIVAL, "ncnn")] * (number == 0)
        with tempfile.TemporaryDirectory() as folder:
            take_turns(jobs, args, folder)


def take_turns(jobs: list[tuple[str, str]], args: argparse.Namespace, folder: str) -> None:
    """Run the processes of a model and its ways in turn, and print a row of the table for each."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "XDG_CACHE_HOME": folder}
    workers: dict[tuple[str, str], subprocess.Popen[str]] = {}
    for model, way in jobs:
        request = {"model": model, "way": way, "folder": folder, "size": [args.height, args.width]}
        command = [sys.executable, __file__, "--worker", json.dumps({**request, "threads": args.threads})]
        pipe = subprocess.PIPE
        workers[model, way] = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        reply(workers[model, way])  # it has loaded the network and run it once
    times: dict[tuple[str, str], list[float]] = {job: [] for job in jobs}
    for _ in range(args.runs):
        for job, worker in workers.items():
            times[job].append(ask(worker, "run"))
    for job, worker in workers.items():
        ratios = [mine / plain for mine, plain in zip(times[job], times[jobs[0]])]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        memory = ask(worker, "end") / 1e9
        print(f"| `{job[0]}` | {job[1]} | {statistics.median(times[job]):.2f} | {ratio} | {memory:.2f} |", flush=True)
        worker.wait()


def ask(worker: "subprocess.Popen[str]", question: str) -> float:
    """Send a line to a process, and return the number that it prints."""
    assert worker.stdin is not None
    worker.stdin.write(question + "\n")
    worker.stdin.flush()
    return reply(worker)


def reply(worker: "subprocess.Popen[str]") -> float:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        sys.exit(f"a process has failed with exit status {worker.wait()}")
    return float(line)


# ---------------------------------------------------------------------------------------- in a process of its own


def work(model: str, way: str, folder: str, size: list[int], threads: int) -> None:
    """Load a network and run it once. Then print a number per line of standard input.

    The line "run" upscales again, and the number is the processor time per megapixel of output. The line "end" ends the
    process, and the number is the peak memory in bytes.
    """
    import torch

    torch.set_num_threads(threads)
    lq = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    run, before = ready(model, way, Path(folder), threads)
    with torch.inference_mode():
        *_, height, width = run(lq).shape
        print(0, flush=True)
        for line in sys.stdin:
            if line.strip() == "end":
                print(peak_memory() - before, flush=True)
                return
            start = time.process_time()
            run(lq)
            print((time.process_time() - start) / (height * width / 1e6), flush=True)


def ready(model: str, way: str, folder: Path, threads: int) -> tuple[Callable[[Any], Any], int]:
    """Return a function that upscales a tensor, and the peak memory before the network was loaded."""
    import torch

    from lightbsr_arch.checkpoint import load

    if way == "ncnn":
        from lightbsr_arch.bench.rivals import find_rival

        before = peak_memory()
        return find_rival(model, 4).load(), before
    if way == "onnxruntime":
        import onnxruntime

        onnx = folder / "net.onnx"
        convert = "from lightbsr_arch.inference.export import export_onnx; export_onnx(sys.argv[1], sys.argv[2])"
        apart(convert, model, str(onnx))
        before = peak_memory()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        return lambda lq: session.run(None, {"lq": lq.numpy()})[0], before
    if way == "OpenVINO":
        import openvino  # noqa: F401 (its memory belongs to the libraries)

        from lightbsr_arch.inference.openvino_backend import with_openvino

        convert = "from lightbsr_arch.inference.upscaler import load_student; load_student(sys.argv[1], 'cpu', "
        apart(convert + "backend='openvino')", model)
        before = peak_memory()
        return with_openvino(load(model), model), before
    dtype = torch.bfloat16 if way == "PyTorch bf16" else torch.float32
    before = peak_memory()
    net = load(model, dtype=dtype)
    return lambda lq: net(lq.to(dtype).contiguous(memory_format=torch.channels_last)).float(), before


def apart(code: str, *args: str) -> None:
    """Run code in another process, because a conversion needs much memory."""
    subprocess.run([sys.executable, "-c", f"import sys; {code}", *args], check=True, stdout=sys.stderr)


def peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    import torch

    from lightbsr_arch.bench.cost import _peak_memory

    return _peak_memory(torch.device("cpu"))


if __name__ == "__main__":
    main()
