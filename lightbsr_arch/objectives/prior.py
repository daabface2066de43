"""The PCA of blur kernels that some estimators take: fitted where a training starts, and kept with the weights."""

from typing import Any

import torch
from basicsr.utils import get_root_logger

from lightbsr.errors import UserError
from lightbsr_arch.archs.degradation_prior import DegradationPrior, published_kernels
from lightbsr_arch.degradations import ClassicalDegradation, Draws

# The text for weights, such as the authors' published ones, that lack it.
NO_PCA = (
    "holds no PCA of blur kernels, with which its estimator was trained; the authors keep it in another file: lightbsr "
    "convert SRC DST.safetensors --pca FILE"
)
# Blur kernels that a PCA is fitted to.
PCA_KERNELS = 10_000


def fit_prior(prior: DegradationPrior, opt: dict[str, Any], degradation: Any) -> None:
    """Fit an unfitted PCA of ``network_g`` to kernels drawn from ``degradation`` with the run's seed.

    Raises:
        UserError: ``network_g`` starts from weights that lack their PCA, or the degradation has no kernels of its size.
    """
    weights = opt["path"].get("pretrain_network_g")
    if weights is not None:
        raise UserError(f"{weights}: {NO_PCA}")
    if not isinstance(degradation, ClassicalDegradation):
        raise UserError("network_g.estimator is told the blur kernel: degradation.type must be ClassicalDegradation")
    if prior.kernel_size != degradation.kernel_size:
        raise UserError(
            f"network_g.estimator.kernel_size is not degradation.kernel_size, {degradation.kernel_size}: make "
            "them equal"
        )
    generator = torch.Generator().manual_seed(opt["manual_seed"])
    if prior.form == "published":
        kernels = published_kernels(prior.kernel_size, generator)
    else:
        kernels = degradation.sample(PCA_KERNELS, Draws(generator)).kernel
    prior.fit(kernels)
    get_root_logger().info(f"The PCA of network_g.estimator is fitted to {len(kernels)} blur kernels.")
