"""PSNR-Y and time of the shipped networks in int8 in onnxruntime, relative to fp32.

    python benchmarks/int8.py --images datasets/Set5 [--sigma 2.0] [--size 96 96] [--page docs/speed.md]

The networks are exported as in `lightbsr export` and quantised by onnxruntime: static, one scale per output channel of
the weights, calibrated on crops of the demo photos under blurs of several widths. The rows differ in the layers that
are quantised. PSNR-Y is the mean over the images, which are blurred and shrunk as in `lightbsr degrade`. The forms of a
network run in turn on a random image, and the table has the median of the time relative to fp32.
"""

import argparse
import json
import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import cores, describe
from pages import table, write_between
from published import random_student
from strength import ground_truth

from lightbsr.errors import UserError
from lightbsr_arch.bench.metrics import METRICS
from lightbsr_arch.checkpoint import Checkpoint
from lightbsr_arch.degradations.draws import Draws
from lightbsr_arch.degradations.settings import Setting
from lightbsr_arch.inference.export import check_target
from lightbsr_arch.inference.export_onnx import export_onnx
from lightbsr_arch.inference.int8 import Chosen, dense_body_convolution, quantise
from lightbsr_arch.io import write_whole

# isort: split
from basicsr.utils import tensor2img

MODELS = ("kdsr_s_x4_iso", "lightbsr_s_x4_iso")
SCALE = 4
PHOTOS = Path(__file__).parents[1] / "examples/photos/train"
CALIBRATION_CROP = 192
CALIBRATION_SIGMAS = (0.6, 1.4, 2.0, 2.8, 3.6)
CALIBRATION_IMAGES = 10
ROUNDS = 7

CONVOLUTIONS = ["Conv", "Gemm", "MatMul"]


def _all(node: Any) -> bool:
    return True


def _body(node: Any) -> bool:
    """Return whether a node is a convolution of the restorer's body, without head, upsampler, tail and estimator."""
    return node.op_type == "Conv" and "restorer.body." in node.input[1]


EXPORTED = "its 3x3 convolutions over all channels"
VARIANTS: dict[str, tuple[list[str] | None, Chosen]] = {
    "all operations": (None, _all),
    "convolutions and linear layers": (CONVOLUTIONS, _all),
    "convolutions of the restorer's body": (["Conv"], _body),
    EXPORTED: (["Conv"], dense_body_convolution),
}
"""The types of operations that are quantised (None for all), and a condition on the node, by description."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of ground-truth images")
    parser.add_argument("--model", nargs="+", default=MODELS, help=f"shipped weights ({' '.join(MODELS)})")
    parser.add_argument("--sigma", type=float, default=2.0, help="width of the blur of the images (2.0)")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 96), metavar=("H", "W"), help="LR image (96 96)")
    parser.add_argument("--threads", type=int, default=cores(), help="threads of onnxruntime (all cores)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"timed runs of each form; 0 for none ({ROUNDS})")
    parser.add_argument("--output", type=Path, default=Path("int8.json"), metavar="FILE", help="results")
    parser.add_argument("--page", type=Path, help="also write the table into this page")
    parser.add_argument("--tiny", action="store_true", help="a small network with random weights, for a dry run")
    args = parser.parse_args(arguments)
    if not args.images.is_dir():
        raise UserError(f"{args.images}: no such folder; expected ground-truth images, such as Set5")
    check_target(args.output, "onnxruntime", "this script needs onnxruntime: pip install 'lightbsr-arch[onnx]'")
    pairs = [(degraded(gt, args.sigma), gt) for gt in images(args.images, 0)]
    calibration = list(calibration_images(2 if args.tiny else CALIBRATION_IMAGES))
    report: dict[str, Any] = {
        "machine": f"{describe('torch', 'onnxruntime')}; {args.threads} threads",
        "images": f"{args.images.name}, sigma {args.sigma:g}",
        "size": args.size,
        "rows": [],
    }
    for name in ("tiny",) if args.tiny else args.model:
        with tempfile.TemporaryDirectory() as folder:
            source = name
            if args.tiny:
                net = random_student("KDSR-M", tiny=True)
                source = f"{folder}/{name}.safetensors"
                Checkpoint(net.state_dict(), net.config).save(source)
            files = quantised(source, Path(folder), calibration, [EXPORTED] if args.tiny else [*VARIANTS])
            report["rows"] += compare(name, files, pairs, tuple(args.size), args.threads, args.rounds)
        write_whole(args.output, json.dumps(report, indent=2).encode() + b"\n")
    text = shown(report)
    print(text)
    if args.page:
        write_between(args.page, "int8", text)


def images(folder: Path, crop: int) -> Iterator[torch.Tensor]:
    """Yield ground-truth images of a folder, or their middle squares, 1 x 3 x H x W."""
    for path in sorted(folder.iterdir()):
        yield ground_truth(path, crop, SCALE)


def degraded(gt: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return the LR image of a ground truth."""
    return Setting(sigma=sigma).degrade(gt, SCALE, "bicubic", Draws(torch.Generator().manual_seed(0))).lq


