"""Reading IDRs: the same crops under every degradation of a grid, through every model.

What is read is the IDR as the restorer gets it: KDSR's vector of C numbers (not the 4C that are distilled), and the
mean over places of LightBSR's map. A teacher is told what it was told in training: KDSR's the ground truth of each
crop, LightBSR's the kernel and the noise level that degraded it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.gt_source import GTSource
from lightbsr_arch.degradations import Draws, Parameters, Setting, named_settings
from lightbsr_arch.degradations.classical import degrade
from lightbsr_arch.errors import UserError
from lightbsr_arch.seeds import derive_seed

ANGLES = (0.0, 45.0, 90.0, 135.0)
WIDTHS = (4.0, 1.5)
NOISES = (0.0, 5.0, 10.0, 20.0)
FEWEST_IMAGES = 3


@dataclass(frozen=True)
class Factor:
    """One property of a degradation, varied alone.

    Attributes:
        name: "sigma", "angle" or "noise".
        levels: its values: standard deviation of an isotropic blur in pixels; angle of an anisotropic one in degrees;
            standard deviation of the noise on the 8-bit scale.
        settings: the degradation of each level.
    """

    name: str
    levels: tuple[float, ...]
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class Readings:
    """IDRs of several models for the same crops.

    Attributes:
        vectors: by model and factor: crops x levels x D.
        images: the number of the image that each crop is of.
        failures: one line for each image that was left out.
    """

    vectors: dict[str, dict[str, NDArray[np.float64]]]
    images: NDArray[np.intp]
    failures: list[str]


def factor(
    name: str,
    scale: int,
    sigma: Sequence[float] = (),
    angle: Sequence[float] = ANGLES,
    noise: Sequence[float] = NOISES,
    widths: tuple[float, float] = WIDTHS,
) -> Factor:
    """A factor's levels as degradations.

    Args:
        name: "sigma", "angle" or "noise".
        scale: of the models; Gaussian8 depends on it.
        sigma: standard deviations of the isotropic blur, in pixels; none given: Gaussian8's.
        angle: in degrees, of a blur with standard deviations ``widths``.
        noise: standard deviations on the 8-bit scale, under the isotropic blur of the middle ``sigma``.
        widths: standard deviations along the axes, in pixels.

    Raises:
        UserError: fewer than two levels, two that are the same, or one below 0.
    """
    gaussian8 = [] if sigma else named_settings("gaussian8", scale)
    sigmas = sorted(sigma) or [setting.sigma for setting in gaussian8 if isinstance(setting.sigma, float)]
    if name == "sigma":
        levels, settings = sigmas, [Setting(sigma=level) for level in sigmas]
    elif name == "angle":
        levels = sorted(level % 180 for level in angle)
        settings = [Setting(sigma=widths, theta=level) for level in levels]
    else:
        levels = sorted(noise)
        settings = [Setting(sigma=sigmas[len(sigmas) // 2], noise=level) for level in levels]
    if len(set(levels)) < max(2, len(levels)) or min(levels) < 0:
        given = " ".join(f"{level:g}" for level in levels)
        raise UserError(f"{name} {given}: give two levels or more, none twice (angles repeat after 180), none below 0")
    return Factor(name, tuple(levels), tuple(settings))


def untrained(model: BlindSR) -> BlindSR:
    """A network of the same configuration with random weights, the same at each call: what architecture alone gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = BlindSR(**model.config).eval()
    prior: Any = getattr(model.estimator, "prior", None)
    if prior is not None:  # what a teacher is told is no part of what it learns
        fresh.estimator.prior.load_state_dict(prior.state_dict())  # type: ignore[attr-defined]
    return fresh


def read_idrs(
    models: Mapping[str, BlindSR], factors: Sequence[Factor], source: GTSource, size: int, crops_per_image: int
) -> Readings:
    """Read the IDR of every crop under every level of every factor; shows a progress bar.

    Args:
        models: by name, all of one scale.
        factors: of which each has a name of its own.
        source: ground-truth images that the models have not been trained on.
        size: side of the crops in ground-truth pixels, a multiple of the scale; they overlap by half.
        crops_per_image: at most so many, spread evenly.

    Raises:
        UserError: a teacher cannot be told the degradation, an IDR is not finite, or fewer than three images are left.
    """
    scale = next(iter(models.values())).scale
    for name, model in models.items():
        _check_prior(name, model)
    parts: dict[str, dict[str, list[torch.Tensor]]] = {name: {one.name: [] for one in factors} for name in models}
    images: list[int] = []
    failures: list[str] = []
    for index in tqdm(range(len(source)), desc="Reading IDRs", unit="image"):
        try:
            gt = _cut(source, index, size, crops_per_image)
        except UserError as error:
            failures.append(str(error))
            continue
        images += [index] * len(gt)
        for one in factors:
            # Crops x levels x D, of each model.
            read = [_read_level(models.values(), gt, setting, scale, index) for setting in one.settings]
            for name, levels in zip(models, zip(*read)):
                parts[name][one.name].append(torch.stack(levels, dim=1))
    if len(set(images)) < FEWEST_IMAGES:
        raise UserError(
            f"{len(set(images))} of {len(source)} images can be used, at least {FEWEST_IMAGES} are needed, to learn "
            f"from some and test on others{''.join(f'; {failure}' for failure in failures[:3])}"
        )
    vectors: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, of_model in parts.items():
        vectors[name] = {factor: torch.cat(some).double().numpy() for factor, some in of_model.items()}
        if not all(np.isfinite(of_factor).all() for of_factor in vectors[name].values()):
            raise UserError(f"{name}: its IDR holds NaN or infinity; are the weights of a training that diverged?")
    return Readings(vectors, np.array(images), failures)


def _check_prior(name: str, model: BlindSR) -> None:
    prior: Any = getattr(model.estimator, "prior", None)
    if prior is None:
        return
    if not prior.fitted:
        raise UserError(f"{name}: holds no PCA of blur kernels, so this teacher cannot be told the degradation")
    pixels = Setting(sigma=1.0).parameters().kernel[0].numel()
    if len(prior.mean) != pixels:
        raise UserError(f"{name}: this teacher is told kernels of {len(prior.mean)} pixels, those here have {pixels}")


def _cut(source: GTSource, index: int, size: int, most: int) -> torch.Tensor:
    """Crops of one image, M x 3 x size x size, in the order of rows."""
    name = source.keys()[index]
    height, width = source.shape(index)
    step = max(1, size // 2)
    corners = list(product(range(0, height - size + 1, step), range(0, width - size + 1, step)))
    if not corners:
        raise UserError(f"{name}: {width}x{height} pixels, less than a crop of {size}x{size}")
    kept = [corners[i * len(corners) // most] for i in range(most)] if len(corners) > most else corners
    image = to_tensor(source.read(index))
    return torch.stack([image[:, top : top + size, left : left + size] for top, left in kept])


@torch.inference_mode()
def _read_level(
    models: Iterable[BlindSR], gt: torch.Tensor, setting: Setting, scale: int, index: int
) -> list[torch.Tensor]:
    """The IDRs, N x D, that each model gives for the same degraded crops."""
    parameters = Parameters(*(of_one.expand(len(gt), *of_one.shape[1:]) for of_one in setting.parameters()))
    # As in DegradedDataset, noise depends on the image's place and the setting alone.
    draws = Draws(torch.Generator().manual_seed(derive_seed(index, *setting.name.encode())))
    lq = degrade(gt, parameters, scale, draws=draws)
    told = {None: None, "gt": gt, "prior": parameters}
    return [as_vector(model.estimator.estimate(lq, told[model.privileged])[0]).cpu() for model in models]
