"""Compare plain values with types and find every problem, not only the first."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, TypeAlias

from msgspec import Struct, inspect

from lightbsr_arch.config.yaml_file import describe_value
from lightbsr_arch.option_types.problems import Finding, KeyPath

Resolve: TypeAlias = Callable[[str, str], type[Struct] | str | None]

type_info = cache(inspect.type_info)


class Checker:
    """Walks values and types together.

    Args:
        resolve: takes the kind of a section and its ``type``. Returns the struct of the section, a message if there is
            none, or None if the section cannot be checked.
    """

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    def check(self, value: Any, expected: Any, key: KeyPath = ()) -> Iterator[Finding]:
        """Find what in ``value`` is not of the type ``expected``, as `typing` writes types."""
        return self._check(value, type_info(expected), key)

    def _check(self, value: Any, expected: inspect.Type, key: KeyPath) -> Iterator[Finding]:
        match expected:
            case inspect.Metadata(extra={"kind": kind}):
                yield from self._registered(value, kind, key)
            case inspect.Metadata(type=inner):
                yield from self._check(value, inner, key)
            case inspect.UnionType(types=types):
                yield from self._union(value, types, key)
            case inspect.StructType() if _fits(value, expected):
                yield from self._struct(value, expected, key)
            case inspect.DictType(value_type=inner) if _fits(value, expected):
                for name, item in value.items():
                    yield from self._check(item, inner, (*key, name))
            case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner) if _fits(value, expected):
                for index, item in enumerate(value):
                    yield from self._check(item, inner, (*key, index))
            case inspect.TupleType(item_types=inners) if _fits(value, expected):
                for index, (item, inner) in enumerate(zip(value, inners)):
                    yield from self._check(item, inner, (*key, index))
            case _ if not _fits(value, expected):
                yield mismatch(value, describe_type(expected), key)

    def _union(self, value: Any, types: Iterable[inspect.Type], key: KeyPath) -> Iterator[Finding]:
        attempts = [list(self._check(value, member, key)) for member in types]
        if not all(attempts):
            return
        # If all problems of a member are deeper inside, the user meant that member.
        inside = (found for found in attempts if all(len(where) > len(key) for where, *_ in found))
        expected = " or ".join(describe_type(member) for member in types)
        yield from next(inside, [mismatch(value, expected, key)])

    def _struct(self, value: dict[str, Any], expected: inspect.StructType, key: KeyPath) -> Iterator[Finding]:
        fields = {field.encode_name: field for field in expected.fields}
        for name, item in value.items():
            if name in fields:
                yield from self._check(item, fields[name].type, (*key, name))
            elif expected.forbid_unknown_fields:
                yield unknown_key((*key, name), fields)
        for name, field in fields.items():
            if field.required and name not in value:
                yield Finding((*key, name), "missing-key", f"missing; expected {describe_type(field.type)}")

    def _registered(self, value: Any, kind: str, key: KeyPath) -> Iterator[Finding]:
        if not isinstance(value, dict):
            yield mismatch(value, f"a section with the `type` of {a(kind)}", key)
            return
        name = value.get("type")
        if "type" not in value:
            typo = nearest("type", value)
            if typo is None:
                yield Finding((*key, "type"), "missing-key", f"missing; expected the name of {a(kind)}")
            else:
                yield unknown_key((*key, typo), ["type"])
        elif not isinstance(name, str):
            yield mismatch(name, f"the name of {a(kind)}", (*key, "type"))
        else:
            section = self._resolve(kind, name)
            if isinstance(section, str):
                yield Finding((*key, "type"), "unknown-type", section)
            elif section is not None:
                yield from self.check(value, section, key)


def section_of(struct: type[Struct], *place: str) -> type[Struct] | None:
    """Return the struct of the section at this place of a struct, or None if it has none."""
    info: inspect.Type | None = type_info(struct)
    for name in place:
        fields = info.fields if isinstance(info, inspect.StructType) else ()
        info = next((_struct_in(field.type) for field in fields if field.encode_name == name), None)
    return info.cls if isinstance(info, inspect.StructType) else None


def _struct_in(info: inspect.Type) -> inspect.Type | None:
    if isinstance(info, inspect.Metadata):
        return _struct_in(info.type)
    if isinstance(info, inspect.UnionType):
        return next(filter(None, map(_struct_in, info.types)), None)
    return info if isinstance(info, inspect.StructType) else None


def mismatch(value: Any, expected: str, key: KeyPath) -> Finding:
    return Finding(key, "invalid-value", f"expected {expected}, found {describe_value(value)}")


def unknown_key(key: KeyPath, names: Iterable[str]) -> Finding:
    """Return the finding for an unknown key, with the nearest known key or, without a near one, all of them."""
    match = nearest(str(key[-1]), names)
    advice = f"did you mean {match}?" if match is not None else f"valid here: {', '.join(names)}"
    return Finding(key, "unknown-key", f"unknown key; {advice}", meant=match)


def a(noun: str) -> str:
    """Return the noun with its article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    lower = {candidate.lower(): candidate for candidate in names}
    match = difflib.get_close_matches(name.lower(), lower, n=1)
    return lower[match[0]] if match else None


