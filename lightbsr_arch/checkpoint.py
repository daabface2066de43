"""Weights in and out: our ``.safetensors``, BasicSR's ``.pth`` and the authors' published checkpoints.

Whatever the file, nothing but tensors is ever unpickled, and the network is rebuilt either from the configuration
stored in the file or from the shapes of its tensors.
"""

import json
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.degradation_prior import DegradationPrior
from lightbsr_arch.errors import UserError
from lightbsr_cli.shipped import find_weights

State = dict[str, torch.Tensor]


@dataclass
class Checkpoint:
    """A network's tensors with all that is needed to rebuild and describe it.

    Attributes:
        state: tensors by the names of ``BlindSR.state_dict()``.
        network: the keyword arguments of ``BlindSR``.
        card: what is known about the weights (data, degradation, iterations, measured PSNR).
    """

    state: State
    network: dict[str, Any]
    card: dict[str, Any] = field(default_factory=dict)

    def build(self) -> BlindSR:
        """The network with these weights, in eval mode, as fp32 on the CPU."""
        model = BlindSR(**self.network)
        model.load_state_dict(self.state)
        return model.eval()

    def save(self, path: str | Path) -> None:
        """Write ``.safetensors``; the file appears whole or not at all."""
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        metadata = {"format": "pt", "network": json.dumps(self.network), "card": json.dumps(self.card)}
        try:
            save_file({key: value.contiguous() for key, value in self.state.items()}, unfinished, metadata)
            unfinished.replace(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path}: cannot be written: {error}") from error
        finally:
            unfinished.unlink(missing_ok=True)


