"""Plots of IDRs as points in the plane, coloured by degradation, as in figure 1 of LightBSR (ICCV 2025)."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from tqdm import tqdm

from lightbsr_arch.analysis.idr import Factor
from lightbsr_arch.analysis.measures import WITHOUT_ORDER

MOST_POINTS = 1000
"""Largest number of points per panel. More points take long and hide each other."""

LABELS = {
    "sigma": "sigma of an isotropic blur, pixels",
    "angle": "angle of an anisotropic blur, degrees",
    "noise": "standard deviation of the noise, 0-255 scale",
    "jpeg": "JPEG quality",
    "second-order": "draw of the second-order degradation",
}


def plot(
    vectors: Mapping[str, Mapping[str, NDArray[np.float64]]],
    factors: Sequence[Factor],
    titles: Mapping[str, Mapping[str, str]],
) -> Figure:
    """Draw a t-SNE panel per model (rows) and factor (columns). Shows a progress bar.

    Args:
        vectors: IDRs by model and factor, crops x levels x D.
        factors: factors in the order of the columns.
        titles: titles of the panels, by model and factor.
    """
    figure = Figure(figsize=(4 * len(factors), 3.7 * len(vectors) + 0.9), layout="constrained")
    axes = figure.subplots(len(vectors), len(factors), squeeze=False)
    bar = tqdm(total=axes.size, desc="t-SNE", unit="panel")
    for row, (model, of_model) in zip(axes, vectors.items()):
        for axis, factor in zip(row, factors):
            points, level = embed(of_model[factor.name])
            norm, colours = _colours(factor)
            axis.scatter(*points.T, c=level, cmap=colours, norm=norm, s=9, linewidths=0)
            axis.set(title=titles[model][factor.name], xticks=[], yticks=[])
            axis.title.set_fontsize(9)
            bar.update()
    bar.close()
    for column, factor in zip(axes.T, factors):
        mappable = ScalarMappable(*_colours(factor))
        scale = figure.colorbar(mappable, ax=column, location="bottom", fraction=0.1 / len(axes), pad=0.02)
        scale.set_ticks(range(len(factor.levels)), labels=[f"{level:g}" for level in factor.levels])
        scale.set_label(LABELS[factor.name])
    return figure


def embed(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the t-SNE of crops x levels x D as points, N x 2, and the index of the level of each point.

    The result is the same in each call. If there are too many crops, an evenly spread part of them is used.
    """
    crops, levels, _ = vectors.shape
    most = max(2, MOST_POINTS // levels)
    if crops > most:
        vectors = vectors[np.arange(most) * crops // most]
    flat = vectors.reshape(-1, vectors.shape[2])
    points = TSNE(init="pca", perplexity=min(30, (len(flat) - 1) / 3), random_state=0).fit_transform(flat)
    return points, np.tile(np.arange(levels), len(vectors))


def _colours(factor: Factor) -> tuple[BoundaryNorm, Colormap]:
    """Return one colour per level, from dark to light for a quantity and around the colour circle for an angle."""
    count = len(factor.levels)
    if factor.name in WITHOUT_ORDER:
        colours = matplotlib.colormaps["hsv"](np.arange(count) / count)
    else:
        colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, count))
    return BoundaryNorm(np.arange(count + 1) - 0.5, count), ListedColormap(colours)
