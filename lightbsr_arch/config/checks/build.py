"""Checks that build the networks and losses of the options, and find values that do not fit each other."""

from collections.abc import Iterator
from inspect import signature
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from lightbsr.errors import UserError
from lightbsr.shipped import find_weights
from lightbsr_arch.checkpoint import read_checkpoint
from lightbsr_arch.config.checks.datasets import channels
from lightbsr_arch.config.registries import model_of, registered
from lightbsr_arch.config.signatures import OWN, package
from lightbsr_arch.degradations import Draws, MixedDegradation
from lightbsr_arch.models.validation import compares_with_gt
from lightbsr_arch.option_types.problems import Finding, KeyPath
from lightbsr_arch.option_types.sections import section, sections
from lightbsr_arch.seeds import seeded

# BasicSR's networks that neither read files nor download weights when they are built.
BASICSR_RESTORERS = ("EDSR", "MSRResNet", "RCAN", "RRDBNet", "SRVGGNetCompact", "SwinIR")
BASICSR_DISCRIMINATORS = ("UNetDiscriminatorSN", "VGGStyleDiscriminator")
# Numbers of repeated parts. A few of these show the same mistakes in less time.
FEW = {"num_block": 2, "num_group": 2, "num_conv": 2}
# The loss that reads a file when it is built. The types of its arguments are checked.
NOT_BUILT = "PerceptualLoss"
LARGEST_TRIAL = 512


def build_checks(options: dict[str, Any], *, is_train: bool) -> Iterator[Finding]:
    """Build networks, optimisers and the like. The options must have passed the type check."""
    yield from _networks(options, is_train)
    yield from _metrics(options)
    if is_train:
        yield from _optimizers(options)
        yield from _scheduler(options)
        yield from _losses(options)
        yield from _degradation(options)


class _WithoutMemory(TorchFunctionMode):
    """Create tensors without memory, except a short list of numbers that SwinIR reads while it is built."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


def _networks(options: dict[str, Any], is_train: bool) -> Iterator[Finding]:
    """Build each network without memory for its weights, in milliseconds, and give BasicSR's an image if they train.

    Networks of other plugins, and those of BasicSR that are not listed above, are left out.
    """
    for key, network in sections(options):
        if not key.startswith("network_"):
            continue
        arguments = dict(network)
        name = arguments.pop("type")
        cls = registered("network")[name]
        is_basicsr = package(cls) == "basicsr" and name in (*BASICSR_RESTORERS, *BASICSR_DISCRIMINATORS)
        if package(cls) != "lightbsr_arch" and not is_basicsr:
            continue
        if is_basicsr:
            known = signature(cls).parameters
            arguments |= {part: min(arguments.get(part, few), few) for part, few in FEW.items() if part in known}
        code, problem = "cannot-be-built", "cannot be built"
        try:
            with torch.device("meta"), _WithoutMemory():
                built = cls(**arguments)
                size = sum(parameter.numel() * parameter.element_size() for parameter in built.parameters())
                if size > psutil.virtual_memory().total:
                    yield Finding(
                        (key,),
                        "too-much-memory",
                        f"its weights take {size / 1e9:.0f} GB, more than this machine's memory",
                    )
                elif is_train and is_basicsr:
                    code, problem = "cannot-be-trained", "cannot be trained on these images"
                    yield from _trial(options, key, name, built)
        except Exception as error:  # networks raise any exception
            yield Finding((key,), code, f"{problem}: {error or type(error).__name__}")


def _trial(options: dict[str, Any], key: str, name: str, network: nn.Module) -> Iterator[Finding]:
    """Run a network on an image of the training's size. An exception becomes a finding."""
    # A degradation may cut the crops of the data set further.
    gt_size = section(options, "degradation").get("gt_size") or section(options, "datasets", "train").get("gt_size")
    scale, count = options.get("scale"), channels(options)
    if gt_size is None or scale is None or count is None:
        return
    if name in BASICSR_DISCRIMINATORS:
        try:
            network(torch.empty(1, count, gt_size, gt_size))
        except Exception as error:
            kind = "RGB" if count == 3 else "grey"
            text = f"takes no {kind} images of {gt_size} x {gt_size} pixels, the gt_size that is trained on: {error}"
            yield Finding((key,), "images-refused", text)
    elif key == "network_g":
        size = tuple(network(torch.empty(1, count, gt_size // scale, gt_size // scale)).shape[1:])
        if size != (count, gt_size, gt_size):
            made, wanted = (" x ".join(map(str, shape)) for shape in (size, (count, gt_size, gt_size)))
            yield Finding(
                (key,),
                "output-size-mismatch",
                f"makes images of {made}, the training needs {wanted} (channels, height, width)",
            )


def _optimizers(options: dict[str, Any]) -> Iterator[Finding]:
    """Make one step with each optimiser, because some need arguments that this training does not pass."""
    for key, optimizer in sections(options, "train"):
        if not key.startswith("optim_"):
            continue
        arguments = dict(optimizer)
        cls = registered("optimizer")[arguments.pop("type")]
        parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((4, 3, 3, 3), (4,))]
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        try:
            cls(parameters, **arguments).step()
        except Exception as error:
            yield Finding(
                ("train", key),
                "optimizer-fails",
                f"{cls.__name__} cannot train a network of convolutions with this: {error}",
            )


def _scheduler(options: dict[str, Any]) -> Iterator[Finding]:
    arguments = dict(section(options, "train", "scheduler"))
    cls = registered("scheduler").get(str(arguments.pop("type", None)))
    if cls is None:
        return
    try:
        cls(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1), **arguments)
    except Exception as error:
        yield Finding(("train", "scheduler"), "cannot-be-built", f"cannot be built: {error or type(error).__name__}")


def _metrics(options: dict[str, Any]) -> Iterator[Finding]:
    """Apply the metrics to a grey picture, because BasicSR also registers metrics that its validation cannot call."""
    for key, metric in sections(options, "val", "metrics"):
        arguments = {name: value for name, value in metric.items() if name not in ("type", "better")}
        measure = registered("metric")[metric["type"]]
        border = arguments.get("crop_border", 0)
        if package(measure) != "basicsr" or not compares_with_gt(measure) or border > LARGEST_TRIAL:
            continue
        picture = np.full((2 * border + 32, 2 * border + 32, 3), 128, np.uint8)
        try:
            measure(picture, picture, **arguments)
        except Exception as error:
            yield Finding(("val", "metrics", key), "metric-fails", f"{metric['type']} cannot measure pictures: {error}")


def _losses(options: dict[str, Any]) -> Iterator[Finding]:
    for key, loss in sections(options, "train"):
        arguments = dict(loss)
        name = str(arguments.pop("type", None))
        cls = registered("loss").get(name)
        if cls is None or package(cls) not in OWN or key.startswith("optim_"):
            continue
        kind = {"pixel_opt": "pixel", "perceptual_opt": "perceptual"}.get(key)
        found: str | None = "perceptual"
        if name != NOT_BUILT:
            try:
                with torch.device("meta" if kind is None else "cpu"):  # a queue of keys takes no memory on meta
                    built = cls(**arguments)
            except Exception as error:
                yield Finding(("train", key), "cannot-be-built", f"cannot be built: {error or type(error).__name__}")
                continue
            found = None if kind is None else _kind_of(built)
        if kind is not None and found != kind:
            text = f"{name} is not a {kind} loss; choose another one"
            yield Finding(("train", key, "type"), f"not-a-{kind}-loss", text)


def _kind_of(loss: nn.Module) -> str | None:
    """Apply a loss to two images. A pixel loss returns a number. A perceptual loss returns two: features and style."""
    try:
        value = loss(torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64))
    except Exception:
        return None
    return "pixel" if isinstance(value, torch.Tensor) else "perceptual"


