"""Figures out of the papers' tables, to stand beside measured ones."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from lightbsr_arch.bench.config import Bench

_SAME = {"b100": "bsd100", "bsds100": "bsd100"}


def published_rows(bench: Bench) -> list[dict[str, Any]]:
    """The figures whose scale, data set (by name) and degradation are also measured, as rows of the summary.

    A row's ``conditions`` hold what the paper gives for each of the degradation's conditions, where it does.
    """
    rows = []
    for pairs in bench.pairs:
        for entry in _figures():
            settings = [condition.name for condition in pairs.conditions]
            is_same = (
                entry["scale"] == bench.scale
                and _canonical(entry["dataset"]) == _canonical(pairs.dataset)
                and entry["degradation"] == pairs.degradation
                and entry["conditions"] == settings
            )
            if not is_same:
                continue
            figures = entry["psnr_y"]
            each = figures if isinstance(figures, list) else [None] * len(settings)
            mean = sum(figures) / len(figures) if isinstance(figures, list) else figures
            rows.append(
                {
                    "model": entry["method"],
                    "dataset": pairs.dataset,
                    "degradation": pairs.degradation,
                    "published": entry["source"],
                    "psnr_y": mean,
                    "ssim_y": entry.get("ssim_y"),
                    "conditions": [{"name": name, "psnr_y": value} for name, value in zip(settings, each)],
                }
            )
    return rows


def published_parameters(method: str) -> float | None:
    """As the paper states them."""
    millions = _published()["parameters_M"].get(method)
    return None if millions is None else millions * 1e6


def _canonical(name: str) -> str:
    return _SAME.get(name.lower(), name.lower())


@cache
def _published() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))


@cache
def _figures() -> list[dict[str, Any]]:
    """One entry a method, data set and degradation."""
    entries = []
    for table in _published()["tables"]:
        shared = {key: table[key] for key in ("source", "degradation", "scale", "conditions")}
        for method, datasets in table["figures"].items():
            for dataset, figures in datasets.items():
                entries.append({**shared, "method": method, "dataset": dataset, **figures})
    return entries
