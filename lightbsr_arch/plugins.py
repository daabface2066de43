"""Registration: BasicSR plugins, and modules of this package, are imported so that they register their classes."""

import pkgutil
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from lightbsr.errors import UserError

PLUGINS = "basicsr.plugins"
"""Entry-point group. Loading an entry registers a distribution's classes in BasicSR's registries."""


def load_plugins() -> None:
    """Import every plugin.

    Raises:
        UserError: a plugin cannot be imported. Without it, an options file or a checkpoint would fail later and less
            clearly.
    """
    for plugin in entry_points(group=PLUGINS):
        try:
            plugin.load()
        except Exception as error:
            source = f" of {plugin.dist.name} {plugin.dist.version}" if plugin.dist else ""
            raise UserError(
                f"BasicSR plugin {plugin.name}{source} cannot be imported: {type(error).__name__}: {error} "
                f'(python -c "import {plugin.module}" shows where)'
            ) from error


def import_modules(package: str, ending: str = "") -> dict[str, Any]:
    """Import the modules of a package whose names have this ending, as BasicSR imports its own ``*_arch.py``.

    Returns:
        The public classes that these modules define, by name.
    """
    classes: dict[str, Any] = {}
    for found in pkgutil.iter_modules(import_module(package).__path__):
        if found.name.endswith(ending) and not found.ispkg:
            module = import_module(f"{package}.{found.name}")
            own = (one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__)
            classes |= {one.__name__: one for one in own if not one.__name__.startswith("_")}
    return classes
