"""Conversion from colour spaces other than grey and RGB."""

import io
from typing import Any, Final

import numpy as np
from PIL import Image, ImageCms

from lightbsr_arch.data.reader.base import Picture, Pixels

_SRGB: Final = ImageCms.createProfile("sRGB")
_LAB: Final = ImageCms.createProfile("LAB")


def set_rgb(picture: Picture, image: Image.Image) -> None:
    """Set the pixels to those of a CMYK, YCbCr, LAB or HSV image, converted to RGB.

    The conversion of CMYK uses the picture's profile if there is one. The profile is then dropped, and a notice names
    the conversion.
    """
    profile, picture.icc = picture.icc, None
    picture.notices.append(f"{image.mode} was converted to RGB")
    if image.mode == "LAB":
        picture.pixels = _by_profile(image, _LAB)
        return
    if profile and image.mode == "CMYK":
        try:
            picture.pixels = _by_profile(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
            return
        except (ImageCms.PyCMSError, OSError, ValueError):
            picture.notices.append("its colour profile cannot be used with CMYK and was left out")
    picture.pixels = np.asarray(image.convert("RGB"))


def _by_profile(image: Image.Image, profile: Any) -> Pixels:
    converted = ImageCms.profileToProfile(image, profile, _SRGB, outputMode="RGB")
    assert converted is not None
    return np.asarray(converted)
