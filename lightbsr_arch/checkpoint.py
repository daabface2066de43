"""Reading and writing of weights: our ``.safetensors``, BasicSR's ``.pth`` and the authors' published checkpoints.

Only tensors are unpickled. The network is rebuilt from the configuration in the file or from the shapes of its tensors.
Neither is trusted: only registered networks are built (``archs/part.py``), only in sizes for which the file has the
tensors, and weights must be finite floating-point numbers.
"""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from lightbsr.errors import UserError
from lightbsr.shipped import find_weights
from lightbsr_arch.archs.part import Network, State, add_kept_apart, kept_apart
from lightbsr_arch.io import write_whole
from lightbsr_arch.stored_network import OLDEST_TYPE, check_network, class_of, on_meta, read_off_shapes, shown

WRAPPERS = ("params_ema", "params-ema", "params", "state_dict", "model_state_dict", "model", "net", "net_g")
"""Keys under which training programs save a network's tensors. The first one that exists is used."""

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_MOST_TENSORS = 30_000
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
        if extra := on_meta(self.type, self.network).extra_input:
            metadata["extra_input"] = extra  # for `lightbsr models`, which builds no network
        # Copies, as safetensors refuses tensors that share memory.
        state = {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in self.state.items()}
        write_whole(Path(path), save(state, metadata))  # `save_file` would make the file readable only by its owner


