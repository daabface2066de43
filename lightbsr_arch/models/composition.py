"""Models composed of objectives: their options, checks, networks and training state."""

from collections.abc import Iterator
from typing import Any, ClassVar

from torch import nn

from lightbsr.errors import UserError
from lightbsr_arch.basicsr_patches.base_model import PatchedSRModel
from lightbsr_arch.models.options import ModelOptions
from lightbsr_arch.objectives import Objective
from lightbsr_arch.objectives.base import objectives_of
from lightbsr_arch.objectives.contrast import Contrast
from lightbsr_arch.option_types.problems import Finding, KeyPath
from lightbsr_arch.option_types.sections import section


class ComposedModel(PatchedSRModel):
    """An SRModel to which objectives add losses, networks, optimisers and state.

    Attributes:
        objective_types: the objectives that options can ask for, in the order in which they are built. A class without
            an ``option`` stands for all registered objectives that derive from it.
        objectives: the objectives that the options of this training ask for, by their ``option``.
        Options: the struct of a whole options file.
        num_patch: number of neighbours in a batch that share a degradation.
        estimator_iter: iterations of the phase that trains only the estimator.
        of_neighbour: whether an image is restored with the IDR of its neighbour, which shares its degradation.
    """

    objective_types: ClassVar[tuple[type[Objective], ...]] = ()
    Options: ClassVar[Any] = ModelOptions()
    num_patch = 1

    def __init__(self, opt: dict[str, Any]) -> None:
        train_opt = opt.get("train") or {}
        self.estimator_iter: int = train_opt.get("estimator_iter", 0)
        self.of_neighbour = train_opt.get("idr_of") == "neighbour"
        self.objectives: dict[str, Objective] = {}
        super().__init__(opt)

    @classmethod
    def available(cls) -> tuple[type[Objective], ...]:
        """Return the objectives that options can ask for."""
        return objectives_of(cls.objective_types)

    @classmethod
    def asked(cls, options: dict[str, Any]) -> list[type[Objective]]:
        """Return the objectives that options ask for."""
        return [objective for objective in cls.available() if objective.asked(options)]

    # ------------------------------------------------------------------------------------------ options

    @classmethod
    def check(cls, options: dict[str, Any]) -> Iterator[Finding]:
        """Find mistakes that the check of the types does not find. The options may have any structure."""
        available = cls.available()
        findings = [finding for objective in available for finding in objective.check(options)]
        yield from findings
        train = section(options, "train")
        if not train:
            return
        if train.get("pixel_opt") is None and train.get("perceptual_opt") is None:
            yield Finding(("train", "pixel_opt"), "missing-key", "missing; training needs it or perceptual_opt")
        data = section(options, "datasets", "train")
        if "dataroot_lq" in data:
            yield from cls._unfit_pairs(options, data.get("type"))
        elif data and "degradation" not in options:
            yield Finding(
                ("degradation",), "missing-key", f"missing; {data.get('type')} has no LR images, which it makes"
            )
        if train.get("idr_of") == "neighbour":
            if asked := [objective.option for objective in cls.asked(options)]:
                text = f"neighbour cannot be combined with {' and '.join(asked)}"
                yield Finding(("train", "idr_of"), "objectives-conflict", text)
            if section(options, "network_g").get("type") != "BlindSR":
                yield Finding(("train", "idr_of"), "needs-idr", "neighbour needs a network_g with an IDR: type BlindSR")
        fault = cls._no_estimator_objective(options) if train.get("estimator_iter") else None
        able = {("train", objective.option) for objective in available if not objective.of_image}
        if fault is not None and able and not any(finding.key in able for finding in findings):
            yield Finding(("train", "estimator_iter"), "no-estimator-objective", fault)

    @classmethod
    def _unfit_pairs(cls, options: dict[str, Any], dataset: Any) -> Iterator[Finding]:
        """Find what needs LR images that the model makes, in the options of a data set with its own."""
        reasons = {f"train.{each.option}": each.degrades for each in cls.asked(options) if each.degrades}
        if section(options, "train").get("idr_of") == "neighbour":
            reasons["train.idr_of"] = "restores images with the IDR of others that share their degradation"
        for option, reason in reasons.items():
            text = f"{dataset} has LR images, but {option} {reason}: use GTDataset"
            yield Finding(("datasets", "train", "type"), "dataset-unfit", text)

    @classmethod
    def equal_networks(cls, options: dict[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any], str]]:
        """List sections of networks that must be equal to others; see ``Objective.equal_networks``."""
        for objective in cls.available():
            yield from objective.equal_networks(options)

    @classmethod
    def _no_estimator_objective(cls, options: dict[str, Any]) -> str | None:
        """Return why ``train.estimator_iter`` trains nothing, or None if an objective trains the estimator."""
        if not all(objective.of_image for objective in cls.asked(options)):
            return None
        able = [objective.option for objective in cls.available() if not objective.of_image]
        if not able:
            return f"{cls.__name__} has no objective that trains the estimator alone"
        means = " or ".join(option.removesuffix("_opt") for option in able)
        return f"trains the estimator by {means}: {' or '.join(f'train.{option}' for option in able)} is missing"

    # ------------------------------------------------------------------------------------------ setting up

    def build_objectives(self) -> None:
        """Build the objectives that the options ask for, once ``net_g`` has its weights."""
        if self.estimator_iter and (fault := self._no_estimator_objective(self.opt)):
            raise UserError(f"train.estimator_iter {fault}")
        for objective_type in self.asked(self.opt):
            self.objectives[objective_type.option] = objective_type(self)
        shared = {objective.num_patch: f"train.{key}.num_patch" for key, objective in self.objectives.items()}
        if self.of_neighbour:
            shared[2] = "train.idr_of"
        shared.pop(1, None)
        if len(shared) > 1:
            raise UserError(f"{' and '.join(shared.values())} must agree: as many neighbours share a degradation")
        if shared:
            ((self.num_patch, self._patch_option),) = shared.items()

    def check_batch(self, size: int) -> None:
        """Refuse a batch that cannot be divided into neighbours which share a degradation."""
        if size % self.num_patch:
            raise UserError(
                f"a batch has {size} patches, no multiple of the {self.num_patch} that are to share a degradation "
                f"({self._patch_option}): change datasets.train.batch_size_per_gpu"
            )

    def model_to_device(self, net: nn.Module) -> nn.Module:
        # Otherwise distributed training waits for gradients of a frozen restorer, or of layers without a loss.
        layers = getattr(getattr(net, "estimator", None), "contrast_layers", None)
        contrasts = any(issubclass(objective, Contrast) for objective in self.asked(self.opt))
        if self.estimator_iter or (layers and not contrasts):
            self.opt["find_unused_parameters"] = True
        return super().model_to_device(net)

    def setup_optimizers(self) -> None:
        super().setup_optimizers()
        for objective in self.objectives.values():
            self.optimizers += objective.optimizers()

    # ------------------------------------------------------------------------------------------ saving and resuming

    def save(self, epoch: int, current_iter: int) -> None:
        for objective in self.objectives.values():
            for label, net in objective.networks().items():
                self.save_network(net, label, current_iter)
        super().save(epoch, current_iter)

    def more_training_state(self) -> dict[str, Any]:
        state = super().more_training_state()
        for objective in self.objectives.values():
            state |= objective.state()
        return state

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        super().resume_training(resume_state)
        for objective in self.objectives.values():
            objective.load_state(resume_state)
