"""MM-RealSR's ranking of degrees of degradation, over versions of each image whose order is known."""

from collections.abc import Iterator
from typing import Annotated, Any

from basicsr.losses import build_loss
from basicsr.utils.registry import LOSS_REGISTRY
from msgspec import Meta

from lightbsr.errors import UserError
from lightbsr_arch.archs.part import Estimator, registered
from lightbsr_arch.degradations import DEGRADATION_REGISTRY
from lightbsr_arch.losses.ranking_loss import DegreeRankingLoss, with_exact_anchors
from lightbsr_arch.objectives.base import (
    OBJECTIVE_REGISTRY,
    EstimatorTrainOptions,
    Knowledge,
    Losses,
    Objective,
    TrainedModel,
)
from lightbsr_arch.option_types import Loss
from lightbsr_arch.option_types.problems import Finding
from lightbsr_arch.option_types.sections import section


@OBJECTIVE_REGISTRY.register()
class DegreeRanking(Objective):
    """Trains the estimator's degrees by a loss such as ``DegreeRankingLoss``.

    MM-RealSR (ECCV 2022). The degradation makes several versions of each image, all of which are restored. The two
    anchors are restored with degrees of exactly 0 and 1, the other versions with their estimated degrees. With
    ``freeze_estimator`` the loss is only logged. With ``freeze_restorer`` only the layers that compute the degrees are
    trained, so that the effect of a degree on the image stays that of the initial weights.
    """

    option = "ranking_opt"
    degrades = "ranks versions of each HR image that the model makes"
    knowledge = ("degrees",)

    class TrainOptions(EstimatorTrainOptions, kw_only=True):
        ranking_opt: Annotated[
            Loss | None, Meta(description="ranking of the degrees of degradation, over versions of each image")
        ] = None
        freeze_estimator: Annotated[
            bool, Meta(description="train only the restorer; the ranking loss is logged, but not minimised")
        ] = False
        freeze_restorer: Annotated[
            bool,
            Meta(description="train only the degrees, not the restorer nor the layer from degrees to IDR"),
        ] = False

    # ------------------------------------------------------------------------------------------ options

    @classmethod
    def check(cls, options: dict[str, Any]) -> Iterator[Finding]:
        train = section(options, "train")
        is_frozen = train.get("freeze_estimator")
        frozen = [key for key in ("freeze_estimator", "freeze_restorer") if train.get(key)]
        if not cls.asked(options):
            for key in frozen:
                yield Finding(("train", key), "needs-objective", "is for train.ranking_opt, which is missing")
            return
        name = section(train, cls.option).get("type")
        loss = dict(iter(LOSS_REGISTRY)).get(str(name))
        if isinstance(loss, type) and not issubclass(loss, DegreeRankingLoss):
            yield Finding(
                ("train", cls.option, "type"),
                "not-a-ranking-loss",
                f"{name} ranks no degrees; choose DegreeRankingLoss",
            )
        able = " or ".join(name for name, made in DEGRADATION_REGISTRY if hasattr(made, "num_version"))
        degradation = section(options, "degradation")
        if degradation and not _versions(options):
            text = f"{degradation.get('type')} makes one version of each image; train.ranking_opt needs {able}"
            yield Finding(("degradation", "type"), "degradation-unfit", text)
        if is_frozen and train.get("estimator_iter"):
            yield Finding(
                ("train", "freeze_estimator"),
                "nothing-to-train",
                "leaves the first train.estimator_iter steps nothing to train",
            )
        if train.get("freeze_restorer"):
            for key in ("freeze_estimator", "estimator_iter"):
                if train.get(key):
                    text = f"trains only the degrees, from the first step to the last: leave out train.{key}"
                    yield Finding(("train", "freeze_restorer"), "objectives-conflict", text)
        path = section(options, "path")
        if frozen and path.get("pretrain_network_g") is None and path.get("resume_state") is None:
            yield Finding(
                ("path", "pretrain_network_g"),
                "missing-key",
                f"missing; train.{frozen[0]} needs trained weights",
            )

    # ------------------------------------------------------------------------------------------ training

    def __init__(self, model: TrainedModel) -> None:
        super().__init__(model)
        net: Any = model.get_bare_model(model.net_g)
        if not {*self.knowledge} <= {*getattr(net, "knows", ())}:
            able = [name for name, estimator in registered(Estimator).items() if "degrees" in estimator.knows]
            raise UserError(f"train.ranking_opt needs an estimator with degrees: {' or '.join(able)}")
        versions, degrees = _versions(model.opt), net.estimator.num_degree
        if versions != degrees + 3:
            raise UserError(
                f"network_g.estimator.num_degree: {degrees} degrees are ranked over {degrees + 3} versions of each "
                f"image, but degradation.type makes {versions}: make them agree"
            )
        self.cri_ranking = build_loss(self.opt).to(model.device)
        self.is_frozen: bool = model.opt["train"].get("freeze_estimator", False)
        net.estimator.adjust = with_exact_anchors
        net.estimator.requires_grad_(not self.is_frozen)
        if model.opt["train"].get("freeze_restorer", False):
            net.restorer.requires_grad_(False)
            if net.estimator.to_idr is not None:
                net.estimator.to_idr.requires_grad_(False)

    def losses(self, known: Knowledge) -> Losses:
        loss = self.cri_ranking(known["degrees"])
        if self.is_frozen:
            self.model.logged["l_ranking"] = loss.detach()
            return {}
        return {"l_ranking": loss}


def _versions(options: dict[str, Any]) -> int:
    """Return the number of versions that the degradation makes of each image, in a known order, or 0."""
    made = dict(iter(DEGRADATION_REGISTRY)).get(str(section(options, "degradation").get("type")))
    return getattr(made, "num_version", 0)
