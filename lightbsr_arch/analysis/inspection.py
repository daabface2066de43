"""Estimates of a picture's degradation from its IDRs, and the choice of the shipped weights that fit it.

A kernel ridge regression (``estimates.Fit``) predicts the width of the blur, the noise, the JPEG quality and the gain
of one network over the other from the IDRs of both networks. ``benchmarks/fit_inspect.py`` fits it; docs/inspect.md has
its errors on other pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightbsr import shipped
from lightbsr.errors import UserError
from lightbsr_arch.analysis.estimates import Estimate, Fit
from lightbsr_arch.analysis.jpeg_quality import file_quality
from lightbsr_arch.archs.fast.memory import rows_that_fit
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.kdide_arch import SLOPE
from lightbsr_arch.archs.part import Advance, Network
from lightbsr_arch.checkpoint import load
from lightbsr_arch.data.reader import Pixels
from lightbsr_arch.device import find_device
from lightbsr_arch.inference.upscaler import load_student

CLEAN, REAL = NETWORKS = ("kdsr_srmd_x4_iso", "kdsr_s_x4_photo")
"""The shipped weights that compute the IDRs: those for pictures that are only blurred, and those for all others."""

FILE = "inspect.npz"
"""The fitted regression, in the folder of the shipped weights."""

NEEDED = 0.75
"""`CLEAN` is chosen if it restores at least this share of the most similar crops better than `REAL`. With a share of
one half, the mean PSNR of the test crops is the same, but twice as many crops with the second-order degradation get
`CLEAN`."""

MOST_COMPRESSED = 95
"""Highest quality of a JPEG file for which `REAL` is always chosen. At moderate qualities, `CLEAN` often has the higher
PSNR, but it turns the artefacts of compression into a net of lines."""

SMALLEST_SIDE = 32
"""Shortest side of a picture that is inspected, in pixels. The estimates are fitted to crops of 40 pixels and more."""

TILE = 32
"""Side of the smallest tiles of a map, in pixels."""

MOST_TILES = 32
"""Largest number of tiles of a map along each side."""

_BATCH = 32
"""Number of tiles whose IDRs are computed at a time."""


@dataclass(frozen=True)
class Reading:
    """The degradation of a picture.

    Attributes:
        estimates: estimates by the names of `estimates.TARGETS`; None if the IDRs do not determine the value.
        distance: distance of the picture's IDRs from those of the fit. Above 1 the picture is `unlike` them.
        unlike: whether the IDRs are unlike those of the degradations and photos of the fit.
        model: name of the shipped weights that fit.
        why: the reason for that choice, as one clause.
    """

    estimates: dict[str, Estimate | None]
    distance: float
    unlike: bool
    model: str
    why: str


class Inspector:
    """Estimates the degradation of pictures.

    Args:
        device: "auto", "cpu", "cuda" or "mps".
        fit: the regression; by default the one that is shipped.

    Raises:
        UserError: the regression is missing, or was fitted to other weights than the shipped ones of `NETWORKS`.
    """

    def __init__(self, device: str | torch.device = "auto", fit: Fit | None = None) -> None:
        self.fit = fit or Fit.load(shipped.folder() / FILE)
        self.fit.check_weights({name: shipped.find_weights(name) for name in NETWORKS})
        self._device = find_device(device)
        self._networks = load_networks(self._device)

    def read(self, pixels: Pixels, advance: Advance = lambda share: None, file_quality: int | None = None) -> Reading:
        """Return the degradation of a picture. Alpha is ignored.

        Args:
            pixels: the picture, in any form that the reader returns.
            advance: receives the share of the work that has been done since the last call.
            file_quality: quality of the JPEG file that the picture comes from, if it is known.

        Raises:
            UserError: the picture is smaller than `SMALLEST_SIDE`.
        """
        return self.reading_of(self.idrs(pixels, advance), file_quality)

    def reading_of(self, idrs: NDArray[np.float64], file_quality: int | None = None) -> Reading:
        """Return the degradation of a picture from the vector that `idrs` returns."""
        estimates, distance = self.fit.estimate(idrs), self.fit.distance(idrs)
        model, why = choose(self.fit.gains(idrs), distance > 1, file_quality)
        return Reading(estimates, distance, distance > 1, model, why)

    @torch.inference_mode()
    def idrs(self, pixels: Pixels, advance: Advance = lambda share: None) -> NDArray[np.float64]:
        """Return the IDRs of both networks for a whole picture as one vector.

        Raises:
            UserError: the picture is smaller than `SMALLEST_SIDE`.
        """
        lq = _to_lq(pixels, self._device)
        height, width = lq.shape[2:]
        if min(height, width) < SMALLEST_SIDE:
            raise UserError(f"{width}x{height} pixels, too few to inspect; at least {SMALLEST_SIDE} per side")
        found = []
        for network in self._networks:
            rows = rows_that_fit(4 * network.num_feat, lq)  # the estimator's last layers have four times the channels
            found.append(network.estimator.estimate_in_strips(lq, rows, lambda share: advance(share / len(NETWORKS))))
        out: NDArray[np.float64] = joined(found)[0]
        return out

    @torch.inference_mode()
    def tile_distances(self, pixels: Pixels, whole: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of each tile from the whole picture, whose `idrs` are ``whole``, as rows x columns.

        The distance is the difference between the predictions for the tile and for the picture. It is scaled so
        that 1 is the 95th percentile in photos that are degraded equally everywhere. Tiles are squares, at least `TILE`
        pixels wide, that overlap by half.

        Raises:
            UserError: the picture has fewer than two tiles along a side.
        """
        lq = _to_lq(pixels, self._device)
        side = tile_side(*lq.shape[2:])
        rows, columns = (_starts(length, side) for length in lq.shape[2:])
        if min(len(rows), len(columns)) < 2:
            raise UserError(f"{lq.shape[3]}x{lq.shape[2]} pixels, too few for a map; at least {2 * TILE} per side")
        corners = [(top, left) for top in rows for left in columns]
        distances = []
        for first in range(0, len(corners), _BATCH):
            some = corners[first : first + _BATCH]
            tiles = torch.cat([lq[..., top : top + side, left : left + side] for top, left in some])
            distances.append(self.fit.tile_distances(read_idrs(self._networks, tiles), whole))
        return np.concatenate(distances).reshape(len(rows), len(columns))


