"""CdCL's contrast: images that share a degradation but no content, made by a cyclic shift of the batch."""

from copy import deepcopy
from typing import Annotated, Any

import torch
from basicsr.losses import build_loss
from msgspec import Meta

from lightbsr.errors import UserError
from lightbsr_arch.objectives.base import (
    EstimatorTrainOptions,
    Knowledge,
    Losses,
    Objective,
    TrainedModel,
    move_average,
)
from lightbsr_arch.option_types import Loss

LARGEST_SHIFT = 15


class CyclicContrast(Objective):
    """Trains the estimator by a loss such as ``FastMoCoLoss``, on a batch that it extends by the cyclic shift.

    CdCL (IEEE TIP 2025). The batch is joined with copies of itself that are shifted by different numbers of images. The
    images at one position of all copies share a degradation, and differ in content. The restorer sees only those of the
    batch itself.
    """

    option = "cyclic_opt"

    class TrainOptions(EstimatorTrainOptions, kw_only=True):
        cyclic_opt: Annotated[
            Loss | None, Meta(description="contrast between degradations over a cyclic shift of the batch")
        ] = None

    def __init__(self, model: TrainedModel) -> None:
        super().__init__(model)
        net: Any = model.get_bare_model(model.net_g)
        self.estimator: Any = getattr(net, "estimator", None)
        if not (hasattr(self.estimator, "projector") and hasattr(self.estimator, "predictor")):
            raise UserError("train.cyclic_opt needs an estimator with a projector and a predictor: CdCLEncoder")
        if model.opt["dist"]:
            raise UserError("train.cyclic_opt trains in one process only: start without a launcher")
        self.cri_cyclic = build_loss(self.opt).to(model.device)
        self.num_patch = self.cri_cyclic.num_patch
        # In training mode, like the trained one: targets are normalised by their own batch.
        average: Any = deepcopy(self.estimator)
        self.net_average = average.requires_grad_(False).train()

    def extend(self, gt: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        size, copies = len(gt), self.num_patch - 1
        largest = min(LARGEST_SHIFT, size - 1)
        if largest < copies:
            raise UserError(
                f"a batch has {size} images; train.cyclic_opt shifts it {copies} times by different numbers: raise "
                f"datasets.train.batch_size_per_gpu to {copies + 1} or more"
            )
        shifts = 1 + torch.randperm(largest, generator=generator, device=generator.device)[:copies]
        return torch.stack([gt, *(gt.roll(shift, dims=0) for shift in shifts.tolist())], dim=1).flatten(0, 1)

    def losses(self, known: Knowledge) -> Losses:
        lq = self.model.lq
        targets = self.cri_cyclic.targets(self.net_average, lq)
        return {"l_cyclic": self.cri_cyclic(self.cri_cyclic.predictions(self.estimator, lq), targets)}

    def after_step(self, *, learnt: bool) -> str | None:
        if learnt:
            move_average(self.net_average, self.estimator, self.cri_cyclic.momentum)
        return None

    def state(self) -> dict[str, Any]:
        return {"net_average": self.net_average.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        try:
            self.net_average.load_state_dict(state["net_average"])
        except (KeyError, RuntimeError):
            raise UserError(
                "the training state holds no average of this estimator: train.cyclic_opt and network_g must be those "
                "of the run that is resumed"
            ) from None
