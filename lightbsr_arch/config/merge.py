"""Options of the command line, ``--force_yml train:total_iter=1000``, put over those of the file."""

from collections.abc import Iterable
from copy import deepcopy

from lightbsr_arch.config.problems import Location, OptionsError, Problem
from lightbsr_arch.config.yaml_file import MAX_DEPTH, Document, describe_value, load_value

SOURCE = "--force_yml"


def override(document: Document, entries: Iterable[str]) -> Document:
    """Set options, each written ``section:...:key=value`` with a YAML value; sections that are not there are made.

    Raises:
        OptionsError: an entry is not of that form.
    """
    data, locations = deepcopy(document.data), dict(document.locations)
    for entry in entries:
        names, equals, text = entry.partition("=")
        *sections, name = (part.strip() for part in names.split(":"))
        if not equals or not all((*sections, name)):
            raise _error(f"{entry}: expected section:key=value, such as train:total_iter=1000")
        if len(sections) > MAX_DEPTH:
            raise _error(f"{entry}: more than {MAX_DEPTH} levels, one inside another")
        inner = data
        for depth, section in enumerate(sections, start=1):
            inner = inner.setdefault(section, {})
            locations.setdefault(tuple(sections[:depth]), Location(0, SOURCE))
            if not isinstance(inner, dict):
                raise _error(f"{entry}: {'.'.join(sections[:depth])} is no section, but {describe_value(inner)}")
        inner[name] = load_value(text.strip(), SOURCE)
        key = (*sections, name)
        locations = {place: location for place, location in locations.items() if place[: len(key)] != key}
        locations[key] = Location(0, SOURCE)
    return Document(data, locations)


def _error(text: str) -> OptionsError:
    return OptionsError([Problem(Location(0, SOURCE), text)])