class Chooser:
    """Chooses the shipped network that fits each picture. Returns the network and a notice that names it.

    Args:
        device: see `Inspector`.
        dtype: number format of the networks.

    Raises:
        UserError: see `Inspector` and `load_student`.
    """

    def __init__(self, device: str | torch.device, dtype: torch.dtype) -> None:
        self._inspector = Inspector(device)
        self._networks = {name: load_student(name, device, dtype) for name in NETWORKS}
        self.default = self._networks[REAL]

    def __call__(self, pixels: Pixels, data: bytes) -> tuple[Network, str]:
        """Choose for a picture by its pixels and the bytes of its file."""
        try:
            reading = self._inspector.read(pixels, file_quality=file_quality(data))
        except UserError as error:  # too small
            return self.default, f"-m auto: {REAL}: {error}"
        return self._networks[reading.model], f"-m auto: {reading.model}: {reading.why}"


def choose(gains: NDArray[np.float64], unlike: bool, file_quality: int | None = None) -> tuple[str, str]:
    """Return the name of the shipped weights that fit a picture, and the reason as one clause.

    Args:
        gains: PSNR-Y of `CLEAN` minus that of `REAL` in the most similar crops of the fit.
        unlike: whether the picture is unlike all crops of the fit.
        file_quality: quality of the JPEG file that the picture comes from, if it is known.
    """
    if file_quality is not None and file_quality <= MOST_COMPRESSED:
        return REAL, f"it is a JPEG of quality {file_quality}, whose artefacts {CLEAN} would sharpen"
    if unlike:
        return REAL, "its IDR is unlike anything seen in training"
    better = sum(gain > 0 for gain in gains.tolist())
    why = (
        f"{CLEAN} restores {better} of the {len(gains)} most similar crops better than {REAL}, "
        f"by {np.median(gains):+.1f} dB in the median"
    )
    return (CLEAN if better >= NEEDED * len(gains) else REAL), why


def load_networks(device: str | torch.device = "cpu") -> list[Any]:
    """Return the networks of `NETWORKS` in fp32."""
    return [load(name, device) for name in NETWORKS]


@torch.inference_mode()
def read_idrs(networks: Sequence[Any], lq: torch.Tensor) -> NDArray[np.float64]:
    """Return the IDRs of images, N x 3 x H x W in [0, 1], as vectors of all networks, N x D."""
    return joined([network.estimator(lq) for network in networks])


def joined(idrs: Sequence[torch.Tensor]) -> NDArray[np.float64]:
    """Join the IDRs of all networks, each N vectors or maps, to N x D, and undo the LeakyReLU that they end with."""
    vectors = torch.cat([as_vector(idr) for idr in idrs], dim=1).double().cpu().numpy()
    return np.where(vectors < 0, vectors / SLOPE, vectors)


def tile_side(height: int, width: int) -> int:
    """Return the side of a map's tiles, which grows with the picture."""
    return max(TILE, -(-2 * max(height, width) // (MOST_TILES + 1)))


def _starts(length: int, side: int) -> list[int]:
    """Return the starts of tiles that overlap by half. At the end, less than half a tile may stay uncovered."""
    return list(range(0, length - side + 1, side // 2))


def _to_lq(pixels: Pixels, device: torch.device) -> torch.Tensor:
    """Return the colours of a picture, 1 x 3 x H x W in [0, 1]."""
    colour = pixels if pixels.ndim == 3 else pixels[..., None]
    colour = colour[..., :1] if colour.shape[2] < 3 else colour[..., :3]
    lq = torch.from_numpy(colour.astype(np.float32) / np.iinfo(pixels.dtype).max).permute(2, 0, 1)[None]
    return lq.expand(-1, 3, -1, -1).to(device)
