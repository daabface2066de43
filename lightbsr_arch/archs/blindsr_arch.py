"""The composition of every blind SR network: an estimator reads the IDR, a restorer upscales under its guidance."""

from copy import deepcopy
from typing import Any, Protocol

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn


class Estimator(Protocol):
    """What reads the degradation. It fits a restorer of equal ``idr_shape`` (the IDR of one sample)."""

    idr_shape: tuple[int, ...]
    privileged: str | None

    def estimate(
        self, lq: torch.Tensor, privileged: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]: ...


class Restorer(Protocol):
    """What upscales an image by ``scale`` under the guidance of an IDR."""

    idr_shape: tuple[int, ...]
    scale: int

    def __call__(self, lq: torch.Tensor, idr: torch.Tensor) -> torch.Tensor: ...


@ARCH_REGISTRY.register()
class BlindSR(nn.Module):
    """KDSR is KDIDE + IDRDCRBNet; any other pair whose IDRs fit is an ablation of one line of YAML.

    Args:
        estimator: ``type`` and arguments of a registered estimator.
        restorer: ``type`` and arguments of a registered restorer.

    Raises:
        ValueError: the IDR that the estimator gives is not the one that the restorer takes.
    """

    def __init__(self, estimator: dict[str, Any], restorer: dict[str, Any]) -> None:
        super().__init__()
        self.estimator: Estimator = _build(estimator)
        self.restorer: Restorer = _build(restorer)
        # What rebuilds this network: `BlindSR(**config)`.
        self.config = {"estimator": deepcopy(dict(estimator)), "restorer": deepcopy(dict(restorer))}
        given, taken = self.estimator.idr_shape, self.restorer.idr_shape
        if given != taken:
            raise ValueError(
                f"{estimator['type']} gives an IDR of shape {given}, {restorer['type']} takes {taken}: "
                "make their sizes (num_feat) agree"
            )

    @property
    def scale(self) -> int:
        return self.restorer.scale

    @property
    def privileged(self) -> str | None:
        """The name of the input that only a teacher sees ("gt"), or None for a student."""
        return self.estimator.privileged

    def forward(
        self,
        lq: torch.Tensor,
        privileged: torch.Tensor | None = None,
        *,
        with_knowledge: bool = False,
        restore: bool = True,
    ) -> Any:
        """Restore an image; training also asks for the knowledge that is distilled.

        Args:
            lq: low-quality images, N x 3 x H x W, RGB in [0, 1].
            privileged: what a teacher sees besides; see the estimator.
            with_knowledge: also return the tensors that a student imitates, by name.
            restore: False leaves the restorer out, which is enough for the knowledge.

        Returns:
            The SR images, N x 3 x H*scale x W*scale, not clamped; with knowledge ``(sr or None, knowledge)``.
        """
        idr, knowledge = self.estimator.estimate(lq, privileged)
        sr = self.restorer(lq, idr) if restore else None
        return (sr, knowledge) if with_knowledge else sr


def _build(options: dict[str, Any]) -> Any:
    arguments = dict(options)
    return ARCH_REGISTRY.get(arguments.pop("type"))(**arguments)