def load(name_or_path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Network:
    """Load a network for inference.

    Args:
        name_or_path: the name of shipped weights, or a file: our ``.safetensors``, BasicSR's ``.pth`` of a registered
            network, or a checkpoint published by the authors of KDSR or LightBSR.
        device: device of the network.
        dtype: number format of the weights.

    Returns:
        The network, nearly always a ``BlindSR``, in eval mode. ``model(lq)`` takes RGB, N x 3 x H x W in [0, 1], and
        returns the SR image in the same form (not clamped); a teacher also needs its privileged input.

    Raises:
        UserError: the weights are missing, or the file is none of the above.
    """
    return read_checkpoint(find_weights(name_or_path)).build().to(device=device, dtype=dtype)


def convert(src: str | Path, dst: str | Path, pca: str | Path | None = None) -> Checkpoint:
    """Turn any checkpoint that ``load`` reads into our ``.safetensors``, tensors unchanged.

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
        content = _read_safetensors(path)[0]
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
    """Find the network that tensors belong to, by their names, ours or published, and their shapes.

    Raises:
        UserError: it names the ``source`` and says what does not fit.
    """
    found = read_off_shapes(state)
    if found is None:
        example = ", ".join(map(shown, list(state)[:3]))
        raise UserError(f"{source}: weights of no network of this package (it holds {example}, ...)")
    checkpoint = Checkpoint(found.state, found.network, type=found.type)
    _check_fit(checkpoint, source)
    return checkpoint


def load_weights(net: nn.Module, path: str | Path) -> None:
    """Load a ``.pth`` or ``.safetensors`` into a network of any architecture; ``params_ema`` is preferred to
    ``params``.

    Raises:
        UserError: see ``read_pth``; or the tensors belong to another network.
    """
    path = Path(path)
    state, _ = read_tensors(path)
    _refuse_misfits(net.state_dict(), state, path)
    net.load_state_dict(state)


def read_tensors(path: Path, key: str | None = None) -> tuple[State, dict[str, str]]:
    """Read the tensors of any network by their names, and the metadata of a ``.safetensors``.

    Args:
        path: a ``.safetensors`` or a ``.pth``.
        key: key of the tensors in a ``.pth``; if it is missing, the first of ``WRAPPERS`` is used.

    Raises:
        UserError: see ``read_pth`` and ``named_tensors``.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return named_tensors(read_pth(path), path, key), {}


def read_pth(path: str | Path) -> Any:
    """Load tensors and plain containers with ``torch.load`` on the CPU.

    Raises:
        UserError: the file is cut short, not a checkpoint, compressed, or holds other objects, which are not unpickled.
    """
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about kinds of tensors that are refused here
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := re.search(r"(?:GLOBAL|class) (\S+)", str(error)):
            text = f"holds more than tensors ({shown(found[1])}); not loaded, nothing was executed"
            raise UserError(f"{path}: {text}") from None
        raise UserError(f"{path}: no checkpoint, or one that is cut short; get the file again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UserError:
        raise
    except Exception:  # damaged files raise nearly anything in PyTorch's reader
        raise UserError(f"{path}: no checkpoint, or one that is cut short; get the file again") from None


def _check_archive(path: str | Path) -> None:
    """Refuse compressed files. PyTorch does not write them, but would unpack a small one to gigabytes."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        _check_number(len(entries), path)
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise UserError(f"{path}: a compressed archive; expected a file that PyTorch saved, or what is in it")


def _check_number(tensors: int, path: str | Path) -> None:
    if tensors > _MOST_TENSORS:
        raise UserError(f"{path}: holds {tensors} tensors, no network has more than {_MOST_TENSORS}")


def _read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            keys = file.keys()
            _check_number(len(keys), path)
            return _plain_names({key: file.get_tensor(key) for key in keys}, path), file.metadata() or {}
    except UserError:
        raise
    except Exception as error:  # safetensors' own exceptions, and PyTorch's for an unsupported dtype
        text = f"no safetensors file, or one that is cut short ({shown(str(error))})"
        raise UserError(f"{path}: {text}; get it again") from None


def _json_object(metadata: Mapping[str, str], key: str, path: Path) -> dict[str, Any]:
    text = metadata.get(key, "{}")
    with suppress(ValueError, RecursionError):
        content = json.loads(text) if len(text) <= _LONGEST_METADATA else None
        if isinstance(content, dict):
            return content
    raise UserError(f"{path}: its metadata {key!r} is no JSON object; get the file again, or convert the .pth")


def named_tensors(content: Any, path: str | Path, key: str | None = None) -> State:
    """Return a network's tensors by name, without the wrappers and prefixes of training programs.

    Args:
        content: result of ``read_pth``.
        path: file name for messages.
        key: the wrapper that is preferred.

    Raises:
        UserError: the content has other values than tensors, or a tensor that is not an ordinary array of numbers.
    """
    for _ in range(3):  # a limit, because a file may hold a mapping that holds itself
        if isinstance(content, Mapping):
            inner = (content.get(wrapper) for wrapper in (key, *WRAPPERS))
            content = next((value for value in inner if isinstance(value, Mapping) and value), content)
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path}: expected named tensors, found {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            text = f"{shown(name)} is a {type(value).__name__}, expected a tensor; is this a training state?"
            raise UserError(f"{path}: {text}")
        if problem := _no_plain_tensor(value):
            raise UserError(f"{path}: {shown(name)} {problem}; save it as a plain tensor")
    return _plain_names(content, path)


def _no_plain_tensor(value: torch.Tensor) -> str | None:
    if value.is_meta:
        return "is on the meta device, which keeps no numbers"
    if value.is_quantized or value.is_nested or value.layout != torch.strided:
        kind = "quantised" if value.is_quantized else "nested" if value.is_nested else "sparse"
        return f"is a {kind} tensor"
    repeats = any(stride == 0 and size > 1 for stride, size in zip(value.stride(), value.shape))
    if repeats or value.untyped_storage().nbytes() < value.numel() * value.element_size():
        return f"repeats fewer numbers than its shape {tuple(value.shape)} has (an expanded view)"
    return None


def _plain_names(tensors: Mapping[Any, torch.Tensor], path: str | Path) -> State:
    """Remove the prefixes of torch.compile, DataParallel and AveragedModel, and the counter of AveragedModel."""
    _check_number(len(tensors), path)
    state = {re.sub(r"^(module\.)+", "", str(key).replace("_orig_mod.", "")): value for key, value in tensors.items()}
    if len(state) < len(tensors):
        raise UserError(f"{path}: holds several tensors of one name, with and without a prefix (module., _orig_mod.)")
    state.pop("n_averaged", None)
    return state


def _check_fit(checkpoint: Checkpoint, path: str | Path) -> None:
    """Check the network before it is built, and its tensors against it.

    Raises:
        UserError: one line that names what is wrong: an argument, or the first tensors that do not fit.
    """
    try:
        check_network(checkpoint.type, checkpoint.network, checkpoint.state)
        net = on_meta(checkpoint.type, checkpoint.network)
    except Exception as error:  # networks raise any exception
        raise UserError(f"{path}: its network cannot be built: {error}") from None
    add_kept_apart(checkpoint.state, net)
    _refuse_misfits(net.state_dict(), checkpoint.state, path)
    apart = kept_apart(net)
    for key, value in checkpoint.state.items():
        is_missing = key in apart and bool(value.isnan().all())
        if not is_missing and not value.to(torch.float32).isfinite().all():
            raise UserError(f"{path}: {key} holds numbers that are not finite (NaN, infinity): no usable weights")


def _refuse_misfits(wanted_state: State, found_state: State, path: str | Path) -> None:
    wanted, found = ({key: tuple(value.shape) for key, value in state.items()} for state in (wanted_state, found_state))
    if wanted != found:
        differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        texts = [(shown(key), wanted.get(key, "none"), found.get(key, "none")) for key in differing[:10]]
        lines = [f"{key} (wanted {shape}, found {other})" for key, shape, other in texts]
        raise UserError(f"{path}: {len(differing)} tensors do not fit its network: {'; '.join(lines)}")
    for key, value in found_state.items():
        if value.is_complex() or (wanted_state[key].is_floating_point() and value.dtype not in _DTYPES):
            dtype = str(value.dtype).removeprefix("torch.")
            raise UserError(f"{path}: {key} is of {dtype}, expected floating-point numbers of 16, 32 or 64 bits")
