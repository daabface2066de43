"""Contrast between degradations, with a momentum copy of the estimator and a queue of keys."""

from copy import deepcopy
from typing import Annotated, Any

import torch
from basicsr.losses import build_loss
from msgspec import Meta
from torch import distributed

from lightbsr.errors import UserError
from lightbsr_arch.archs.blindsr_arch import estimate_apart
from lightbsr_arch.archs.part import Estimator, registered
from lightbsr_arch.objectives.base import (
    EstimatorTrainOptions,
    Knowledge,
    Losses,
    Objective,
    TrainedModel,
    move_average,
)
from lightbsr_arch.option_types import Loss


class MomentumContrast(Objective):
    """Trains the estimator's embeddings with a loss such as ``MomentumContrastLoss``.

    LightBSR (ICCV 2025), section 3.2; DASR (CVPR 2021), section 3.1. Any estimator with an embedding can be
    trained, not only a teacher's.
    """

    option = "contrast_opt"
    knowledge = ("embedding",)

    class TrainOptions(EstimatorTrainOptions, kw_only=True):
        contrast_opt: Annotated[Loss | None, Meta(description="contrast between degradations")] = None

    def __init__(self, model: TrainedModel) -> None:
        super().__init__(model)
        net: Any = model.get_bare_model(model.net_g)
        if not {*self.knowledge} <= {*getattr(net, "knows", ())}:
            able = [name for name, estimator in registered(Estimator).items() if "embedding" in estimator.knows]
            raise UserError(f"train.contrast_opt needs an estimator with an embedding: {' or '.join(able)}")
        self.estimator: Any = net.estimator
        self.cri_contrast = build_loss({"num_dim": self.estimator.idr_ch, **self.opt}).to(model.device)
        self.num_patch = self.cri_contrast.num_patch
        # In training mode, so that keys are normalised by the statistics of their own batch, as queries are.
        self.net_key = deepcopy(self.estimator).requires_grad_(False).train()

    def losses(self, known: Knowledge) -> Losses:
        seen = self.model.extra_input(self.model.net_g)
        with torch.no_grad():
            extra = seen[0] if seen else None
            keys = estimate_apart(self.net_key, self.model.lq, extra, self.num_patch)[1]["embedding"]
        self.new_keys = self.cri_contrast.new_keys(keys)
        return {"l_contrast": self.cri_contrast(known["embedding"], keys)}

    def after_step(self, *, learnt: bool) -> str | None:
        if learnt:
            self.cri_contrast.enqueue(self._of_all_processes(self.new_keys))
            move_average(self.net_key, self.estimator, self.cri_contrast.momentum)
        return None

    def _of_all_processes(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows of every process, in the order in which a single one would have them."""
        if not self.model.opt["dist"]:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.model.opt["world_size"])]
        distributed.all_gather(parts, rows.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    def state(self) -> dict[str, Any]:
        return {"contrast": self.cri_contrast.state_dict(), "net_key": self.net_key.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        try:
            self.cri_contrast.load_state_dict(state["contrast"])
            self.net_key.load_state_dict(state["net_key"])
        except (KeyError, RuntimeError):
            raise UserError(
                "the training state holds no queue of keys, or one of another size: train.contrast_opt must be that of "
                "the run that is resumed"
            ) from None
