"""JPEG compression by libjpeg."""

import cv2
import numpy as np
import torch


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