def describe_type(expected: inspect.Type) -> str:
    """Describe a type in terms of YAML."""
    match expected:
        case inspect.Metadata(extra={"kind": kind}):
            return f"a section with the `type` of {a(kind)}"
        case inspect.Metadata(type=inner):
            return describe_type(inner)
        case inspect.UnionType(types=types):
            return " or ".join(map(describe_type, types))
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number{_bounds(expected)}"
        case inspect.FloatType():
            return f"a {'whole ' if expected.multiple_of == 1 else ''}number{_bounds(expected)}"
        case inspect.StrType():
            return "text"
        case inspect.NoneType():
            return "null"
        case inspect.LiteralType(values=values):
            return " or ".join(map(str, values))
        case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner):
            return f"a list, each {describe_type(inner)}" if not isinstance(inner, inspect.AnyType) else "a list"
        case inspect.TupleType(item_types=inners):
            return f"a list of {len(inners)}: {', '.join(map(describe_type, inners))}"
        case inspect.StructType() | inspect.DictType():
            return "a section"
        case _:
            return "any value"


def _bounds(expected: inspect.IntType | inspect.FloatType) -> str:
    bounds = {">=": expected.ge, ">": expected.gt, "<=": expected.le, "<": expected.lt}
    texts = [f"{sign} {bound}" for sign, bound in bounds.items() if bound is not None]
    return f" {' and '.join(texts)}" if texts else ""


def _fits(value: Any, expected: inspect.Type) -> bool:
    """Return True if a value is of the type, without regard to its items."""
    match expected:
        case inspect.AnyType():
            return True
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool) and _within(value, expected)
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool) and _within(value, expected)
        case inspect.StrType(min_length=least):
            return isinstance(value, str) and len(value) >= (least or 0)
        case inspect.NoneType():
            return value is None
        case inspect.LiteralType(values=values):
            return any(value == valid and type(value) is type(valid) for valid in values)
        case inspect.ListType(min_length=least) | inspect.VarTupleType(min_length=least):
            return isinstance(value, list) and len(value) >= (least or 0)
        case inspect.TupleType(item_types=inners):
            return isinstance(value, list) and len(value) == len(inners)
        case inspect.DictType(min_length=least):
            return isinstance(value, dict) and len(value) >= (least or 0)
        case inspect.StructType():
            return isinstance(value, dict)
        case _:
            return False


def _within(value: float, expected: inspect.IntType | inspect.FloatType) -> bool:
    return (
        (expected.ge is None or value >= expected.ge)
        and (expected.gt is None or value > expected.gt)
        and (expected.le is None or value <= expected.le)
        and (expected.lt is None or value < expected.lt)
        and (expected.multiple_of is None or value % expected.multiple_of == 0)
    )
