"""Fits the regression of `lightbsr inspect` to the shipped weights, and writes its errors to docs/inspect.md.

    python benchmarks/fit_inspect.py --fit BSD100 CLIC2025 --test Set5 Set14 examples/photos/held_out

Run it again after the weights have changed. Crops of the photos are degraded at random: an isotropic blur
(sigma 0 to 4), noise (up to 30) in half of them, JPEG (quality 30 to 95) in half of them. Every seventh crop has
Real-ESRGAN's degradation instead. The photos of --test are used only to measure the errors. --samples FILE saves
the IDRs and figures of the crops, which take most of the time. A later call with the same weights and photos reads them
from the file.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from lightbsr import shipped
from lightbsr.errors import UserError
from lightbsr_arch.analysis.estimates import TARGETS, Estimate, Fit, tensor_digest
from lightbsr_arch.analysis.idr import psnr_y
from lightbsr_arch.analysis.inspection import (
    CLEAN,
    FILE,
    NETWORKS,
    REAL,
    TILE,
    choose,
    joined,
    load_networks,
    read_idrs,
)
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.image_io import read_image
from lightbsr_arch.data.picture_files import find_pictures
from lightbsr_arch.degradations import Draws, SecondOrderDegradation, Setting, bicubic_resize
from lightbsr_arch.degradations.jpeg import compress
from lightbsr_arch.io import write_arrays, write_whole

SCALE = 4
SIDES = (40, 80)
"""Smallest and largest side of a low-quality crop."""
DRAWS = 4
"""Number of degradations per crop."""
PIXELS_PER_CROP = 400_000
"""Photos with more pixels get two crops, each of which is first shrunk by a random factor."""
RESTORED = 32
"""Side of the part of a low-quality crop that both networks restore."""
PAGE = Path(__file__).parents[1] / "docs/inspect.md"
TABLES = re.compile(r"(?<=<!-- tables of benchmarks/fit_inspect.py -->\n).*?(?=<!-- end of the tables -->)", re.DOTALL)

Samples = dict[str, NDArray[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--fit", nargs="+", required=True, metavar="DIR", help="photos that the regression is fitted to"
    )
    parser.add_argument("--test", nargs="+", required=True, metavar="DIR", help="other photos, to measure its errors")
    parser.add_argument("--samples", type=Path, metavar="FILE.npz", help="file for the IDRs and figures of the crops")
    args = parser.parse_args()
    torch.set_num_threads(1)
    digests = {name: tensor_digest(shipped.find_weights(name)) for name in NETWORKS}
    samples = _kept(args.samples, digests)
    if samples is None:
        samples = collect(args.fit, args.test)
        if args.samples:
            _keep(args.samples, samples, digests)
    is_fit = samples["is_fit"]
    fit = Fit.of(
        samples["idrs"][is_fit],
        samples["actual"][is_fit],
        samples["photos"][is_fit],
        samples["tiles"],
        samples["wholes"],
        digests,
    )
    target = shipped.folder() / FILE
    fit.save(target)
    fit = Fit.load(target)  # measured as it is shipped
    text, count = TABLES.subn(lambda _: tables(fit, samples), PAGE.read_text(encoding="utf-8"))
    assert count == 1, f"{PAGE} has one place for the tables"
    write_whole(PAGE, text.encode())
    print(f"{target}: {target.stat().st_size:,} bytes\n{PAGE}")


# ------------------------------------------------------------------------------------------ samples


def collect(fit: list[str], test: list[str]) -> Samples:
    """Degrade crops of photos and read their IDRs. Shows a progress bar.

    Returns:
        ``is_fit``, ``photos``, ``idrs``, ``actual`` (TARGETS), ``second_order``, ``psnr`` (both networks) by crop;
        ``tiles`` and ``wholes``, IDRs of tiles and of their crops; and ``odd_idrs`` with ``odd_kinds`` of unusual
        degradations of the test photos.
    """
    networks = load_networks()
    found: dict[str, list[Any]] = {}
    pictures = [(True, one.path) for one in find_pictures(fit)] + [(False, one.path) for one in find_pictures(test)]
    for index, (is_fit, path) in enumerate(tqdm(pictures, unit="photo")):
        rng = np.random.default_rng((index, len(path.name)))
        image = to_tensor(read_image(path))[None]
        for number, gt in enumerate(_crops(image, rng)):
            for draw in range(DRAWS):
                sample, of_tiles = _sample(networks, gt, rng, tiles=draw == 0 and is_fit)
                for key, value in {**sample, "is_fit": is_fit, "photos": index}.items():
                    found.setdefault(key, []).append(value)
                found.setdefault("tiles", []).extend(of_tiles)
                found.setdefault("wholes", []).extend([sample["idrs"]] * len(of_tiles))
            if not is_fit and number == 0:
                for kind, change in ODD.items():
                    found.setdefault("odd_idrs", []).append(read_idrs(networks, change(gt, rng))[0])
                    found.setdefault("odd_kinds", []).append(kind)
    return {key: np.array(values) for key, values in found.items()}


def _crops(image: torch.Tensor, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    """Yield crops of a photo, 1 x 3 x H x W in [0, 1], multiples of 1/255."""
    count = 2 if image.shape[2] * image.shape[3] > PIXELS_PER_CROP else 1
    for _ in range(count):
        side = SCALE * int(rng.integers(SIDES[0], SIDES[1] + 1))
        most = min(image.shape[2:]) / side
        factor = float(rng.uniform(1, most)) if count > 1 and most > 1 else 1.0
        height, width = (min(round(side * factor), length) for length in image.shape[2:])
        top, left = (int(rng.integers(image.shape[axis] - length + 1)) for axis, length in ((2, height), (3, width)))
        gt = image[..., top : top + height, left : left + width]
        gt = bicubic_resize(gt, 1 / factor) if factor > 1 else gt
        height, width = (length // SCALE * SCALE for length in gt.shape[2:])
        yield (gt[..., :height, :width] * 255).round().clamp(0, 255) / 255


@torch.inference_mode()
def _sample(
    networks: list[Any], gt: torch.Tensor, rng: np.random.Generator, tiles: bool
) -> tuple[dict[str, Any], list[NDArray[np.float64]]]:
    """Degrade a crop at random. Return its IDRs and true values by name, and the IDRs of its tiles."""
    draws = Draws(torch.Generator().manual_seed(int(rng.integers(2**31))))
    second_order = bool(rng.random() < 1 / 7)
    if second_order:
        known = (np.nan, np.nan, np.nan)
        lq = SecondOrderDegradation(SCALE)(gt, draws).lq
    else:
        noise = float(30 * rng.random() ** 1.5) if rng.random() < 0.5 else 0.0
        jpeg = int(rng.integers(30, 96)) if rng.random() < 0.5 else None
        setting = Setting(sigma=float(rng.uniform(0, 4)), noise=noise, jpeg=jpeg)
        assert isinstance(setting.sigma, float)
        known = (setting.sigma, noise, float(jpeg or 100))
        lq = setting.degrade(gt, SCALE, "bicubic", draws).lq
    by_network = [network.estimator(lq) for network in networks]
    idrs = joined(by_network)[0]
    height, width = lq.shape[2:]
    side = min(RESTORED, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    part = lq[..., top : top + side, left : left + side]
    gt_part = gt[..., SCALE * top : SCALE * (top + side), SCALE * left : SCALE * (left + side)]
    psnr = []
    for network, idr in zip(networks, by_network):
        guides = network.restorer.guides(idr, side, side)
        psnr.append(psnr_y(network.restorer(part, guides), gt_part, SCALE).item())
    of_tiles: list[NDArray[np.float64]] = []
    if tiles:
        corners = [(top, left) for top in (0, height - TILE) for left in (0, width - TILE)]
        cut = torch.cat([lq[..., top : top + TILE, left : left + TILE] for top, left in corners])
        of_tiles = list(read_idrs(networks, cut))
    sample = {"idrs": idrs, "actual": (*known, psnr[0] - psnr[1]), "second_order": second_order, "psnr": psnr}
    return sample, of_tiles


def _shrunk(gt: torch.Tensor) -> torch.Tensor:
    return (bicubic_resize(gt, 1 / SCALE) * 255).round().clamp(0, 255) / 255


def _salt_and_pepper(gt: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    lq, chance = _shrunk(gt), torch.from_numpy(rng.random((gt.shape[2] // SCALE, gt.shape[3] // SCALE)))
    return torch.where(chance < 0.05, 0.0, torch.where(chance > 0.95, 1.0, lq))


def _motion(gt: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    return _shrunk(torch.stack([gt.roll(shift, 3) for shift in range(-16, 17)]).mean(dim=0))


def _enlarged(gt: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    return _shrunk(gt).repeat_interleave(2, 2).repeat_interleave(2, 3)


def _one_bit(gt: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    pixels = (_shrunk(gt)[0] * 255).byte().permute(1, 2, 0).numpy()
    dithered = np.asarray(Image.fromarray(pixels).convert("1"), np.float32)
    return torch.from_numpy(dithered).expand(1, 3, -1, -1)


def _noisy(gt: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    draws = Draws(torch.Generator().manual_seed(int(rng.integers(2**31))))
    return Setting(sigma=1.0, noise=80.0).degrade(gt, SCALE, "bicubic", draws).lq


def _negative(gt: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    return 1 - _shrunk(gt)


ODD: dict[str, Callable[[torch.Tensor, np.random.Generator], torch.Tensor]] = {
    "salt and pepper, 10 % of the pixels": _salt_and_pepper,
    "noise 80": _noisy,
    "JPEG quality 5": lambda gt, rng: compress(_shrunk(gt), 5),
    "every pixel repeated, 2 x 2": _enlarged,
    "black and white, dithered": _one_bit,
    "motion over 32 pixels": _motion,
    "negative": _negative,
}
"""Degradations that occur neither in the fit nor in the training of the networks."""


def _kept(path: Path | None, digests: dict[str, str]) -> Samples | None:
    if path is None or not path.exists():
        return None
    with np.load(path) as file:
        samples = dict(file)
    return samples if json.loads(str(samples.pop("weights"))) == digests else None


def _keep(path: Path, samples: Samples, digests: dict[str, str]) -> None:
    write_arrays(path, {"weights": np.array(json.dumps(digests)), **samples})


# ------------------------------------------------------------------------------------------ tables


def tables(fit: Fit, samples: Samples) -> str:
    """Return the tables of the page: errors, choice of the network, and unusual pictures."""
    held_out = {key: samples[key][~samples["is_fit"]] for key in ("idrs", "actual", "second_order", "psnr", "photos")}
    estimates = [fit.estimate(idrs) for idrs in held_out["idrs"]]
    chosen = [choose(fit.gains(idrs), fit.distance(idrs) > 1)[0] for idrs in held_out["idrs"]]
    unlike = np.array([fit.distance(idrs) > 1 for idrs in held_out["idrs"]])
    photos = [len(np.unique(samples["photos"][samples["is_fit"] == is_fit])) for is_fit in (True, False)]
    return "\n".join(
        [
            f"Fitted to {samples['is_fit'].sum()} crops of {photos[0]} photos, tested on {len(estimates)} crops of "
            f"{photos[1]} other photos:",
            "",
            *_errors(fit, held_out, estimates),
            "",
            *_choices(held_out, np.array(chosen) == CLEAN),
            "",
            *_odd(fit, samples, held_out, unlike),
            "",
        ]
    )


def _errors(fit: Fit, held_out: Samples, estimates: list[dict[str, Estimate | None]]) -> Iterator[str]:
    yield "| attribute | degradation | crops | estimated | mean error | mean error of a constant | in the interval |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    noisy, packed = held_out["actual"][:, 1] > 0, held_out["actual"][:, 2] < 100
    known = ~held_out["second_order"]
    groups = {
        "blur": known & ~noisy & ~packed,
        "blur, noise": known & noisy & ~packed,
        "blur, JPEG": known & ~noisy & packed,
        "blur, noise, JPEG": known & noisy & packed,
    }
    units = {"sigma": "sigma (pixels)", "noise": "noise (of 255)", "jpeg": "JPEG quality"}
    for column, name in enumerate(TARGETS[:3]):
        constant = np.nanmedian(fit.actual[:, column])
        for label, group in groups.items():
            rows = np.flatnonzero(group)
            found = [(held_out["actual"][row, column], one) for row in rows if (one := estimates[row][name])]
            errors = [abs(one.value - value) for value, one in found]
            inside = [one.low <= value <= one.high for value, one in found]
            baseline = np.mean(np.abs([value - constant for value, _ in found])) if found else np.nan
            figures = [f"{len(found) / len(rows):.0%}", _figure(errors), f"{baseline:.2f}" if found else "–"]
            share = f"{np.mean(inside):.0%}" if found else "–"
            yield f"| {units[name]} | {label} | {len(rows)} | {' | '.join(figures)} | {share} |"


def _figure(values: list[float]) -> str:
    return f"{np.mean(values):.2f}" if values else "–"


def _choices(held_out: Samples, chosen: NDArray[np.bool_]) -> Iterator[str]:
    yield f"| PSNR-Y (dB) | crops | always `{REAL}` | always `{CLEAN}` | chosen | the better one | `{CLEAN}` chosen |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    clean, real = held_out["psnr"].T
    best, auto = np.maximum(clean, real), np.where(chosen, clean, real)
    noisy, packed, second = (held_out["actual"][:, 1] > 0, held_out["actual"][:, 2] < 100, held_out["second_order"])
    groups = {
        "blur": ~second & ~noisy & ~packed,
        "blur, noise": ~second & noisy & ~packed,
        "blur, JPEG": ~second & ~noisy & packed,
        "blur, noise, JPEG": ~second & noisy & packed,
        "second-order": second,
        "all": np.full(len(second), True),
    }
    for label, group in groups.items():
        figures = [f"{values[group].mean():.2f}" for values in (real, clean, auto, best)]
        yield f"| {label} | {group.sum()} | {' | '.join(figures)} | {chosen[group].mean():.0%} |"


def _odd(fit: Fit, samples: Samples, held_out: Samples, unlike: NDArray[np.bool_]) -> Iterator[str]:
    yield "| test photos | crops | unlike anything seen in training |"
    yield "|---|---:|---:|"
    for label, group in (
        ("degraded as in the fit", ~held_out["second_order"]),
        ("second-order", held_out["second_order"]),
    ):
        yield f"| {label} | {group.sum()} | {unlike[group].mean():.0%} |"
    for kind in dict.fromkeys(samples["odd_kinds"]):
        idrs = samples["odd_idrs"][samples["odd_kinds"] == kind]
        yield f"| {kind} | {len(idrs)} | {np.mean([fit.distance(one) > 1 for one in idrs]):.0%} |"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
