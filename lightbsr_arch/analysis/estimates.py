"""A regression of degradations on IDRs, with intervals from its errors on other photos. NumPy only.

A kernel ridge regression with a Gaussian kernel predicts every target from the standardised IDRs. The crops of the fit
are the references. Each of them is predicted by a regression that was fitted without its photo. The references whose
predictions are nearest to those of a picture give the estimate: the median of their true values. The interval reaches
from the 5th to the 95th percentile of these values. If the IDRs do not determine a target, such as the blur under
strong noise, the interval is as wide as the range of the fit, and there is no estimate.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightbsr.errors import UserError
from lightbsr_arch.io import open_arrays, write_arrays

TARGETS = ("sigma", "noise", "jpeg", "gain")
"""Width of the blur in pixels of the high-resolution grid; standard deviation of the noise on the 8-bit scale; JPEG
quality, with 100 for no compression; PSNR-Y of the first network minus that of the second, in dB."""

DIGITS = {"sigma": 2, "noise": 1, "jpeg": 0, "gain": 1}
"""Decimals of the estimates."""

COVERED = 0.9
"""Share of the true values of the nearest references that an interval contains."""

WIDEST = 2 / 3
"""Largest width of an interval, as a share of the width that holds 90 % of all values of the fit."""

NEIGHBOURS = 40
"""Number of references from which an estimate is computed."""

NEAREST = 5
"""Number of nearest references whose mean distance is the distance of a picture from the fit."""

LIKE = 0.99
"""Share of the crops of the fit whose distance from the crops of other photos is at most the limit."""

EVEN = 0.95
"""Share of the tiles of equally degraded photos whose distance from their photo is below 1."""

WIDTHS = (1.0, 2.0, 4.0)
"""Squared widths of the kernel among which cross-validation chooses, divided by the number of IDR elements."""
PENALTIES = (0.01, 0.03, 0.1, 0.3)
"""Penalties of the ridge regression among which cross-validation chooses."""
FOLDS = 5

Vectors = NDArray[np.float64]
REFIT = "fit it again: python benchmarks/fit_inspect.py --help"


class Estimate(NamedTuple):
    """A value, and the interval that contains 90 % of the true values of the references nearest to a picture."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Fit:
    """The fitted regression. ``D`` is the number of IDR elements, ``N`` of references and ``T`` of targets.

    Attributes:
        weights: digests of the networks' tensors by name, as JSON.
        mean: mean of the IDRs, D.
        deviation: standard deviation of the IDRs, D.
        references: standardised IDRs of the references, N x D.
        coefficients: coefficients of the kernel at each reference, N x T.
        offset: mean of each target, T.
        width: squared width of the kernel, divided by D.
        predicted: predictions of the references by regressions that were fitted without their photo, N x T.
        actual: true values of the references, N x T; NaN if a degradation has no such value.
        limit: distance from the references above which a picture is unlike them.
        tile_precision: inverse covariance of the differences between the predictions for a tile and for its picture,
            T x T, scaled so that `EVEN` of the tiles have a distance below 1.
    """

    weights: NDArray[np.str_]
    mean: Vectors
    deviation: Vectors
    references: Vectors
    coefficients: Vectors
    offset: Vectors
    width: Vectors
    predicted: Vectors
    actual: Vectors
    limit: Vectors
    tile_precision: Vectors

    @classmethod
    def of(
        cls,
        idrs: Vectors,
        actual: Vectors,
        photos: NDArray[np.intp],
        tiles: Vectors,
        wholes: Vectors,
        weights: Mapping[str, str],
    ) -> "Fit":
        """Fit the regression. Width and penalty are chosen by cross-validation between photos.

        Args:
            idrs: IDRs of degraded photos, N x D.
            actual: the true values, N x T; NaN if a degradation has no such value.
            photos: index of the photo of each row.
            tiles: IDRs of tiles of equally degraded pictures, M x D.
            wholes: IDRs of the picture of each tile, M x D.
            weights: digests of the networks' tensors by name.
        """
        mean, deviation = idrs.mean(axis=0), idrs.std(axis=0) + 1e-12
        references = ((idrs - mean) / deviation).astype(np.float16).astype(np.float64)  # as they are stored
        squared = _squared_distances(references, references)
        folds = np.searchsorted(np.unique(photos), photos) % FOLDS
        tried = [(width, penalty) for width in WIDTHS for penalty in PENALTIES]
        predicted = {one: _out_of_fold(_kernel(squared, one[0], idrs), actual, folds, one[1]) for one in tried}
        best = min(tried, key=lambda one: _error(predicted[one], actual))
        coefficients, offset = _solve(_kernel(squared, best[0], idrs), actual, best[1])
        of_others = np.sqrt(squared)
        of_others[photos[:, None] == photos] = np.inf
        nearest = np.sort(of_others, axis=1)[:, :NEAREST].mean(axis=1)
        fit = cls(
            np.array(json.dumps(dict(weights))),
            mean,
            deviation,
            references,
            coefficients,
            offset,
            np.array(best[0]),
            predicted[best],
            actual,
            np.quantile(nearest, LIKE),
            np.eye(len(offset)),
        )
        return replace(fit, tile_precision=_precision(fit.predict(tiles) - fit.predict(wholes)))

    def predict(self, idrs: Vectors) -> Vectors:
        """Return the predictions of the regression for IDRs, N x D, as N x T."""
        return _kernel(self._squared_distances(idrs), float(self.width), idrs) @ self.coefficients + self.offset

    def estimate(self, idrs: Vectors) -> dict[str, Estimate | None]:
        """Return the estimates for a picture with these IDRs, D. None means that they do not determine the value."""
        nearest = self._nearest(idrs)
        found: dict[str, Estimate | None] = {}
        tails = [(1 - COVERED) / 2, 0.5, (1 + COVERED) / 2]
        for column, name in enumerate(TARGETS):
            values, every = (rows[np.isfinite(rows)] for rows in (self.actual[nearest, column], self.actual[:, column]))
            least, _, most = np.quantile(every, tails)
            if 2 * len(values) < len(nearest):  # most neighbours have no such value
                found[name] = None
                continue
            low, value, high = np.quantile(values, tails).tolist()
            is_determined = high - low < WIDEST * (most - least)
            found[name] = Estimate(*(round(x, DIGITS[name]) for x in (value, low, high))) if is_determined else None
        return found

    def gains(self, idrs: Vectors) -> Vectors:
        """Return the gains in dB of the first network for the nearest `NEIGHBOURS` references."""
        out: Vectors = self.actual[self._nearest(idrs), TARGETS.index("gain")]
        return out

    def _nearest(self, idrs: Vectors) -> NDArray[np.intp]:
        """Return the indices of the references whose predictions are nearest, in units of each target's error."""
        errors = np.sqrt(np.nanmean((self.predicted - self.actual) ** 2, axis=0))
        offsets = (self.predicted - self.predict(idrs[None])) / errors
        return np.argsort(np.square(offsets).sum(axis=1))[:NEIGHBOURS]

    def distance(self, idrs: Vectors) -> float:
        """Return the distance of a picture's IDRs, D, from the nearest references. Above 1 it is unlike them."""
        nearest = np.sort(np.sqrt(self._squared_distances(idrs[None])[0]))[:NEAREST]
        return float(nearest.mean() / self.limit)

    def _squared_distances(self, idrs: Vectors) -> Vectors:
        """Return the squared distances of standardised IDRs from the references, for IDRs of N' x D, N' x N."""
        return _squared_distances((idrs - self.mean) / self.deviation, self.references)

    def tile_distances(self, tiles: Vectors, whole: Vectors) -> Vectors:
        """Return the distances of tiles from their picture. 95 % are below 1 in photos degraded equally everywhere.

        Args:
            tiles: IDRs of the tiles, N x D.
            whole: IDRs of the picture, D.
        """
        differences = self.predict(tiles) - self.predict(whole[None])
        out: Vectors = np.sqrt(np.einsum("nt,tu,nu->n", differences, self.tile_precision, differences))
        return out

    def save(self, path: Path) -> None:
        """Write the regression in half or single precision; the file appears whole or not at all."""
        arrays = {one.name: getattr(self, one.name) for one in fields(self)}
        half = ("references", "predicted", "actual")
        for name, array in arrays.items():
            if array.dtype.kind != "U":
                arrays[name] = array.astype(np.float16 if name in half else np.float32)
        write_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path) -> "Fit":
        """Read a file of `save`.

        Raises:
            UserError: the file is missing or damaged.
        """
        with open_arrays(path, "regression of lightbsr inspect", REFIT) as file:
            arrays: dict[str, Any] = {one.name: file[one.name] for one in fields(cls)}
        return cls(**{name: a if a.dtype.kind == "U" else a.astype(np.float64) for name, a in arrays.items()})

    def check_weights(self, files: Mapping[str, Path]) -> None:
        """Compare the networks' tensors with those to which the regression was fitted.

        Args:
            files: ``.safetensors`` files by name.

        Raises:
            UserError: they differ.
        """
        fitted = json.loads(str(self.weights))
        for name, path in files.items():
            if fitted.get(name) != tensor_digest(path):
                raise UserError(f"{path}: other weights than those that lightbsr inspect was fitted to; {REFIT}")


