"""The device on which a command computes."""

import torch

from lightbsr.errors import UserError


def check_dtype(dtype: object) -> None:
    """Raise `ValueError` for anything but a floating-point dtype of PyTorch."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype is a floating-point dtype such as torch.float16, not {dtype!r}")


def find_device(name: str | torch.device = "auto") -> torch.device:
    """Return a usable device. "auto" is the first available of CUDA, MPS and CPU.

    Raises:
        UserError: the device does not exist.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_there in there.items() if is_there)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name}: expected auto, cpu, cuda or mps") from None
    if not there.get(device.type, True):
        found = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise UserError(f"device {name}: PyTorch finds none here (it finds {found})")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {name}: {str(error).splitlines()[0]}") from None
    return device
