"""Tensors of files: our ``.safetensors`` and ``.pth`` of any training program, read without executing code.

Only tensors are unpickled. Only this module decides in which order keys such as ``params`` are looked for, and how a
message describes weights that do not fit a network.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from lightbsr.errors import UserError

State = dict[str, torch.Tensor]

WRAPPERS = ("params_ema", "params-ema", "params", "state_dict", "model_state_dict", "model", "net", "net_g")
"""Keys under which training programs save a network's tensors. The first one that exists is used."""

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_MOST_TENSORS = 30_000


def read_tensors(path: Path, key: str | None = None) -> tuple[State, dict[str, str]]:
    """Read the tensors of any network by their names, and the metadata of a ``.safetensors``.

    Args:
        path: a ``.safetensors`` or a ``.pth``.
        key: key of the tensors in a ``.pth``. If the file lacks it, the first of ``WRAPPERS`` that exists is used.

    Raises:
        UserError: see ``read_pth`` and ``named_tensors``.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    return named_tensors(read_pth(path), path, key), {}


def read_pth(path: str | Path) -> Any:
    """Load tensors and plain containers with ``torch.load`` on the CPU.

    Raises:
        UserError: the file is cut short, not a checkpoint, compressed, or holds other objects, which are not unpickled.
    """
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about kinds of tensors that are refused later
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
            raise UserError(f"{path}: a compressed archive; unpack it, and name the file that PyTorch saved")


def _check_number(tensors: int, path: str | Path) -> None:
    if tensors > _MOST_TENSORS:
        raise UserError(f"{path}: holds {tensors} tensors, no network has more than {_MOST_TENSORS}")


def read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
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


def named_tensors(content: Any, path: str | Path, key: str | None = None) -> State:
    """Return a network's tensors by name, without the wrappers and prefixes of training programs.

    Args:
        content: result of ``read_pth``.
        path: file name for messages.
        key: the wrapper that is tried first.

    Raises:
        UserError: the content has other values than tensors, or a tensor that is not an ordinary array of numbers.
    """
    for _ in range(3):  # a limit, because a mapping in a file may contain itself
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


def load_weights(net: nn.Module, path: str | Path) -> None:
    """Load a ``.pth`` or ``.safetensors`` into a network of any architecture; see ``WRAPPERS`` for the order of keys.

    Raises:
        UserError: see ``read_tensors``; or the tensors belong to another network.
    """
    state, _ = read_tensors(Path(path))
    if problem := misfits(net, state):
        raise UserError(f"{path}: {problem}")
    net.load_state_dict(state)


def misfits(net: nn.Module, found: State) -> str | None:
    """Return one line about the tensors that do not fit a network by name, shape or kind of number, or None."""
    wanted = net.state_dict()
    shapes, found_shapes = ({key: tuple(value.shape) for key, value in state.items()} for state in (wanted, found))
    differing = [key for key in {**wanted, **found} if shapes.get(key) != found_shapes.get(key)]
    if differing:
        texts = [
            f"{shown(key)} (wanted {shapes.get(key, 'none')}, found {found_shapes.get(key, 'none')})"
            for key in differing[:10]
        ]
        return f"{len(differing)} weights do not fit {type(net).__name__}: {'; '.join(texts)}"
    for key, value in found.items():
        if value.is_complex() or (wanted[key].is_floating_point() and value.dtype not in _DTYPES):
            dtype = str(value.dtype).removeprefix("torch.")
            return f"{key} is of {dtype}, expected floating-point numbers of 16, 32 or 64 bits"
    return None


def shown(text: Any) -> str:
    """Return text from a file, shortened for one line of a message."""
    text = str(text)
    short = text if len(text) <= 80 else f"{text[:77]}..."
    return short if short.isprintable() else ascii(short)
