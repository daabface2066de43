"""PSNR-Y, SSIM-Y and NIQE of BasicSR, and LPIPS and DISTS if libraries and weights are installed.

Any other name is a metric of pyiqa. pyiqa is imported only for such a name and never installed automatically.

Pictures are H x W x 3 uint8 in BGR, as BasicSR's ``tensor2img`` returns them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import torch
from basicsr.metrics import calculate_psnr, calculate_ssim

from lightbsr.errors import UserError, reason_of
from lightbsr_arch.basicsr_patches.niqe import calculate_niqe
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.image_io import Picture

SSIM_WINDOW = 11
"""Smallest side in pixels for SSIM. For a smaller picture, BasicSR's SSIM is NaN."""


@dataclass(frozen=True)
class Metric:
    """A metric of one SR picture.

    Attributes:
        label: heading of its column.
        better: the direction of better values.
        digits: digits after the decimal point.
        compute: function of SR, HR and the scale, which is the width of the border to leave out.
        version: version of pyiqa, for a metric of pyiqa.
    """

    label: str
    better: Literal["higher", "lower"]
    digits: int
    compute: Callable[[Picture, Picture, int], float]
    version: str | None = None


def _psnr_y(sr: Picture, hr: Picture, scale: int) -> float:
    psnr: float = calculate_psnr(sr, hr, crop_border=scale, test_y_channel=True)
    return psnr


def _ssim_y(sr: Picture, hr: Picture, scale: int) -> float:
    if min(hr.shape[:2]) < 2 * scale + SSIM_WINDOW:
        size, window = f"{hr.shape[1]}x{hr.shape[0]}", f"{SSIM_WINDOW}x{SSIM_WINDOW}"
        raise UserError(f"SSIM needs {window} pixels inside a border of {scale}, this picture has {size}")
    ssim: float = calculate_ssim(sr, hr, crop_border=scale, test_y_channel=True)
    return ssim


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

_PYIQA_LOCK = Lock()
"""Lock for building and seeding networks, because several threads measure the pictures of a bench."""

# Metrics from the libraries of their authors: module, class, package, and the torchvision weights that they need.
_LEARNED = {
    "lpips": ("lpips", "LPIPS", "lpips", "alexnet-owt-7be5be79.pth"),
    "dists": ("DISTS_pytorch", "DISTS", "dists-pytorch", "vgg16-397923af.pth"),
}


PYIQA_LICENCE = "PolyForm Noncommercial 1.0.0"


def find_metric(name: str) -> Metric:
    """Return the metric of this name: one of ``METRICS``, or one of pyiqa.

    Raises:
        UserError: no metric has this name, or pyiqa, which may have it, is not installed.
    """
    return METRICS[name] if name in METRICS else _pyiqa(name)


@cache
def _pyiqa(name: str) -> Metric:
    """Return a metric of pyiqa on the whole picture. Its first computation downloads its weights."""
    known = ", ".join(METRICS)
    try:
        pyiqa = import_module("pyiqa")
        configs = import_module("pyiqa.default_model_configs").DEFAULT_CONFIGS
    except ImportError:
        raise UserError(
            f"{name} is not one of {known}; pyiqa has more, for non-commercial use only ({PYIQA_LICENCE}): "
            "pip install pyiqa"
        ) from None
    if name not in configs:
        close = get_close_matches(name, [*METRICS, *configs], 1)
        hint = f"did you mean {close[0]}?" if close else "pyiqa.list_models() lists its metrics"
        raise UserError(f"neither the bench ({known}) nor pyiqa has a metric {name}; {hint}")

    @cache
    def network() -> Any:
        try:
            return pyiqa.create_metric(name, device=torch.device("cpu"))
        except Exception as error:  # most errors are failed downloads, which are tried only once
            hint = "; its first use downloads its weights" if isinstance(error, OSError) else ""
            return UserError(f"{name} of pyiqa cannot be loaded: {reason_of(error)}{hint}")

    @torch.inference_mode()
    def compute(sr: Picture, hr: Picture, scale: int) -> float:
        with _PYIQA_LOCK:
            loaded = network()
            if isinstance(loaded, UserError):
                raise loaded
            return float(loaded(*(to_tensor(picture)[None] for picture in (sr, hr))))

    better: Literal["higher", "lower"] = "lower" if configs[name].get("lower_better") else "higher"
    return Metric(name, better, 4, compute, version("pyiqa"))


def unavailable(name: str) -> str | None:
    """Return the reason why a metric cannot be computed here, or None. Nothing is downloaded."""
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
