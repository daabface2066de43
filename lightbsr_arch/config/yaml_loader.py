"""YAML files of plain values: nothing in them is executed, and the line of every key is known.

BasicSR reads options with a loader that builds any Python object that the file names. This one differs from it in
four more ways: ``1e-4`` is a number (YAML 1.1 wants ``1.0e-4``), a date is text, a key may stand once in a mapping,
and each use of an anchor is a copy of its own (BasicSR removes ``type`` from a section while it builds it).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lightbsr_arch.config.problems import KeyPath, Location, OptionsError, Problem

MAX_VALUES = 100_000  # anchors of anchors grow without end
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map")}


@dataclass(frozen=True)
class Document:
    """A file's options and where each of them stands."""

    data: dict[str, Any]
    locations: dict[KeyPath, Location]


def load_file(path: Path) -> Document:
    """Read an options file.

    Raises:
        OptionsError: the file cannot be read, or is not a mapping of plain values.
    """
    source = str(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise _error(source, 0, f"cannot read the options file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _error(source, line, "not UTF-8 text; save the file in UTF-8") from error
    reader = _Reader(text, source)
    data = reader.read()
    if data is None:
        raise _error(source, 1, "the file is empty; expected options such as `name: ...`")
    if not isinstance(data, dict):
        raise _error(source, reader.locations[()].line, f"expected `key: value` options, found {describe_value(data)}")
    return Document(data, reader.locations)


def load_value(text: str, source: str) -> Any:
    """Read one value that stands outside a file, such as an option of the command line named by ``source``."""
    return _Reader(text, source, in_file=False).read()


def describe_value(value: Any) -> str:
    """A value as a message shows it: short, and with what YAML took it for."""
    if isinstance(value, dict):
        return "a section" if value else "an empty section"
    if isinstance(value, list):
        return f"the list {_short(value)}"
    if isinstance(value, str):
        return f"the text {_short(value)}"
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    return _short(value)


class _Loader(yaml.SafeLoader):
    """Safe, with YAML 1.2's floats and without dates."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML declares it
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


class _Reader:
    """Turns one YAML document into plain values and notes where each key stands."""

    def __init__(self, text: str, source: str, *, in_file: bool = True) -> None:
        self.text = text
        self.source = source
        self.in_file = in_file
        self.locations: dict[KeyPath, Location] = {}

    def read(self) -> Any:
        try:
            self.loader = _Loader(self.text)
            node = self.loader.get_single_node()
            return None if node is None else self._value(node, (), node.start_mark.line + 1, ())
        except yaml.reader.ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1
            raise self._error(line, f"character {error.character!r} is not allowed") from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            text = ", ".join(filter(None, (error.context, error.problem)))
            raise self._error(mark.line + 1 if mark else 1, f"not valid YAML: {text}") from error

    def _value(self, node: yaml.Node, key: KeyPath, line: int, parents: tuple[yaml.Node, ...]) -> Any:
        self.locations[key] = Location(line if self.in_file else 0, self.source)
        if node in parents:
            raise self._error(line, "an anchor that contains itself")
        if len(self.locations) > MAX_VALUES:
            raise self._error(line, f"more than {MAX_VALUES} values; do anchors repeat each other?")
        if node.tag not in PLAIN_TAGS:
            raise self._error(node.start_mark.line + 1, f"tag {_tag(node)} is refused: options are plain values")
        parents = (*parents, node)
        if isinstance(node, yaml.MappingNode):
            self._refuse_duplicates(node)
            self.loader.flatten_mapping(node)  # `<<: *anchor`
            values = {}
            for name_node, value_node in node.value:
                name = self._name(name_node)
                values[name] = self._value(value_node, (*key, name), name_node.start_mark.line + 1, parents)
            return values
        if isinstance(node, yaml.SequenceNode):
            return [
                self._value(item, (*key, index), item.start_mark.line + 1, parents)
                for index, item in enumerate(node.value)
            ]
        try:
            return self.loader.construct_object(node)
        except ValueError as error:
            raise self._error(node.start_mark.line + 1, f"{node.value!r} does not fit its tag {_tag(node)}") from error

    def _refuse_duplicates(self, node: yaml.MappingNode) -> None:
        first_lines: dict[str, int] = {}
        for name_node, _ in node.value:
            if name_node.tag == "tag:yaml.org,2002:merge":
                continue
            name, line = self._name(name_node), name_node.start_mark.line + 1
            if name in first_lines:
                raise self._error(line, f"{name}: given twice, first in line {first_lines[name]}")
            first_lines[name] = line

    def _name(self, node: yaml.Node) -> str:
        if node.tag != "tag:yaml.org,2002:str":
            raise self._error(node.start_mark.line + 1, f"{_short(node.value)} is not a name; put it in quotes")
        return node.value

    def _error(self, line: int, text: str) -> OptionsError:
        return _error(self.source, line if self.in_file else 0, text)


def _error(source: str, line: int, text: str) -> OptionsError:
    return OptionsError([Problem(Location(line, source), text)])


def _tag(node: yaml.Node) -> str:
    return node.tag.replace("tag:yaml.org,2002:", "!!")


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
