"""Estimator and restorer in OpenVINO, which runs them on the CPU in fp32.

Both are converted without ONNX and kept in the user's cache. The restorer receives the IDR of the whole picture, as in
PyTorch. Pictures are restored as a whole, not in strips.
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.idr import as_map, as_vector
from lightbsr_arch.archs.part import Advance, Estimator, Guides, Network, Restorer
from lightbsr_arch.inference.export import Graph, graphs_of, without_batch_norms

PARTS = ("estimator", "restorer")

EXAMPLE_SIZE, CHECKED_SIZE = (17, 22), (26, 51)
"""Heights and widths of the images for the conversion and for its check."""

TOLERANCE = 1e-3
"""Largest accepted difference from PyTorch's output for images in [0, 1]."""

OPTIONS = {
    "INFERENCE_PRECISION_HINT": "f32",  # the default is bf16 on some processors
    "PERFORMANCE_HINT": "LATENCY",
    "SNIPPETS_MODE": "DISABLE",  # OpenVINO 2026.4 crashes when it fuses the layers of LightBSR's restorer in fp32
}


def check_openvino(device: str | torch.device, dtype: torch.dtype) -> None:
    """Raise `UserError` if OpenVINO is not installed, the device is not the CPU, or the dtype is not fp32."""
    if str(device).partition(":")[0] not in ("auto", "cpu"):
        raise UserError(f"device {device}: OpenVINO runs on the CPU; use --device cpu, or --backend torch")
    if dtype != torch.float32:
        raise UserError("OpenVINO computes in fp32; use --dtype fp32, or --backend torch")
    if find_spec("openvino") is None:
        raise UserError("openvino is not installed: pip install 'lightbsr-arch[openvino]', or use --backend torch")


def with_openvino(model: Network, name: object) -> BlindSR:
    """Return a network whose parts run in OpenVINO. The first call for a network converts it.

    Args:
        model: a ``BlindSR`` without extra input, in eval mode and fp32 on the CPU.
        name: its name or file, for messages.

    Raises:
        UserError: the network is no ``BlindSR`` or cannot be converted, or the cache cannot be read or written.
    """
    if not isinstance(model, BlindSR):
        raise UserError(f"{name}: a {type(model).__name__} has no estimator of its own; use --backend torch")
    folder = cache_folder() / _digest(model)
    if not folder.is_dir():
        _convert(model, name, folder)
    return _assembled(model, folder)


