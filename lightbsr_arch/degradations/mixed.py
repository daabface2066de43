"""A mixture of degradations, from blur alone to the second-order degradation."""

from typing import Annotated, Any

import torch
from basicsr.data.transforms import paired_random_crop
from msgspec import Meta

from lightbsr.errors import UserError
from lightbsr_arch.degradations.classical import Degraded, NonNegative
from lightbsr_arch.degradations.draws import Draws
from lightbsr_arch.degradations.pair_pool import PairPool, Pooled
from lightbsr_arch.degradations.registry import DEGRADATION_REGISTRY, build_degradation
from lightbsr_arch.option_types import Degradation
from lightbsr_arch.seeds import derive_seed, seeded


@DEGRADATION_REGISTRY.register()
class MixedDegradation(Pooled):
    """Degrades each batch with one of several degradations, and mixes the pairs of many batches.

    A network that sees only strong degradations also removes detail from pictures that are hardly degraded. W. Zhang et
    al. (A Closer Look at Blind Super-Resolution, CVPRW 2022) therefore train with all cases from simple to complex,
    for which each step of their degradation is left out at times. Here, each case is a degradation of its own. Teachers
    that need a kernel cannot be trained with a mixture.

    Args:
        scale: size of gt divided by that of lq.
        parts: the degradations, each like a ``degradation`` section. Their ``gt_size`` and ``queue_size`` are left out.
        prob: relative probabilities of the parts.
        gt_size: side of the final crop in ground-truth pixels; null for no crop.
        queue_size: number of pairs in the pool that mixes batches, rounded up to whole batches; 0 for no pool.
    """

    def __init__(
        self,
        scale: int,
        parts: Annotated[list[Degradation], Meta(min_length=1)],
        prob: list[NonNegative],
        gt_size: Annotated[int, Meta(ge=8)] | None = None,
        queue_size: Annotated[int, Meta(ge=0, le=65536)] = 0,
    ) -> None:
        if len(prob) != len(parts):
            raise UserError(f"degradation.prob: {len(prob)} numbers for {len(parts)} parts")
        if not sum(prob):
            raise UserError("degradation.prob: all odds are 0")
        if gt_size is not None and gt_size % scale:
            raise UserError(f"degradation.gt_size: {gt_size} is not a multiple of the scale, {scale}")
        self.scale = scale
        self.parts = [_build(part, index, scale) for index, part in enumerate(parts)]
        self.is_sharpened = any(getattr(part, "gt_usm", False) for part in self.parts)
        self.prob = torch.tensor(prob, dtype=torch.float64)
        self.gt_size = gt_size
        self.pool = PairPool(queue_size) if queue_size else None

    @torch.no_grad()
    def __call__(self, gt: torch.Tensor, draws: Draws) -> Degraded:
        """Degrade ``gt``, N x 3 x H x W in [0, 1]. The result is determined by the generator of ``draws``.

        Processes that share a batch use the same part.
        """
        generator = draws.generator
        odds = self.prob.to(generator.device)
        index = int(torch.multinomial(odds, 1, generator=generator))
        seed = torch.randint(2**31, (), generator=generator, device=generator.device)
        lq, _, gt, plain = self.parts[index](gt, draws)
        with seeded(derive_seed(int(seed), draws.rank), gt.device):
            if self.gt_size is not None:
                (gt, plain), lq = paired_random_crop([gt, plain], lq, self.gt_size, self.scale)
            return self.mix(Degraded(lq.contiguous(), None, gt, plain), draws.group, self.is_sharpened)


def _build(options: dict[str, Any], index: int, scale: int) -> Any:
    where, name = f"degradation.parts[{index}]", options["type"]
    if name in ("MixedDegradation", "RankedSecondOrderDegradation"):
        raise UserError(f"{where}: {name} cannot be a part of a mixture")
    for key in ("gt_size", "queue_size"):
        if options.get(key):
            raise UserError(f"{where}.{key}: expected beside `parts`, where it applies to all of them")
    try:
        return build_degradation(options, scale)
    except UserError as error:
        raise UserError(str(error).replace("degradation.", f"{where}.", 1)) from None
