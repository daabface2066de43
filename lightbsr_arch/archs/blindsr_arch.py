"""The composition of most blind SR networks. An estimator computes the IDR, and a restorer upscales guided by it."""

from collections.abc import Collection, Iterator
from copy import deepcopy
from typing import Any, ClassVar

import torch
from basicsr.utils.registry import ARCH_REGISTRY

from lightbsr_arch.archs.part import Advance, Arguments, Estimator, Network, Part, Restorer, State, registered

ESTIMATOR_SHARE = 0.3
"""Approximate share of the estimator in the processing time of an image, for the progress bar."""


@ARCH_REGISTRY.register()
class BlindSR(Network):
    """Joins an estimator and a restorer. KDSR is KDIDE + IDRDCRBNet, and LightBSR is LightIDE + LightBSRNet.

    Args:
        estimator: ``type`` and arguments of a registered estimator.
        restorer: ``type`` and arguments of a registered restorer.

    Raises:
        ValueError: a part is of another kind, or the estimator's IDR and the restorer differ in the number of channels.
    """

    parts: ClassVar[dict[str, type[Part]]] = {"estimator": Estimator, "restorer": Restorer}

    def __init__(self, estimator: dict[str, Any], restorer: dict[str, Any]) -> None:
        super().__init__()
        self.estimator: Estimator = _build(estimator)
        self.restorer: Restorer = _build(restorer)
        for name, kind in self.parts.items():
            if not isinstance(part := getattr(self, name), kind):
                able = ", ".join(registered(kind))
                raise ValueError(f"{name}: {type(part).__name__} is no {name}; choose one of {able}")
        self.config = {"estimator": deepcopy(dict(estimator)), "restorer": deepcopy(dict(restorer))}
        given, taken = self.estimator.idr_ch, self.restorer.idr_ch
        if given != taken:
            raise ValueError(
                f"the IDR of {estimator['type']} has {given} channels, but {restorer['type']} needs {taken}: "
                "make their sizes agree"
            )

    @property
    def scale(self) -> int:  # type: ignore[override]
        return self.restorer.scale

    @property
    def num_in_ch(self) -> int:  # type: ignore[override]
        return self.restorer.num_in_ch

    @property
    def num_out_ch(self) -> int:  # type: ignore[override]
        return self.restorer.num_out_ch

    @property
    def num_feat(self) -> int:  # type: ignore[override]
        return self.restorer.num_feat

    @property
    def extra_input(self) -> str | None:  # type: ignore[override]
        return self.estimator.extra_input

    @property
    def is_teacher(self) -> bool:  # type: ignore[override]
        return self.estimator.is_teacher

    @property
    def knows(self) -> tuple[str, ...]:
        """Return the names of the tensors that ``forward`` can return as knowledge."""
        return self.estimator.knows + self.restorer.knows

    def missing(self) -> str | None:
        return self.estimator.missing()

    def forward(
        self,
        lq: torch.Tensor,
        extra: Any = None,
        *,
        knowledge: Collection[str] = (),
        restore: bool = True,
        num_patch: int = 1,
        of_neighbour: bool = False,
    ) -> Any:
        """Restore images. In training, also return the knowledge that losses compare.

        Args:
            lq: low-quality images, N x 3 x H x W, RGB in [0, 1].
            extra: the estimator's ``extra_input``, if it has one.
            knowledge: names from ``knows``. Only these tensors are returned, because DistributedDataParallel expects a
                gradient for every output.
            restore: whether to run the restorer. If False, only the knowledge is returned.
            num_patch: number of neighbours in the batch that share a degradation; see ``estimate_apart``. Only the
                first of them is restored, and the restorer's knowledge is that of the first.
            of_neighbour: whether to restore each image with the IDR of its neighbour, in pairs: image 0 with that of
                image 1, and image 1 with that of image 0.

        Returns:
            The SR images, N/num_patch x 3 x H*scale x W*scale, not clamped. With ``knowledge``, the pair ``(sr or None,
            {name: tensor})``.
        """
        if not knowledge:  # only knowledge needs the other patches
            lq, extra, num_patch = lq[::num_patch], _every(extra, 0, num_patch), 1
        idr, known = estimate_apart(self.estimator, lq, extra, num_patch)
        lq = lq[::num_patch]
        if of_neighbour:
            idr = idr.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        guides = self.restorer.guides(idr, *lq.shape[-2:])
        sr = self.restorer(lq, guides) if restore else None
        if not knowledge:
            return sr
        known = {**known, **guides}
        return sr, {name: known[name] for name in knowledge}

    @classmethod
    def with_pca(cls, arguments: Arguments, pca: torch.Tensor) -> tuple[Arguments, State] | None:
        rest = dict(arguments["estimator"])
        name = rest.pop("type")
        changed = registered(Estimator)[name].with_pca(rest, pca)
        if changed is None:
            return None
        state = {f"estimator.{key}": value for key, value in changed[1].items()}
        return {**arguments, "estimator": {"type": name, **changed[0]}}, state

    def sr_in_strips(self, lq: torch.Tensor, rows: int, advance: Advance) -> Iterator[torch.Tensor]:
        """Estimate the IDR of the whole image once, and use it for every strip. Different IDRs would cause seams."""
        idr = self.estimator.estimate_in_strips(lq, rows, lambda share: advance(ESTIMATOR_SHARE * share))
        guides = self.restorer.guides(idr, *lq.shape[2:])
        for strip, _ in self.restorer.restore_in_strips(
            lq, guides, rows, lambda share: advance((1 - ESTIMATOR_SHARE) * share)
        ):
            yield strip


def estimate_apart(
    estimator: Estimator, lq: torch.Tensor, extra: Any, num_patch: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Estimate patches in ``num_patch`` passes: the first patch of every degradation, then the second ones, and so on.

    Patches that share a degradation are then normalised in different batches. Otherwise the contrast could recognise
    them by the statistics of batch normalisation, without the degradation. LightBSR's published code does the same, and
    MoCo (CVPR 2020, section 3.3) shuffles for this reason.

    Args:
        estimator: the estimator.
        lq: N x 3 x H x W. Every ``num_patch`` neighbours share a degradation.
        extra: the extra input, N samples, or None.
        num_patch: 1 for a single pass.

    Returns:
        The IDRs of the first patches, N/num_patch, and the knowledge of all N, in their order.
    """
    if num_patch == 1:
        return estimator.estimate(lq, extra)
    passes = [estimator.estimate(lq[i::num_patch], _every(extra, i, num_patch)) for i in range(num_patch)]
    known = {name: torch.stack([of_pass[name] for _, of_pass in passes], dim=1).flatten(0, 1) for name in passes[0][1]}
    return passes[0][0], known


def _every(extra: Any, first: int, step: int) -> Any:
    """Return each ``step``-th sample of an extra input, which is a tensor or several."""
    if extra is None or isinstance(extra, torch.Tensor):
        return None if extra is None else extra[first::step]
    return tuple(part[first::step] for part in extra)


def _build(options: dict[str, Any]) -> Any:
    arguments = dict(options)
    return ARCH_REGISTRY.get(arguments.pop("type"))(**arguments)
