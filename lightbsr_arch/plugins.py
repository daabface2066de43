"""BasicSR plugins: distributions that register their classes in BasicSR's registries."""

from importlib.metadata import entry_points

from lightbsr.errors import UserError

PLUGINS = "basicsr.plugins"
"""Entry-point group. Loading an entry registers a distribution's classes in BasicSR's registries."""


def load_plugins() -> None:
    """Import every plugin.

    Raises:
        UserError: a plugin cannot be imported. Without it, an options file would fail later with a less clear error.
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
