"""A reader and a writer for YAML files of plain values. The reader records the line of every key.

BasicSR's loader builds any Python object that the file names. The reader differs from it:

- Tags of Python objects are refused, so nothing is executed.
- Numbers follow YAML 1.2: ``1e-4`` is a number, ``1:30`` and ``1_000`` are text, ``010`` is ten. Dates are text.
- A key may occur only once in a mapping.
- Each use of an anchor is a separate copy, because BasicSR removes ``type`` from a section while it builds it.
- Size and depth are limited.
"""

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from lightbsr_arch.option_types.problems import KeyPath, Location, OptionsError, Problem

MAX_BYTES = 1 << 18
MAX_DEPTH = 32
MAX_VALUES = 20_000  # otherwise nested anchors could grow without limit
WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
NUMBER = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
REPLACED = ("timestamp", "int", "float")
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map")}


_Pair: TypeAlias = tuple[yaml.Node, yaml.Node]


@dataclass(frozen=True)
class Document:
    """Options, and the place of each option."""

    data: dict[str, Any]
    locations: dict[KeyPath, Location]


def load_file(path: Path) -> Document:
    """Read an options file.

    Raises:
        OptionsError: the file cannot be read, or is not a mapping of plain values.
    """
    source = str(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _error(source, 0, "unreadable-file", "cannot read the options file: it is not a regular file")
        if status.st_size > MAX_BYTES:
            raise _error(
                source, 0, "file-too-large", f"{status.st_size} bytes; an options file has at most {MAX_BYTES}"
            )
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise _error(source, 0, "unreadable-file", f"cannot read the options file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _error(source, line, "not-utf-8", "not UTF-8 text; save the file in UTF-8") from error
    reader = _Reader(text, source)
    data = reader.read()
    if data is None:
        raise _error(source, 1, "empty-file", "the file is empty; expected options such as `name: ...`")
    if not isinstance(data, dict):
        raise _error(
            source,
            reader.locations[()].line,
            "not-a-mapping",
            f"expected `key: value` options, found {describe_value(data)}",
        )
    return Document(data, reader.locations)


def load_value(text: str, source: str) -> Any:
    """Read a value from text that is not a file, such as an option of the command line. Errors name ``source``.

    Raises:
        OptionsError: see ``load_file``.
    """
    if len(text) > MAX_BYTES:
        raise _error(source, 0, "value-too-long", f"{len(text)} characters; a value has at most {MAX_BYTES}")
    return _Reader(text, source, in_file=False).read()


def to_yaml(data: dict[str, Any]) -> str:
    """Write plain values as YAML that ``load_file`` reads as the same values."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


def describe_value(value: Any) -> str:
    """Return a description of a value for a message: shortened, with its type in YAML."""
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
    """A safe loader with the numbers of YAML 1.2's core schema, without dates, and with limited depth."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML declares it
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in REPLACED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_DEPTH} levels, one inside another", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        if not WHOLE.fullmatch(text):
            raise ValueError
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))

    def construct_number(self, node: yaml.ScalarNode) -> float:
        text = self.construct_scalar(node)
        if not NUMBER.fullmatch(text):
            raise ValueError
        return float(re.sub(r"\.(?=[inIN])", "", text))  # ".inf" and ".nan"


class _Dumper(yaml.SafeDumper):
    """A safe dumper that quotes text if YAML 1.1 or 1.2 would read it as another type."""


for _kind, _pattern, _construct in (
    ("int", WHOLE, _Loader.construct_whole),
    ("float", NUMBER, _Loader.construct_number),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern.pattern})\Z"), list("-+.0123456789")
        )
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _construct)


