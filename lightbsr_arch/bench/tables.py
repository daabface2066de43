"""Results as plain data, as Markdown and as CSV."""

import csv
import io
import math
import re
import time
from base64 import b64encode
from collections.abc import Iterable
from statistics import fmean
from typing import Any

import torch

from lightbsr_arch.bench.cache import versions
from lightbsr_arch.bench.config import Bench
from lightbsr_arch.bench.cost import HEIGHT, WIDTH
from lightbsr_arch.bench.machine import describe
from lightbsr_arch.bench.metrics import find_metric
from lightbsr_arch.bench.pairs import Pairs, RealPairs
from lightbsr_arch.bench.published import missing_figures, published_parameters, published_rows
from lightbsr_arch.bench.results import Place, Results
from lightbsr_arch.bench.runner import CROP

Row = dict[str, Any]
"""One row of a model, degradation and data set, with the means and the figures of each condition."""

COSTS = {"parameters": ("Params", 1e6, "M", 2), "macs": ("MACs", 1e9, "G", 1),
         "latency": ("Latency", 1e-3, "ms", 0), "memory": ("Memory", 2**20, "MiB", 0)}  # fmt: skip
"""Heading, size of the unit, name of the unit, digits."""


def summarise(bench: Bench, results: Results, device: torch.device) -> dict[str, Any]:
    """Return all results as plain data that JSON and UTF-8 can hold.

    If a model restores a picture exactly, its PSNR is infinite. The means of all models then leave out this picture,
    and a note says so.
    """
    infinite = {
        (place, name)
        for (_, place), values in results.values.items()
        for name, value in values.items()
        if not math.isfinite(value)
    }
    left_out = dict.fromkeys(
        f"{find_metric(name).label} of {_named(place, bench.pairs)['image']} in {place[0]} is infinite for a model "
        "that restores it exactly: the picture is left out of the means of all models"
        for place, name in sorted(infinite)
    )
    rows = [_row(spec.name, pairs, results, infinite) for pairs in bench.pairs for spec in bench.models]
    for row in rows:
        if row["model"] in results.broken:
            row["errors"].insert(0, results.broken[row["model"]])
    published = published_rows(bench) if bench.published else []
    summary = {
        "created": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": describe(device),
        "versions": versions(),
        "scale": bench.scale,
        "cost_size": [HEIGHT, WIDTH],
        "metrics": [
            {"name": name, "label": one.label, "better": one.better, "digits": one.digits}
            for name, one in ((name, find_metric(name)) for name in bench.metrics)
            if any(name in row for row in rows)
        ],
        "costs": [
            {"name": name, "label": label, "unit": unit, "size": size, "digits": digits}
            for name, (label, size, unit, digits) in COSTS.items()
        ],
        "idrs": [{"model": name, **figures} for name, figures in results.idrs.items()],
        "models": [_model(spec.name, results) for spec in bench.models]
        + [
            {"name": name, "published": True, "parameters": published_parameters(name)}
            for name in dict.fromkeys(row["model"] for row in published)
        ],
        "degradations": {
            pairs.degradation: [
                {"name": each.name, "sigma": each.sigma, "noise": each.noise} for each in pairs.conditions
            ]
            for pairs in bench.pairs
        },
        "datasets": {pairs.dataset: len(pairs.images) for pairs in bench.pairs},
        "notes": [*results.notes, *left_out, *(missing_figures(bench) if bench.published else [])],
        "rows": rows + published,
        "images": [
            {**_named(place, bench.pairs), "model": model, **values}
            for (model, place), values in results.values.items()
            if values
        ],
        "crop_size": CROP,
        "crops": [_crop(place, pictures, bench, results) for place, pictures in results.crops.items()],
    }
    plain: dict[str, Any] = _plain(summary)
    return plain


