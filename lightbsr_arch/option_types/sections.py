"""Access to options of any shape, before they have passed the type check."""

from collections.abc import Iterator
from typing import Any


def section(options: Any, *names: str) -> dict[str, Any]:
    """Return a section of the options, or an empty one if it is missing or not a section."""
    for name in names:
        options = options.get(name) if isinstance(options, dict) else None
    return options if isinstance(options, dict) else {}


def sections(options: dict[str, Any], *names: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the sections within a section, by name."""
    return ((key, value) for key, value in section(options, *names).items() if isinstance(value, dict))
