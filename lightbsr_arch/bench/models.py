"""One interface to all models: networks of this package, BasicSR and spandrel, ONNX, ncnn, and bicubic."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from basicsr.archs import build_network
from torch import nn

from lightbsr.errors import UserError, reason_of
from lightbsr_arch.archs.part import extra_input
from lightbsr_arch.archs.window_padding import upscale_any_size
from lightbsr_arch.bench.ncnn_net import NcnnNet
from lightbsr_arch.bench.pairs import Pair
from lightbsr_arch.checkpoint import load
from lightbsr_arch.degradations import bicubic_resize
from lightbsr_arch.inference.self_ensemble import TURNS, self_ensemble
from lightbsr_arch.weight_files import load_weights

BICUBIC = "bicubic"


@dataclass(frozen=True)
class ModelSpec:
    """A model before it is loaded.

    Attributes:
        name: its name in tables.
        weights: a file, or "bicubic".
        network: the options of a network that is not a BlindSR.
        self_ensemble: whether the output is the mean over the eight flips and transposes of the LR image.
        ncnn: the network, if ``weights`` is its .bin file.
        spandrel: whether spandrel loads the file, whatever its architecture.
    """

    name: str
    weights: str
    network: dict[str, Any] | None = None
    self_ensemble: bool = False
    ncnn: NcnnNet | None = None
    spandrel: bool = False

    @property
    def is_ours(self) -> bool:
        """Return whether the bench loads the weights as those of a BlindSR."""
        if self.ncnn is not None or self.spandrel or self.network is not None:
            return False
        return self.weights != BICUBIC and not self.weights.endswith(".onnx")

    def digest(self) -> str:
        """Return a digest of everything that the result depends on: the content of files, and the network's options."""
        options = json.dumps(self.network, sort_keys=True).encode()
        if self.ncnn is not None:
            content = b"ncnn" + self.ncnn.content()
        else:
            content = b"" if self.weights == BICUBIC else Path(self.weights).read_bytes()
        if self.spandrel:
            options += b"spandrel"
        return hashlib.sha256(options + content + b"x8" * self.self_ensemble).hexdigest()

    def load(self, scale: int, device: torch.device) -> "Upscaler":
        """Load the model.

        Raises:
            UserError: the file contains no weights, those of another network or of another scale, a library is missing,
                or the model is a teacher and has ``self_ensemble``.
        """
        upscaler = self._load(scale, device)
        if not self.self_ensemble:
            return upscaler
        if upscaler.sees is not None:
            raise UserError(f"{self.weights}: self_ensemble cannot transform a teacher's extra input, {upscaler.sees}")
        run = upscaler.run
        return replace(
            upscaler, run=lambda pair: self_ensemble(lambda lq: run(pair._replace(lq=lq)), pair.lq), runs=len(TURNS)
        )

    def _load(self, scale: int, device: torch.device) -> "Upscaler":
        if self.weights == BICUBIC:
            return Upscaler(lambda pair: bicubic_resize(pair.lq, scale), device)
        if self.ncnn is not None:
            run = self.ncnn.load()
            return Upscaler(lambda pair: run(pair.lq), torch.device("cpu"))
        if self.spandrel:
            return _spandrel_model(self.weights, scale, device)
        if self.weights.endswith(".onnx"):
            return Upscaler(_onnx_session(self.weights, device), torch.device("cpu"))
        net = load(self.weights, device) if self.network is None else self._other_network().to(device)

        def upscale(pair: Pair) -> torch.Tensor:
            return upscale_any_size(net, pair.lq, *extra_input(net, pair._asdict()))

        return Upscaler(upscale, device, net, getattr(net, "extra_input", None))

    def _other_network(self) -> nn.Module:
        assert self.network is not None
        logging.getLogger("basicsr").setLevel(logging.WARNING)  # BasicSR reports every network that it builds
        try:
            net: nn.Module = build_network(self.network)
        except Exception as error:  # constructors raise any exception
            raise UserError(f"{self.network['type']} cannot be built: {error}") from error
        load_weights(net, self.weights)
        return net.eval()


@dataclass(frozen=True)
class Upscaler:
    """A loaded model. A call takes a `Pair` and returns the SR image, 1 x 3 x H x W, not clamped.

    Attributes:
        run: the model itself.
        device: device of its input.
        net: its module, or None if it is not a PyTorch module.
        sees: the extra input of the model: "gt", "prior" or None.
        runs: number of runs per image.
    """

    run: Callable[[Pair], torch.Tensor]
    device: torch.device
    net: nn.Module | None = None
    sees: str | None = None
    runs: int = 1

    @torch.inference_mode()
    def __call__(self, pair: Pair) -> torch.Tensor:
        pair = pair.to(self.device)
        sr = self.run(pair).float().cpu()
        if sr.shape != pair.gt.shape:
            given, wanted = (f"{shape[-1]}x{shape[-2]}" for shape in (sr.shape, pair.gt.shape))
            raise UserError(f"returns a picture of {given}, expected {wanted}; its scale may differ")
        if not sr.isfinite().all():
            raise UserError("returns pixels that are not finite (NaN or infinity)")
        return sr


def _onnx_session(path: str, device: torch.device) -> Callable[[Pair], torch.Tensor]:
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{path}: ONNX files need onnxruntime: pip install onnxruntime") from None
    providers = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(path, options, [*providers, "CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions are not public
        raise UserError(f"{path}: onnxruntime cannot load it: {error}") from None
    name = session.get_inputs()[0].name
    return lambda pair: torch.from_numpy(session.run(None, {name: pair.lq.numpy()})[0])


def _spandrel_model(path: str, scale: int, device: torch.device) -> Upscaler:
    try:
        from spandrel import MAIN_REGISTRY, ImageModelDescriptor, ModelLoader

        from lightbsr_arch.spandrel_plugin import supports
    except ImportError:
        raise UserError(f"{path}: spandrel is not installed: pip install 'lightbsr-arch[spandrel]'") from None
    registry = MAIN_REGISTRY.copy()
    registry.add(*supports(), ignore_duplicates=True)
    try:
        model = ModelLoader(device, registry).load_from_file(path)
    except Exception as error:  # from spandrel, pickle or the architecture
        raise UserError(f"{path}: spandrel cannot load it: {reason_of(error)}") from None
    found = f"{path}: the weights of {model.architecture.name}"
    if not isinstance(model, ImageModelDescriptor) or (model.input_channels, model.output_channels) != (3, 3):
        raise UserError(f"{found}, expected those of a network from an RGB image to an RGB image")
    if model.scale != scale:
        raise UserError(f"{found} x{model.scale}, the bench is x{scale}")
    model.eval()
    return Upscaler(lambda pair: model(pair.lq), device, model.model)
