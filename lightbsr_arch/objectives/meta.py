"""MRDA's objectives: meta-learning of a network, and adaptation of this network while the teacher is trained."""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta, Struct
from torch.func import functional_call

from lightbsr.errors import UserError
from lightbsr_arch.archs.inner_loop import adapt
from lightbsr_arch.objectives.base import OBJECTIVE_REGISTRY, Knowledge, Losses, Objective, TrainedModel
from lightbsr_arch.option_types import Count, Positive
from lightbsr_arch.option_types.problems import Finding
from lightbsr_arch.option_types.sections import section


class MetaOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """Options of the meta-learning. The defaults are MRDA's."""

    num_task: Annotated[Count, Meta(description="degradations per step")] = 5
    num_step: Annotated[Count, Meta(description="steps that adapt the network to a degradation")] = 5
    lr: Annotated[Positive, Meta(description="learning rate of these steps")] = 1e-2


class AdaptOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """Options of the adaptation of the meta-learned network. The defaults are MRDA's for five steps."""

    lr: Annotated[
        tuple[Positive, ...],
        Meta(min_length=1, description="learning rate of each step, as many as the estimator's `num_step`"),
    ] = (1e-2, 5e-3, 5e-3, 5e-3, 5e-3)


@OBJECTIVE_REGISTRY.register()
class MetaLearning(Objective):
    """Trains a network so that a few steps adapt it to a degradation (MRDA, IEEE TIP 2023, second stage).

    A step has several tasks. A task is the whole batch under one degradation. For each task, a copy of the weights is
    adapted to the first half of the images by gradient descent on ``pixel_opt``. The loss is the mean over the tasks of
    ``pixel_opt`` of the second half with the adapted weights. As in the published code, its gradient is of first order:
    it does not pass through the gradients of the adaptation.
    """

    option = "meta_opt"
    of_image = True
    degrades = "degrades each HR image several times"

    class TrainOptions(Struct, kw_only=True):
        meta_opt: Annotated[MetaOptions | None, Meta(description="meta-learning over degradations")] = None

    # ------------------------------------------------------------------------------------------ options

    @classmethod
    def check(cls, options: dict[str, Any]) -> Iterator[Finding]:
        train, data = section(options, "train"), section(options, "datasets", "train")
        if not train:
            return
        if not cls.asked(options):
            text = f"missing; {options.get('model_type')} trains by meta-learning"
            yield Finding(("train", cls.option), "missing-key", text)
        if train.get("perceptual_opt") is not None:
            text = "cannot be combined with meta_opt, whose only loss is pixel_opt"
            yield Finding(("train", "perceptual_opt"), "objectives-conflict", text)
        if train.get("amp") == "fp16":
            text = "fp16 cannot be combined with meta_opt, whose adaptation scales no gradients: use bf16"
            yield Finding(("train", "amp"), "objectives-conflict", text)
        if isinstance(size := data.get("batch_size_per_gpu"), int) and size * data.get("patches_per_item", 1) < 2:
            text = f"{size}: train.meta_opt adapts to half of the images and needs at least 2"
            yield Finding(("datasets", "train", "batch_size_per_gpu"), "batch-too-small", text)
        if section(options, "degradation").get("per") == "batch":
            text = "batch draws one degradation for all tasks of train.meta_opt; with sample, each task has its own"
            yield Finding(("degradation", "per"), "degradation-unfit", text)

    # ------------------------------------------------------------------------------------------ training

    def __init__(self, model: TrainedModel) -> None:
        super().__init__(model)
        if model.opt["dist"]:
            raise UserError("train.meta_opt trains in one process only: start without a launcher")
        if model.opt["num_gpu"] > 1:
            raise UserError(f"num_gpu: {model.opt['num_gpu']}: train.meta_opt trains on one GPU; set num_gpu: 1")
        self.net: Any = model.get_bare_model(model.net_g)
        if extra := getattr(self.net, "extra_input", None):
            raise UserError(
                f"train.meta_opt: network_g also needs the {extra}; choose a network whose only input is LR"
            )
        self.settings = msgspec.convert(self.opt, MetaOptions, strict=False)
        data = model.opt["datasets"]["train"]
        self.num_patch = data["batch_size_per_gpu"] * data.get("patches_per_item", 1)

    def extend(self, gt: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the whole batch once per task, num_task*N x 3 x H x W."""
        return gt.repeat(self.settings.num_task, 1, 1, 1)

    def losses(self, known: Knowledge) -> Losses:
        size = self.num_patch
        tasks = zip(self.model.lq.split(size), self.model.gt.split(size))
        return {"l_meta": torch.stack([self.task_loss(lq, gt) for lq, gt in tasks]).mean()}

    def task_loss(self, lq: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
        """Return the loss of one task. Its gradient with respect to the network's weights is of first order.

        Args:
            lq: images of one degradation, N x 3 x H x W, of which the first N//2 adapt the network.
            gt: their ground truth.
        """
        loss, half = self.model.cri_pix, len(lq) // 2
        weights = {name: weight for name, weight in self.net.named_parameters() if weight.requires_grad}
        rates = [self.settings.lr] * self.settings.num_step
        adapted = adapt(self.net, weights, lq[:half], gt[:half], rates, loss)
        # The value is that of the adapted weights, and the gradient passes to the weights unchanged.
        moved = {name: adapted[name] + (weight - weight.detach()) for name, weight in weights.items()}
        result: torch.Tensor = loss(functional_call(self.net, moved, (lq[half:],)), gt[half:])
        return result


@OBJECTIVE_REGISTRY.register()
class MetaAdaptation(Objective):
    """Loads a meta-learned network into the estimator, which adapts it to every batch (MRDA, third stage).

    The estimator is an ``MRDATeacher``. The objective adds no loss.
    """

    option = "adapt_opt"
    of_image = True

    class TrainOptions(Struct, kw_only=True):
        adapt_opt: Annotated[
            AdaptOptions | None, Meta(description="adaptation of the meta-learned network to every batch")
        ] = None

    class PathOptions(Struct, kw_only=True):
        pretrain_network_meta: Annotated[str | None, Meta(description="the meta-learned network")] = None
        param_key_meta: Annotated[str | None, Meta(description="key in that file: params or params_ema")] = "params_ema"

    # ------------------------------------------------------------------------------------------ options

    @classmethod
    def check(cls, options: dict[str, Any]) -> Iterator[Finding]:
        train, path = section(options, "train"), section(options, "path")
        if not train:
            return
        if not cls.asked(options):
            text = f"missing; {options.get('model_type')} adapts a meta-learned network"
            yield Finding(("train", cls.option), "missing-key", text)
        if all(path.get(key) is None for key in ("pretrain_network_meta", "pretrain_network_g", "resume_state")):
            text = f"missing; {options.get('model_type')} needs a meta-learned network"
            yield Finding(("path", "pretrain_network_meta"), "missing-key", text)
        degradation = section(options, "degradation")
        if degradation and degradation.get("per") != "batch":
            text = "must be batch: train.adapt_opt adapts the network to the one degradation of a batch"
            yield Finding(("degradation", "per"), "degradation-unfit", text)

    # ------------------------------------------------------------------------------------------ training

    def __init__(self, model: TrainedModel) -> None:
        super().__init__(model)
        estimator: Any = getattr(model.get_bare_model(model.net_g), "estimator", None)
        meta, rates = getattr(estimator, "meta", None), getattr(estimator, "rates", None)
        if meta is None or rates is None:
            raise UserError("train.adapt_opt needs an estimator with a meta-learned network: MRDATeacher")
        wanted = msgspec.convert(self.opt, AdaptOptions, strict=False).lr
        if len(wanted) != len(rates):
            raise UserError(
                f"train.adapt_opt.lr has {len(wanted)} rates, but network_g.estimator.num_step is {len(rates)}: make "
                "them agree"
            )
        if model.opt["num_gpu"] > 1 and not model.opt["dist"]:
            raise UserError("train.adapt_opt adapts to whole batches: set num_gpu: 1, or start one process per GPU")
        rates.copy_(torch.tensor(wanted))
        path = model.opt["path"]
        if path.get("pretrain_network_meta") is not None and path.get("pretrain_network_g") is None:
            model.load_network(meta, path["pretrain_network_meta"], True, path.get("param_key_meta", "params_ema"))
