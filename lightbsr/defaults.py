"""Values that the commands' parsers and the library share."""

from collections.abc import Sequence
from typing import Literal, get_args

SCALES = (2, 3, 4)
"""Scale factors of the published tables."""

PUBLISHED_SETTINGS = ("gaussian8", "setting1", "setting2")
"""Test degradations of the published tables."""
NamedSetting = Literal["bicubic", "gaussian8", "setting1", "setting2", "second-order"]
NAMED_SETTINGS = get_args(NamedSetting)
"""Names of all test degradations; the last is Real-ESRGAN's."""

CODECS = ("png", "bmp", "webp")
"""Lossless formats of LMDB entries."""

DTYPES = ("fp32", "bf16", "fp16")
"""Number formats of inference."""
EXPORT_DTYPES = ("fp32", "fp16")
"""Number formats of exported networks."""
ONNX_OPSET = 18
"""Version of the ONNX operators. It is the oldest that PyTorch's exporter writes, so most programs can read it."""

FACTORS = ("sigma", "angle", "noise", "jpeg")
"""Properties of a degradation that the analysis of the IDR varies, one at a time."""
SECOND_ORDER = "second-order"
"""Factor whose levels are draws of Real-ESRGAN's degradation."""
DRAWS = tuple(range(1, 9))
"""Seeds of these draws."""
ANGLES: Sequence[float] = (0, 45, 90, 135)
"""Angles of the anisotropic blur, in degrees."""
WIDTHS: tuple[float, float] = (4, 1.5)
"""Standard deviations of the anisotropic blur along its axes, in pixels."""
NOISES: Sequence[float] = (0, 5, 10, 20)
"""Standard deviations of the noise on the 0-255 scale."""
QUALITIES: Sequence[float] = (90, 70, 50, 30)
"""JPEG qualities."""
SMALLEST_CROP = 32
"""Smallest crop in ground-truth pixels. It has 8 low-quality pixels at x4, and exceeds half a blur kernel."""
