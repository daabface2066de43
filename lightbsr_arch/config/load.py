"""Reading and checking of an options file, before a run creates any file."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

from lightbsr_arch.config.checks.build import build_checks, weights_checks
from lightbsr_arch.config.checks.combinations import cross_checks
from lightbsr_arch.config.checks.files import file_checks, vgg_checks
from lightbsr_arch.config.checks.type_check import Checker, section_of
from lightbsr_arch.config.merge import override, read_options
from lightbsr_arch.config.registries import Resolver, model_of, not_registered, registered, run_options
from lightbsr_arch.config.yaml_file import Document, describe_value
from lightbsr_arch.option_types import Loss, Network
from lightbsr_arch.option_types.problems import Finding, KeyPath, Location, OptionsError, Problem
from lightbsr_arch.option_types.schema import OpenTrainOptions
from lightbsr_arch.option_types.sections import section, sections

MOST_FINDINGS = 200  # a longer list takes time and does not help
# Bound of options without their own bound. Checks build the networks, and large networks take long.
LARGEST_NUMBER = 10**10
LARGEST_IN_NETWORKS = 65536


def load_options(path: str | PathLike[str], *, is_train: bool, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read an options file and check it.

    Args:
        path: path of the YAML file. Messages name it in this form.
        is_train: whether the options are for training or for testing, which need different options.
        overrides: entries of ``--force_yml``.

    Returns:
        The options in the form that BasicSR reads. They are merged with those of the file's ``base`` and have no
        defaults added.

    Raises:
        OptionsError: there are problems. The message has one line per problem, in the order of the file.
    """
    document = override(read_options(Path(path)), overrides)
    findings = [*islice(_type_checks(document.data), MOST_FINDINGS)]
    known = {finding.key for finding in findings}
    findings += [finding for finding in _number_checks(document.data) if finding.key not in known]
    findings += cross_checks(document.data, is_train=is_train)
    if not findings:
        findings += build_checks(document.data, is_train=is_train)
    findings += file_checks(document, Path(path))
    if is_train:
        findings += vgg_checks(document.data, read=not findings)  # reading takes a second or two
    if not findings:
        findings += weights_checks(document.data, is_train=is_train)
    raise_findings(findings, document)
    return document.data


def raise_findings(findings: Iterable[Finding], document: Document) -> None:
    """Raise the findings, each with its place in the document.

    Raises:
        OptionsError: there are findings.
    """
    # A misspelt key is a single mistake, so the correct key is not reported as missing.
    meant = {(*finding.key[:-1], finding.meant) for finding in findings} - document.locations.keys()
    problems = [
        Problem(_locate(finding.key, document.locations), finding.code, finding.text, finding.key)
        for finding in findings
        if finding.key not in meant
    ]
    if problems:
        raise OptionsError(problems)


def _type_checks(options: dict[str, Any]) -> Iterator[Finding]:
    model_type = options.get("model_type")
    checker = Checker(Resolver(model_type))
    if isinstance(model_type, str) and model_type not in registered("model"):
        yield Finding(("model_type",), "unknown-type", not_registered("model", model_type))
    others = {finding.key: finding for finding in _of_other_models(options)}
    for finding in checker.check(options, run_options(model_type)):
        yield others.get(finding.key, finding)
    yield from _open_sections(checker, options)


def _of_other_models(options: dict[str, Any]) -> Iterator[Finding]:
    """Find keys that only other models have."""
    model_type = options.get("model_type")
    if not hasattr(model_of(model_type), "Options"):
        return
    structs = {name: model.Options for name, model in registered("model").items() if hasattr(model, "Options")}
    for place in ((), ("path",), ("train",)):
        found = {name: section_of(struct, *place) for name, struct in structs.items()}
        keys = {name: {*struct.__struct_fields__} for name, struct in found.items() if struct is not None}
        for key in section(options, *place).keys() - keys.get(str(model_type), set()):
            others = sorted(name for name in keys if key in keys[name])
            if others:
                have = f"{' and '.join(others)} {'has' if len(others) == 1 else 'have'} it"
                yield Finding((*place, key), "key-of-another-model", f"unknown key for {model_type}; {have}")


def _number_checks(value: Any, key: KeyPath = ()) -> Iterator[Finding]:
    """Find numbers that are too large for any option, or not finite."""
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _number_checks(item, (*key, name))
    elif isinstance(value, int | float):
        largest = LARGEST_IN_NETWORKS if str(key[0]).startswith("network_") else LARGEST_NUMBER
        if isinstance(value, float) and not math.isfinite(value):
            yield Finding(key, "not-finite", f"expected a finite number, found {value}")
        elif abs(value) > largest:
            yield Finding(key, "too-large", f"expected a number of at most {largest}, found {describe_value(value)}")


def _open_sections(checker: Checker, options: dict[str, Any]) -> Iterator[Finding]:
    """Check networks and losses whose keys are defined only by the model of another plugin."""
    run = run_options(options.get("model_type"))
    if run.__struct_config__.forbid_unknown_fields:
        return
    for name, value in options.items():
        if name.startswith("network_") and name not in run.__struct_fields__:
            yield from checker.check(value, Network, (name,))
    for name, value in sections(options, "train"):
        if name not in OpenTrainOptions.__struct_fields__ and str(value.get("type")) in registered("loss"):
            yield from checker.check(value, Loss, ("train", name))


def _locate(key: KeyPath, locations: dict[KeyPath, Location]) -> Location:
    """Return the place of an option or, if it is missing, of the section that lacks it."""
    while key not in locations:
        key = key[:-1]
    return locations[key]
