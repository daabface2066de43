"""Figures from the tables of papers, for comparison with measured figures."""

import json
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from lightbsr_arch.bench.config import Bench
from lightbsr_arch.bench.pairs import Pairs, RealPairs

_SAME = {"b100": "bsd100", "bsds100": "bsd100"}

_LABELS = {"psnr_y": "PSNR-Y", "ssim_y": "SSIM-Y", "lpips-vgg": "LPIPS"}


def published_rows(bench: Bench) -> list[dict[str, Any]]:
    """Return published figures with a measured scale, data set (by name) and conditions, as rows of the summary.

    The ``conditions`` of a row contain the paper's figures. The row has a mean if the paper covers every measured
    condition. ``footnote`` warns of LR images that may differ from the measured ones.
    """
    rows: list[dict[str, Any]] = []
    for pairs in bench.pairs:
        found: dict[str, list[dict[str, Any]]] = {}
        for entry in _figures():
            if _is_comparable(entry, pairs):
                found.setdefault(entry["method"], []).append(entry)
        rows += (_row(entries, pairs) for entries in found.values())
    return rows


def missing_figures(bench: Bench) -> list[str]:
    """Return one line per published degradation and data set, which lists the methods without figures for it."""
    lines: dict[str, None] = {}
    known = {_canonical(entry["dataset"]) for entry in _figures()}
    for pairs in bench.pairs:
        if _canonical(pairs.dataset) not in known:
            continue
        methods = {entry["method"] for entry in _figures() if _is_comparable(entry, pairs)}
        missing = [family for family in _published()["families"] if not any(family in method for method in methods)]
        if methods and missing:
            place = f"{pairs.degradation}, x{pairs.scale}, {pairs.dataset}"
            lines[f"No published figures for {place}: {', '.join(missing)} (their tables could not be read)"] = None
    return list(lines)


def published_parameters(method: str) -> float | None:
    """Return the number of parameters that the paper states."""
    millions = _published()["parameters_M"].get(method)
    return None if millions is None else millions * 1e6


def _is_comparable(entry: dict[str, Any], pairs: Pairs | RealPairs) -> bool:
    measured, given = {condition.name for condition in pairs.conditions}, set(entry["conditions"])
    if entry["scale"] != pairs.scale or _canonical(entry["dataset"]) != _canonical(pairs.dataset):
        return False
    if pairs.downsample != "bicubic":
        return False
    if not any(isinstance(entry.get(metric), list) for metric in _LABELS):
        return measured == given
    return measured <= given or (entry["degradation"] == pairs.degradation and bool(measured & given))


def _row(entries: list[dict[str, Any]], pairs: Pairs | RealPairs) -> dict[str, Any]:
    """Return the row of one method. Each metric is taken from the first table that has it."""
    row: dict[str, Any] = {"model": entries[0]["method"], "dataset": pairs.dataset, "degradation": pairs.degradation}
    conditions: list[dict[str, Any]] = [{"name": condition.name} for condition in pairs.conditions]
    sources: dict[str, list[str]] = {}
    for metric in _LABELS:
        entry = next((entry for entry in entries if metric in entry), {})
        figures = entry.get(metric)
        if entry:
            sources.setdefault(entry["source"], []).append(_LABELS[metric])
        if not isinstance(figures, list):
            row[metric] = figures
            continue
        known = dict(zip(entry["conditions"], figures, strict=True))
        for condition in conditions:
            condition[metric] = known.get(condition["name"])
        values = [condition[metric] for condition in conditions]
        row[metric] = None if None in values else fmean(values)
    first, *others = sources
    row["published"] = "; ".join([first, *(f"{', '.join(sources[source])}: {source}" for source in others)])
    row["conditions"] = conditions
    if any(entry["is_s_fold"] for entry in entries):
        row["footnote"] = "the LR images may take every scale-th pixel (s-fold) instead of bicubic downsampling"
    return row


def _canonical(name: str) -> str:
    return _SAME.get(name.lower(), name.lower())


@cache
def _published() -> dict[str, Any]:
    """Return the content of all files in the folder ``papers``, one per paper, each with any of these keys.

    Returns:
        ``families``: methods whose figures are shown. A table's row names one with its size or its denoiser.
        ``parameters_M``: millions of parameters by method.
        ``tables``: PSNR-Y in dB and SSIM-Y as the papers print them: one number is the mean over the conditions, a list
        has one number per condition. ``lpips-vgg`` is LPIPS with VGG. ``s_fold`` lists methods whose LR images may take
        every scale-th pixel.
    """
    files = sorted(Path(__file__).with_name("papers").glob("*.json"))
    papers = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {
        "families": sorted((family for paper in papers for family in paper.get("families", ())), key=str.lower),
        "parameters_M": {key: number for paper in papers for key, number in paper.get("parameters_M", {}).items()},
        "tables": [table for paper in papers for table in paper.get("tables", ())],
    }


@cache
def _figures() -> list[dict[str, Any]]:
    """Return one entry per method, data set and degradation."""
    entries = []
    for table in _published()["tables"]:
        shared = {key: table[key] for key in ("source", "degradation", "scale", "conditions")}
        for method, datasets in table["figures"].items():
            is_s_fold = method in table.get("s_fold", ())
            for dataset, figures in datasets.items():
                entries.append({**shared, "method": method, "dataset": dataset, "is_s_fold": is_s_fold, **figures})
    return entries
