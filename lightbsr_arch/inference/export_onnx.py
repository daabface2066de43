"""Export of networks as ONNX files, which run without PyTorch.

PyTorch's exporter based on ``torch.export`` (``dynamo=True``) writes the file. The older exporter, which traces the
network, is deprecated, and its files work only at the traced sizes.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightbsr.defaults import ONNX_OPSET
from lightbsr.errors import UserError, reason_of
from lightbsr.shipped import find_weights
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.part import Network, needs_lq_only
from lightbsr_arch.checkpoint import Checkpoint, read_checkpoint
from lightbsr_arch.inference.export import (
    TOLERANCE,
    Exported,
    Graph,
    check_target,
    graphs_of,
    refuse_folders,
    without_batch_norms,
)
from lightbsr_arch.inference.int8 import Feed, calibration_crops, quantise
from lightbsr_arch.io import whole_file

LEAST_PSNR = 30.0
"""Smallest accepted PSNR in dB of int8, relative to PyTorch's fp32 output for the pictures of the calibration."""

EXAMPLE_SIZE = (2, 17, 22)
"""Batch, height and width of the images for export and for the check of the file."""

LARGEST = 2**16
"""Upper bound on dynamic sizes. PyTorch 2.6 needs one for its shape analysis. The file itself has no bound."""


def export_onnx(
    name_or_path: str | Path,
    dst: str | Path,
    dtype: str = "fp32",
    opset: int = ONNX_OPSET,
    split: bool = False,
    int8: str | Path | None = None,
    start: Callable[[], None] = lambda: None,
) -> Exported:
    """Write a student as an ONNX file. If onnxruntime is installed, its output is first compared with PyTorch's.

    The file's input is ``lq``, N x 3 x H x W, RGB in [0, 1]. Its output is ``sr``, N x 3 x H*scale x W*scale, not
    clamped. N, H and W are dynamic. Its metadata hold name, scale, value range, opset, dtype, network and card.

    Args:
        name_or_path: see ``lightbsr_arch.load``.
        dst: the file, NAME.onnx; it appears whole or not at all.
        dtype: "fp32" or "fp16", for weights and computation. Inputs and outputs are always fp32, so that the files are
            interchangeable.
        opset: version of the ONNX operators.
        split: write two files instead: NAME_estimator.onnx computes ``idr`` from ``lq``, and NAME_restorer.onnx
            computes ``sr`` from ``lq`` and ``idr``. A program can then restore tiles with the IDR of the whole image.
        int8: low-quality pictures (a folder, glob or file), for the calibration of int8. With pictures, the 3x3
            convolutions of the restorer's body are computed in int8. The rest stays fp32, and ``dtype`` must be "fp32".
        start: called after the arguments have been checked, before the slow part.

    Raises:
        UserError: the weights are missing or belong to a teacher; onnxscript or, for int8, onnxruntime is not
            installed; the network cannot be exported, split or quantised; a picture cannot be read; a file cannot be
            written; or its output differs from PyTorch's.
    """
    src, dst = find_weights(name_or_path), Path(dst)
    if opset < ONNX_OPSET:
        raise UserError(f"opset {opset}: PyTorch writes {ONNX_OPSET} and later")
    if dst.suffix != ".onnx":
        raise UserError(f"{dst}: the exported file must be named .onnx, or .param for ncnn")
    check_target(dst, "onnxscript", "ONNX is written with onnxscript: pip install 'lightbsr-arch[onnx]'")
    if int8:
        check_target(dst, "onnxruntime", "int8 is calibrated with onnxruntime: pip install 'lightbsr-arch[onnx]'")
        if dtype != "fp32":
            raise UserError(f"{dst}: int8 replaces fp32 only; leave {dtype} out")
    checkpoint = read_checkpoint(src)
    model = checkpoint.build()
    needs_lq_only(model, src)
    n, height, width = EXAMPLE_SIZE
    lq = torch.rand(n, model.num_in_ch, height, width, generator=torch.Generator().manual_seed(0))
    graphs = graphs_of(model, lq, src, dst, split)
    refuse_folders(graph.dst for graph in graphs)
    if int8 and model.num_in_ch != 3:
        raise UserError(f"{src}: a network of {model.num_in_ch} channels; int8 needs one of 3")
    crops = calibration_crops(int8) if int8 else []
    start()
    programs = []
    for graph in graphs:
        program = _program(graph, dtype, opset)
        computed_in = "int8" if int8 else dtype
        program.model.metadata_props.update(_metadata(src.stem, checkpoint, model.scale, computed_in, opset, graph))
        program.model.producer_name, program.model.producer_version = "lightbsr-arch", version("lightbsr-arch")
        for node in program.model.graph:
            node.metadata_props.clear()  # the properties name lines of source files
        programs.append(program)

    with ExitStack() as stack:
        unfinished = [stack.enter_context(whole_file(graph.dst)) for graph in graphs]
        for program, path in zip(programs, unfinished, strict=True):
            program.save(str(path), external_data=False)
        difference = _largest_difference(unfinished, lq, model)
        if difference is not None and not difference <= TOLERANCE[dtype]:
            raise UserError(f"{dst}: not written: onnxruntime differs from PyTorch by {difference:.1e}")
        psnr = None
        if int8:
            if not sum(_quantise(path, graph, model, crops) for graph, path in zip(graphs, unfinished)):
                raise UserError(f"{src}: its restorer has no body of 3x3 convolutions for int8; leave int8 out")
            difference, psnr = None, _psnr(unfinished, crops, model)
            if not psnr >= LEAST_PSNR:
                raise UserError(
                    f"{dst}: not written: the PSNR of int8 relative to fp32 is {psnr:.1f} dB, below {LEAST_PSNR:g}; "
                    "calibrate with other pictures, or leave int8 out"
                )
    files = tuple(graph.dst for graph in graphs)
    return Exported(files, opset, sum(file.stat().st_size for file in files), difference, psnr)


