"""PSNR-Y, SSIM-Y and NIQE as BasicSR calculates them; LPIPS and DISTS where their libraries and weights are installed.

Pictures are H x W x 3 uint8 in BGR, as BasicSR's ``tensor2img`` gives them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from basicsr.metrics import calculate_psnr, calculate_ssim

from lightbsr.errors import UserError
from lightbsr_arch.basicsr_patches.niqe import calculate_niqe
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.image_io import Picture

SSIM_WINDOW = 11
"""Side in pixels; BasicSR's SSIM of a smaller picture is NaN."""


@dataclass(frozen=True)
class Metric:
    """A measure of one SR picture.

    Attributes:
        label: heads its column.
        better: which way.
        digits: after the decimal point.
        compute: takes SR, HR and the scale, which is the border that is left out.
    """

    label: str
    better: Literal["higher", "lower"]
    digits: int
    compute: Callable[[Picture, Picture, int], float]


def _psnr_y(sr: Picture, hr: Picture, scale: int) -> float:
    return calculate_psnr(sr, hr, crop_border=scale, test_y_channel=True)


def _ssim_y(sr: Picture, hr: Picture, scale: int) -> float:
    if min(hr.shape[:2]) < 2 * scale + SSIM_WINDOW:
        size, window = f"{hr.shape[1]}x{hr.shape[0]}", f"{SSIM_WINDOW}x{SSIM_WINDOW}"
        raise UserError(f"SSIM wants {window} pixels inside a border of {scale}, this picture has {size}")
    return calculate_ssim(sr, hr, crop_border=scale, test_y_channel=True)


def _niqe(sr: Picture, hr: Picture, scale: int) -> float:
    return calculate_niqe(sr, crop_border=scale)


def _learned(name: str) -> Callable[[Picture, Picture, int], float]:
    @torch.inference_mode()
    def compute(sr: Picture, hr: Picture, scale: int) -> float:
        crops = (to_tensor(picture[scale:-scale, scale:-scale])[None] for picture in (sr, hr))
        if name == "lpips":
            return float(_network(name)(*crops, normalize=True))
        return float(_network(name)(*crops))

    return compute


METRICS: dict[str, Metric] = {
    "psnr_y": Metric("PSNR-Y", "higher", 2, _psnr_y),
    "ssim_y": Metric("SSIM-Y", "higher", 4, _ssim_y),
    "niqe": Metric("NIQE", "lower", 2, _niqe),
    "lpips": Metric("LPIPS", "lower", 4, _learned("lpips")),
    "dists": Metric("DISTS", "lower", 4, _learned("dists")),
}

# Their authors' own libraries: module, class, package, and the weights of torchvision that they start from.
_LEARNED = {
    "lpips": ("lpips", "LPIPS", "lpips", "alexnet-owt-7be5be79.pth"),
    "dists": ("DISTS_pytorch", "DISTS", "dists-pytorch", "vgg16-397923af.pth"),
}


def unavailable(name: str) -> str | None:
    """Why a metric cannot be computed here; None where it can. Nothing is downloaded."""
    if name not in _LEARNED:
        return None
    module, _, package, weights = _LEARNED[name]
    try:
        import_module(module)
    except ImportError:
        return f"{METRICS[name].label} is not available: pip install {package}"
    path = Path(torch.hub.get_dir(), "checkpoints", weights)
    if not path.is_file():
        url = f"https://download.pytorch.org/models/{weights}"
        return f"{METRICS[name].label} is not available: its weights are not at {path}; get them from {url}"
    return None


@cache
def _network(name: str) -> Any:
    module, network, *_ = _LEARNED[name]
    options = {"net": "alex", "verbose": False} if name == "lpips" else {}
    return getattr(import_module(module), network)(**options).eval()
