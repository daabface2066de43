"""The report of ``lightbsr idr``: loading of models, measurement of IDRs, and tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lightbsr.errors import UserError
from lightbsr_arch.analysis.idr import Factor, Readings, measure_use, untrained
from lightbsr_arch.analysis.measures import linear_cka, measure
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import load

COLUMNS = {
    "knn": "5-NN",
    "probe": "linear probe",
    "silhouette": "silhouette",
    "r2": "R2",
    "degradation": "by degradation",
    "content": "by content",
    "cka_to_first": "CKA to first",
    "psnr_y": "PSNR-Y",
    "mean_costs": "mean IDR costs",
    "wrong_costs": "wrong IDR costs",
}
PERCENT = ("knn", "probe", "degradation", "content")


def load_models(given: Sequence[str], with_untrained: bool) -> dict[str, BlindSR]:
    """Load models. Return them under the names that tables and panels show.

    Args:
        given: names of shipped weights, or files, of one scale.
        with_untrained: whether to add each network with random weights.

    Raises:
        UserError: weights are missing, a network has no estimator, or the scales differ.
    """
    short = [_short(name) for name in given]
    models: dict[str, BlindSR] = {}
    for name, brief in zip(given, short):
        model = load(name)
        if not isinstance(model, BlindSR):
            raise UserError(f"{name}: a {type(model).__name__} has no estimator that reads an IDR; leave it out")
        models[name if short.count(brief) > 1 else brief] = model
    scales = {model.scale for model in models.values()}
    if len(scales) > 1:
        raise UserError(
            f"models of scale {' and '.join(map(str, sorted(scales)))}: analyse those of one scale at a time"
        )
    if not with_untrained:
        return models
    configurations = []
    for name, model in list(models.items()):
        if model.config not in configurations:
            configurations.append(model.config)
            models[f"{name}, untrained"] = untrained(model)
    return models


def make_report(
    models: dict[str, BlindSR], factors: Sequence[Factor], readings: Readings, source: str
) -> dict[str, Any]:
    """Measure the readings and restore crops. Shows a progress bar.

    Args:
        models: models by name.
        factors: factors of the readings.
        readings: IDRs of these models under these factors.
        source: origin of the images, for the report.

    Returns:
        All figures as JSON values, under "images", "crops", "scale", "factors" and "models".
    """
    return {
        "images": {"from": source, "used": len(set(readings.images.tolist())), "left_out": readings.failures},
        "crops": {"number": len(readings.images), "size": next(iter(readings.crops.values())).shape[-1]},
        "scale": next(iter(models.values())).scale,
        "factors": {
            one.name: {
                "levels": one.levels,
                "degradations": [setting.name for setting in one.settings],
                "chance": 1 / len(one.levels),
            }
            for one in factors
        },
        "models": _figures(models, factors, readings),
    }


def panel_titles(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the titles of the plot's panels by model and factor."""
    return {
        model: {name: _title(model, figures, report["factors"][name]) for name, figures in of_model["figures"].items()}
        for model, of_model in report["models"].items()
    }


def tables(report: dict[str, Any]) -> str:
    """Return the report of `make_report` in Markdown, one table per factor."""
    images, crops = report["images"], report["crops"]
    lines = [
        f"IDRs at x{report['scale']} of {crops['number']} crops of {images['used']} images, "
        f"{crops['size']}x{crops['size']} pixels, under every level. Accuracies and R2 are measured on images that the "
        "classifiers were not trained on. By degradation and by content are shares of the IDR's variance.",
    ]
    for name, factor in report["factors"].items():
        lines += [
            "",
            f"{name}: {', '.join(factor['degradations'])}; chance {factor['chance']:.1%}",
            "",
            f"| model | {' | '.join(COLUMNS.values())} |",
            f"|---|{'---:|' * len(COLUMNS)}",
        ]
        for model, of_model in report["models"].items():
            cells = [_cell(key, of_model["figures"][name][key]) for key in COLUMNS]
            lines.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _short(name: str) -> str:
    """Return a file's name without extension or, for EXPERIMENT/models/net_g_latest.pth, the experiment's name."""
    path = Path(name)
    return path.parents[1].name if path.parent.name == "models" and path.stem.startswith("net_") else path.stem


def _figures(models: dict[str, BlindSR], factors: Sequence[Factor], readings: Readings) -> dict[str, Any]:
    report: dict[str, Any] = {}
    first = next(iter(models))
    with tqdm(total=len(models) * len(factors), desc="Figures", unit="factor") as bar:
        for name, model in models.items():
            figures = {}
            for one in factors:
                vectors = readings.vectors[name][one.name]
                use = measure_use(model, one, readings.crops, vectors)
                figures[one.name] = {
                    **measure(vectors, readings.images, one.name, one.levels),
                    "cka_to_first": linear_cka(readings.vectors[first][one.name], vectors),
                    "psnr_y": use.psnr,
                    "mean_costs": use.mean_costs,
                    "wrong_costs": use.wrong_costs,
                }
                bar.update()
            report[name] = {
                "estimator": model.config["estimator"]["type"],
                "sees": ["lq", *([model.privileged] if model.privileged else [])],
                "idr_ch": model.estimator.idr_ch,
                "figures": figures,
            }
    return report


def _title(model: str, figures: dict[str, Any], factor: dict[str, Any]) -> str:
    return f"{model}\nlinear probe {figures['probe']:.0%}, chance {factor['chance']:.0%}"


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if key in PERCENT else f"{value:.2f}"