def calibration_images(number: int) -> Iterator[np.ndarray]:
    """Yield LR images of the demo photos, under blurs of several widths in turn."""
    for index, gt in zip(range(number), images(PHOTOS, CALIBRATION_CROP)):
        yield degraded(gt, CALIBRATION_SIGMAS[index % len(CALIBRATION_SIGMAS)]).numpy()


def quantised(name_or_path: str, folder: Path, calibration: list[np.ndarray], variants: list[str]) -> dict[str, Path]:
    """Return the ONNX files of a network in fp32 and in the variants of int8, by description."""
    source = folder / "fp32.onnx"
    export_onnx(name_or_path, source)
    files = {"fp32": source}
    logging.getLogger().setLevel(logging.ERROR)  # it advises to run another tool first
    for number, variant in enumerate(variants):
        types, chosen = VARIANTS[variant]
        files[variant] = folder / f"{number}.onnx"
        shutil.copy(source, files[variant])
        quantise(files[variant], ({"lq": lq} for lq in calibration), chosen, types)
    return files


def compare(
    name: str,
    files: dict[str, Path],
    pairs: list[tuple[torch.Tensor, torch.Tensor]],
    size: tuple[int, int],
    threads: int,
    rounds: int,
) -> list[dict[str, Any]]:
    """Return PSNR-Y in dB, and seconds relative to fp32, of each file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    sessions = {form: onnxruntime.InferenceSession(str(file), options, providers) for form, file in files.items()}
    rows: dict[str, dict[str, Any]] = {}
    for form, session in sessions.items():
        figures = []
        for lq, gt in pairs:
            sr = torch.from_numpy(session.run(None, {"lq": lq.numpy()})[0])
            figures.append(METRICS["psnr_y"].compute(tensor2img(sr), tensor2img(gt), SCALE))
        megabytes = files[form].stat().st_size / 1e6
        rows[form] = {"network": name, "form": form, "psnr_y": statistics.mean(figures), "megabytes": megabytes}
    image = np.random.default_rng(0).random((1, 3, *size), np.float32)
    seconds: dict[str, list[float]] = {form: [] for form in sessions}
    for number in range(rounds + 1 if rounds else 0):
        for form, session in sessions.items():
            start = time.perf_counter()
            session.run(None, {"lq": image})
            if number:  # the first run is slower
                seconds[form].append(time.perf_counter() - start)
    for form, times in seconds.items():
        if times:
            rows[form]["seconds"] = statistics.median(times)
            rows[form]["of_fp32"] = statistics.median(mine / fp32 for mine, fp32 in zip(times, seconds["fp32"]))
    return [*rows.values()]


def shown(report: dict[str, Any]) -> str:
    """Return the results as text and a table in Markdown."""
    lines = []
    for row in report["rows"]:
        (fp32,) = (one for one in report["rows"] if (one["network"], one["form"]) == (row["network"], "fp32"))
        change = "" if row is fp32 else f"{row['psnr_y'] - fp32['psnr_y']:+.2f}"
        times = [f"{row['seconds']:.3f}", f"{row['of_fp32']:.2f}"] if "seconds" in row else ["", ""]
        lines.append([row["network"], row["form"], f"{row['psnr_y']:.2f}", change, f"{row['megabytes']:.2f}", *times])
    heads = ["network", "quantised", "PSNR-Y", "change, dB", "MB", "s", "s / fp32"]
    height, width = report["size"]
    about = f"{report['images']}; time at LR {height}x{width}. Machine: {report['machine']}."
    return f"{about}\n\n{table(heads, lines, left=2)}"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"int8: {error}") from None
