"""IDRs of several models for the same crops under all degradations of a grid.

The IDR is the one that the restorer receives. For KDSR, it is the vector of C numbers, not the distilled one of 4C. For
LightBSR, it is the mean of the map. Teachers receive their privileged input: the ground truth of each crop for KDSR,
kernel and noise level for LightBSR.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lightbsr.defaults import ANGLES, DRAWS, NOISES, QUALITIES, SECOND_ORDER, WIDTHS
from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.archs.idr import as_vector
from lightbsr_arch.archs.part import extra_input, kept_apart
from lightbsr_arch.data.gt_dataset import to_tensor
from lightbsr_arch.data.gt_source import GTSource
from lightbsr_arch.degradations import Draws, FixedSecondOrder, Parameters, Setting, named_settings
from lightbsr_arch.seeds import derive_seed

FEWEST_IMAGES = 3
RESTORED = 4
"""Largest number of restored crops per image. Restoring takes long, and a few crops are enough for the mean."""


@dataclass(frozen=True)
class Factor:
    """One property of a degradation, which is varied while the others are fixed.

    Attributes:
        name: "sigma", "angle", "noise", "jpeg" or "second-order".
        levels: values of the property. They are standard deviations of an isotropic blur in pixels, angles of an
            anisotropic blur in degrees, standard deviations of the noise on the 8-bit scale, JPEG qualities, or seeds
            of second-order degradations.
        settings: the degradation of each level.
    """

    name: str
    levels: tuple[float, ...]
    settings: tuple[Setting | FixedSecondOrder, ...]


@dataclass(frozen=True)
class Readings:
    """IDRs of several models for the same crops.

    Attributes:
        vectors: IDRs by model and factor, crops x levels x D.
        images: index of the image of each crop.
        crops: ground truth of the crops by image, each M x 3 x size x size.
        failures: one line per image that was left out.
    """

    vectors: dict[str, dict[str, NDArray[np.float64]]]
    images: NDArray[np.intp]
    crops: dict[int, torch.Tensor]
    failures: list[str]


@dataclass(frozen=True)
class Use:
    """The effect of the IDR on the restored image: PSNR-Y in dB, as the mean over crops and levels.

    Attributes:
        psnr: PSNR-Y with the estimated IDR.
        mean_costs: loss of PSNR-Y with the mean of all vectors instead.
        wrong_costs: loss of PSNR-Y with the IDR of the same crop half of the factor's levels away.
    """

    psnr: float
    mean_costs: float
    wrong_costs: float


def factor(
    name: str,
    scale: int,
    sigma: Sequence[float] = (),
    angle: Sequence[float] = ANGLES,
    noise: Sequence[float] = NOISES,
    jpeg: Sequence[float] = QUALITIES,
    widths: Sequence[float] = WIDTHS,
) -> Factor:
    """Build a factor from its levels.

    Args:
        name: "sigma", "angle", "noise", "jpeg" or "second-order".
        scale: scale of the models. Gaussian8 depends on it.
        sigma: standard deviations of the isotropic blur, in pixels. If it is empty, they are those of Gaussian8.
        angle: angles in degrees of a blur with standard deviations ``widths``.
        noise: standard deviations on the 8-bit scale, under the isotropic blur of the middle ``sigma``.
        jpeg: qualities, 1 to 100, under the same blur.
        widths: the two standard deviations along the axes, in pixels.

    Raises:
        UserError: there are fewer than two levels, equal levels, a level or width below 0, or a quality outside 1 to
            100.
    """
    if name == SECOND_ORDER:
        return Factor(name, tuple(map(float, DRAWS)), tuple(map(FixedSecondOrder, DRAWS)))
    gaussian8 = [] if sigma else named_settings("gaussian8", scale)
    sigmas = sorted(sigma) or [setting.sigma for setting in gaussian8 if isinstance(setting.sigma, float)]
    middle = sigmas[len(sigmas) // 2]
    blurs: Sequence[float] = (middle,)
    if name == "sigma":
        levels = blurs = sigmas
    elif name == "angle":
        levels, blurs = sorted(level % 180 for level in angle), widths
    else:
        levels = sorted(noise if name == "noise" else jpeg)
    given = " ".join(f"{level:g}" for level in levels)
    if len(set(levels)) < max(2, len(levels)) or min(levels) < 0:
        raise UserError(f"{name} {given}: expected at least two different levels (angles repeat after 180), all >= 0")
    if min(blurs) < 0:
        raise UserError(f"{' '.join(f'{blur:g}' for blur in blurs)}: standard deviations of a blur are at least 0")
    if name == "sigma":
        settings = [Setting(sigma=level) for level in levels]
    elif name == "angle":
        settings = [Setting(sigma=(widths[0], widths[1]), theta=level) for level in levels]
    elif name == "noise":
        settings = [Setting(sigma=middle, noise=level) for level in levels]
    else:
        if not all(level in range(1, 101) for level in levels):
            raise UserError(f"jpeg {given}: qualities are whole numbers, 1 to 100")
        settings = [Setting(sigma=middle, jpeg=int(level)) for level in levels]
    return Factor(name, tuple(levels), tuple(settings))


def untrained(model: BlindSR) -> BlindSR:
    """Return a network of the same configuration with random weights. Each call returns the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = BlindSR(**model.config).eval()
    fresh.load_state_dict(kept_apart(model), strict=False)  # these tensors are not learnt
    return fresh


