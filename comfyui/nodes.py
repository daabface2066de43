"""Nodes of ComfyUI that upscale with the models of lightbsr_arch.

An IMAGE is a tensor, B x H x W x C, floats in [0, 1]. A LIGHTBSR_MODEL is a ``lightbsr_arch.archs.part.Network``. A
LIGHTBSR_IDR is a tensor with the IDR of each image, B x C or B x C x H/4 x W/4. The nodes also run outside ComfyUI.
"""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

import lightbsr_arch
from lightbsr.errors import UserError
from lightbsr.shipped import default_name, students
from lightbsr_arch.archs.part import Network
from lightbsr_arch.inference.given_idr import estimate_idr, with_idr
from lightbsr_arch.inference.strength import LARGEST_STRENGTH, with_checked_strength
from lightbsr_arch.inference.upscaler import load_student

FOLDER = "upscale_models"
"""ComfyUI's folder of upscaling models."""

STEPS = 100
"""Steps of the progress bar per image."""

MODEL, IDR = "LIGHTBSR_MODEL", "LIGHTBSR_IDR"

TILE = (
    "INT",
    {
        "default": -1,
        "min": -1,
        "max": 65536,
        "tooltip": "Rows of the image that are processed at a time. The result is the same for every number. -1: as "
        "many as the free memory allows. 0: the whole image.",
    },
)

Inputs = dict[str, dict[str, Any]]


class LoadModel:
    """Loads shipped weights, or a file of ComfyUI's folder ``upscale_models``, or a file at any path."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        shipped = sorted(students(), key=lambda name: (name != default_name(), name))
        folder_paths = _comfy("folder_paths")
        files = folder_paths.get_filename_list(FOLDER) if folder_paths else []
        path = {"default": "", "tooltip": "A file of weights, which is loaded instead of the name above."}
        return {"required": {"name": ([*shipped, *files],)}, "optional": {"path": ("STRING", path)}}

    RETURN_TYPES = (MODEL,)
    FUNCTION = "load"
    CATEGORY = "loaders/lightbsr"

    def load(self, name: str, path: str = "") -> tuple[Network]:
        """Return the model, on ComfyUI's device.

        Raises:
            UserError: see `load_student`.
        """
        folder_paths, management = _comfy("folder_paths"), _comfy("comfy.model_management")
        if not (source := path.strip()):
            found = folder_paths.get_full_path(FOLDER, name) if folder_paths and name not in students() else None
            source = found or name
        return (load_student(source, management.get_torch_device() if management else "auto"),)


class Strength:
    """Changes the strength of the restoration."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        strength = {
            "default": 1.0,
            "min": 0.0,
            "max": LARGEST_STRENGTH,
            "step": 0.05,
            "tooltip": "0: as if the image were not blurred. 1: as estimated. Above 1: sharper.",
        }
        return {"required": {"model": (MODEL,), "strength": ("FLOAT", strength)}}

    RETURN_TYPES = (MODEL,)
    FUNCTION = "change"
    CATEGORY = "image/upscaling/lightbsr"

    def change(self, model: Network, strength: float) -> tuple[Network]:
        """Return a model with this strength.

        Raises:
            UserError: the strength is out of range, or the output of the model does not depend on it.
        """
        return (with_checked_strength(model, strength),)


class EstimateIDR:
    """Estimates the IDR of images without upscaling them."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"model": (MODEL,), "image": ("IMAGE",), "tile": TILE}}

    RETURN_TYPES = (IDR,)
    FUNCTION = "estimate"
    CATEGORY = "image/upscaling/lightbsr"

    def estimate(self, model: Network, image: torch.Tensor, tile: int = -1) -> tuple[torch.Tensor]:
        """Return the IDR of each image, on the CPU.

        Raises:
            UserError: the images have no colours, or the model has no IDR.
        """
        lq = _checked(image)[..., :3].movedim(3, 1)
        idr = estimate_idr(model, lq.expand(-1, 3, -1, -1), _tile(tile), _progress(1))
        return (idr.float().cpu(),)


class Upscale:
    """Upscales images in strips. The IDR is that of the whole image, so there are no seams."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        idr = {"tooltip": "The IDR to restore with, instead of the images' own. One, or one per image."}
        return {"required": {"model": (MODEL,), "image": ("IMAGE",), "tile": TILE}, "optional": {"idr": (IDR, idr)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"
    CATEGORY = "image/upscaling/lightbsr"

    def upscale(
        self, model: Network, image: torch.Tensor, tile: int = -1, idr: torch.Tensor | None = None
    ) -> tuple[torch.Tensor]:
        """Return the images enlarged by the scale of the model, B x H*scale x W*scale x C, on the CPU.

        Each output equals that of ``lightbsr_arch.upscale``, which also describes grey images and alpha. Values outside
        [0, 1] are clamped first.

        Raises:
            UserError: the images have no colours, the IDR does not fit, or see ``lightbsr_arch.upscale``.
        """
        images = _checked(image)
        if idr is not None and len(idr) not in (1, len(images)):
            raise UserError(f"{len(idr)} IDRs for {len(images)} images; expected one, or one per image")
        advance = _progress(len(images))
        made = []
        for number, one in enumerate(images):
            guided = model if idr is None else with_idr(model, idr[number % len(idr)][None])
            pixels = one[..., 0] if one.shape[2] == 1 else one
            sr = lightbsr_arch.upscale(pixels.numpy(), guided, tile=_tile(tile), advance=advance)
            made.append(torch.from_numpy(sr.reshape(*sr.shape[:2], one.shape[2])))
        return (torch.stack(made),)


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "LightBSRLoadModel": LoadModel,
    "LightBSRStrength": Strength,
    "LightBSREstimateIDR": EstimateIDR,
    "LightBSRUpscale": Upscale,
}

NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    "LightBSRLoadModel": "Load LightBSR/KDSR Model",
    "LightBSRStrength": "LightBSR/KDSR Strength",
    "LightBSREstimateIDR": "LightBSR/KDSR Estimate IDR",
    "LightBSRUpscale": "LightBSR/KDSR Upscale",
}


def _checked(image: torch.Tensor) -> torch.Tensor:
    """Return an IMAGE as fp32 on the CPU, clamped to [0, 1]."""
    if image.dim() != 4 or image.shape[3] not in (1, 3, 4) or not image.numel():
        raise UserError(
            f"an image of shape {' x '.join(map(str, image.shape))}; expected B x H x W x C with 1, 3 or 4 channels"
        )
    return image.detach().float().cpu().clamp(0, 1)


def _tile(tile: int) -> int | str:
    return "auto" if tile < 0 else tile


def _progress(images: int) -> Callable[[float], None]:
    """Return a function that receives shares of an image's work, moves ComfyUI's progress bar and stops on Cancel."""
    utils, management = _comfy("comfy.utils"), _comfy("comfy.model_management")
    bar = utils.ProgressBar(images * STEPS) if utils else None
    done = 0.0

    def advance(share: float) -> None:
        nonlocal done
        done += share
        if management:
            management.throw_exception_if_processing_interrupted()
        if bar:
            bar.update_absolute(round(done * STEPS))

    return advance


def _comfy(name: str) -> ModuleType | None:
    """Return a module of ComfyUI, or None outside ComfyUI."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and one that it needs is missing
        return None
