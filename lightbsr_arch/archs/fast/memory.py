"""Free memory, the height of strips that fit into it, and storage for a picture's features."""

import ctypes
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import torch

from lightbsr.errors import UserError

STRIP_SHARE = 0.25
"""Share of the free memory that a strip may use. The picture, its features and other programs need the rest."""

MAPS_SHARE = 0.6
"""Share of the free memory that the features of the whole picture may use."""

BYTES_PER_FEATURE = {"cpu": 32, "other": 48}
"""Working memory per pixel and feature channel of a strip, in elements. It is measured on the CPU, where the upsampler
uses smaller strips, and estimated for other devices."""

MOST_PIXELS = {"cpu": 2**17, "other": 2**22}
"""Number of pixels above which larger strips are not faster."""

FEWEST_ROWS = 8
"""Smallest number of rows of a strip. With fewer, most of the work is on rows that are computed twice."""

_CGROUPS = (  # files of a container: limit, use, and the part of the use that is droppable file cache
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def free_memory(device: torch.device, cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes that are free on a device, within the limit of a container."""
    if device.type == "cuda":
        unused_by_torch = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused_by_torch
    free = psutil.virtual_memory().available
    if device.type == "mps":
        return int(min(free, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()))
    for limit, use, stat, droppable in _CGROUPS:
        try:
            files = dict(line.split() for line in (cgroups / stat).read_text().splitlines())[droppable]
            left = int((cgroups / limit).read_text()) - int((cgroups / use).read_text()) + int(files)
        except (OSError, ValueError, KeyError):  # no container, or the limit "max"
            continue
        free = min(free, max(left, 0))
    return int(free)


def rows_that_fit(num_feat: int, lq: torch.Tensor) -> int:
    """Return the rows per strip for ``--tile auto``, as many as the free memory allows, up to the fastest size.

    Args:
        num_feat: channels of the network's features.
        lq: the image, 1 x 3 x H x W.
    """
    kind = "cpu" if lq.device.type == "cpu" else "other"
    height, width = lq.shape[2:]
    work = BYTES_PER_FEATURE[kind] * num_feat * lq.element_size() * width
    rows = min(int(STRIP_SHARE * free_memory(lq.device)) // work, MOST_PIXELS[kind] // width, height)
    return max(rows, min(FEWEST_ROWS, height))


def feature_maps(count: int, num_feat: int, lq: torch.Tensor) -> torch.Tensor:
    """Allocate features for every pixel of ``lq``, count x num_feat x H x W in channels-last memory, uninitialised.

    They are on its device if they fit there, otherwise in main memory, otherwise in a temporary file that is deleted
    with them.

    Raises:
        UserError: they do not fit into memory, and the disk is full.
    """
    height, width = lq.shape[2:]
    shape = (count, height, width, num_feat)
    size = count * height * width * num_feat * lq.element_size()
    for device in (lq.device, torch.device("cpu")):
        if size <= MAPS_SHARE * free_memory(device):
            return torch.empty(shape, dtype=lq.dtype, device=device).permute(0, 3, 1, 2)
    return _in_a_file(size).view(lq.dtype).view(shape).permute(0, 3, 1, 2)


def release_freed() -> None:
    """Return freed memory to the system. The C library keeps it because the strips vary in height."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)


def _in_a_file(size: int) -> torch.Tensor:
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile() as file:
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, size)  # otherwise a full disk would crash the program later
            return torch.from_numpy(np.memmap(file, np.uint8, "w+", shape=(size,)))
    except OSError as error:
        free = shutil.disk_usage(folder).free
        raise UserError(
            f"its features need {size / 1e9:.1f} GB, more than the free memory, and they do not fit into "
            f"{folder} ({error.strerror}; {free / 1e9:.1f} GB free there); set TMPDIR to a larger disk"
        ) from None
