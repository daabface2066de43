"""The options of a model: the options of every blind SR training, and the options of the model's objectives."""

from functools import cache
from typing import Annotated, Any, Literal

from msgspec import NODEFAULT, UNSET, Meta, Struct, UnsetType, defstruct, field
from msgspec.structs import FieldInfo, fields

from lightbsr_arch.objectives import Objective
from lightbsr_arch.option_types import Degradation, Positive
from lightbsr_arch.option_types.schema import Options, PathOptions, TrainOptions, ValOptions


class BlindSROptions(Options, kw_only=True):
    """The keys that all models of ``lightbsr_arch`` have."""

    scale: Annotated[Literal[2, 3, 4], Meta(description="upscaling factor")]
    degradation: Annotated[Degradation | UnsetType, Meta(description="how LR images are made from HR ones")] = UNSET
    val: Annotated[ValOptions | None, Meta(description="validation and testing")] = None


class BlindSRTrainOptions(TrainOptions, kw_only=True):
    """Schedule and losses of training. Losses that are left out, or `null`, are not used."""

    scheduler_start: Annotated[
        int,
        Meta(
            ge=0,
            description="number of steps at the scheduler's first rate, before the scheduler begins; the last "
            "`warmup_iter` of them raise the rate from 0 again",
        ),
    ] = 0
    idr_of: Annotated[
        Literal["self", "neighbour"],
        Meta(
            description="the IDR with which an image is restored in training: its own, or that of another image with "
            "the same degradation, which cannot carry the content of the image"
        ),
    ] = "self"
    texture_std: Annotated[
        Positive | None,
        Meta(
            description="the perceptual and GAN losses ignore smooth areas, in which the 11 x 11 pixels of HR around a "
            "pixel have a smaller standard deviation of brightness than this (0.025 in Beby-GAN; HR is in [0, 1]); "
            "null for all areas"
        ),
    ] = None
    grad_clip: Annotated[
        Positive | None, Meta(description="largest norm of network_g's gradient; null for no limit")
    ] = None
    amp: Annotated[Literal["bf16", "fp16"] | None, Meta(description="mixed precision; null for fp32")] = None
    channels_last: Annotated[bool, Meta(description="NHWC memory format")] = False
    compile: Annotated[bool, Meta(description="torch.compile the networks")] = False
    checkpoint_activations: Annotated[
        bool,
        Meta(
            description="store only the inputs of the restorer's blocks, and compute the rest again for the gradients; "
            "needs less memory and more time"
        ),
    ] = False
    nan_loss: Annotated[
        Literal["stop", "skip"], Meta(description="a loss that is not finite: stop the run, or skip the step")
    ] = "stop"


class ModelOptions:
    """The attribute ``Options`` of a model, with the keys of all objectives that are registered when it is read."""

    def __get__(self, _: Any, model: Any) -> type[Struct]:
        return run_options(model.__name__, model.__doc__, model.available())


@cache
def run_options(model: str, doc: str | None, objectives: tuple[type[Objective], ...]) -> type[Struct]:
    """Return the struct of a whole options file of the model with this name, which has these objectives."""
    train = _joined(f"{model}TrainOptions", BlindSRTrainOptions, [objective.TrainOptions for objective in objectives])
    path = _joined(f"{model}PathOptions", PathOptions, [objective.PathOptions for objective in objectives])
    return _joined(
        f"{model}Options",
        BlindSROptions,
        [objective.Options for objective in objectives],
        doc=doc,
        path=(Annotated[path, Meta(description="weights to start from")], ...),
        train=(Annotated[train | UnsetType, Meta(description="schedule and losses")], UNSET),
    )


def _joined(
    name: str, base: type[Struct], more: list[type[Struct]], doc: str | None = None, **sections: tuple[Any, Any]
) -> type[Struct]:
    """Return a struct with the keys of several structs, and further ones as type and default (``...`` for none)."""
    every = {key.name: key for struct in (base, *more) for key in fields(struct)}
    keys: list[Any] = [(key.name, key.type, *_default(key)) for key in every.values()]
    keys += [(key, kind) if default is ... else (key, kind, default) for key, (kind, default) in sections.items()]
    return defstruct(name, keys, kw_only=True, forbid_unknown_fields=True, namespace={"__doc__": doc or base.__doc__})


def _default(key: FieldInfo) -> tuple[Any, ...]:
    if key.default_factory is not NODEFAULT:
        return (field(default_factory=key.default_factory),)
    return () if key.default is NODEFAULT else (key.default,)