def load(name_or_path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> BlindSR:
    """Load a network for inference.

    Args:
        name_or_path: the name of shipped weights, or a file: our ``.safetensors``, BasicSR's ``.pth`` of a BlindSR
            network, or a checkpoint published by the authors of KDSR or LightBSR.
        device: where the network is to run.
        dtype: of its weights.

    Returns:
        The network in eval mode. ``model(lq)`` takes RGB, N x 3 x H x W in [0, 1], and gives the SR image likewise
        (not clamped); a teacher also wants its privileged input.

    Raises:
        UserError: no such weights, or a file that is none of the above.
    """
    return read_checkpoint(find_weights(name_or_path)).build().to(device=device, dtype=dtype)


def convert(src: str | Path, dst: str | Path) -> Checkpoint:
    """Turn any checkpoint that ``load`` reads into our ``.safetensors``, tensors unchanged.

    Raises:
        UserError: see ``read_checkpoint``; ``dst`` is then not written.
    """
    dst = Path(dst)
    if dst.suffix != ".safetensors":
        raise UserError(f"{dst}: the converted file must be named .safetensors")
    checkpoint = read_checkpoint(src)
    checkpoint.save(dst)
    return checkpoint


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read weights without executing anything that the file may hold.

    Raises:
        UserError: the file is missing, cut short, holds anything but tensors, or is of no network of this package.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
    else:
        state, metadata = _unwrap(read_pth(path), path), {}
    if "network" in metadata:
        checkpoint = Checkpoint(state, json.loads(metadata["network"]), json.loads(metadata.get("card", "{}")))
        _check_fit(checkpoint, path)
        return checkpoint
    return recognise(state, path)


def recognise(state: State, source: str | Path) -> Checkpoint:
    """The network that tensors are of, by their names, ours or published, and their shapes.

    Raises:
        UserError: it names the ``source`` and says what does not fit.
    """
    state = canonical_names(state)
    checkpoint = Checkpoint(state, _read_off_shapes(state, source))
    _check_fit(checkpoint, source)
    return checkpoint


def load_weights(net: nn.Module, path: str | Path) -> None:
    """Load a BasicSR ``.pth`` into a network of any architecture; ``params_ema`` goes before ``params``.

    Raises:
        UserError: see ``read_pth``; or the tensors are not those of this network.
    """
    path = Path(path)
    state = _unwrap(read_pth(path), path)
    _refuse_misfits(net.state_dict(), state, path)
    net.load_state_dict(state)


def read_tensors(path: Path) -> State:
    """The tensors of a ``.safetensors`` by their names, whatever network they are of.

    Raises:
        UserError: the file is none, or is cut short.
    """
    return _read_safetensors(path)[0]


def read_pth(path: str | Path) -> Any:
    """``torch.load`` of tensors and plain containers, on the CPU.

    Raises:
        UserError: the file is cut short, no checkpoint at all, or holds other objects, which are not unpickled.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := re.search(r"(?:GLOBAL|class) (\S+)", str(error)):
            raise UserError(f"{path}: holds more than tensors ({found[1]}); not loaded, nothing was executed") from None
        raise UserError(f"{path}: no checkpoint, or one that is cut short; get the file again") from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError):
        raise UserError(f"{path}: no checkpoint, or one that is cut short; get the file again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: no safetensors file, or one that is cut short ({error}); get it again") from None


def _unwrap(content: Any, path: Path) -> State:
    """The tensors by name, out of the wrappers that training programs put around them."""
    for wrapper in ("params_ema", "params", "state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path}: expected named tensors, found {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise UserError(f"{path}: {key} is a {type(value).__name__}, expected a tensor; is this a training state?")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


# The authors' names and ours, both systems in one table: they hold the restorer as G and the estimator as E or E_st.
# LightBSR's teacher has an embedding besides, of which no published file is known here: two linear layers, as E.mlp.
_PUBLISHED_NAMES = [
    (r"E(?:_st)?\.E\.", "estimator.features."),
    (r"E(?:_st)?\.mlp\.", "estimator.mlp."),
    (r"E(?:_st)?\.compress\.", "estimator.to_idr."),
    (r"G\.head\.0\.", "restorer.head."),
    (r"G\.body\.0\.body\.(\d+)\.da_conv1\.kernel\.", r"restorer.body.\1.ddc.kernel."),
    (r"G\.body\.0\.body\.(\d+)\.conv1\.", r"restorer.body.\1.conv."),
    (r"G\.compress\.0\.", "restorer.to_channel_guide."),
    (r"G\.afterpixshuffle\.0\.", "restorer.to_spatial_guide."),
    (r"G\.body\.(\d+)\.ca_change\.avgafter\.", r"restorer.body.\1.refine_channel."),
    (r"G\.body\.(\d+)\.xk_change\.sig1\.", r"restorer.body.\1.refine_spatial."),
    (r"(G\.body\.\d+\.body\.\d+)\.spatial_mixing\.loc\.avgafter\.", r"\1.channel_gate."),
    (r"(G\.body\.\d+\.body\.\d+)\.spatial_mixing\.spatial_attention\.", r"\1.spatial_gate."),
    (r"(G\.body\.\d+\.body\.\d+)\.spatial_mixing\.partial_conv3\.", r"\1.local_conv."),
    (r"(G\.body\.\d+\.body\.\d+)\.pwconv1\.", r"\1.expand."),
    (r"(G\.body\.\d+\.body\.\d+)\.pwconv2\.", r"\1.reduce."),
    (r"(G\.body\.\d+\.body\.\d+)\.gamma$", r"\1.layer_scale"),
    (r"G\.body\.(\d+)\.body\.\d+\.(weight|bias)$", r"restorer.body.\1.conv.\2"),
    (r"G\.body\.(\d+)\.body\.(\d+)\.", r"restorer.body.\1.body.\2."),
    (r"G\.body\.\d+\.(weight|bias)$", r"restorer.after_body.\1"),
    (r"G\.tail\.0\.", "restorer.upsample."),
    (r"G\.tail\.1\.", "restorer.tail."),
]
# The mean shifts are constants: 1x1 convolutions in the published code, not parameters of ours.
_PUBLISHED_CONSTANTS = re.compile(r"G\.(add|sub)_mean\.")


def canonical_names(state: Mapping[str, torch.Tensor]) -> State:
    """Rename published tensors to ours; our own names pass unchanged."""
    renamed = {}
    for key, value in state.items():
        if _PUBLISHED_CONSTANTS.match(key):
            continue
        for published, ours in _PUBLISHED_NAMES:
            key = re.sub(f"^{published}", ours, key)
        renamed[key] = value
    return renamed


def _read_off_shapes(state: State, path: str | Path) -> dict[str, Any]:
    """The arguments of ``BlindSR``, of which every one shows in some tensor's shape."""
    try:
        estimator = _lightide if "estimator.features.1.running_mean" in state else _kdide
        restorer = _lightbsrnet if "restorer.to_channel_guide.weight" in state else _idrdcrbnet
        return {"estimator": estimator(state), "restorer": restorer(state)}
    except (KeyError, IndexError):
        example = ", ".join(list(state)[:3])
        raise UserError(f"{path}: weights of no network of this package (it holds {example}, ...)") from None


def _kdide(state: State) -> dict[str, Any]:
    num_feat, channels = state["estimator.features.0.weight"].shape[:2]
    num_block = _count(state, r"estimator\.features\.(\d+)\.body\.0\.weight")
    arguments: dict[str, Any] = {"num_feat": num_feat, "num_block": num_block}
    if channels == 3:
        return {"type": "KDIDEStudent", **arguments}
    return {"type": "KDIDETeacher", **arguments, "scale": round(((channels - 3) / 3) ** 0.5)}


def _lightide(state: State) -> dict[str, Any]:
    num_feat, channels = state["estimator.features.0.weight"].shape[:2]
    if channels == 3:
        return {"type": "LightIDEStudent", "num_feat": num_feat}
    if "estimator.prior.components" not in state:
        # The authors keep the PCA elsewhere: without it the network takes the numbers that it gives, not the kernels.
        unfitted = DegradationPrior(num_kernel_ch=15, num_noise_ch=channels - 18, kernel_size=21)
        state.update({f"estimator.prior.{key}": value for key, value in unfitted.state_dict().items()})
    num_kernel_ch, pixels = state["estimator.prior.components"].shape
    return {
        "type": "LightIDETeacher",
        "num_feat": num_feat,
        "num_kernel_ch": num_kernel_ch,
        "num_noise_ch": channels - 3 - num_kernel_ch,
        "kernel_size": round(pixels**0.5),
    }


def _idrdcrbnet(state: State) -> dict[str, Any]:
    num_feat = state["restorer.head.weight"].shape[0]
    num_block = _count(state, r"restorer\.body\.(\d+)\.conv\.weight")
    return {"type": "IDRDCRBNet", "num_feat": num_feat, "num_block": num_block, "scale": _scale(state)}


def _lightbsrnet(state: State) -> dict[str, Any]:
    return {
        "type": "LightBSRNet",
        "num_feat": state["restorer.head.weight"].shape[0],
        "num_group": _count(state, r"restorer\.body\.(\d+)\.conv\.weight"),
        "num_block": _count(state, r"restorer\.body\.0\.body\.(\d+)\.local_conv\.weight"),
        "idr_ch": state["restorer.to_channel_guide.weight"].shape[1],
        "scale": _scale(state),
    }


def _scale(state: State) -> int:
    """Of BasicSR's ``Upsample``: one step of 3, or steps of 2."""
    steps = _count(state, r"restorer\.upsample\.(\d+)\.weight")
    after, before = state["restorer.upsample.0.weight"].shape[:2]
    return round((after / before) ** 0.5) ** steps


def _count(state: State, pattern: str) -> int:
    return sum(re.fullmatch(pattern, key) is not None for key in state)


def _check_fit(checkpoint: Checkpoint, path: str | Path) -> None:
    """One line that names the first tensors that do not fit, instead of PyTorch's page."""
    try:
        with torch.device("meta"):
            wanted = BlindSR(**checkpoint.network).state_dict()
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{path}: its network cannot be built: {error}") from None
    _refuse_misfits(wanted, checkpoint.state, path)


def _refuse_misfits(wanted_state: State, found_state: State, path: str | Path) -> None:
    wanted, found = ({key: tuple(value.shape) for key, value in state.items()} for state in (wanted_state, found_state))
    if wanted == found:
        return
    differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
    lines = [f"{key} (wanted {wanted.get(key, 'none')}, found {found.get(key, 'none')})" for key in differing[:10]]
    raise UserError(f"{path}: {len(differing)} tensors do not fit its network: {'; '.join(lines)}")
