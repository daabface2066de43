"""Checks of the networks' arguments against the options beside them: scale and channels."""

import inspect
from collections.abc import Iterator
from typing import Any

from lightbsr_arch.config.registries import registered
from lightbsr_arch.config.signatures import OWN, package
from lightbsr_arch.option_types.problems import Finding, KeyPath


def networks_in(options: dict[str, Any], key: KeyPath = ()) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Yield every network, including those inside another one."""
    for name, value in options.items():
        if isinstance(value, dict) and (key or name.startswith("network_")):
            yield (*key, name), value
            yield from networks_in(value, (*key, name))


def scale_checks(options: dict[str, Any], scale: int) -> Iterator[Finding]:
    """Check that each network has the scale of the options."""
    for key, network in networks_in(options):
        yield from _network_scale(network, scale, key)


def _network_scale(network: dict[str, Any], scale: int, key: KeyPath) -> Iterator[Finding]:
    cls = registered("network").get(str(network.get("type")))
    # In networks of other packages, a default `scale` may mean something else.
    parameters = inspect.signature(cls).parameters if cls is not None and package(cls) in OWN else {}
    for name in ("scale", "upscale"):
        if name in network:
            if isinstance(network[name], int) and network[name] != scale:
                yield Finding(
                    (*key, name), "scale-mismatch", f"is {network[name]}, but scale is {scale}; they must agree"
                )
        elif name in parameters:
            default = parameters[name].default
            if isinstance(default, int) and default != scale:
                yield Finding((*key, name), "scale-mismatch", f"missing; it is {default} then, but scale is {scale}")


def channel_checks(options: dict[str, Any], count: int) -> Iterator[Finding]:
    """Check that each network takes images of ``count`` channels: 3, or 1 if a data set of BasicSR has ``color: y``."""
    for key, network in networks_in(options):
        cls = registered("network").get(str(network.get("type")))
        if cls is None or package(cls) not in OWN:
            continue
        for name in ("num_in_ch", "num_out_ch", "in_chans"):
            parameter = inspect.signature(cls).parameters.get(name)
            found = network.get(name, parameter and parameter.default)
            if isinstance(found, int) and found != count:
                images = "RGB images" if count == 3 else "the luma alone (color: y)"
                yield Finding(
                    (*key, name), "channel-mismatch", f"is {found}, but the data sets give {images}: it must be {count}"
                )
