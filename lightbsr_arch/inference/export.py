"""Parts of the exports of networks for programs without PyTorch."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.part import Network

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}
"""Largest accepted difference from PyTorch's fp32 output for images in [0, 1], by the dtype of the file."""


@dataclass(frozen=True)
class Exported:
    """Properties of a written file, or of the two files of a split network.

    Attributes:
        files: paths of the files.
        opset: version of the ONNX operators; None for files of ncnn.
        bytes: size of the files together.
        difference: largest difference from PyTorch's fp32 output, for images in [0, 1]; None if the library that runs
            the files is not installed, and for int8.
        psnr: mean PSNR in dB of int8, relative to PyTorch's fp32 output for the pictures of the calibration.
    """

    files: tuple[Path, ...]
    opset: int | None
    bytes: int
    difference: float | None
    psnr: float | None = None


@dataclass(frozen=True)
class Graph:
    """A file to write: its path, the network, examples of its inputs by name, and the name of its output."""

    dst: Path
    network: nn.Module
    inputs: dict[str, torch.Tensor]
    output: str


def graphs_of(model: Network, lq: torch.Tensor, src: Path, dst: Path, split: bool) -> list[Graph]:
    """Return the network as one file, or its estimator and its restorer as two, with ``lq`` as an example of the input.

    Raises:
        UserError: ``split`` is True, and the network has no estimator of its own.
    """
    if not split:
        return [Graph(dst, model, {"lq": lq}, "sr")]
    if not isinstance(model, BlindSR):
        raise UserError(f"{src}: a {type(model).__name__} has no estimator of its own; export it without --split")
    with torch.no_grad():
        idr = model.estimator(lq)
    return [
        Graph(dst.with_name(f"{dst.stem}_estimator{dst.suffix}"), model.estimator, {"lq": lq}, "idr"),
        Graph(dst.with_name(f"{dst.stem}_restorer{dst.suffix}"), _Restorer(model), {"lq": lq, "idr": idr}, "sr"),
    ]


def check_target(dst: Path, module: str, advice: str) -> None:
    """Raise `UserError` if the folder of a file to write or the module that writes it is missing."""
    if not dst.parent.is_dir():
        raise UserError(f"{dst}: there is no folder {dst.parent}")
    try:
        import_module(module)
    except ImportError:
        raise UserError(advice) from None


def refuse_folders(files: Iterable[Path]) -> None:
    """Raise `UserError` if a file to write is a folder, because several files are renamed one after the other."""
    for file in files:
        if file.is_dir():
            raise UserError(f"{file}: a folder; choose another name")


class _Restorer(nn.Module):
    """The restorer of a network, with the IDR as its second input."""

    def __init__(self, model: BlindSR) -> None:
        super().__init__()
        self.restorer = model.restorer

    def forward(self, lq: torch.Tensor, idr: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.restorer(lq, self.restorer.guides(idr, *lq.shape[2:]))
        return out


def without_batch_norms(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode with every batch norm folded into its convolution.

    PyTorch 2.6 cannot export batch norms with current onnxscript.
    """
    model = deepcopy(model).eval()
    for layers in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for i, (conv, norm) in enumerate(pairwise(list(layers))):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                layers[i], layers[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return model
