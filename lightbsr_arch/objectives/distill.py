"""Distillation of a trained teacher's knowledge of the degradation."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import torch
from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.utils import get_root_logger
from msgspec import UNSET, Meta, Struct, UnsetType
from torch import nn

from lightbsr.errors import UserError
from lightbsr_arch.objectives.base import (
    OBJECTIVE_REGISTRY,
    EstimatorTrainOptions,
    Knowledge,
    Losses,
    Objective,
    TrainedModel,
)
from lightbsr_arch.option_types import Loss, Network
from lightbsr_arch.option_types.problems import Finding, KeyPath
from lightbsr_arch.option_types.sections import section


@OBJECTIVE_REGISTRY.register()
class Distillation(Objective):
    """Makes ``network_g`` imitate ``network_teacher`` under a loss such as ``KDSRDistillLoss``.

    KDSR (ICLR 2023), section 3.3; LightBSR (ICCV 2025), section 3.4. Unless ``path.pretrain_network_g`` names weights,
    the student starts from weights of the teacher, which ``train.start_from_teacher`` selects.

    A subclass can build another teacher (``build_teacher``) or let it learn (``teach``, ``after_step``).
    """

    option = "distill_opt"

    class Options(Struct, kw_only=True):
        network_teacher: Annotated[Network | UnsetType, Meta(description="the teacher that a student learns from")] = (
            UNSET
        )

    class PathOptions(Struct, kw_only=True):
        pretrain_network_teacher: Annotated[str | None, Meta(description="the trained teacher")] = None
        param_key_teacher: Annotated[str | None, Meta(description="key in that file: params or params_ema")] = (
            "params_ema"
        )

    class TrainOptions(EstimatorTrainOptions, kw_only=True):
        distill_opt: Annotated[Loss | None, Meta(description="loss between student's and teacher's representation")] = (
            None
        )
        start_from_teacher: Annotated[
            Literal["restorer", "all", "none"],
            Meta(
                description="weights of the teacher that a student starts from: the restorer; all, which adds the "
                "layers of the estimator with equal names and shapes; or none"
            ),
        ] = "restorer"

    # ------------------------------------------------------------------------------------------ options

    @classmethod
    def check(cls, options: dict[str, Any]) -> Iterator[Finding]:
        train, model_type = section(options, "train"), options.get("model_type")
        if not train:
            return
        if "network_teacher" not in options:
            yield Finding(("network_teacher",), "missing-key", f"missing; {model_type} learns from a teacher")
        elif options["network_teacher"].get("type") != "BlindSR" and _taken_over(options) != "none":
            text = "is no BlindSR, whose restorer the student starts from; set train.start_from_teacher: none"
            yield Finding(("network_teacher", "type"), "networks-conflict", text)
        if train.get(cls.option) is None:
            yield Finding(("train", cls.option), "missing-key", f"missing; {model_type} needs a distillation loss")
        if section(options, "path").get("pretrain_network_teacher") is None:
            yield Finding(
                ("path", "pretrain_network_teacher"), "missing-key", f"missing; {model_type} needs a trained teacher"
            )

    @classmethod
    def equal_networks(cls, options: dict[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any], str]]:
        if _taken_over(options) != "none":
            phrase = "of network_teacher, whose weights it starts from unless path.pretrain_network_g names others,"
            yield ("network_g", "restorer"), options["network_teacher"]["restorer"], phrase

    # ------------------------------------------------------------------------------------------ setting up

    def __init__(self, model: TrainedModel) -> None:
        super().__init__(model)
        self.net_teacher = self.build_teacher()
        student: Any = model.get_bare_model(model.net_g)
        taken_over = _taken_over(model.opt)
        if taken_over != "none":
            _start_from_teacher(student, self.net_teacher, taken_over)
        self.cri_distill = build_loss(self.opt).to(model.device)
        self.knowledge = tuple(self.cri_distill.compares)
        for name, net in (("network_g", student), ("network_teacher", self.net_teacher)):
            knows = getattr(net, "knows", ())
            if not {*self.knowledge} <= {*knows}:
                raise UserError(
                    f"train.distill_opt compares {' and '.join(self.knowledge)}; {name} has "
                    f"{', '.join(knows) or 'none of these'}: choose another loss"
                )

    def build_teacher(self) -> nn.Module:
        """Return the teacher in evaluation mode, with the weights of ``path.pretrain_network_teacher``.

        Raises:
            UserError: it has no weights, or a teacher that takes a blur kernel has no PCA of kernels.
        """
        model = self.model
        teacher: Any = build_network(model.opt["network_teacher"]).to(model.device)
        if model.channels_last:
            teacher = teacher.to(memory_format=torch.channels_last)
        path = model.opt["path"]
        load_path = path.get("pretrain_network_teacher")
        if load_path is None:
            raise UserError("path.pretrain_network_teacher is missing: a student needs a trained teacher")
        model.load_network(teacher, load_path, True, path.get("param_key_teacher", "params_ema"))
        if missing := teacher.missing():
            raise UserError(f"{load_path}: {missing}")
        frozen: nn.Module = teacher.eval().requires_grad_(False)
        return frozen

    # ------------------------------------------------------------------------------------------ training

    def teach(self) -> Knowledge:
        """Return the frozen teacher's ``knowledge`` of the model's batch, without gradient."""
        seen = self.model.extra_input(self.net_teacher)
        with torch.no_grad():
            known: Knowledge = self.net_teacher(self.model.lq, *seen, knowledge=self.knowledge, restore=False)[1]
            return known

    def losses(self, known: Knowledge) -> Losses:
        return {"l_distill": self.cri_distill(known, self.teach())}


def _taken_over(options: dict[str, Any]) -> str:
    """Return ``start_from_teacher``, or "none" if ``pretrain_network_g`` names other weights."""
    if section(options, "path").get("pretrain_network_g") is not None:
        return "none"
    taken_over: str = options["train"].get("start_from_teacher", "restorer")
    return taken_over


def _start_from_teacher(student: nn.Module, teacher: nn.Module, which: str) -> None:
    """Copy the teacher's restorer and, for "all", the tensors of its estimator whose name and shape fit."""
    ours, theirs = student.state_dict(), teacher.state_dict()
    fitting = {key for key, value in ours.items() if key in theirs and theirs[key].shape == value.shape}
    restorer = {key for key in {**ours, **theirs} if key.startswith("restorer.")}
    if not restorer <= fitting:
        raise UserError(
            "network_g.restorer is not network_teacher.restorer, from whose weights it is to start: make them "
            "equal, or name other weights in path.pretrain_network_g"
        )
    if which == "restorer":
        fitting = restorer
    for key in fitting:
        ours[key].copy_(theirs[key])
    fresh = [key for key in ours if key not in fitting]
    get_root_logger().info(
        f"{len(fitting)} of the student's tensors start from the teacher's, {len(fresh)} fresh: "
        f"{', '.join(fresh[:3])}{', ...' if len(fresh) > 3 else ''}"
    )
