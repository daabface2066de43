"""The estimates of ``lightbsr inspect``: the regression on made-up IDRs, and the shipped one on photos of the demo."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightbsr import shipped
from lightbsr.errors import UserError
from lightbsr_arch.analysis.estimates import TARGETS, Fit, tensor_digest
from lightbsr_arch.analysis.inspection import CLEAN, FILE, NETWORKS, REAL, Chooser, Inspector, choose
from lightbsr_arch.analysis.jpeg_quality import file_quality
from lightbsr_arch.checkpoint import read_checkpoint
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.image_io import read_image
from lightbsr_arch.degradations import Draws, Setting

PHOTOS = sorted((Path(__file__).parents[2] / "examples/photos/held_out").glob("*.webp"))
IDR_SIZE = 12


def made_up(seed: int, count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """IDRs and true values: all are told by the IDRs except the JPEG quality, and the blur only without noise."""
    rng = np.random.default_rng(seed)
    sigma, noise = rng.uniform(0, 4, count), rng.uniform(0, 30, count) * (rng.random(count) < 0.5)
    jpeg = rng.uniform(30, 100, count)
    actual = np.stack([sigma, noise, jpeg, 2 - noise / 5 + rng.normal(size=count) / 10], axis=1)
    idrs = rng.normal(size=(count, IDR_SIZE))
    idrs[:, 0] = np.where(noise > 0, 2, sigma) + rng.normal(size=count) / 20
    idrs[:, 1] = noise / 10 + rng.normal(size=count) / 20
    return idrs, actual


def pairs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """IDRs of tiles and of their pictures."""
    wholes = made_up(seed, 400)[0]
    return wholes + np.random.default_rng(seed).normal(scale=0.1, size=wholes.shape), wholes


@pytest.fixture(scope="module")
def fit() -> Fit:
    idrs, actual = made_up(1)
    tiles, wholes = pairs(2)
    return Fit.of(idrs, actual, np.arange(600) // 6, tiles, wholes, {"net": "digest"})


def test_intervals_hold_nine_of_ten_true_values_where_there_is_an_estimate(fit):
    idrs, actual = made_up(3, 400)
    clean, noisy = actual[:, 1] == 0, actual[:, 1] > 5
    estimates = [fit.estimate(one) for one in idrs]
    for column, group in ((0, clean), (1, noisy), (3, noisy)):
        each = [(estimates[row][TARGETS[column]], actual[row, column]) for row in np.flatnonzero(group)]
        found = [(one, value) for one, value in each if one]
        assert len(found) > 0.8 * len(each)
        assert 0.85 <= np.mean([one.low <= value <= one.high for one, value in found]) <= 1
        assert np.mean([abs(one.value - value) for one, value in found]) < 0.15 * np.ptp(actual[:, column])


def test_what_the_idr_does_not_determine_is_not_estimated(fit):
    idrs, actual = made_up(4, 200)
    noisy = actual[:, 1] > 5
    estimates = [fit.estimate(one) for one in idrs[noisy]]
    assert np.mean([one["jpeg"] is None for one in estimates]) > 0.98
    assert np.mean([one["sigma"] is None for one in estimates]) > 0.98


def test_targets_that_most_neighbours_lack_are_not_estimated(fit):
    actual = np.where(np.arange(4) < 3, np.nan, fit.actual)
    actual[0] = fit.actual[0]
    without = Fit(**{**vars(fit), "actual": actual})
    estimates = without.estimate(made_up(5, 1)[0][0])
    assert [name for name in TARGETS if estimates[name]] == ["gain"]


def test_idrs_far_from_those_of_the_fit_are_unlike_them(fit):
    idrs = made_up(6, 500)[0]
    assert 0.95 < np.mean([fit.distance(one) <= 1 for one in idrs]) <= 1
    assert fit.distance(idrs[0] + 20) > 3


def test_one_tile_in_twenty_of_an_even_picture_is_further_away_than_1(fit):
    distances = [fit.tile_distances(tile[None], whole)[0] for tile, whole in zip(*pairs(7), strict=True)]
    assert np.mean(np.array(distances) > 1) == pytest.approx(0.05, abs=0.04)
    clean = made_up(8, 400)[0]
    [whole, *tiles] = clean[np.argsort(clean[:, 1])[[0, 1, -1]]]
    assert fit.tile_distances(np.stack(tiles), whole)[1] > 2  # noise of 30


def test_a_saved_fit_estimates_the_same(fit, tmp_path):
    fit.save(tmp_path / "fit.npz")
    loaded = Fit.load(tmp_path / "fit.npz")
    idrs = made_up(8, 1)[0][0]
    for one, other in zip(fit.estimate(idrs).values(), loaded.estimate(idrs).values(), strict=True):
        assert (one is None and other is None) or np.allclose(one, other, atol=0.2)
    assert loaded.distance(idrs) == pytest.approx(fit.distance(idrs), rel=1e-3)


@pytest.mark.parametrize(("content", "message"), [(None, "missing; fit it again"), (b"PK", "no regression of")])
def test_missing_and_damaged_fits_are_refused(tmp_path, content, message):
    if content:
        (tmp_path / "fit.npz").write_bytes(content)
    with pytest.raises(UserError, match=rf"fit.npz: {message}.*benchmarks/fit_inspect.py"):
        Fit.load(tmp_path / "fit.npz")


def test_other_weights_are_refused_and_another_card_is_not(tmp_path):
    source = shipped.find_weights(CLEAN)
    checkpoint = read_checkpoint(source)
    fit = Fit.load(shipped.folder() / FILE)
    copy = tmp_path / "copy.safetensors"
    checkpoint.card["summary"] = "another text"
    checkpoint.save(copy)
    assert tensor_digest(copy) == tensor_digest(source)
    fit.check_weights({CLEAN: copy})
    next(iter(checkpoint.state.values())).flatten()[0] += 1
    checkpoint.save(copy)
    with pytest.raises(UserError, match=r"copy.safetensors: other weights than those .* benchmarks/fit_inspect.py"):
        fit.check_weights({CLEAN: copy})


@pytest.mark.parametrize(
    ("better", "unlike", "model"), [(30, False, CLEAN), (29, False, REAL), (40, True, REAL), (0, False, REAL)]
)
def test_choice_of_the_weights(better, unlike, model):
    gains = np.array([1.5] * better + [-0.5] * (40 - better))
    name, why = choose(gains, unlike)
    assert name == model
    median = "+1.5" if better > 20 else "-0.5"
    assert why == (
        "its IDR is unlike anything seen in training"
        if unlike
        else f"{CLEAN} restores {better} of the 40 most similar crops better than {REAL}, by {median} dB in the median"
    )


def test_a_compressed_file_gets_the_weights_for_real_photos() -> None:
    clean = np.full(40, 1.5)
    assert choose(clean, False, 96)[0] == CLEAN
    assert choose(clean, False, 95) == (REAL, f"it is a JPEG of quality 95, whose artefacts {CLEAN} would sharpen")


# ------------------------------------------------------------------------------------------ the shipped fit


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    return Inspector("cpu")


def low_quality(photo: Path, setting: Setting) -> np.ndarray:
    gt = to_tensor(read_image(photo))[None]
    lq = setting.degrade(gt, 4, "bicubic", Draws(torch.Generator().manual_seed(0))).lq
    return (lq[0] * 255).round().byte().permute(1, 2, 0).numpy()


def test_the_shipped_fit_is_of_the_shipped_weights_and_small(inspector):
    fitted = json.loads(str(inspector.fit.weights))
    assert fitted == {name: tensor_digest(shipped.find_weights(name)) for name in NETWORKS}
    assert (shipped.folder() / FILE).stat().st_size < 150_000


def test_blur_of_held_out_photos_is_in_the_interval_and_grows(inspector):
    sigmas = (0.8, 1.6, 2.4, 3.2)
    read = {s: [inspector.read(low_quality(photo, Setting(sigma=s))) for photo in PHOTOS] for s in sigmas}
    found = [(sigma, one.estimates["sigma"]) for sigma in sigmas for one in read[sigma]]
    assert np.mean([one is not None for _, one in found]) >= 0.75
    assert np.mean([one.low <= sigma <= one.high for sigma, one in found if one]) >= 0.75
    medians = [np.median([one.estimates["sigma"].value for one in read[s] if one.estimates["sigma"]]) for s in sigmas]
    assert medians == sorted(medians)
    assert np.abs(np.subtract(medians, sigmas)).max() < 0.6
    # The other weights restore blur alone nearly as well: 0.1 dB less in the table of docs/inspect.md.
    assert np.mean([one.model == CLEAN for s in sigmas for one in read[s]]) >= 0.6


def test_noise_of_held_out_photos_is_in_the_interval_and_grows(inspector):
    levels = (0, 8, 16, 24)
    read = {x: [inspector.read(low_quality(photo, Setting(sigma=1.5, noise=x))) for photo in PHOTOS] for x in levels}
    found = [(level, one.estimates["noise"]) for level in levels for one in read[level]]
    assert np.mean([one is not None for _, one in found]) >= 0.75
    assert np.mean([one.low <= level <= one.high for level, one in found if one]) >= 0.75
    medians = [np.median([one.estimates["noise"].value for one in read[x] if one.estimates["noise"]]) for x in levels]
    assert medians == sorted(medians)
    assert np.abs(np.subtract(medians, levels)).max() < 5
    assert all(one.model == REAL for one in read[24])


def test_one_half_with_noise_stands_out_on_the_map(inspector):
    clean, noisy = (low_quality(PHOTOS[0], Setting(sigma=1.5, noise=noise)) for noise in (0, 20))
    mixed = np.vstack([np.tile(clean, (1, 4, 1)), np.hstack([clean, clean, clean, noisy])])
    distances = inspector.tile_distances(mixed, inspector.idrs(mixed))
    assert distances.shape == (7, 15)
    assert distances[5:, 13:].min() > max(1, 2 * np.median(distances))


def test_small_pictures_are_refused_with_their_size(inspector):
    with pytest.raises(UserError, match="40x31 pixels, too few to inspect; at least 32 per side"):
        inspector.read(np.zeros((31, 40), np.uint8))
    small = np.zeros((40, 40, 3), np.uint8)
    idrs = inspector.idrs(small)
    with pytest.raises(UserError, match="40x40 pixels, too few for a map; at least 64 per side"):
        inspector.tile_distances(small, idrs)


def test_grey_alpha_and_16_bits_are_read_as_their_colours(inspector):
    rgb = low_quality(PHOTOS[1], Setting(sigma=1.5))
    grey = rgb[..., 0]
    alpha = np.random.default_rng(0).integers(256, size=grey.shape, dtype=np.uint8)
    idrs = inspector.idrs(rgb)
    assert np.allclose(inspector.idrs(np.dstack([rgb, alpha])), idrs)
    assert np.allclose(inspector.idrs(rgb.astype(np.uint16) * 257), idrs, atol=1e-5)
    assert np.allclose(inspector.idrs(np.dstack([grey, alpha])), inspector.idrs(np.dstack([grey] * 3)))


def test_the_chooser_returns_the_network_and_names_it():
    chooser = Chooser("cpu", torch.float32)
    blurred = low_quality(PHOTOS[0], Setting(sigma=2.0))
    clean, clean_text = chooser(blurred, b"no JPEG")
    noisy, noisy_text = chooser(low_quality(PHOTOS[0], Setting(sigma=2.0, noise=25)), b"no JPEG")
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=75)
    compressed, compressed_text = chooser(blurred, file.getvalue())
    assert compressed is chooser.default
    assert compressed_text.startswith(f"-m auto: {REAL}: it is a JPEG of quality 75")
    assert clean is not noisy
    assert noisy is chooser.default
    assert clean_text.startswith(f"-m auto: {CLEAN}: {CLEAN} restores ")
    assert noisy_text.startswith(f"-m auto: {REAL}: ")
    small, small_text = chooser(np.zeros((9, 12, 3), np.uint8), b"no JPEG")
    assert small is chooser.default
    assert small_text == f"-m auto: {REAL}: 12x9 pixels, too few to inspect; at least 32 per side"


@pytest.mark.parametrize("quality", [1, 30, 75, 100])
def test_quality_of_a_jpeg_file(quality):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=quality)
    assert file_quality(file.getvalue()) == quality


def test_other_tables_and_formats_have_no_quality():
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", qtables=[[17] * 64, [18] * 64])
    assert file_quality(file.getvalue()) is None
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "PNG")
    assert file_quality(file.getvalue()) is None
    assert file_quality(b"\xff\xd8\xff damaged") is None


def test_the_page_has_tables_of_the_script():
    page = (Path(__file__).parents[2] / "docs/inspect.md").read_text(encoding="utf-8")
    for attribute in ("sigma (pixels)", "noise (of 255)", "JPEG quality"):
        assert len(re.findall(rf"^\| {re.escape(attribute)} \| blur.*%? \|$", page, re.MULTILINE)) == 4
