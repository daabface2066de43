"""Measures of vectors with known results."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="extra idr")

from lightbsr_arch.analysis.measures import (
    linear_cka,
    measure,
    neighbour_accuracy,
    probe_accuracy,
    regression_r2,
    silhouette,
    variance_shares,
)

LEVELS = (0.5, 1.0, 2.0, 4.0)
IMAGES = np.repeat(np.arange(6), 10)
CHANCE = pytest.approx(1 / len(LEVELS), abs=0.08)  # 240 vectors: 0.08 is three standard deviations


def vectors(degradation: float = 0.0, content: float = 0.0, noise: float = 0.0, size: int = 4) -> np.ndarray:
    """Return crops x levels x D: a weighted sum of numbers of the level, of the image, of the crop, and of noise."""
    rng = np.random.default_rng(0)
    of_level = np.outer(LEVELS, rng.standard_normal(size))[None]
    of_crop = (3 * rng.standard_normal((6, size))[IMAGES] + rng.standard_normal((60, size)))[:, None]
    return degradation * of_level + content * of_crop + noise * rng.standard_normal((60, len(LEVELS), size))


def test_nothing_but_the_degradation():
    figures = measure(vectors(degradation=1, noise=1e-3), IMAGES, "sigma", LEVELS)
    assert figures["knn"] == figures["probe"] == 1
    assert figures["silhouette"] > 0.98
    assert figures["r2"] == pytest.approx(1, abs=1e-4)
    assert figures["degradation"] == pytest.approx(1, abs=1e-4)
    assert figures["content"] == pytest.approx(0, abs=1e-4)


def test_nothing_but_noise():
    x = vectors(noise=1)
    assert neighbour_accuracy(x, IMAGES) == CHANCE
    assert probe_accuracy(x, IMAGES) == CHANCE
    assert silhouette(x) == pytest.approx(0, abs=0.05)
    assert -0.1 < regression_r2(x, IMAGES, LEVELS) < 0.05
    # Means of 60 and of 4 independent vectors keep 1/60 and 1/4 of the variance.
    assert variance_shares(x) == (pytest.approx(1 / 60, abs=0.02), pytest.approx(1 / 4, abs=0.05))


def test_nothing_but_content():
    """Vectors without the level mislead a classifier that is trained on other crops of the same image."""
    x = vectors(content=1, noise=1e-3)
    assert neighbour_accuracy(x, IMAGES) == CHANCE
    assert probe_accuracy(x, IMAGES) == CHANCE
    assert silhouette(x) == pytest.approx(0, abs=0.05)
    assert -0.2 < regression_r2(x, IMAGES, LEVELS) < 0.05
    assert variance_shares(x) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))


def test_a_linear_probe_finds_what_neighbours_do_not():
    """The content varies a hundred times as much as the level, in other directions."""
    x = np.concatenate([vectors(content=100, noise=10), vectors(degradation=1, noise=0.01)], axis=2)
    assert neighbour_accuracy(x, IMAGES) == CHANCE
    assert probe_accuracy(x, IMAGES) > 0.95
    assert regression_r2(x, IMAGES, LEVELS) > 0.95
    assert variance_shares(x)[1] > 0.99


def test_what_holds_in_one_image_only_does_not_count():
    """Levels are far apart along another line in each image, so they cannot be predicted for a new image."""
    rng = np.random.default_rng(1)
    lines = rng.standard_normal((6, 30))[IMAGES]
    x = np.array(LEVELS)[None, :, None] * lines[:, None] + 1e-3 * rng.standard_normal((60, 4, 30))
    same_image_counts = np.arange(len(IMAGES))  # every crop is a separate image
    assert neighbour_accuracy(x, same_image_counts) == 1
    assert neighbour_accuracy(x, IMAGES) < 0.6
    degradation, content = variance_shares(x)
    assert 1 - degradation - content > 0.2  # the interaction


def test_an_angle_is_not_regressed_and_a_dead_idr_has_figures():
    figures = measure(np.ones((60, 4, 8)), IMAGES, "angle", LEVELS)
    assert figures["r2"] is None
    assert (figures["degradation"], figures["content"]) == (0, 0)
    assert figures["knn"] == figures["probe"] == 0.25
    assert figures["silhouette"] == 0


def test_fewer_crops_than_neighbours():
    assert neighbour_accuracy(vectors(degradation=1)[::10][:2, :2], np.arange(2)) == 0.5


def test_cka_knows_no_rotation_and_no_scale():
    x = vectors(degradation=1, content=1, size=8)
    rotation = np.linalg.qr(np.random.default_rng(2).standard_normal((8, 8)))[0]
    assert linear_cka(x, 5 * x @ rotation + 3) == pytest.approx(1)
    assert linear_cka(vectors(degradation=1), vectors(content=1)) == pytest.approx(0, abs=1e-12)
    assert linear_cka(x, np.ones_like(x)) == 0