def read_idrs(
    models: Mapping[str, BlindSR], factors: Sequence[Factor], source: GTSource, size: int, crops_per_image: int
) -> Readings:
    """Compute the IDR of every crop under every level of every factor. Shows a progress bar.

    Args:
        models: models of one scale, by name.
        factors: factors with different names.
        source: ground-truth images that the models have not been trained on.
        size: side of the crops in ground-truth pixels, a multiple of the scale. Crops overlap by half.
        crops_per_image: largest number of crops per image. They are spread evenly.

    Raises:
        UserError: a teacher's input is not available, an IDR is not finite, or fewer than three images are left.
    """
    scale = next(iter(models.values())).scale
    for name, model in models.items():
        _check_prior(name, model)
    parts: dict[str, dict[str, list[torch.Tensor]]] = {name: {one.name: [] for one in factors} for name in models}
    images: list[int] = []
    crops: dict[int, torch.Tensor] = {}
    failures: list[str] = []
    for index in tqdm(range(len(source)), desc="Reading IDRs", unit="image"):
        try:
            gt = _cut(source, index, size, crops_per_image)
        except UserError as error:
            failures.append(str(error))
            continue
        images += [index] * len(gt)
        crops[index] = gt
        for one in factors:
            # Crops x levels x D, per model.
            read = [_read_level(models.values(), gt, *_degrade(gt, setting, scale, index)) for setting in one.settings]
            for name, levels in zip(models, zip(*read)):
                parts[name][one.name].append(torch.stack(levels, dim=1))
    if len(set(images)) < FEWEST_IMAGES:
        raise UserError(
            f"{len(set(images))} of {len(source)} images can be used, at least {FEWEST_IMAGES} are needed for "
            f"training and testing of the classifiers{''.join(f'; {failure}' for failure in failures[:3])}"
        )
    vectors: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, of_model in parts.items():
        vectors[name] = {factor: torch.cat(some).double().numpy() for factor, some in of_model.items()}
        if not all(np.isfinite(of_factor).all() for of_factor in vectors[name].values()):
            raise UserError(f"{name}: its IDR holds NaN or infinity; the training may have diverged")
    return Readings(vectors, np.array(images), crops, failures)


