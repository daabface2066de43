"""The JSON schema for editors and the options page of the docs, made from the types."""

import json
from collections.abc import Collection, Iterator
from typing import Any

import msgspec
from msgspec import UNSET, inspect

from lightbsr_arch import option_types
from lightbsr_arch.config.checks.type_check import a, describe_type, section_of
from lightbsr_arch.config.registries import REGISTRIES, registered, section_type
from lightbsr_arch.config.signatures import package
from lightbsr_arch.models.options import run_options
from lightbsr_arch.option_types import schema

KINDS = ("model", "network", "dataset", "degradation", "loss", "metric", "scheduler")
PARTIAL = " (partial)"
ANY_MODEL = "AnyModel"
PLACES = ((), ("path",), ("train",))
PLAIN = run_options("EveryModel", None, ())  # the keys that all models of this package have


def _section(struct: type[msgspec.Struct], *place: str) -> type[msgspec.Struct]:
    found = section_of(struct, *place)
    assert found is not None
    return found


PAGE_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "Top level": PLAIN,
    "`train`": _section(PLAIN, "train"),
    "`train.optim_g`, `train.optim_d`": schema.OptimizerOptions,
    "`path`": _section(PLAIN, "path"),
    "`val`": schema.ValOptions,
    "`logger`": schema.LoggerOptions,
    "`dist_params`": schema.DistOptions,
    "`io_backend` of a data set": option_types.IoBackend,
}
TABLE_HEAD = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
PAGE_HEAD = """\
# Options

A YAML file describes a run: `basicsr train -opt FILE` or `basicsr test -opt FILE`. The file is checked before the run
creates any file. Editors with a YAML language server complete and check files in `options/` as you type.

Numbers follow YAML 1.2 and must be finite. Without a stated bound, they are at most 10^10, or 65536 in the section of a
network. A file has at most 256 KiB. Names of runs, data sets and metrics must be valid file names.

## A file with a base

With `base: other.yml`, a file contains only the differences from another file. The path is relative to the folder of
the file that names it. A base must not have a base itself.

- Sections are merged key by key.
- Other values, including lists, replace those of the base. `key: ~` sets a key to null.
- A section with another `type` replaces the base's section, because its other keys belong to another class.
- A key of the base cannot be removed. A base should therefore contain only options that all of its runs have.

Messages name the file that contains a value. `--force_yml` is applied last. `lightbsr options --show FILE` prints a
file merged with its base. The copy in `experiments/NAME` is also merged.

## Contents of this page

The sections below list the keys that all models of this package share. The other keys are listed with their models.

`make reference` makes this page and `options/schema.json` from `lightbsr_arch/option_types/schema.py`, the `Options` of
models and data sets, and the signatures of the registered classes.
"""


def json_schema() -> str:
    """Return the schema of one run, in the draft that YAML language servers read.

    A file with a ``base`` may lack required keys, so no key is required in its definitions.
    """
    definitions: dict[str, Any] = {}
    definitions |= _definitions(schema.OptimizerOptions)
    definitions["optimizer"] = {"$ref": "#/$defs/OptimizerOptions"}
    for kind in KINDS:
        names = _own_names(kind)
        for name in names:
            struct = section_type(kind, name)
            own = _definitions(struct)
            # Models may share a struct. The struct of a section is named after its class, and classes of several kinds
            # may have the same name.
            alias = {"$ref": f"#/$defs/{struct.__name__}"} if kind == "model" else own.pop(struct.__name__)
            definitions |= {**own, f"{kind} {name}": alias}
        definitions[kind] = _one_of(kind, names, "model_type" if kind == "model" else "type")
    definitions |= _definitions(_any_model())
    definitions |= {f"{name}{PARTIAL}": _partial(definition) for name, definition in definitions.items()}
    root = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Options of lightbsr_arch",
        "if": {"required": ["base"]},
        "then": {
            "if": {"required": ["model_type"]},
            "then": {"$ref": f"#/$defs/model{PARTIAL}"},
            "else": {"$ref": f"#/$defs/{ANY_MODEL}Options{PARTIAL}"},
        },
        "else": {"$ref": "#/$defs/model"},
    }
    lines = [
        f"{json.dumps(name)}: {json.dumps(_as_draft_7(each), ensure_ascii=False)}" for name, each in definitions.items()
    ]
    head = json.dumps(root, indent=1).removesuffix("\n}")
    return f'{head},\n "$defs": {{\n' + ",\n".join(lines) + "\n}}\n"


def _any_model() -> type[msgspec.Struct]:
    """Return a struct with the keys of all models of this package, for files whose base names the model."""
    types = (model.available() for model in registered("model").values() if hasattr(model, "available"))
    return run_options(ANY_MODEL, None, tuple(dict.fromkeys(objective for each in types for objective in each)))