class OpenVINOEstimator(Estimator):
    """An estimator in OpenVINO. In strips, the estimator in PyTorch runs, which returns the same IDR.

    Args:
        part: the estimator in PyTorch.
        run: takes ``lq``, 1 x 3 x H x W. Returns the IDR.
    """

    def __init__(self, part: Estimator, run: "_Compiled") -> None:
        super().__init__()
        self.part, self.run, self.idr_ch = part, run, part.idr_ch

    def estimate(self, lq: torch.Tensor, extra: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return torch.cat([self.run(image) for image in lq.split(1)]), {}

    def estimate_in_strips(self, lq: torch.Tensor, rows: int, advance: Advance) -> torch.Tensor:
        if rows < lq.shape[2]:
            return self.part.estimate_in_strips(lq, rows, advance)
        return super().estimate_in_strips(lq, rows, advance)


class OpenVINORestorer(Restorer):
    """A restorer in OpenVINO. Its only guide is the IDR, in the form that the network's estimator returns.

    Args:
        part: the restorer in PyTorch.
        run: takes ``lq``, 1 x 3 x H x W, and its IDR. Returns the SR image.
    """

    def __init__(self, part: Restorer, run: "_Compiled") -> None:
        super().__init__()
        self.part, self.run = part, run
        self.num_in_ch, self.num_out_ch, self.num_feat = part.num_in_ch, part.num_out_ch, part.num_feat
        self.idr_ch, self.scale = part.idr_ch, part.scale
        self.takes_map = run.dims[1] == 4

    def guides(self, idr: torch.Tensor, height: int, width: int) -> Guides:
        return {"idr": as_map(idr, height, width) if self.takes_map else as_vector(idr)}

    def forward(self, lq: torch.Tensor, guides: Guides) -> torch.Tensor:
        return torch.cat([self.run(*pair) for pair in zip(lq.split(1), guides["idr"].split(1))])

    def restore_in_strips(
        self, lq: torch.Tensor, guides: Guides, rows: int, advance: Advance
    ) -> Iterator[tuple[torch.Tensor, bool]]:
        height, width = lq.shape[2:]
        if rows < height:
            raise UserError(
                f"OpenVINO restores a picture of {width}x{height} as a whole, not {rows} rows at a time; use --tile 0 "
                "if the memory suffices, or --backend torch"
            )
        yield from super().restore_in_strips(lq, guides, rows, advance)


class _Compiled:
    """A converted part. Copies share it."""

    def __init__(self, file: Path) -> None:
        import openvino

        core = openvino.Core()
        try:
            found = core.read_model(file)
            self.dims = [port.partial_shape.rank.get_length() for port in found.inputs]
            self.model = core.compile_model(found, "CPU", {**OPTIONS, "INFERENCE_NUM_THREADS": torch.get_num_threads()})
        except RuntimeError as error:
            raise UserError(
                f"{file}: OpenVINO cannot run it ({_reason(error)}); delete its folder to convert the network again"
            ) from None

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Compiled":
        return self

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        try:
            result = self.model([np.ascontiguousarray(x.numpy()) for x in inputs])[0]
        except RuntimeError as error:
            height, width = inputs[0].shape[2:]
            raise UserError(
                f"OpenVINO cannot process a picture of {width}x{height} ({_reason(error)}); use --backend torch"
            ) from None
        return torch.from_numpy(np.array(result))


def _assembled(model: BlindSR, folder: Path) -> BlindSR:
    """Return a copy of a network that runs the converted parts of a folder."""
    estimator, restorer = (_Compiled(folder / f"{part}.xml") for part in PARTS)
    fast = copy(model)
    fast._modules = dict(model._modules)
    fast.estimator = OpenVINOEstimator(model.estimator, estimator)
    fast.restorer = OpenVINORestorer(model.restorer, restorer)
    fast.most_pixels = 2**31
    return fast.eval()


@torch.no_grad()
def _convert(model: BlindSR, name: object, folder: Path) -> None:
    """Write the converted parts as a folder, which appears whole or not at all."""
    generator = torch.Generator().manual_seed(0)
    example, checked = (
        torch.rand(1, model.num_in_ch, *size, generator=generator) for size in (EXAMPLE_SIZE, CHECKED_SIZE)
    )
    with _new_folder(folder) as unfinished:
        for part, graph in zip(PARTS, graphs_of(model, example, Path(str(name)), folder, split=True)):
            _save(graph, name, unfinished / f"{part}.xml")
        sr, wanted = _assembled(model, unfinished)(checked), model(checked)
        if sr.shape != wanted.shape or not (sr - wanted).abs().max() <= TOLERANCE:
            raise UserError(f"{name}: OpenVINO's output differs from PyTorch's; use --backend torch")


def _save(graph: Graph, name: object, file: Path) -> None:
    """Convert a part for images of any size, and write FILE.xml and FILE.bin.

    OpenVINO's ``convert_model`` calls the same functions, and also sends statistics of its use to the Internet.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    inputs = tuple(graph.inputs.values())
    frontend = FrontEndManager().load_by_framework("pytorch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes become numbers, which `_convert` checks with another size
            network = without_batch_norms(graph.network).requires_grad_(False)
            traced = torch.jit.trace(network, inputs, check_trace=False)
            decoder = TorchScriptPythonDecoder(traced, example_input=inputs)  # must outlive the conversion
            made = frontend.convert(frontend.load(decoder))
        for port, example in zip(made.inputs, inputs):
            sides = [-1] * (example.dim() - 2)
            port.get_node().set_partial_shape(openvino.PartialShape([*example.shape[:2], *sides]))
        made.validate_nodes_and_infer_types()
    except Exception as error:  # tracing and conversion raise errors of many types
        raise UserError(
            f"{name}: OpenVINO cannot convert this network ({_reason(error)}); use --backend torch"
        ) from error
    openvino.save_model(made, file, compress_to_fp16=False)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, which is renamed to ``folder`` after the block. It is removed after an error."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=folder.parent))
    except OSError as error:
        raise UserError(
            f"{folder.parent}: cannot be written: {error.strerror}; set XDG_CACHE_HOME to another folder"
        ) from None
    try:
        yield unfinished
        with suppress(OSError):  # another process has written the same folder
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def cache_folder() -> Path:
    """Return the folder of converted networks, ``lightbsr/openvino`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise UserError("there is no home folder for the converted networks; set XDG_CACHE_HOME to a folder") from None
    return cache / "lightbsr" / "openvino"


def _digest(model: BlindSR) -> str:
    """Return a digest of the weights, the arguments of the network, and the versions of OpenVINO and this package."""
    digest = hashlib.sha256()
    digest.update(json.dumps([version("openvino"), version("lightbsr-arch"), model.config]).encode())
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
