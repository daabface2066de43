"""Whether our networks can be built, and from their weights, which finds sizes that do not fit each other."""

from collections.abc import Iterator
from inspect import signature
from typing import Any

import torch

from lightbsr_arch.checkpoint import read_checkpoint
from lightbsr_arch.config.cross_checks import section, sections
from lightbsr_arch.config.problems import Finding, KeyPath
from lightbsr_arch.config.registries import registered
from lightbsr_arch.config.signatures import package
from lightbsr_arch.errors import UserError
from lightbsr_cli.shipped import find_weights


def build_checks(options: dict[str, Any]) -> Iterator[Finding]:
    """Build each network without memory for its weights, in milliseconds.

    The options must have passed the type check. BasicSR's networks and those of other plugins are left out, as some of
    them read files or download weights when they are built; but for the discriminator of our GAN stage, which must also
    take images of the training's size.
    """
    # A degradation may cut what the data set has cut.
    gt_size = section(options, "degradation").get("gt_size") or section(options, "datasets", "train").get("gt_size")
    for key, network in sections(options):
        if not key.startswith("network_"):
            continue
        arguments = dict(network)
        cls = registered("network")[arguments.pop("type")]
        is_judge = key == "network_d" and options["model_type"] == "KDStudentModel"
        if package(cls) == "lightbsr_arch" or is_judge:
            problem = "cannot be built"
            try:
                with torch.device("meta"):
                    built = cls(**arguments)
                    if is_judge and gt_size is not None:
                        problem = f"takes no RGB images of {gt_size} x {gt_size} pixels, the gt_size that is trained on"
                        built(torch.empty(1, 3, gt_size, gt_size))
            except Exception as error:  # whatever a network finds wrong
                yield Finding((key,), f"{problem}: {error}")


def weights_checks(options: dict[str, Any], *, is_train: bool) -> Iterator[Finding]:
    """Compare each ``BlindSR`` with the weights that it starts from. The options must have passed all other checks."""
    path = section(options, "path")
    for key, network in sections(options):
        weights = path.get(f"pretrain_{key}")
        partly = not path.get(key.replace("network", "strict_load"), True)
        if network.get("type") != "BlindSR" or weights is None or partly:
            continue
        try:
            held = read_checkpoint(find_weights(weights)).network
        except UserError:
            continue  # damaged, or of another plugin's estimator: loading them says what is wrong, if anything is
        for part, arguments in held.items():
            origin = f"of {weights} (path.pretrain_{key})"
            yield from _differences(network[part], arguments, (key, part), origin)
    is_fresh_student = is_train and options["model_type"] == "KDStudentModel" and path.get("pretrain_network_g") is None
    if is_fresh_student and options["train"].get("start_from_teacher", "restorer") == "restorer":
        student, teacher = (options[key]["restorer"] for key in ("network_g", "network_teacher"))
        origin = "of network_teacher, whose weights it starts from unless path.pretrain_network_g names others,"
        yield from _differences(student, teacher, ("network_g", "restorer"), origin)


def _differences(asked: dict[str, Any], held: dict[str, Any], key: KeyPath, origin: str) -> Iterator[Finding]:
    wanted, found = _with_defaults(asked), _with_defaults(held)
    for name in ["type"] if wanted["type"] != found["type"] else wanted:
        if wanted[name] != found[name]:
            text = f"{wanted[name]}, but the {key[-1]} {origin} has {found[name]}: make them equal"
            yield Finding((*key, name), text)


def _with_defaults(network: dict[str, Any]) -> dict[str, Any]:
    arguments = dict(network)
    name = arguments.pop("type")
    bound = signature(registered("network")[name]).bind(**arguments)
    bound.apply_defaults()
    return {"type": name, **bound.arguments}
