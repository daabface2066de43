"""The entries for OpenModelDB have the types and patterns that its repository checks, and describe the files."""

import hashlib
import json
import re
import sys

import jsonschema
import pytest

from lightbsr import shipped
from tools import openmodeldb

ID = r"^[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*$"
KNOWN_TAGS = ["photo", "deblur", "restoration", "denoise", "jpeg"]
COUNT = {"type": "integer", "minimum": 1}
CHANNELS = {"type": "integer", "minimum": 1, "maximum": 4}
STRINGS = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}

MODEL = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "author": {"type": "string", "pattern": ID},
        "license": {"enum": ["Apache-2.0", None]},
        "tags": {"type": "array", "items": {"enum": KNOWN_TAGS}, "minItems": 1, "uniqueItems": True},
        "description": {"type": "string", "pattern": r"^\S[\s\S]*\S$"},
        "date": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
        "architecture": {"type": "string", "pattern": ID},
        "size": STRINGS,
        "scale": {"type": "integer", "minimum": 1, "maximum": 16},
        "inputChannels": CHANNELS,
        "outputChannels": CHANNELS,
        "resources": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "platform": {"enum": ["pytorch", "onnx", "ncnn"]},
                    "type": {"enum": ["pth", "safetensors", "onnx"]},
                    "size": COUNT,
                    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                    "urls": STRINGS,
                },
                "required": ["platform", "type", "size", "sha256", "urls"],
                "additionalProperties": False,
            },
        },
        "trainingIterations": COUNT,
        "trainingBatchSize": COUNT,
        "trainingHRSize": COUNT,
        "trainingOTF": {"type": "boolean"},
        "dataset": {"type": "string"},
        "images": {"type": "array"},
    },
    "additionalProperties": False,
}
MODEL["required"] = list(MODEL["properties"])


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["openmodeldb.py", *map(str, arguments)])
    return openmodeldb.main()


def test_one_valid_entry_per_student(tmp_path, monkeypatch, capsys):
    out = tmp_path / "models"
    rest = ("--author", "some-one", "--url", "https://host/v1/", "--date", "2026-11-26")
    assert run(monkeypatch, out, *rest) == 0
    entries = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in out.iterdir()}
    kdsr = ["2x-kdsr-s-iso", "2x-kdsr-s-photo"]
    kdsr += [f"4x-kdsr-s-{kind}" for kind in ("control", "iso", "photo", "real", "texture")]
    assert sorted(entries) == [*kdsr, "4x-kdsr-srmd-iso", "4x-lightbsr-s-iso"]
    assert sorted(entry["name"] for entry in entries.values()) == shipped.students()
    for name, entry in entries.items():
        jsonschema.validate(entry, MODEL)
        assert re.fullmatch(r"\d+x-[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*", name)
        assert name.startswith(f"{entry['scale']}x-")
        data = shipped.find_weights(entry["name"]).read_bytes()
        (resource,) = entry["resources"]
        assert (resource["size"], resource["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert resource["urls"] == [f"https://host/v1/{entry['name']}.safetensors"]
    real = entries["4x-kdsr-s-real"]
    assert real["tags"] == ["photo", "restoration", "denoise", "jpeg"]
    assert (real["size"], real["architecture"], real["license"]) == (["32nf", "16nb"], "kdsr", "Apache-2.0")
    assert (real["trainingIterations"], real["trainingBatchSize"], real["trainingHRSize"]) == (20000, 8, 96)
    assert entries["4x-lightbsr-s-iso"]["size"] == ["32nf", "2ng", "8nb"]
    assert entries["4x-kdsr-srmd-iso"]["size"] == ["128nf", "12nb"]
    printed = capsys.readouterr().out
    architectures = json.loads(printed[printed.index("{") :])
    assert sorted(architectures) == ["kdsr", "lightbsr", "srmd"]
    assert architectures["kdsr"]["name"] == "KDSR"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--author", "a b", "--url", "https://host"), "--author a b: expected letters"),
        (("--author", "a", "--url", "https://"), "--url https://: expected https:// and a host"),
        (("--author", "a", "--url", "http://host"), "--url http://host: expected https"),
    ],
)
def test_an_argument_that_openmodeldb_would_refuse(tmp_path, monkeypatch, arguments, message):
    with pytest.raises(openmodeldb.UserError, match=message):
        run(monkeypatch, tmp_path / "out", *arguments)
    assert not list(tmp_path.iterdir())