@torch.inference_mode()
def measure_use(model: BlindSR, factor: Factor, crops: Mapping[int, torch.Tensor], vectors: NDArray[np.float64]) -> Use:
    """Restore crops with their own IDR, with the mean IDR and with a wrong IDR. Shows a progress bar.

    Args:
        model: a model in eval mode.
        factor: the factor whose levels degrade the crops.
        crops: crops of ``Readings``. Up to four per image are restored.
        vectors: the model's IDRs for this factor, crops x levels x D.
    """
    mean = torch.from_numpy(vectors.mean(axis=(0, 1))).float()
    half = len(factor.settings) // 2
    psnr: list[torch.Tensor] = []
    for index, of_image in tqdm(crops.items(), desc="Restoring", unit="image"):
        gt = of_image[:: -(-len(of_image) // RESTORED)]
        degraded = [_degrade(gt, setting, model.scale, index) for setting in factor.settings]
        idrs = [_read(model, gt, lq, parameters) for lq, parameters in degraded]
        for level, (lq, _) in enumerate(degraded):
            candidates = (idrs[level], mean.expand(len(gt), -1), idrs[(level + half) % len(idrs)])
            restored = [model.restorer(lq, model.restorer.guides(idr, *lq.shape[-2:])) for idr in candidates]
            psnr.append(torch.stack([psnr_y(sr, gt, model.scale) for sr in restored], dim=1))
    own, with_mean, with_wrong = torch.cat(psnr).double().mean(dim=0).tolist()
    return Use(own, own - with_mean, own - with_wrong)


def psnr_y(sr: torch.Tensor, gt: torch.Tensor, scale: int) -> torch.Tensor:
    """Return the PSNR-Y of each sample in dB. As in papers, images have 8 bits and a border of ``scale`` is left out.

    Args:
        sr: N x 3 x H x W, RGB, neither clamped nor rounded.
        gt: N x 3 x H x W, multiples of 1/255.
    """
    luma = torch.tensor((65.481, 128.553, 24.966)).view(3, 1, 1)
    rounded = (sr.float().clamp(0, 1) * 255).round() / 255
    difference = ((rounded - gt) * luma).sum(dim=1)[:, scale:-scale, scale:-scale]
    return -10 * torch.log10(difference.square().mean(dim=(1, 2)) / 255**2)


def _check_prior(name: str, model: BlindSR) -> None:
    if missing := model.missing():
        raise UserError(f"{name}: {missing}")
    given, side = model.estimator.kernel_size, Setting(sigma=1.0).parameters().kernel.shape[-1]
    if given not in (None, side):
        raise UserError(f"{name}: this teacher takes kernels of {given}x{given} pixels, those here have {side}x{side}")


def _cut(source: GTSource, index: int, size: int, most: int) -> torch.Tensor:
    """Return crops of one image, M x 3 x size x size, row by row."""
    name = source.keys()[index]
    height, width = source.shape(index)
    step = max(1, size // 2)
    corners = list(product(range(0, height - size + 1, step), range(0, width - size + 1, step)))
    if not corners:
        raise UserError(f"{name}: {width}x{height} pixels, less than a crop of {size}x{size}")
    kept = [corners[i * len(corners) // most] for i in range(most)] if len(corners) > most else corners
    image = to_tensor(source.read(index))
    return torch.stack([image[:, top : top + size, left : left + size] for top, left in kept])


def _degrade(
    gt: torch.Tensor, setting: Setting | FixedSecondOrder, scale: int, index: int
) -> tuple[torch.Tensor, Parameters | None]:
    """Return the low-quality crops of one image, and kernel and noise level if these describe the degradation."""
    # As in DegradedDataset, noise depends only on the setting and the index of the image.
    draws = Draws(torch.Generator().manual_seed(derive_seed(index, *setting.name.encode())))
    degraded = setting.degrade(gt, scale, "bicubic", draws)
    return degraded.lq, degraded.parameters


def _read(model: BlindSR, gt: torch.Tensor, lq: torch.Tensor, parameters: Parameters | None) -> torch.Tensor:
    """Return the IDR of each crop, a vector or a map. The estimator receives its extra input."""
    return model.estimator.estimate(lq, *extra_input(model, {"gt": gt, "prior": parameters}))[0]


@torch.inference_mode()
def _read_level(
    models: Iterable[BlindSR], gt: torch.Tensor, lq: torch.Tensor, parameters: Parameters | None
) -> list[torch.Tensor]:
    """Return the IDRs of each model, N x D, for the same degraded crops."""
    return [as_vector(_read(model, gt, lq, parameters)).cpu() for model in models]
