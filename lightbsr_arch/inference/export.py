"""Export of networks as ONNX files, which run without PyTorch.

The file is written by PyTorch's exporter that is based on ``torch.export`` (``dynamo=True``). The older, tracing
exporter is deprecated, and its files work only at the traced sizes.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from lightbsr.defaults import ONNX_OPSET
from lightbsr.errors import UserError
from lightbsr.shipped import find_weights
from lightbsr_arch.archs.part import needs_lq_only
from lightbsr_arch.checkpoint import Checkpoint, read_checkpoint
from lightbsr_arch.io import whole_file

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}
"""Largest accepted difference from PyTorch's fp32 output for images in [0, 1], by the dtype of the file."""

EXAMPLE_SIZE = (2, 17, 22)
"""Batch, height and width of the images for export and for the check of the file."""

LARGEST = 2**16
"""Upper bound on dynamic sizes. PyTorch 2.6 needs one for its shape analysis. The file itself has no bound."""


@dataclass(frozen=True)
class Exported:
    """Properties of a written file.

    Attributes:
        opset: version of the ONNX operators.
        bytes: size of the file.
        difference: largest difference from PyTorch's fp32 output, for images in [0, 1]; None without onnxruntime.
    """

    opset: int
    bytes: int
    difference: float | None


def export_onnx(name_or_path: str | Path, dst: str | Path, dtype: str = "fp32", opset: int = ONNX_OPSET) -> Exported:
    """Write a student as an ONNX file. If onnxruntime is installed, the file is first compared with PyTorch.

    The file's input is ``lq``, N x 3 x H x W, RGB in [0, 1]. Its output is ``sr``, N x 3 x H*scale x W*scale, not
    clamped. N, H and W are dynamic. Its metadata hold name, scale, value range, opset, dtype, network and card.

    Args:
        name_or_path: see ``lightbsr_arch.load``.
        dst: the file, NAME.onnx. It is complete or not written.
        dtype: "fp32" or "fp16", for weights and computation. ``lq`` and ``sr`` are always fp32, so that the files are
            interchangeable.
        opset: version of the ONNX operators.

    Raises:
        UserError: the weights are missing or a teacher's, onnxscript is not installed, the network cannot be exported,
            the file cannot be written, or its output differs from PyTorch's.
    """
    src, dst = find_weights(name_or_path), Path(dst)
    if opset < ONNX_OPSET:
        raise UserError(f"opset {opset}: PyTorch writes {ONNX_OPSET} and later")
    if dst.suffix != ".onnx":
        raise UserError(f"{dst}: the exported file must be named .onnx")
    if not dst.parent.is_dir():
        raise UserError(f"{dst}: there is no folder {dst.parent}")
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError("ONNX is written with onnxscript: pip install 'lightbsr-arch[onnx]'") from None
    checkpoint = read_checkpoint(src)
    model = checkpoint.build()
    needs_lq_only(model, src)
    n, height, width = EXAMPLE_SIZE
    lq = torch.rand(n, model.num_in_ch, height, width, generator=torch.Generator().manual_seed(0))
    program = _program(_HalfInside(model) if dtype == "fp16" else model, lq, opset, dst)
    program.model.metadata_props.update(_metadata(src.stem, checkpoint, model.scale, dtype, opset))
    program.model.producer_name, program.model.producer_version = "lightbsr-arch", version("lightbsr-arch")
    for node in program.model.graph:
        node.metadata_props.clear()  # they contain paths of source files

    with whole_file(dst) as unfinished:
        program.save(str(unfinished), external_data=False)
        with torch.inference_mode():
            difference = _largest_difference(unfinished, lq, model(lq))
        if difference is not None and not difference <= TOLERANCE[dtype]:
            raise UserError(f"{dst}: not written: onnxruntime differs from PyTorch by {difference:.1e}")
    return Exported(opset, dst.stat().st_size, difference)


class _HalfInside(nn.Module):
    """A network that computes in fp16, with fp32 input and output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = deepcopy(model).half()

    def forward(self, lq: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.model(lq.half()).float()
        return out


def _program(model: nn.Module, lq: torch.Tensor, opset: int, dst: Path) -> Any:
    """Return the exporter's ``ONNXProgram``."""
    dim = torch.export.Dim
    # These bounds are for PyTorch's shape analysis, not for the file. At smaller sizes, a map of one pixel is a special
    # case.
    height, width = (dim(name, min=8, max=LARGEST) for name in ("height", "width"))
    sizes = {0: dim("batch", min=1, max=LARGEST), 2: height, 3: width}
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                _without_batch_norms(model),
                (lq,),
                dynamo=True,
                dynamic_shapes=(sizes,),
                input_names=["lq"],
                output_names=["sr"],
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


def _without_batch_norms(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode with every batch norm folded into its convolution.

    PyTorch 2.6 cannot export batch norms with current onnxscript.
    """
    model = deepcopy(model).eval()
    for layers in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for i, (conv, norm) in enumerate(pairwise(list(layers))):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                layers[i], layers[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return model


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


def _metadata(name: str, checkpoint: Checkpoint, scale: int, dtype: str, opset: int) -> dict[str, str]:
    return {
        "name": name,
        "scale": str(scale),
        "value_range": "[0, 1]",
        "input": "lq: N x 3 x H x W, RGB in [0, 1], fp32",
        "output": f"sr: N x 3 x {scale}H x {scale}W, RGB in [0, 1], may overshoot (not clamped), fp32",
        "dtype": dtype,
        "opset": str(opset),
        "type": checkpoint.type,
        "network": json.dumps(checkpoint.network),
        "card": json.dumps(checkpoint.card),
    }


def _largest_difference(path: Path, lq: torch.Tensor, sr: torch.Tensor) -> float | None:
    """Return the largest difference between onnxruntime's output for ``lq`` and ``sr``; None without onnxruntime."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return (torch.from_numpy(session.run(["sr"], {"lq": lq.numpy()})[0]) - sr).abs().max().item()
