"""Checks of the files and folders that an options file names."""

import os
import re
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from lightbsr import shipped
from lightbsr.errors import UserError
from lightbsr.names import unsafe_path
from lightbsr_arch.config.checks.combinations import perceptual_losses
from lightbsr_arch.config.yaml_file import Document, load_file
from lightbsr_arch.data.meta_info import META_INFO
from lightbsr_arch.data.pair_dataset import PicturePairs
from lightbsr_arch.losses.vgg_weights import check_whole, find_weights_file
from lightbsr_arch.option_types.problems import Finding, KeyPath, OptionsError
from lightbsr_arch.option_types.sections import section, sections

LMDB_FILES = ("data.mdb", META_INFO)
DATA_ROOTS = ("dataroot_gt", "dataroot_lq", "dataroot_flow")
DATA_LISTS = ("meta_info_file", "meta_info")
RUN_WEIGHTS = re.compile(r"(?:^|/)experiments/(?P<run>[^/]+)/models/net_[^/]+$")


def file_checks(document: Document, options_file: Path) -> Iterator[Finding]:
    """Find missing or unusable files and folders. Paths are relative to the current folder, as in BasicSR."""
    options = document.data
    for name, dataset in sections(options, "datasets"):
        backend = section(dataset, "io_backend").get("type")
        missing: list[Finding] = []
        for key in DATA_ROOTS:
            if isinstance(dataset.get(key), str):
                key_path = ("datasets", name, key)
                location = document.locations.get(key_path)  # missing if --force_yml replaced the section
                described_in = Path(location.source) if location and location.line else options_file
                missing += _data_root(dataset[key], backend, key_path, described_in)
        yield from missing
        if dataset.get("type") == "PairDataset" and not missing:
            yield from _pairs(dataset, options.get("scale"), ("datasets", name))
        for key in DATA_LISTS:
            if isinstance(dataset.get(key), str) and backend != "lmdb":
                yield from _data_list(dataset[key], ("datasets", name, key))
    for key, value in section(options, "path").items():
        is_weights = key.startswith("pretrain_network_") and value not in shipped.names()
        if (is_weights or key == "resume_state") and isinstance(value, str) and not _is_file(value):
            yield Finding(
                ("path", key), "missing-file", f"no such file: {_shown(value)}{_how_to_train(value, options_file)}"
            )


def vgg_checks(options: dict[str, Any], *, read: bool) -> Iterator[Finding]:
    """Check that the weights of perceptual losses are there and, with ``read``, complete."""
    for name, vgg_type in perceptual_losses(options):
        try:
            path = find_weights_file(vgg_type)
            if read:
                check_whole(path, vgg_type)
        except UserError as error:
            yield Finding(
                ("train", name), "vgg-weights", f"{error}; --force_yml train:{name}=null trains without this loss"
            )


def _data_root(value: str, backend: Any, key: KeyPath, options_file: Path) -> Iterator[Finding]:
    path = _path(value)
    is_lmdb = path.suffix == ".lmdb"
    if backend == "lmdb" and not is_lmdb:
        text = f"{value} does not end in .lmdb, so it is no LMDB; a folder of images needs `io_backend: {{type: disk}}`"
        yield Finding(key, "wrong-backend", text)
    elif not os.path.isdir(path):  # noqa: PTH112 - of a name that is too long, pathlib makes an error
        yield Finding(key, "missing-folder", f"no such folder: {_shown(value)}{_how_to_make(options_file)}")
    elif backend == "disk" and is_lmdb:
        yield Finding(key, "wrong-backend", f"{value} is an LMDB, which needs `io_backend: {{type: lmdb}}`")
    elif backend == "lmdb":
        missing = [name for name in LMDB_FILES if not (path / name).is_file()]
        if missing:
            yield Finding(
                key, "incomplete-lmdb", f"{value} is no complete LMDB: it lacks {' and '.join(missing)}; make it anew"
            )
        else:
            # BasicSR's data sets accept more than `read_meta_info` does.
            yield from _listed(path / META_INFO, lambda line: [line.partition(".")[0]], key)


def _pairs(dataset: dict[str, Any], scale: Any, key: KeyPath) -> Iterator[Finding]:
    """Check that each HR picture has an LR picture of the right size."""
    roots = [dataset.get(name, "") for name in ("dataroot_gt", "dataroot_lq")]
    templates = [dataset.get(name, "{}") for name in ("filename_tmpl", "gt_tmpl")]
    if not isinstance(scale, int) or not all(isinstance(value, str) for value in (*roots, *templates)):
        return  # the type check reports it
    try:
        PicturePairs(roots[0], roots[1], scale, *templates)
    except UserError as error:
        yield Finding(key, "unpaired-pictures", str(error))


def _data_list(value: str, key: KeyPath) -> Iterator[Finding]:
    if _is_file(value):
        yield from _listed(_path(value), lambda line: re.split(r", | ", line.strip())[:2], key)
    else:
        yield Finding(key, "missing-file", f"no such file: {_shown(value)}")


def _listed(path: Path, names_in: Callable[[str], list[str]], key: KeyPath) -> Iterator[Finding]:
    """Find the first picture of a list that lies outside the data set's folder."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                for name in filter(None, names_in(line)):
                    fault = unsafe_path(name)
                    if fault is not None:
                        yield Finding(key, "unsafe-path", f"{path} line {number}: the picture's name {fault}")
                        return
    except (OSError, UnicodeDecodeError) as error:
        yield Finding(key, "unreadable-file", f"{path}: cannot be read ({error})")


def _how_to_make(options_file: Path) -> str:
    """Return a hint to the options file's first comment, if it describes the data, as in the recipes."""
    lines = options_file.read_text(encoding="utf-8").splitlines()
    head = takewhile(lambda line: line.startswith("#"), lines)
    return f"; the top of {options_file} says what makes it" if any("Data:" in line for line in head) else ""


def _how_to_train(weights: str, options_file: Path) -> str:
    """Return the command that makes the weights, if an options file in the same folder names their run."""
    match = RUN_WEIGHTS.search(weights)
    if match is None:
        return ""
    for candidate in sorted(options_file.parent.glob("*.yml")):
        try:
            name = load_file(candidate).data.get("name")
        except OptionsError:
            continue
        if name == match["run"]:
            return f"; train it first: basicsr train -opt {candidate}"
    return ""


def _path(value: str) -> Path:
    return Path(os.path.expanduser(value))  # noqa: PTH111 - of an unknown user's home, pathlib makes an error


def _is_file(value: str) -> bool:
    return os.path.isfile(_path(value))  # noqa: PTH113 - as above


def _shown(value: str) -> str:
    return value if _path(value).is_absolute() else f"{value} (in {Path.cwd()})"