def _degradation(options: dict[str, Any]) -> Iterator[Finding]:
    """Degrade an image of the training's size."""
    arguments = dict(section(options, "degradation"))
    size = section(options, "datasets", "train").get("gt_size")
    if not arguments or size is None:
        return
    kind = arguments.pop("type", None)
    if kind not in registered("degradation") or "scale" not in options:
        return  # another plug-in's section
    cls, scale = registered("degradation")[kind], options["scale"]
    size = min(size, LARGEST_TRIAL - LARGEST_TRIAL % scale)
    if size < (arguments.get("gt_size") or 0):
        arguments["gt_size"] = None
    try:
        with seeded(0), torch.no_grad():
            degradation = cls(scale, **arguments)
            for one in degradation.parts if isinstance(degradation, MixedDegradation) else [degradation]:
                one(torch.rand(1, 3, size, size), Draws(torch.Generator().manual_seed(0)))
    except Exception as error:
        text = str(error).removeprefix("degradation.") or type(error).__name__
        yield Finding(("degradation",), "degradation-fails", f"cannot degrade images of {size} x {size} pixels: {text}")


def weights_checks(options: dict[str, Any], *, is_train: bool) -> Iterator[Finding]:
    """Compare each ``BlindSR`` with the weights that it starts from. The options must have passed all other checks."""
    path = section(options, "path")
    for key, network in sections(options):
        weights = path.get(f"pretrain_{key}")
        partly = not path.get(key.replace("network", "strict_load"), True)
        if network.get("type") != "BlindSR" or weights is None or partly:
            continue
        try:
            held = read_checkpoint(find_weights(weights))
        except UserError:
            continue  # damaged, or of another plug-in's estimator; loading reports any problem
        if held.type != "BlindSR":
            text = f"{weights} contains {held.type}, but {key} is a BlindSR: name weights of a BlindSR"
            yield Finding(("path", f"pretrain_{key}"), "weights-mismatch", text)
            continue
        for part, arguments in held.network.items():
            origin = f"of {weights} (path.pretrain_{key})"
            yield from _differences(network[part], arguments, (key, part), origin)
    model = model_of(options["model_type"])
    if is_train and hasattr(model, "equal_networks"):
        for key, other, origin in model.equal_networks(options):
            yield from _differences(section(options, *key), other, key, origin)


def _differences(asked: dict[str, Any], held: dict[str, Any], key: KeyPath, origin: str) -> Iterator[Finding]:
    wanted, found = _with_defaults(asked), _with_defaults(held)
    for name in ["type"] if wanted["type"] != found["type"] else wanted:
        if wanted[name] != found[name]:
            text = f"{wanted[name]}, but the {key[-1]} {origin} has {found[name]}: make them equal"
            yield Finding((*key, name), "weights-mismatch", text)


def _with_defaults(network: dict[str, Any]) -> dict[str, Any]:
    arguments = dict(network)
    name = arguments.pop("type")
    bound = signature(registered("network")[name]).bind(**arguments)
    bound.apply_defaults()
    for free in ("init", "max_norm"):  # no weight depends on the limit, and the loaded weights replace initial ones
        bound.arguments.pop(free, None)
    return {"type": name, **bound.arguments}
