"""A network as an ONNX file, which runs without PyTorch.

PyTorch's exporter through ``torch.export`` (``dynamo=True``) writes it. The older one, which traces, is deprecated, and
binds what it traces to the sizes that it happens to see.
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
"""Largest difference to PyTorch in fp32, of images in [0, 1], at which a file is still written; by its dtype."""

EXAMPLE_SIZE = (2, 17, 22)
"""Batch, height and width of the image on which a network is exported, and its file checked."""

LARGEST = 2**16
"""PyTorch 2.6 proves no size dynamic that has no upper bound; the file itself has none."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        opset: version of the ONNX operators.
        bytes: size of the file.
        difference: the largest to PyTorch in fp32, of images in [0, 1]; None where onnxruntime is not installed.
    """

    opset: int
    bytes: int
    difference: float | None


def export_onnx(name_or_path: str | Path, dst: str | Path, dtype: str = "fp32", opset: int = ONNX_OPSET) -> Exported:
    """Write a student as ONNX, check it against PyTorch with onnxruntime if that is installed, and put it in place.

    The file takes ``lq``, N x 3 x H x W, RGB in [0, 1], and gives ``sr``, N x 3 x H*scale x W*scale, not clamped; N, H
    and W are dynamic. Its metadata hold name, scale, value range, opset, dtype, network and card.

    Args:
        name_or_path: see ``lightbsr_arch.load``.
        dst: the file, NAME.onnx; it appears whole or not at all.
        dtype: "fp32" or "fp16", of weights and computation; ``lq`` and ``sr`` are fp32 in either, so that one file can
            take the other's place.
        opset: version of the ONNX operators.

    Raises:
        UserError: no such weights, or a teacher's; onnxscript is not installed; it cannot be exported or written; the
            file would give something else than PyTorch.
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
        node.metadata_props.clear()  # where in whose source files it comes from

    with whole_file(dst) as unfinished:
        program.save(str(unfinished), external_data=False)
        with torch.inference_mode():
            difference = _largest_difference(unfinished, lq, model(lq))
        if difference is not None and not difference <= TOLERANCE[dtype]:
            raise UserError(f"{dst}: not written: onnxruntime differs from PyTorch by {difference:.1e}")
    return Exported(opset, dst.stat().st_size, difference)


class _HalfInside(nn.Module):
    """A network in fp16 whose input and output are fp32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = deepcopy(model).half()

    def forward(self, lq: torch.Tensor) -> torch.Tensor:
        return self.model(lq.half()).float()


def _program(model: nn.Module, lq: torch.Tensor, opset: int, dst: Path) -> Any:
    """The exporter's ``ONNXProgram``."""
    dim = torch.export.Dim
    # Bounds of PyTorch's proof, not of the file: for smaller sizes, some layer's map of one pixel is a case of its own.
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
    """A copy in eval mode with every batch norm folded into its convolution: PyTorch 2.6 cannot export them with
    today's onnxscript.
    """
    model = deepcopy(model).eval()
    for layers in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for i, (conv, norm) in enumerate(pairwise(list(layers))):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                layers[i], layers[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs at length, tracebacks included, also where all is well; what goes wrong is raised."""
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
        "output": f"sr: N x 3 x {scale}H x {scale}W, RGB in [0, 1] but for overshoot (not clamped), fp32",
        "dtype": dtype,
        "opset": str(opset),
        "type": checkpoint.type,
        "network": json.dumps(checkpoint.network),
        "card": json.dumps(checkpoint.card),
    }


def _largest_difference(path: Path, lq: torch.Tensor, sr: torch.Tensor) -> float | None:
    """Between what onnxruntime makes of ``lq`` on the CPU and ``sr``; None where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return (torch.from_numpy(session.run(["sr"], {"lq": lq.numpy()})[0]) - sr).abs().max().item()
