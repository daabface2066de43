"""Merging of the options of a run. A file overrides its base, and the command line overrides both."""

import os
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from lightbsr_arch.config.yaml_file import MAX_DEPTH, Document, describe_value, load_file, load_value, to_yaml
from lightbsr_arch.option_types.problems import KeyPath, Location, OptionsError, Problem

BASE = "base"
COMMAND_LINE = "--force_yml"


def read_options(path: Path) -> Document:
    """Read an options file and merge it with the base that it names, if any.

    Sections are merged key by key. Other values, including lists, replace those of the base. A section with another
    ``type`` replaces the base's section, because its other keys are arguments of another class.

    Returns:
        The merged options, without the key ``base``. Locations name the file of each value.

    Raises:
        OptionsError: see ``load_file``, or the base cannot be used.
    """
    own = load_file(path)
    if BASE not in own.data:
        return own
    base = load_file(_base_of(own, path))
    if BASE in base.data:
        text = f"not allowed in this file, which is itself the base of {path}; a base has no base of its own"
        raise OptionsError([Problem(base.locations[(BASE,)], "nested-base", text, (BASE,))])
    data = _merged(own.data, base.data)
    del data[BASE]
    return Document(data, {key: own.locations.get(key) or base.locations[key] for key in _keys(data)})


def self_contained_text(path: Path) -> str:
    """Return an options file as YAML that needs no other file.

    A file without a base is returned unchanged. Otherwise, the result contains the merged options without comments.

    Raises:
        OptionsError: see ``read_options``.
    """
    own = load_file(path)
    if BASE not in own.data:
        return path.read_text(encoding="utf-8")
    return f"# {path} merged with its base {_base_of(own, path)}\n\n{to_yaml(read_options(path).data)}"


def override(document: Document, entries: Iterable[str]) -> Document:
    """Set options, written as ``section:...:key=value`` with a YAML value. Missing sections are added.

    Raises:
        OptionsError: an entry has another form.
    """
    data, locations = deepcopy(document.data), dict(document.locations)
    for entry in entries:
        names, equals, text = entry.partition("=")
        *sections, name = (part.strip() for part in names.split(":"))
        if not equals or not all((*sections, name)):
            raise _error("invalid-override", f"{entry}: expected section:key=value, such as train:total_iter=1000")
        if len(sections) > MAX_DEPTH:
            raise _error("too-deep", f"{entry}: more than {MAX_DEPTH} levels, one inside another")
        if (*sections, name) == (BASE,):
            raise _error("base-in-override", f"{entry}: a base can be named only in the options file")
        inner = data
        for depth, section in enumerate(sections, start=1):
            inner = inner.setdefault(section, {})
            locations.setdefault(tuple(sections[:depth]), Location(0, COMMAND_LINE))
            if not isinstance(inner, dict):
                raise _error(
                    "not-a-section", f"{entry}: {'.'.join(sections[:depth])} is no section, but {describe_value(inner)}"
                )
        inner[name] = load_value(text.strip(), COMMAND_LINE)
        key = (*sections, name)
        locations = {place: location for place, location in locations.items() if place[: len(key)] != key}
        locations[key] = Location(0, COMMAND_LINE)
    return Document(data, locations)


def _base_of(document: Document, path: Path) -> Path:
    name = document.data[BASE]
    if not isinstance(name, str) or not name:
        code, text = "invalid-value", f"expected the name of an options file, found {describe_value(name)}"
    else:
        base = path.parent / name
        short = Path(os.path.normpath(base))  # if a folder is a link, this may be another file
        if os.path.exists(base):  # noqa: PTH110 - pathlib raises an error for a name that is too long
            return short if short.exists() and short.samefile(base) else base
        code, text = "missing-file", f"no such file: {base}; expected a path relative to the folder of this file"
    raise OptionsError([Problem(document.locations[(BASE,)], code, text, (BASE,))])


def _merged(own: Any, base: Any) -> Any:
    if not isinstance(own, dict) or not isinstance(base, dict):
        return own
    if "type" in own and "type" in base and own["type"] != base["type"]:
        return own
    return {**base, **{name: _merged(value, base[name]) if name in base else value for name, value in own.items()}}


def _keys(value: Any, key: KeyPath = ()) -> Iterator[KeyPath]:
    yield key
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _keys(item, (*key, name))


def _error(code: str, text: str) -> OptionsError:
    return OptionsError([Problem(Location(0, COMMAND_LINE), code, text)])