def _plain(value: Any) -> Any:
    """Replace numbers that are not finite by None, and escape bytes of names that are not UTF-8."""
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def failures(summary: dict[str, Any]) -> list[str]:
    """Return one line per figure that could not be measured."""
    lines = [
        f"{row['model']} on {row['dataset']}, {row['degradation']}: {error}"
        for row in summary["rows"]
        for error in row.get("errors", [])
    ]
    lines += [f"{model['name']}: cost: {model['error']}" for model in summary["models"] if model.get("error")]
    return [*dict.fromkeys(map(_one_line, lines))]


def markdown(summary: dict[str, Any]) -> str:
    """Return one table per degradation. Published models without a mean, and costs without a figure, are left out."""
    metrics = summary["metrics"]
    costs = [cost for cost in summary["costs"] if _any(model.get(cost["name"]) for model in summary["models"])]
    lines = []
    marked: dict[str, None] = {}  # ordered and without repeats
    for degradation, conditions in summary["degradations"].items():
        mean = f", mean over {len(conditions)} conditions" if len(conditions) > 1 else ""
        lines += [f"## {_escaped(degradation)}, x{summary['scale']}{mean}", ""]
        heads = [f"{cost['label']} ({cost['unit']})" for cost in costs]
        heads += [f"{_escaped(dataset)} {metric['label']}" for dataset in summary["datasets"] for metric in metrics]
        lines += [f"| Model | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
        partial = []
        for model in summary["models"]:
            rows = {
                row["dataset"]: row
                for row in summary["rows"]
                if (row["model"], row["degradation"]) == (model["name"], degradation)
                and ("published" in row) == model["published"]
            }
            if not rows:
                continue
            known = _any(row.get(metric["name"]) for row in rows.values() for metric in metrics)
            if model["published"] and not known:
                partial.append(_escaped(model["name"]))
                continue
            cells = [_number(model.get(cost["name"]), cost["digits"], cost["size"]) for cost in costs]
            for dataset in summary["datasets"]:
                row = rows.get(dataset, {})
                mark = "*" if row.get("errors") else ""
                cells += [_number(row.get(metric["name"]), metric["digits"]) + mark for metric in metrics]
            name = _escaped(model["name"]) + (" (published)" if model["published"] else "")
            footnotes = {row["footnote"] for row in rows.values() if "footnote" in row}
            if footnotes:
                name += " †"
                marked.update(dict.fromkeys(footnotes))
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
        if partial:
            lines += [f"Published for some of the conditions only, see results.csv: {', '.join(partial)}.", ""]
    if "macs" in {cost["name"] for cost in costs}:
        lines += [f"MACs are multiply-adds. Cost at LR {WIDTH}x{HEIGHT} on {summary['machine']}.", ""]
    if any(model.get("sees") for model in summary["models"]):
        names = [f"{_escaped(model['name'])} ({model['sees']})" for model in summary["models"] if model.get("sees")]
        lines += [f"Teachers, with the extra input that is unavailable at test time: {', '.join(names)}.", ""]
    if summary["idrs"]:
        lines += [f"## IDR over the blurs of Gaussian8, {_escaped(summary['idrs'][0]['dataset'])}", ""]
        lines += ["| Model | PSNR-Y of crops | 5-NN | R2 | Cost of a wrong IDR (dB) |", "|---|---:|---:|---:|---:|"]
        for one in summary["idrs"]:
            figures = f"{one['psnr_y']:.2f} | {one['knn']:.0%} | {one['r2']:.2f} | {one['wrong_costs']:.2f}"
            lines.append(f"| {_escaped(one['model'])} | {figures} |")
        guess = f"{summary['idrs'][0]['chance']:.1%}"
        lines += ["", f"5-NN: share of widths that the five nearest IDRs of other images predict; chance: {guess}.", ""]
    lines += [f"† {_escaped(line)}" for line in marked]
    lines += [f"\\* {_escaped(line)}" for line in failures(summary)] + [_escaped(line) for line in summary["notes"]]
    return "\n".join(lines).rstrip() + "\n"


def _any(figures: Iterable[Any]) -> bool:
    """Return whether a figure is known. Zero is a figure."""
    return any(figure is not None for figure in figures)


def _escaped(text: str) -> str:
    """Escape text for Markdown, on one line. An underscore inside a word needs no escape."""
    return re.sub(r"[\\`*\[\]<>&|~$#]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", _one_line(text))


def _one_line(text: str) -> str:
    """Remove line ends and control characters, which file names may contain."""
    return re.sub(r"[\s\x00-\x1f\x7f]+", " ", text)


def csv_table(summary: dict[str, Any]) -> str:
    """Return one line per model, data set, degradation and condition, and one for the mean over the conditions."""
    metrics = [metric["name"] for metric in summary["metrics"]]
    costs = [cost["name"] for cost in summary["costs"]]
    models = {(model["name"], model["published"]): model for model in summary["models"]}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    places = ["model", "dataset", "degradation", "condition"]
    writer.writerow([*places, *metrics, *costs, "published", "errors"])
    for row in summary["rows"]:
        model = models[row["model"], "published" in row]
        for name, values in [("mean", row), *((condition["name"], condition) for condition in row["conditions"])]:
            figures = [values.get(metric) for metric in metrics] + [model.get(cost) for cost in costs]
            if _any(figures) or row.get("errors"):
                place = [row["model"], row["dataset"], row["degradation"], name]
                writer.writerow([*place, *figures, row.get("published"), "; ".join(row.get("errors", []))])
    return text.getvalue()


def _row(model: str, pairs: Pairs | RealPairs, results: Results, infinite: set[tuple[Place, str]]) -> Row:
    conditions = []
    errors: dict[str, None] = {}  # ordered and without repeats
    for condition in pairs.conditions:
        values = []
        for index, image in enumerate(pairs.images):
            place = (pairs.dataset, pairs.degradation, condition.name, index)
            known = results.values.get((model, place), {})
            values.append({name: value for name, value in known.items() if (place, name) not in infinite})
            for whose in (None, model):
                if reason := results.failures.get((whose, place)):
                    errors[f"{image}: {reason}" if image not in reason else reason] = None
        conditions.append({"name": condition.name, **_means(values)})
    row = {"model": model, "dataset": pairs.dataset, "degradation": pairs.degradation}
    return {**row, **_means(conditions), "conditions": conditions, "errors": list(errors)}


def _means(values: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean of each metric over the entries that have it. The name of the condition is ignored."""
    names = dict.fromkeys(name for each in values for name in each if name != "name")
    return {name: fmean(each[name] for each in values if name in each) for name in names}


def _model(name: str, results: Results) -> dict[str, Any]:
    cost = results.costs.get(name, {})
    if isinstance(cost, str):
        return {"name": name, "published": False, "error": cost}
    return {"name": name, "published": False, **cost}


def _crop(place: Place, pictures: dict[str, bytes], bench: Bench, results: Results) -> dict[str, Any]:
    shown = []
    order = ["LR", *(spec.name for spec in bench.models), "HR"]
    for label in order:
        if label in pictures:
            data = f"data:image/webp;base64,{b64encode(pictures[label]).decode()}"
            shown.append({"label": label, "src": data, **results.values.get((label, place), {})})
        else:
            shown.append({"label": label, "src": None})
    return {**_named(place, bench.pairs), "pictures": shown}


def _named(place: Place, all_pairs: list[Pairs | RealPairs]) -> dict[str, str]:
    dataset, degradation, condition, index = place
    images = next(pairs.images for pairs in all_pairs if pairs.dataset == dataset)
    return {"dataset": dataset, "degradation": degradation, "condition": condition, "image": images[index]}


def _number(value: Any, digits: int, size: float = 1) -> str:
    return "–" if value is None else f"{value / size:.{digits}f}"
