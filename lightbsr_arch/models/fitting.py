"""Fit tensors of an estimator that are not learnt, such as a PCA of blur kernels, before training starts."""

from typing import Any

import torch
from basicsr.utils import get_root_logger

from lightbsr.errors import UserError
from lightbsr_arch.archs.part import Estimator
from lightbsr_arch.degradations import ClassicalDegradation, Draws


def fit_estimator(estimator: Estimator, opt: dict[str, Any], degradation: Any) -> None:
    """Fit ``estimator`` to kernels drawn from ``degradation`` with the run's seed, if it is not fitted yet.

    Raises:
        UserError: ``network_g`` starts from weights that lack the fit, or the degradation has no kernels of that size.
    """
    missing = estimator.missing()
    if missing is None:
        return
    weights = opt["path"].get("pretrain_network_g")
    if weights is not None:
        raise UserError(f"{weights}: {missing}")
    if not isinstance(degradation, ClassicalDegradation):
        raise UserError("network_g.estimator needs the blur kernel: degradation.type must be ClassicalDegradation")
    if estimator.kernel_size != degradation.kernel_size:
        raise UserError(
            f"network_g.estimator.kernel_size is not degradation.kernel_size, {degradation.kernel_size}: make them "
            "equal"
        )
    generator = torch.Generator().manual_seed(opt["manual_seed"])
    number = estimator.fit(lambda number: degradation.sample(number, Draws(generator)).kernel, generator)
    get_root_logger().info(f"The PCA of network_g.estimator is fitted to {number} blur kernels.")
