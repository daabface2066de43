"""CdCL's contrast: images that share a degradation but no content, made by a cyclic shift of the batch."""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from msgspec import Meta

from lightbsr.errors import UserError
from lightbsr_arch.objectives.base import OBJECTIVE_REGISTRY, EstimatorTrainOptions, Knowledge, Losses, TrainedModel
from lightbsr_arch.objectives.contrast import Contrast
from lightbsr_arch.option_types import Loss

LARGEST_SHIFT = 15


@OBJECTIVE_REGISTRY.register()
class CyclicContrast(Contrast):
    """Trains the estimator by a loss such as ``FastMoCoLoss``, on a batch that it extends by the cyclic shift.

    CdCL (IEEE TIP 2025). The batch is joined with copies of itself that are shifted by different numbers of images. The
    images at one position of all copies share a degradation, and differ in content. The restorer sees only those of the
    batch itself.
    """

    option = "cyclic_opt"
    needs = "a projector and a predictor"
    saved_as = ("cyclic", "net_average")

    class TrainOptions(EstimatorTrainOptions, kw_only=True):
        cyclic_opt: Annotated[
            Loss | None, Meta(description="contrast between degradations over a cyclic shift of the batch")
        ] = None

    def __init__(self, model: TrainedModel) -> None:
        super().__init__(model)
        if model.opt["dist"]:
            raise UserError("train.cyclic_opt trains in one process only: start without a launcher")

    @classmethod
    def fits(cls, estimator: Any) -> bool:
        return {"projector", "predictor"} <= {*getattr(estimator, "contrast_layers", ())}

    def extend(self, gt: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        size, copies = len(gt), self.num_patch - 1
        largest = min(LARGEST_SHIFT, size - 1)
        if largest < copies:
            raise UserError(
                f"a batch has {size} images; train.cyclic_opt shifts it {copies} times by different numbers: raise "
                f"datasets.train.batch_size_per_gpu to {copies + 1} or more"
            )
        shifts = 1 + torch.randperm(largest, generator=generator, device=generator.device)[:copies]
        positions = torch.arange(size, device=gt.device)[:, None]
        shifted = (positions - F.pad(shifts.to(gt.device), (1, 0))) % size  # the first copy is not shifted
        return gt[shifted].flatten(0, 1)

    def losses(self, known: Knowledge) -> Losses:
        lq, loss = self.model.lq, self.cri_contrast
        return {"l_cyclic": loss(loss.predictions(self.estimator, lq), loss.targets(self.net_key, lq))}
