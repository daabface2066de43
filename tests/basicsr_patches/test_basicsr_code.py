"""The code of BasicSR that this package uses or replaces has not changed.

If a hash differs, read the new code, adapt the code that uses or replaces it, and then add the hash.
"""

import ast
import hashlib
import importlib
import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

import lightbsr_arch

HASHES = json.loads(Path(__file__).with_name("basicsr_code.json").read_text(encoding="utf-8"))
"""Hashes by qualified name, in BasicSR 1.4.2 and in its later version, or one hash if both are equal."""

BY_NAME = [
    "basicsr.archs.discriminator_arch.UNetDiscriminatorSN",
    "basicsr.archs.discriminator_arch.VGGStyleDiscriminator",
    "basicsr.archs.edsr_arch.EDSR",
    "basicsr.archs.rcan_arch.RCAN",
    "basicsr.archs.srresnet_arch.MSRResNet",
    "basicsr.archs.swinir_arch.SwinIR",
    "basicsr.archs.vgg_arch.VGGFeatureExtractor",
    "basicsr.data.prefetch_dataloader.PrefetchDataLoader",
    "basicsr.data.prefetch_dataloader.PrefetchGenerator",
    "basicsr.losses.basic_loss.CharbonnierLoss",
    "basicsr.losses.basic_loss.L1Loss",
    "basicsr.losses.basic_loss.PerceptualLoss",
    "basicsr.losses.gan_loss.GANLoss",
    "basicsr.metrics.calculate_niqe",
    "basicsr.metrics.niqe.niqe",
    "basicsr.models.lr_scheduler.CosineAnnealingRestartLR",
    "basicsr.models.lr_scheduler.MultiStepRestartLR",
    "basicsr.utils.imwrite",
]
"""Names that this package uses or replaces without importing them."""


def imported_names() -> set[str]:
    """Return the classes and functions in ``from basicsr... import ...`` of every module of the package."""
    found = set()
    for path in Path(lightbsr_arch.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "basicsr":
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if inspect.isroutine(named(name)) or inspect.isclass(named(name))}


def named(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def code_hash(name: str) -> str:
    """Return a digest of the source without docstrings and white space."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(named(name))))
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            for number in range(docstring.lineno - 1, docstring.end_lineno or docstring.lineno):
                lines[number] = ""
    return hashlib.sha256("".join("".join(lines).split()).encode()).hexdigest()[:16]


def test_the_list_has_every_name_that_is_used() -> None:
    assert sorted(HASHES) == sorted({*imported_names(), *BY_NAME})


@pytest.mark.parametrize("name", sorted(HASHES))
def test_the_code_is_known(name: str) -> None:
    assert code_hash(name) in HASHES[name]
