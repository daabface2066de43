"""Measures of the separation of a factor's levels by IDRs, and of the dependence of IDRs on the content.

Vectors are crops x levels x D, with the same crops under every level. Classifiers and regressions are trained and
tested on crops of different images, so that content cannot help. The module needs scikit-learn (extra ``idr``).
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score, silhouette_score
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lightbsr.defaults import SECOND_ORDER

NEIGHBOURS = 5
FOLDS = 5
PENALTIES = tuple(10.0**power for power in range(-1, 6, 2))
WITHOUT_ORDER = ("angle", SECOND_ORDER)
"""Factors whose levels cannot be regressed. 179 degrees are next to 0, and draws have no order."""

Vectors = NDArray[np.float64]
Images = NDArray[np.intp]


def measure(vectors: Vectors, images: Images, name: str, levels: tuple[float, ...]) -> dict[str, float | None]:
    """Return all figures of one model and one factor.

    Args:
        vectors: crops x levels x D.
        images: index of the image of each crop; at least three images.
        name: name of the factor.
        levels: values of the factor.

    Returns:
        The figures by name: the accuracies "knn" and "probe"; "silhouette"; "r2", which is None for levels without
        order; and the shares of the variance "degradation" and "content". See the functions of this module.
    """
    degradation, content = variance_shares(vectors)
    return {
        "knn": neighbour_accuracy(vectors, images),
        "probe": probe_accuracy(vectors, images),
        "silhouette": silhouette(vectors),
        "r2": None if name in WITHOUT_ORDER else regression_r2(vectors, images, levels),
        "degradation": degradation,
        "content": content,
    }


def neighbour_accuracy(vectors: Vectors, images: Images) -> float:
    """Return the share of vectors whose level is that of most of the five nearest vectors of *other* images."""
    of_others = len(images) - np.unique(images, return_counts=True)[1].max()
    neighbours = min(NEIGHBOURS, of_others * vectors.shape[1])
    return _accuracy(KNeighborsClassifier(neighbours), LeaveOneGroupOut(), vectors, images)


def probe_accuracy(vectors: Vectors, images: Images) -> float:
    """Return the accuracy of a linear classifier of the level (logistic regression, standardised input)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe that does not converge has a low accuracy anyway
        return _accuracy(_standardised(LogisticRegression(max_iter=500)), _folds(images), vectors, images)


def regression_r2(vectors: Vectors, images: Images, levels: tuple[float, ...]) -> float:
    """Return R2 of a ridge regression (standardised input) of the level. 1 is exact, and 0 is as good as the mean.

    The weight of the penalty is chosen by cross-validation between training images. With a fixed weight, IDRs of
    many channels would overfit to the few images.
    """
    x, groups, values = _flat(vectors), _groups(vectors, images), np.tile(levels, len(vectors))
    predicted = np.empty(len(values))
    for train, test in _folds(images).split(x, groups=groups):
        inner = list(_folds(groups[train]).split(x[train], groups=groups[train]))
        ridge = _standardised(RidgeCV(alphas=PENALTIES, cv=inner)).fit(x[train], values[train])
        predicted[test] = ridge.predict(x[test])
    return float(r2_score(values, predicted))


def silhouette(vectors: Vectors) -> float:
    """Return the mean silhouette of the levels as clusters (Euclidean distance), -1 to 1.

    If it is above 0, crops of one level are nearer to each other than to those of the nearest other level.
    """
    return float(silhouette_score(_flat(vectors), _labels(vectors)))


def variance_shares(vectors: Vectors) -> tuple[float, float]:
    """Return the shares of the variance (summed over D) that degradation and content explain, as eta squared.

    The share of the degradation is the variance of the levels' means over crops. The share of the content is the
    variance of the crops' means over levels. Each is divided by the variance of all vectors. Every crop occurs under
    every level, so the two shares sum to 1 minus the interaction of degradation and content. The shares are (1, 0) for
    an IDR that is invariant to content, (0, 1) for one that depends only on content, and (0, 0) for a constant one.
    """
    centred = vectors - vectors.mean(axis=(0, 1))
    total = np.square(centred).sum(axis=2).mean()
    if total == 0:
        return 0.0, 0.0
    degradation, content = (np.square(centred.mean(axis=axis)).sum(axis=1).mean() / total for axis in (0, 1))
    return float(degradation), float(content)


def linear_cka(one: Vectors, other: Vectors) -> float:
    """Return the similarity of two models' vectors, 0 to 1, invariant to rotation and scale. D may differ.

    It is the linear centred kernel alignment (Kornblith et al., ICML 2019). It is 0 if the vectors of one are constant.
    """
    a, b = (_flat(vectors) - _flat(vectors).mean(axis=0) for vectors in (one, other))
    norm = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(a.T @ b) ** 2 / norm) if norm else 0.0


def _accuracy(classifier: Any, split: Any, vectors: Vectors, images: Images) -> float:
    labels = _labels(vectors)
    predicted = cross_val_predict(classifier, _flat(vectors), labels, groups=_groups(vectors, images), cv=split)
    return float(np.mean(predicted == labels))


def _standardised(estimator: Any) -> Any:
    return make_pipeline(StandardScaler(), estimator)


def _folds(images: Images) -> GroupKFold:
    return GroupKFold(min(FOLDS, len(np.unique(images))))


def _flat(vectors: Vectors) -> Vectors:
    return vectors.reshape(-1, vectors.shape[2])


def _labels(vectors: Vectors) -> NDArray[np.intp]:
    return np.tile(np.arange(vectors.shape[1]), len(vectors))


def _groups(vectors: Vectors, images: Images) -> Images:
    return np.repeat(images, vectors.shape[1])
