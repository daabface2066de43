"""Make the JSON schema that editors use, and the options page of the docs, from the types."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET, inspect

from lightbsr_arch.config import schema
from lightbsr_arch.config.checks.type_check import a, describe_type
from lightbsr_arch.config.registries import REGISTRIES, registered, section_type
from lightbsr_arch.config.signatures import package

KINDS = ("network", "dataset", "degradation", "loss", "metric", "scheduler")
PARTIAL = " (partial)"
RUN = schema.BlindSROptions  # BasicSR's own models, except Real-ESRGAN's, take a part of it
PAGE_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "Top level": schema.BlindSROptions,
    "`train`": schema.BlindSRTrainOptions,
    "`train.optim_g`, `train.optim_d`": schema.OptimizerOptions,
    "`path`": schema.BlindSRPathOptions,
    "`val`": schema.ValOptions,
    "`logger`": schema.LoggerOptions,
    "`dist_params`": schema.DistOptions,
    "`io_backend` of a data set": schema.IoBackend,
}
PAGE_HEAD = """\
# Options

One YAML file describes one run: `basicsr train -opt FILE` or `basicsr test -opt FILE`. It is checked before anything is
created. In an editor with a YAML language server, files under `options/` complete and underline as you type.

Numbers are written as in YAML 1.2, are finite, and are at most 10^10 unless a bound stands beside them (65536 in the
section of a network). A file has at most 256 KiB. Names of runs, data sets and metrics are names of single files.

## A file with a base

`base: other.yml` takes the options of another file, so that a file says only what differs. The path is relative to the
folder of the file that names it. A base has no base of its own.

- Sections are merged key by key.
- Other values, lists included, replace those of the base. `key: ~` sets a key to null.
- A section with another `type` than the base's replaces the base's section, because its other keys belong to another
  class.
- A key of the base cannot be removed. Options that not every run should have belong in another base.

Messages name the file in which a value stands. `--force_yml` is applied last. `python -m lightbsr_arch.config FILE`
prints a file merged with its base, and the copy in `experiments/NAME` is merged too.

## How this page is made

This page and `options/schema.json` are made by `python -m lightbsr_arch.config` from `lightbsr_arch/config/schema.py`
and the signatures of the registered classes.
"""


def json_schema() -> str:
    """Return the schema of one run, in the draft that YAML language servers read.

    A file with a ``base`` may lack required keys, so its definitions are the same ones without them.
    """
    definitions: dict[str, Any] = {}
    for struct in (RUN, schema.OptimizerOptions):
        definitions |= _definitions(struct)
    definitions["optimizer"] = {"$ref": "#/$defs/OptimizerOptions"}
    for kind in KINDS:
        names = _own_names(kind)
        for name in names:
            own = _definitions(section_type(kind, name))
            definitions |= {**own, f"{kind} {name}": own.pop(section_type(kind, name).__name__)}
        definitions[kind] = _one_of(kind, names)
    definitions[RUN.__name__]["properties"]["model_type"]["enum"] = _own_names("model")
    definitions |= {f"{name}{PARTIAL}": _partial(definition) for name, definition in definitions.items()}
    root = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Options of lightbsr_arch",
        "if": {"required": ["base"]},
        "then": {"$ref": f"#/$defs/{RUN.__name__}{PARTIAL}"},
        "else": {"$ref": f"#/$defs/{RUN.__name__}"},
    }
    lines = [
        f"{json.dumps(name)}: {json.dumps(_as_draft_7(each), ensure_ascii=False)}" for name, each in definitions.items()
    ]
    head = json.dumps(root, indent=1).removesuffix("\n}")
    return f'{head},\n "$defs": {{\n' + ",\n".join(lines) + "\n}}\n"


def options_page() -> str:
    """Return the options page of the docs, in Markdown."""
    parts = [PAGE_HEAD]
    for heading, struct in PAGE_SECTIONS.items():
        parts += [f"## {heading}\n\n{struct.__doc__}\n", _table(struct)]
    for kind in KINDS:
        own = [name for name in _own_names(kind) if package(registered(kind)[name]) == "lightbsr_arch"]
        others = [f"`{name}`" for name in _own_names(kind) if name not in own]
        parts.append(f"## The types of {a(kind)}\n")
        for name in own:
            summary = (registered(kind)[name].__doc__ or "").partition("\n\n")[0]
            parts += [f"### {name}\n\n{' '.join(summary.split())}\n", _table(section_type(kind, name))]
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


def _one_of(kind: str, names: list[str]) -> dict[str, Any]:
    """Return a section whose other keys depend on its ``type``. With `oneOf`, editors would not name the wrong key."""
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": names}},
        "allOf": [
            {
                "if": {"required": ["type"], "properties": {"type": {"const": name}}},
                "then": {"$ref": f"#/$defs/{kind} {name}"},
            }
            for name in names
        ],
    }


def _partial(node: Any) -> Any:
    """Return a definition without its required keys, which refers to other definitions without theirs."""
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


def _table(struct: type[msgspec.Struct]) -> str:
    rows = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        cells = (f"`{field.encode_name}`", describe_type(field.type), _default(field), " ".join(_texts(field.type)))
        rows.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(rows) + "\n"


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
