"""Weights of the VGG networks of a perceptual loss. They are read from a file and never downloaded."""

from pathlib import Path

import torch
from basicsr.archs.vgg_arch import NAMES, insert_bn
from torch import nn
from torchvision import models

from lightbsr.errors import UserError
from lightbsr_arch.io import sha256
from lightbsr_arch.weight_files import read_pth


def layers(vgg_type: str) -> list[str]:
    """Return the names of a network's layers, which are the keys of ``layer_weights``."""
    names: list[str] = insert_bn(NAMES[vgg_type.removesuffix("_bn")]) if vgg_type.endswith("_bn") else NAMES[vgg_type]
    return names


def find_weights_file(vgg_type: str) -> Path:
    """Find the file of torchvision's weights below the current folder or in torch.hub's, as BasicSR does.

    Raises:
        UserError: the file is missing. The message says how to get it.
    """
    places = _places(vgg_type)
    for path in places:
        if path.is_file():
            return path
    raise UserError(
        f"no such file: {places[0].name}, the weights of {vgg_type}, neither in {places[0].parent} (in {Path.cwd()}) "
        f"nor in {places[1].parent}; {_how_to_get(vgg_type)}"
    )


def check_whole(path: Path, vgg_type: str) -> None:
    """Compare a file's checksum with the one in its name, as in ``vgg19-dcbb9e9d.pth``.

    Raises:
        UserError: they differ.
    """
    named = path.stem.rpartition("-")[2]
    found = sha256(path)[: len(named)]
    if found != named:
        raise UserError(
            f"{path} is damaged: its sha256 begins {found}, not {named} as its name says; {_how_to_get(vgg_type)}"
        )


def load_vgg(vgg_type: str) -> nn.Module:
    """Return torchvision's network with the weights of its ``features``. Its classifier has no weights.

    Raises:
        UserError: the weights are missing or belong to another network.
    """
    path = find_weights_file(vgg_type)
    content = read_pth(path)
    with torch.device("meta"):  # avoids the slow initialisation of weights that are replaced or unused
        net = getattr(models, vgg_type)(weights=None)
    try:
        weights = {key: value for key, value in content.items() if not key.startswith("classifier.")}
        net.features.load_state_dict(
            {key.removeprefix("features."): value for key, value in weights.items()}, assign=True
        )
    except (AttributeError, RuntimeError):
        raise UserError(f"{path}: holds no weights of {vgg_type}; {_how_to_get(vgg_type)}") from None
    vgg: nn.Module = net
    return vgg


def _places(vgg_type: str) -> tuple[Path, Path]:
    name = Path(_published(vgg_type).url).name
    return Path("experiments/pretrained_models", name), Path(torch.hub.get_dir(), "checkpoints", name)


def _how_to_get(vgg_type: str) -> str:
    published, path = _published(vgg_type), _places(vgg_type)[1]
    megabytes = published.meta["_file_size"] * 2**20 / 1e6
    digits = path.stem.rpartition("-")[2]
    return f"get it ({megabytes:.0f} MB, its sha256 begins {digits}): curl --create-dirs -fo {path} {published.url}"


def _published(vgg_type: str) -> models.Weights:
    return models.get_model_weights(vgg_type)["IMAGENET1K_V1"]