def options_page() -> str:
    """Return the options page of the docs, in Markdown."""
    parts = [PAGE_HEAD]
    for heading, struct in PAGE_SECTIONS.items():
        doc = schema.Options.__doc__ if struct is PLAIN else struct.__doc__
        parts += [f"## {heading}\n\n{doc}\n", _table(struct)]
    for kind in KINDS:
        own = [name for name in _own_names(kind) if package(registered(kind)[name]) == "lightbsr_arch"]
        others = [f"`{name}`" for name in _own_names(kind) if name not in own]
        parts.append(f"## The types of {a(kind)}\n")
        for name in own:
            summary = (registered(kind)[name].__doc__ or "").partition("\n\n")[0]
            table = _model_table(name) if kind == "model" else _table(section_type(kind, name))
            parts += [f"### {name}\n\n{' '.join(summary.split())}\n", table]
        if others:
            parts.append(f"BasicSR's: {', '.join(others)}.\n")
    return "\n".join(parts)


def _own_names(kind: str) -> list[str]:
    """Return the names that this package and BasicSR register, without BasicSR's suffixed duplicates."""
    return sorted(
        name
        for name, entry in registered(kind).items()
        if not name.endswith("_basicsr") and (kind not in REGISTRIES or package(entry) in ("basicsr", "lightbsr_arch"))
    )


def _definitions(struct: type[msgspec.Struct]) -> dict[str, Any]:
    _, definitions = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    return definitions


def _one_of(kind: str, names: list[str], key: str) -> dict[str, Any]:
    """Return a section whose other keys depend on the registered name under ``key``.

    With `oneOf`, editors would not name the wrong key.
    """
    return {
        "type": "object",
        "required": [key],
        "properties": {key: {"enum": names}},
        "allOf": [
            {
                "if": {"required": [key], "properties": {key: {"const": name}}},
                "then": {"$ref": f"#/$defs/{kind} {name}"},
            }
            for name in names
        ],
    }


def _partial(node: Any) -> Any:
    """Return a definition without required keys. Its references lead to definitions without required keys."""
    if isinstance(node, list):
        return [_partial(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: f"{value}{PARTIAL}" if key == "$ref" else value if key == "if" else _partial(value)
        for key, value in node.items()
        if key != "required"
    }


def _as_draft_7(node: Any) -> Any:
    """Convert lists of fixed length from draft 2020-12, which msgspec writes."""
    if isinstance(node, list):
        return [_as_draft_7(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "prefixItems" in node:
        node = {**node, "items": node["prefixItems"], "additionalItems": False}
        del node["prefixItems"]
    return {key: _as_draft_7(value) for key, value in node.items()}


def _model_table(name: str) -> str:
    """Return the table of the keys that a model has in addition to those of every model."""
    rows: list[str] = []
    for place in PLACES:
        common = _section(PLAIN, *place).__struct_fields__
        rows += _rows(_section(section_type("model", name), *place), common, "".join(f"{part}." for part in place))
    return "\n".join([*TABLE_HEAD, *rows]) + "\n" if rows else "It has only the keys above.\n"


def _table(struct: type[msgspec.Struct]) -> str:
    return "\n".join([*TABLE_HEAD, *_rows(struct)]) + "\n"


def _rows(struct: type[msgspec.Struct], without: Collection[str] = (), prefix: str = "") -> Iterator[str]:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        if field.encode_name not in without:
            name, meaning = f"`{prefix}{field.encode_name}`", " ".join(_texts(field.type))
            cells = (name, describe_type(field.type), _default(field), meaning)
            yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
            if prefix and (inner := _inner_struct(field.type)):
                yield from _rows(inner, prefix=f"{prefix}{field.encode_name}.")


def _inner_struct(info: inspect.Type) -> type[msgspec.Struct] | None:
    """Return the struct of a section that may be null, or None for any other type."""
    while isinstance(info, inspect.Metadata):
        info = info.type
    members = info.types if isinstance(info, inspect.UnionType) else ()
    return next((member.cls for member in members if isinstance(member, inspect.StructType)), None)


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    if field.default in (UNSET, inspect.NODEFAULT):
        return ""
    return f"`{json.dumps(field.default)}`"


def _texts(info: inspect.Type) -> Iterator[str]:
    if isinstance(info, inspect.Metadata):
        if info.extra_json_schema and "description" in info.extra_json_schema:
            yield info.extra_json_schema["description"].replace("``", "`").removesuffix(".")
        else:
            yield from _texts(info.type)
