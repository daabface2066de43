"""Interfaces of an objective and of the model that uses it."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Protocol

import torch
from basicsr.utils.registry import Registry
from msgspec import Meta, Struct
from torch import nn

from lightbsr_arch.option_types.problems import Finding, KeyPath

OBJECTIVE_REGISTRY = Registry("objective")

Losses = dict[str, torch.Tensor]
Knowledge = dict[str, torch.Tensor]


class TrainedModel(Protocol):
    """The part of a model that objectives use; ``BlindSRModel`` has it.

    Attributes:
        opt: the options of the run, complete as BasicSR's pipeline makes them.
        net_g: the network that is trained, possibly in a wrapper for several processes.
        lq: low-quality images of the batch, N x 3 x H x W.
        gt: their ground truth, N x 3 x H*scale x W*scale.
        gt_plain: ``gt`` before any sharpening.
        output: the restored images, N/num_patch; None in the phase that trains only the estimator.
        cri_pix: the loss of ``train.pixel_opt``, or None.
        logged: scalars that the log shows for this step.
        num_patch: number of neighbours in a batch that share a degradation.
        estimator_iter: number of iterations at the start that train only the estimator.
    """

    opt: dict[str, Any]
    device: torch.device
    net_g: Any
    lq: torch.Tensor
    gt: torch.Tensor
    gt_plain: torch.Tensor
    output: Any
    cri_pix: Any
    logged: Losses
    num_patch: int
    estimator_iter: int
    channels_last: bool
    amp_dtype: torch.dtype | None

    def get_bare_model(self, net: Any) -> Any: ...
    def model_to_device(self, net: nn.Module) -> nn.Module: ...
    def print_network(self, net: nn.Module) -> None: ...
    def load_network(self, net: nn.Module, load_path: str, strict: bool = True, param_key: Any = "params") -> None: ...
    def get_optimizer(self, optim_type: str, params: Any, lr: float, **kwargs: Any) -> torch.optim.Optimizer: ...
    def first_patches(self, images: torch.Tensor) -> torch.Tensor: ...
    def textured(self, images: torch.Tensor, gt: torch.Tensor) -> torch.Tensor: ...
    def extra_input(self, net: nn.Module) -> tuple[Any, ...]: ...
    def autocast(self) -> torch.autocast: ...
    def take_step(
        self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, losses: Losses, largest: float | None
    ) -> str | None: ...


class NoOptions(Struct, kw_only=True):
    """The keys of an objective in a section where it has none."""


class EstimatorTrainOptions(Struct, kw_only=True):
    """The key of objectives that can train the estimator without restoring images."""

    estimator_iter: Annotated[
        int, Meta(ge=0, description="number of first steps that train only the estimator and restore no images")
    ] = 0


class Objective:
    """A loss and everything that it needs: networks, optimisers, state, options and their check.

    A model lists in ``objective_types`` the classes that it may have, or bases of registered classes. Once its network
    has its weights, it builds the objectives whose ``option`` is in the section ``train``.

    Attributes:
        option: the key of ``train`` that asks for the objective. A base of other objectives has none.
        of_image: whether the objective needs restored images. Such an objective is not used in the phase that trains
            only the estimator.
        knowledge: names of the tensors that ``losses`` receives, out of ``BlindSR.knows``.
        degrades: the reason why the model must make the LR images itself, or None. It completes a message of the form
            "PairDataset has LR images, but train.meta_opt ...".
        num_patch: number of patches that must share a degradation. They are neighbours in the batch. The estimator sees
            all of them, each position in a pass of its own; the restorer sees the first.
        Options: the objective's keys at the top level of the options.
        TrainOptions: its keys in ``train``.
        PathOptions: its keys in ``path``.
    """

    option: ClassVar[str]
    of_image: ClassVar[bool] = False
    degrades: ClassVar[str | None] = None
    knowledge: tuple[str, ...] = ()
    num_patch: int = 1
    Options: ClassVar[type[Struct]] = NoOptions
    TrainOptions: ClassVar[type[Struct]] = NoOptions
    PathOptions: ClassVar[type[Struct]] = NoOptions

    def __init__(self, model: TrainedModel) -> None:
        self.model = model
        self.opt: dict[str, Any] = model.opt["train"][self.option]

    # ------------------------------------------------------------------------------------------ options

    @classmethod
    def asked(cls, options: dict[str, Any]) -> bool:
        """Return whether the options of a run ask for this objective."""
        train = options.get("train")
        return isinstance(train, dict) and train.get(cls.option) is not None

    @classmethod
    def check(cls, options: dict[str, Any]) -> Iterator[Finding]:
        """Find mistakes that the check of the types does not find. The options may have any structure."""
        yield from ()

    @classmethod
    def equal_networks(cls, options: dict[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any], str]]:
        """List sections of networks that must be equal to others. The options have passed the other checks.

        Yields:
            The key of a section, the section it must be equal to, and a phrase that names the latter.
        """
        yield from ()

    # ------------------------------------------------------------------------------------------ training

    def learns(self, current_iter: int) -> bool:
        """Return whether ``net_g`` may learn in this iteration."""
        return True

    def extend(self, gt: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the batch to degrade, in which each group of ``num_patch`` neighbours shares a degradation.

        Args:
            gt: ground truth from the data set, N x 3 x H x W.
            generator: source of random numbers. A resumed run that repeats the step gets the same numbers.
        """
        return gt

    def losses(self, known: Knowledge) -> Losses:
        """Return the weighted losses of the model's batch and output, by their names in the log.

        Args:
            known: the tensors of ``knowledge`` by name.
        """
        return {}

    def after_step(self, *, learnt: bool) -> str | None:
        """Do the work that follows the step of ``net_g``. It is called only if all losses of the step were finite.

        Args:
            learnt: False if an objective kept ``net_g`` from learning; ``losses`` was then not called.

        Returns:
            The name of a value that is not finite, or None.
        """
        return None

    # ------------------------------------------------------------------------------------------ saving and resuming

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimisers that are scheduled and saved with that of ``net_g``."""
        return []

    def networks(self) -> dict[str, nn.Module]:
        """Return the networks that are saved with ``net_g``, by the start of their files' names (``net_d``)."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return the entries of the training state that a resumed run needs, under names of their own.

        A value is a tensor, a number, a text, or a list or dictionary of these. The name of an entry that holds the
        state of a ``GradScaler`` begins with ``scaler``.
        """
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the entries from a training state, which may come from a run without this objective.

        Raises:
            UserError: the entries are missing, or do not fit the options.
        """


def objectives_of(kinds: Iterable[type[Objective]]) -> tuple[type[Objective], ...]:
    """Return the classes with an ``option``, and for each class without one the registered ones that derive from it."""
    every: list[type[Objective]] = [cls for _, cls in OBJECTIVE_REGISTRY]
    found = [[kind] if hasattr(kind, "option") else [one for one in every if issubclass(one, kind)] for kind in kinds]
    return tuple(dict.fromkeys(objective for each in found for objective in each))


@torch.no_grad()
def move_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move the parameters of one module towards another's, and copy its buffers."""
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
    for ours, theirs in zip(average.buffers(), net.buffers()):
        ours.copy_(theirs)
