"""Contrast between degradations. It trains the estimator against a moving average of the estimator."""

from copy import deepcopy
from typing import Annotated, Any, ClassVar

import torch
from basicsr.losses import build_loss
from msgspec import Meta
from torch import distributed

from lightbsr.errors import UserError
from lightbsr_arch.archs.blindsr_arch import estimate_apart
from lightbsr_arch.archs.part import Estimator, registered
from lightbsr_arch.objectives.base import (
    OBJECTIVE_REGISTRY,
    EstimatorTrainOptions,
    Knowledge,
    Losses,
    Objective,
    TrainedModel,
    move_average,
)
from lightbsr_arch.option_types import Loss


class Contrast(Objective):
    """Base of the objectives that contrast degradations. ``ContrastiveSRModel`` has all that are registered.

    The loss has the attributes ``num_patch`` and ``momentum``, which is the decay of the moving average.

    Attributes:
        needs: a phrase that names the layers which the estimator must have.
        saved_as: the entries of the training state that hold the state dicts of the loss and of the moving average.
    """

    degrades = "contrasts images that share a degradation with others"
    needs: ClassVar[str]
    saved_as: ClassVar[tuple[str, str]]

    def __init__(self, model: TrainedModel) -> None:
        super().__init__(model)
        self.estimator: Any = getattr(model.get_bare_model(model.net_g), "estimator", None)
        if not self.fits(self.estimator):
            able = [name for name, estimator in registered(Estimator).items() if self.fits(estimator)]
            raise UserError(f"train.{self.option} needs an estimator with {self.needs}: {' or '.join(able)}")
        self.cri_contrast = build_loss(self.loss_options()).to(model.device)
        self.num_patch = self.cri_contrast.num_patch
        # In training mode: it is normalised by the statistics of its own batch, as the estimator is.
        average: Any = deepcopy(self.estimator)
        self.net_key = average.requires_grad_(False).train()

    @classmethod
    def fits(cls, estimator: Any) -> bool:
        """Return whether an estimator, or a class of estimators, has the layers that this contrast needs."""
        raise NotImplementedError

    def loss_options(self) -> dict[str, Any]:
        """Return ``type`` and arguments of the loss."""
        return self.opt

    def after_step(self, *, learnt: bool) -> str | None:
        if learnt:
            move_average(self.net_key, self.estimator, self.cri_contrast.momentum)
        return None

    def state(self) -> dict[str, Any]:
        return dict(zip(self.saved_as, (self.cri_contrast.state_dict(), self.net_key.state_dict())))

    def load_state(self, state: dict[str, Any]) -> None:
        loss, average = self.saved_as
        try:
            self.cri_contrast.load_state_dict(state.get(loss, {}))
            self.net_key.load_state_dict(state[average])
        except (KeyError, RuntimeError, TypeError, AttributeError):
            raise UserError(
                f"the training state holds no average of this estimator, or a queue of another size: "
                f"train.{self.option} must be that of the run that is resumed, and so must network_g"
            ) from None


@OBJECTIVE_REGISTRY.register()
class MomentumContrast(Contrast):
    """Trains the estimator's embeddings with a loss such as ``MomentumContrastLoss``, whose queue holds earlier keys.

    LightBSR (ICCV 2025), section 3.2; DASR (CVPR 2021), section 3.1. Any estimator with an embedding can be
    trained, not only a teacher's.
    """

    option = "contrast_opt"
    knowledge = ("embedding",)
    needs = "an embedding"
    saved_as = ("contrast", "net_key")

    class TrainOptions(EstimatorTrainOptions, kw_only=True):
        contrast_opt: Annotated[Loss | None, Meta(description="contrast between degradations")] = None

    @classmethod
    def fits(cls, estimator: Any) -> bool:
        return "embedding" in getattr(estimator, "knows", ())

    def loss_options(self) -> dict[str, Any]:
        return {"num_dim": self.estimator.idr_ch, **self.opt}

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
        return super().after_step(learnt=learnt)

    def _of_all_processes(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows of all processes, in the order that they would have in a single process."""
        if not self.model.opt["dist"]:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.model.opt["world_size"])]
        distributed.all_gather(parts, rows.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)