class _Reader:
    """Converts one YAML document to plain values and records the place of each key."""

    def __init__(self, text: str, source: str, *, in_file: bool = True) -> None:
        self.text = text
        self.source = source
        self.in_file = in_file
        self.locations: dict[KeyPath, Location] = {}
        self.merged: dict[int, dict[str, _Pair]] = {}

    def read(self) -> Any:
        try:
            self.loader = _Loader(self.text)
            node = self.loader.get_single_node()
            return None if node is None else self._value(node, (), node.start_mark.line + 1, ())
        except yaml.reader.ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1
            raise self._error(line, "invalid-character", f"character {error.character!r} is not allowed") from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            text = ", ".join(filter(None, (error.context, error.problem)))
            raise self._error(mark.line + 1 if mark else 1, "invalid-yaml", f"not valid YAML: {text}") from error

    def _value(self, node: yaml.Node, key: KeyPath, line: int, parents: tuple[yaml.Node, ...]) -> Any:
        self.locations[key] = Location(line if self.in_file else 0, self.source)
        if node in parents:
            raise self._error(line, "recursive-anchor", "an anchor that contains itself")
        if len(self.locations) > MAX_VALUES:
            raise self._error(line, "too-many-values", f"more than {MAX_VALUES} values; do anchors repeat each other?")
        if len(key) > MAX_DEPTH:
            raise self._error(line, "too-deep", f"more than {MAX_DEPTH} levels, one inside another")
        if node.tag not in PLAIN_TAGS:
            raise self._error(
                node.start_mark.line + 1, "forbidden-tag", f"tag {_tag(node)} is refused: options are plain values"
            )
        parents = (*parents, node)
        if isinstance(node, yaml.MappingNode):
            values = {}
            for name, (name_node, value_node) in self._pairs(node, parents).items():
                values[name] = self._value(value_node, (*key, name), name_node.start_mark.line + 1, parents)
            return values
        if isinstance(node, yaml.SequenceNode):
            return [
                self._value(item, (*key, index), item.start_mark.line + 1, parents)
                for index, item in enumerate(node.value)
            ]
        try:
            return self.loader.construct_object(node)
        except (ValueError, KeyError) as error:
            line = node.start_mark.line + 1
            raise self._error(
                line, "tag-mismatch", f"{_short(node.value)} does not fit its tag {_tag(node)}"
            ) from error

    def _pairs(self, node: yaml.MappingNode, parents: tuple[yaml.Node, ...]) -> dict[str, _Pair]:
        """Return the keys and values of a mapping, including those that ``<<: *anchor`` merges into it."""
        if id(node) in self.merged:
            return self.merged[id(node)]
        own: dict[str, _Pair] = {}
        others: dict[str, _Pair] = {}
        for name_node, value_node in node.value:
            line = name_node.start_mark.line + 1
            if name_node.tag == "tag:yaml.org,2002:merge":
                for other in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    if not isinstance(other, yaml.MappingNode):
                        raise self._error(line, "invalid-merge", "`<<` takes an anchored section, or a list of them")
                    if other in parents:
                        raise self._error(line, "recursive-anchor", "an anchor that contains itself")
                    if len(parents) > MAX_DEPTH:
                        raise self._error(line, "too-deep", f"more than {MAX_DEPTH} levels, one inside another")
                    for name, pair in self._pairs(other, (*parents, other)).items():
                        others.setdefault(name, pair)
                continue
            name = self._name(name_node)
            if name in own:
                first = own[name][0].start_mark.line + 1
                raise self._error(line, "duplicate-key", f"{name}: given twice, first in line {first}")
            own[name] = (name_node, value_node)
        self.merged[id(node)] = {**{name: pair for name, pair in others.items() if name not in own}, **own}
        return self.merged[id(node)]

    def _name(self, node: yaml.Node) -> str:
        if node.tag != "tag:yaml.org,2002:str":
            raise self._error(
                node.start_mark.line + 1, "invalid-key", f"{_short(node.value)} is not a name; put it in quotes"
            )
        name: str = node.value
        return name

    def _error(self, line: int, code: str, text: str) -> OptionsError:
        return _error(self.source, line if self.in_file else 0, code, text)


def _error(source: str, line: int, code: str, text: str) -> OptionsError:
    return OptionsError([Problem(Location(line, source), code, text)])


def _tag(node: yaml.Node) -> str:
    return node.tag.replace("tag:yaml.org,2002:", "!!")


def _short(value: Any, limit: int = 60) -> str:
    if isinstance(value, str | list):
        value = value[:limit]  # long values take long to format
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
