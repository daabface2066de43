"""The device on which a command computes."""

from collections.abc import Mapping
from typing import Any

import torch

from lightbsr.errors import UserError


def check_dtype(dtype: object) -> None:
    """Raise `ValueError` for anything but a floating-point dtype of PyTorch."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype is a floating-point dtype such as torch.float16, not {dtype!r}")


_INSTRUCTIONS = {
    torch.bfloat16: ("avx512_bf16", "amx_bf16", "avx_ne_convert"),
    torch.float16: ("avx512_fp16", "amx_fp16", "avx_ne_convert"),
}


def slow_dtype(device: torch.device, dtype: torch.dtype | None) -> str | None:
    """Return why fp32 is faster than a dtype on this device, or None.

    x86 CPUs without instructions for a dtype convert each number to fp32 and back. Other CPUs are not checked.
    """
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if device.type != "cpu" or known.get("architecture") != "x86_64":
        return None
    if dtype not in _INSTRUCTIONS or any(known.get(name) for name in _INSTRUCTIONS[dtype]):
        return None
    return f"this CPU has no instructions for {'bf16' if dtype is torch.bfloat16 else 'fp16'}; fp32 is faster on it"


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