class _HalfInside(nn.Module):
    """A network that computes in fp16, with fp32 inputs and output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = deepcopy(model).half()

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.model(*(x.half() for x in inputs)).float()
        return out


def _program(graph: Graph, dtype: str, opset: int) -> Any:
    """Return the exporter's ``ONNXProgram``."""
    dst, network = graph.dst, _HalfInside(graph.network) if dtype == "fp16" else graph.network
    dim = torch.export.Dim
    batch = dim("batch", min=1, max=LARGEST)
    sizes = []
    for name, example in graph.inputs.items():
        # Bounds of PyTorch's shape analysis, not of the file. Smaller sizes give maps of one pixel, a special case.
        least = 8 if name == "lq" else 2
        prefix = "" if name == "lq" else f"{name}_"
        sides = [dim(prefix + side, min=least, max=LARGEST) for side in ("height", "width")]
        sizes.append({0: batch, **dict(zip(range(2, example.dim()), sides, strict=False))})
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                without_batch_norms(network),
                tuple(graph.inputs.values()),
                dynamo=True,
                dynamic_shapes=(tuple(sizes),) if dtype == "fp16" else tuple(sizes),
                input_names=list(graph.inputs),
                output_names=[graph.output],
                opset_version=opset,
                optimize=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"{dst}: PyTorch {torch.__version__} cannot export this network: {reason}") from error
    assert program is not None
    if (written := program.model.opset_imports[""]) != opset:
        raise UserError(f"{dst}: PyTorch {torch.__version__} cannot write opset {opset}, but {written}")
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which logs tracebacks even when it succeeds. Errors are still raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _metadata(name: str, checkpoint: Checkpoint, scale: int, dtype: str, opset: int, graph: Graph) -> dict[str, str]:
    ports = {
        "lq": "lq: N x 3 x H x W, RGB in [0, 1], fp32",
        "sr": f"sr: N x 3 x {scale}H x {scale}W, RGB in [0, 1] except for overshoot (not clamped), fp32",
        "idr": "idr: the degradation of the whole picture, N x C or, as a map, N x C x H/4 x W/4 (rounded up), fp32",
    }
    return {
        "name": name,
        "scale": str(scale),
        "value_range": "[0, 1]",
        "input": "; ".join(ports[name] for name in graph.inputs),
        "output": ports[graph.output],
        "dtype": dtype,
        "opset": str(opset),
        "type": checkpoint.type,
        "network": json.dumps(checkpoint.network),
        "card": json.dumps(checkpoint.card),
    }


def _largest_difference(paths: list[Path], lq: torch.Tensor, model: Network) -> float | None:
    """Return the largest difference between onnxruntime's output and PyTorch's; None without onnxruntime."""
    try:
        import onnxruntime  # noqa: F401 - only whether it is there
    except ImportError:
        return None
    with torch.inference_mode():
        difference = _run(_sessions(paths), lq) - model(lq)
    return float(difference.abs().max())


def _psnr(paths: list[Path], crops: list[torch.Tensor], model: Network) -> float:
    """Return the mean PSNR in dB of onnxruntime's output relative to PyTorch's, for values in [0, 1]."""
    sessions = _sessions(paths)
    with torch.inference_mode():
        errors = torch.stack([(_run(sessions, lq) - model(lq)).square().mean() for lq in crops])
    return (-10 * errors.log10()).mean().item()


def _quantise(path: Path, graph: Graph, model: Network, crops: list[torch.Tensor]) -> int:
    """Quantise a written file in place. The crops are N x 3 x H x W. Return the number of quantised nodes."""

    def feed(lq: torch.Tensor) -> Feed:
        found = {"lq": lq.numpy()}
        if "idr" in graph.inputs:
            assert isinstance(model, BlindSR)
            with torch.inference_mode():
                found["idr"] = model.estimator(lq).numpy()
        return found

    with _quiet():
        return quantise(path, map(feed, crops))


def _sessions(paths: list[Path]) -> list[Any]:
    import onnxruntime

    return [onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in paths]


def _run(sessions: list[Any], lq: torch.Tensor) -> torch.Tensor:
    """Return onnxruntime's SR image. With two files, the output of the first is the second input of the other."""
    known = {"lq": lq.numpy()}
    for session in sessions:
        (output,) = session.get_outputs()
        inputs = {port.name: known[port.name] for port in session.get_inputs()}
        try:
            known[output.name] = session.run(None, inputs)[0]
        except Exception as error:  # onnxruntime has no common type of its errors
            raise UserError(f"not written: onnxruntime cannot run the network: {reason_of(error)}") from error
    return torch.from_numpy(known["sr"])