def tensor_digest(path: Path) -> str:
    """Return the SHA-256 of the tensors in a ``.safetensors`` file. A changed card does not change it."""
    data = path.read_bytes()
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()


def _squared_distances(one: Vectors, other: Vectors) -> Vectors:
    """Return the squared distances between the rows of N x D and M x D, N x M."""
    squares = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1)
    out: Vectors = np.abs(squares - 2 * one @ other.T)  # rounding may make small distances negative
    return out


def _kernel(squared: Vectors, width: float, idrs: Vectors) -> Vectors:
    out: Vectors = np.exp(-squared / (width * idrs.shape[-1]))
    return out


def _solve(kernel: Vectors, actual: Vectors, penalty: float) -> tuple[Vectors, Vectors]:
    """Return the coefficients, N x T, and the offsets, T. Each target uses the rows where it is known."""
    coefficients = np.zeros(actual.shape)
    offset = np.nanmean(actual, axis=0)
    for column, values in enumerate(actual.T):
        known = np.isfinite(values)
        penalised = kernel[np.ix_(known, known)] + penalty * np.eye(known.sum())
        coefficients[known, column] = np.linalg.solve(penalised, values[known] - offset[column])
    return coefficients, offset


def _out_of_fold(kernel: Vectors, actual: Vectors, folds: NDArray[np.intp], penalty: float) -> Vectors:
    """Return the predictions of each row by a regression on the other folds."""
    predicted = np.empty(actual.shape)
    for fold in range(FOLDS):
        test = folds == fold
        coefficients, offset = _solve(kernel[np.ix_(~test, ~test)], actual[~test], penalty)
        predicted[test] = kernel[np.ix_(test, ~test)] @ coefficients + offset
    return predicted


def _error(predicted: Vectors, actual: Vectors) -> float:
    """Return the mean over the targets of the mean squared error, divided by the variance of the values."""
    return float(np.mean(np.nanmean((predicted - actual) ** 2, axis=0) / np.nanvar(actual, axis=0)))


def _precision(differences: Vectors) -> Vectors:
    """Return a matrix P for which d P d is below 1 for `EVEN` of the differences d."""
    inverse = np.linalg.inv(np.cov(differences.T))
    squared = np.einsum("nt,tu,nu->n", differences, inverse, differences)
    out: Vectors = inverse / np.quantile(squared, EVEN)
    return out
