"""JPEG compression by libjpeg, and by BasicSR's approximation, which runs on the device of the images."""

import cv2
import numpy as np
import torch
from basicsr.utils import DiffJPEG
from torch.nn import functional as F

JPEG_BLOCK = 16
"""Side in pixels of JPEG's blocks of chroma, 4:2:0."""


def compress(images: torch.Tensor, quality: int) -> torch.Tensor:
    """Write images as JPEG (libjpeg, 4:2:0) and read them again.

    Args:
        images: N x 3 x H x W, RGB in [0, 1]. They are rounded to 8 bits.
        quality: 1 to 100.

    Returns:
        Images of the same shape on the same device, multiples of 1/255.
    """
    bgr = (images.detach().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).flip(3).contiguous().numpy()
    files = [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for image in bgr]
    decoded = np.stack([np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR)) for file in files])
    return torch.from_numpy(decoded).flip(3).permute(0, 3, 1, 2).contiguous().to(images) / 255


def compress_on_device(jpeg: DiffJPEG, images: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Return the output of ``DiffJPEG``, whose own ``forward`` makes the host wait for a GPU once per image.

    Args:
        jpeg: the approximation, on the device of the images.
        images: N x 3 x H x W, RGB. They are clamped to [0, 1].
        quality: N, 1 to 100.
    """
    factor = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    height, width = images.shape[-2:]
    padded = F.pad(images.clamp(0, 1), (0, -width % JPEG_BLOCK, 0, -height % JPEG_BLOCK))
    restored: torch.Tensor = jpeg.decompress(*jpeg.compress(padded, factor=factor), *padded.shape[-2:], factor=factor)
    # The result is in channels-last memory, which a blur on the CPU does not accept.
    return restored[..., :height, :width].contiguous()
