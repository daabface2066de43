"""Networks with their weights: our ``.safetensors``, BasicSR's ``.pth`` and the authors' published checkpoints.

The network is rebuilt from the configuration in the file or from the shapes of its tensors. Neither is trusted: only
registered networks are built (``archs/part.py``), only in sizes for which the file has the tensors, and weights must be
finite floating-point numbers. ``weight_files`` reads the files.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from lightbsr.errors import UserError
from lightbsr.shipped import find_weights
from lightbsr_arch.archs.part import Network, State, complete, kept_apart
from lightbsr_arch.device import check_dtype, find_device
from lightbsr_arch.io import write_whole
from lightbsr_arch.stored_network import OLDEST_TYPE, check_network, class_of, on_meta, read_off_shapes
from lightbsr_arch.weight_files import misfits, read_pth, read_safetensors, read_tensors, shown

_LONGEST_METADATA = 10**6


@dataclass
class Checkpoint:
    """A network's tensors, with the arguments to rebuild it and its description.

    Attributes:
        state: tensors by the names of the network's ``state_dict()``.
        network: the keyword arguments of the network.
        card: information about the weights (data, degradation, iterations, measured PSNR).
        type: the registered name of the network.
    """

    state: State
    network: dict[str, Any]
    card: dict[str, Any] = field(default_factory=dict)
    type: str = OLDEST_TYPE

    @property
    def sections(self) -> list[dict[str, Any]]:
        """Name and arguments of the network's parts, or of the network itself if it has none."""
        parts = [part for part in self.network.values() if isinstance(part, dict)]
        return parts or [{"type": self.type, **self.network}]

    def build(self) -> Network:
        """Return the network with these weights, in eval mode, as fp32 on the CPU."""
        model: Network = class_of(self.type)(**self.network)
        model.load_state_dict(self.state)
        return model.eval()

    def save(self, path: str | Path) -> None:
        """Write ``.safetensors``; the file appears whole or not at all."""
        metadata = {"format": "pt", "network": json.dumps(self.network), "card": json.dumps(self.card)}
        metadata["type"] = self.type
        net = on_meta(self.type, self.network)
        if net.extra_input:
            metadata["extra_input"] = net.extra_input  # for `lightbsr models`, which builds no network
        # Copies, as safetensors refuses tensors that share memory.
        state = {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in self.state.items()}
        complete(state, net)
        write_whole(Path(path), save(state, metadata))  # `save_file` would make the file readable only by its owner


