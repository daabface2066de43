"""The composition of every blind SR network: an estimator reads the IDR, a restorer upscales under its guidance."""

from collections.abc import Collection
from copy import deepcopy
from typing import Any, Protocol

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn


class Estimator(Protocol):
    """What reads the degradation off an image.

    Attributes:
        idr_ch: channels of the IDR, which is a vector or a map (``archs/idr.py``).
        knows: the names of the knowledge that ``estimate`` gives.
        privileged: the name of the input that only a teacher sees, or None.
    """

    idr_ch: int
    knows: tuple[str, ...]
    privileged: str | None

    def estimate(self, lq: torch.Tensor, privileged: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]: ...


class Restorer(Protocol):
    """What upscales an image by ``scale`` under the guides that it makes of an IDR.

    Attributes:
        idr_ch: channels of the IDR that it takes, in either form.
        knows: the names of its guides.
        converters: the layers that make the guides of an IDR.
    """

    idr_ch: int
    knows: tuple[str, ...]
    scale: int
    converters: tuple[nn.Module, ...]

    def guides(self, idr: torch.Tensor, height: int, width: int) -> dict[str, torch.Tensor]: ...

    def __call__(self, lq: torch.Tensor, guides: dict[str, torch.Tensor]) -> torch.Tensor: ...


@ARCH_REGISTRY.register()
class BlindSR(nn.Module):
    """KDSR is KDIDE + IDRDCRBNet, LightBSR is LightIDE + LightBSRNet; another pair is an ablation of one line of YAML.

    Args:
        estimator: ``type`` and arguments of a registered estimator.
        restorer: ``type`` and arguments of a registered restorer.

    Raises:
        ValueError: the IDR that the estimator gives has not the channels that the restorer takes.
    """

    def __init__(self, estimator: dict[str, Any], restorer: dict[str, Any]) -> None:
        super().__init__()
        self.estimator: Estimator = _build(estimator)
        self.restorer: Restorer = _build(restorer)
        # What rebuilds this network: `BlindSR(**config)`.
        self.config = {"estimator": deepcopy(dict(estimator)), "restorer": deepcopy(dict(restorer))}
        given, taken = self.estimator.idr_ch, self.restorer.idr_ch
        if given != taken:
            raise ValueError(
                f"{estimator['type']} gives an IDR of {given} channels, {restorer['type']} takes {taken}: "
                "make their sizes agree"
            )

    @property
    def scale(self) -> int:
        return self.restorer.scale

    @property
    def privileged(self) -> str | None:
        """The name of the input that only a teacher sees ("gt", "prior"), or None for a student."""
        return self.estimator.privileged

    @property
    def knows(self) -> tuple[str, ...]:
        """The names of the knowledge that ``forward`` gives when asked to."""
        return self.estimator.knows + self.restorer.knows

    def forward(
        self,
        lq: torch.Tensor,
        privileged: Any = None,
        *,
        knowledge: Collection[str] = (),
        restore: bool = True,
        num_patch: int = 1,
    ) -> Any:
        """Restore an image; training also asks for knowledge that a student imitates or a loss looks at.

        Args:
            lq: low-quality images, N x 3 x H x W, RGB in [0, 1].
            privileged: what a teacher sees besides; see the estimator.
            knowledge: names out of ``knows``. What is not asked for is not given, as DistributedDataParallel expects a
                gradient of every output.
            restore: False upscales nothing, which is enough for the knowledge.
            num_patch: neighbours of the batch that share a degradation; see ``estimate_apart``. Only the first of them
                is restored, and the restorer's knowledge is of that one.

        Returns:
            The SR images, N/num_patch x 3 x H*scale x W*scale, not clamped; with knowledge ``(sr or None, {name:
            tensor})``.
        """
        idr, known = estimate_apart(self.estimator, lq, privileged, num_patch)
        lq = lq[::num_patch]
        guides = self.restorer.guides(idr, *lq.shape[-2:])
        sr = self.restorer(lq, guides) if restore else None
        if not knowledge:
            return sr
        known = {**known, **guides}
        return sr, {name: known[name] for name in knowledge}


def estimate_apart(
    estimator: Estimator, lq: torch.Tensor, privileged: Any, num_patch: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Estimate patches in ``num_patch`` passes: the first patch of every degradation, then the second ones, and so on.

    Patches that share a degradation then do not share statistics of batch normalisation, by which contrast could tell
    them apart without looking at the degradation. LightBSR's published code does so; MoCo (CVPR 2020, section 3.3)
    shuffles for the same reason.

    Args:
        estimator: of images one by one.
        lq: N x 3 x H x W, each ``num_patch`` neighbours under one degradation.
        privileged: what a teacher sees besides, N samples.
        num_patch: 1 for a single pass.

    Returns:
        The IDRs of the first patches, N/num_patch, and the knowledge of all N, in their order.
    """
    if num_patch == 1:
        return estimator.estimate(lq, privileged)
    passes = [estimator.estimate(lq[i::num_patch], _every(privileged, i, num_patch)) for i in range(num_patch)]
    known = {name: torch.stack([of_pass[name] for _, of_pass in passes], dim=1).flatten(0, 1) for name in passes[0][1]}
    return passes[0][0], known


def _every(privileged: Any, first: int, step: int) -> Any:
    """Each ``step``-th sample of a privileged input, a tensor or several."""
    if privileged is None or isinstance(privileged, torch.Tensor):
        return None if privileged is None else privileged[first::step]
    return tuple(part[first::step] for part in privileged)


def _build(options: dict[str, Any]) -> Any:
    arguments = dict(options)
    return ARCH_REGISTRY.get(arguments.pop("type"))(**arguments)