def load(name_or_path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Network:
    """Load a network for inference.

    Args:
        name_or_path: the name of shipped weights, or a file: our ``.safetensors``, BasicSR's ``.pth`` of a registered
            network, or a checkpoint published by the authors of KDSR or LightBSR.
        device: device of the network: "cpu", "cuda", "mps", or "auto" for the first available of "cuda", "mps", "cpu".
        dtype: number format of the weights: ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``.

    Returns:
        The network, usually a ``BlindSR``, in eval mode. ``model(lq)`` takes RGB, N x 3 x H x W in [0, 1], and
        returns the SR image in the same form (not clamped); a teacher also needs its privileged input.

    Raises:
        UserError: the weights or the device are missing, or the file is none of the above.
        ValueError: ``dtype`` is no floating-point dtype of PyTorch.
    """
    check_dtype(dtype)
    return read_checkpoint(find_weights(name_or_path)).build().to(device=find_device(device), dtype=dtype)


def convert(src: str | Path, dst: str | Path, pca: str | Path | None = None) -> Checkpoint:
    """Convert any checkpoint that ``load`` reads to our ``.safetensors``. The tensors stay unchanged.

    Args:
        src: the checkpoint.
        dst: the file to write, NAME.safetensors.
        pca: the authors' PCA of blur kernels, which a published LightBSR teacher needs; see ``read_pca``.

    Raises:
        UserError: see ``read_checkpoint`` and ``read_pca``; ``dst`` is then not written.
    """
    dst = Path(dst)
    if dst.suffix != ".safetensors":
        raise UserError(f"{dst}: the converted file must be named .safetensors")
    checkpoint = read_checkpoint(src)
    if pca is not None:
        _set_pca(checkpoint, src, pca)
    checkpoint.save(dst)
    return checkpoint


def read_pca(path: str | Path) -> torch.Tensor:
    """Read the authors' PCA of blur kernels, a matrix of pixels x numbers.

    Args:
        path: a ``.mat`` of MATLAB, a ``.safetensors`` or a ``.pth`` with the matrix under ``pca`` or as its only
            matrix.

    Raises:
        UserError: the file is missing, or does not hold one matrix.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    content: Any
    if path.suffix == ".mat":
        content = _read_mat(path)
    elif path.suffix == ".safetensors":
        content = read_safetensors(path)[0]
    else:
        content = read_pth(path)
    if isinstance(content, Mapping):
        content = content["pca"] if "pca" in content else next(iter(content.values())) if len(content) == 1 else None
    if not isinstance(content, torch.Tensor) or content.dim() != 2:
        raise UserError(f"{path}: expected one matrix, the PCA of blur kernels, or one that is called pca")
    return content.float()


def _read_mat(path: Path) -> State:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        arrays = loadmat(path)
    except (MatReadError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a MATLAB file: {error}") from None
    is_float = {"float32", "float64"}
    return {key: torch.from_numpy(x) for key, x in arrays.items() if str(getattr(x, "dtype", None)) in is_float}


def _set_pca(checkpoint: Checkpoint, src: str | Path, path: str | Path) -> None:
    matrix = read_pca(path)
    try:
        changed = class_of(checkpoint.type).with_pca(checkpoint.network, matrix)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if changed is None:
        name = next(iter(checkpoint.sections))["type"]
        raise UserError(f"{src}: a {name} takes no PCA of blur kernels; leave {path} out")
    checkpoint.network = changed[0]
    checkpoint.state.update(changed[1])


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read weights without executing code that the file may hold.

    Raises:
        UserError: the file is missing or cut short, holds other objects than tensors, belongs to no network of this
            package, or its weights are not finite floating-point numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    state, metadata = read_tensors(path)
    if "network" not in metadata:
        return recognise(state, path)
    network, card = (_json_object(metadata, key, path) for key in ("network", "card"))
    checkpoint = Checkpoint(state, network, card, metadata.get("type", OLDEST_TYPE))
    _check_fit(checkpoint, path)
    return checkpoint


def recognise(state: State, source: str | Path) -> Checkpoint:
    """Find the network to which tensors belong, by their shapes and their names (ours or the published ones).

    Raises:
        UserError: the tensors belong to no network of this package, or some do not fit. The message names ``source``.
    """
    found = read_off_shapes(state)
    if found is None:
        example = ", ".join(map(shown, list(state)[:3]))
        raise UserError(f"{source}: weights of no network of this package (it holds {example}, ...)")
    checkpoint = Checkpoint(found.state, found.network, type=found.type)
    _check_fit(checkpoint, source)
    return checkpoint


def _json_object(metadata: Mapping[str, str], key: str, path: Path) -> dict[str, Any]:
    text = metadata.get(key, "{}")
    with suppress(ValueError, RecursionError):
        content = json.loads(text) if len(text) <= _LONGEST_METADATA else None
        if isinstance(content, dict):
            return content
    raise UserError(f"{path}: its metadata {key!r} is no JSON object; get the file again, or convert the .pth")


def _check_fit(checkpoint: Checkpoint, path: str | Path) -> None:
    """Check the network before it is built, and its tensors against it.

    Raises:
        UserError: the network cannot be built from its arguments, or tensors do not fit it or are not finite.
    """
    try:
        check_network(checkpoint.type, checkpoint.network, checkpoint.state)
        net = on_meta(checkpoint.type, checkpoint.network)
    except Exception as error:  # networks raise any exception
        raise UserError(f"{path}: its network cannot be built: {error}") from None
    complete(checkpoint.state, net)
    if problem := misfits(net, checkpoint.state):
        raise UserError(f"{path}: {problem}")
    apart = kept_apart(net)
    for key, value in checkpoint.state.items():
        is_missing = key in apart and bool(value.isnan().all())
        if not is_missing and not value.to(torch.float32).isfinite().all():
            raise UserError(f"{path}: {key} holds numbers that are not finite (NaN, infinity): no usable weights")
