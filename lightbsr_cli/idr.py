"""``lightbsr idr``."""

import argparse
import io
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightbsr_cli.errors import UserError

if TYPE_CHECKING:
    from lightbsr_arch.analysis.idr import Factor, Readings
    from lightbsr_arch.archs import BlindSR

HELP = "analyse which degradations a model's IDR tells apart"
DESCRIPTION = (
    "Read the degradation representation (IDR) of models for crops of images they have not been trained on, under "
    "levels of blur (Gaussian8), angle, noise and JPEG, each varied alone. Teachers get their privileged input. "
    "Prints accuracies against chance, and what part of the IDR's variance the degradation explains and what part the "
    "content; whatever is learnt from IDRs is tested on other images. Then the crops are restored: PSNR-Y with their "
    "own IDR, and the loss in dB with the mean of all IDRs in its place, or with the IDR that the same crop has half "
    "of the levels away. Writes a t-SNE plot, and the figures as JSON beside it."
)
FACTORS = ("sigma", "angle", "noise", "jpeg")
SMALLEST_CROP = 32
"""Ground-truth pixels: 8 of the low-quality image at x4, and more than half a blur kernel."""
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="MODEL", help="shipped weights by name, or files; of one scale")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder or LMDB of sharp images, not trained on")
    default = "; default %(default)s"
    parser.add_argument("-o", "--output", type=Path, default=Path("idr.png"), metavar="PNG", help=f"the plot{default}")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of tables")
    parser.add_argument("--untrained", action="store_true", help="add each network with random weights, for comparison")
    parser.add_argument("--factors", nargs="+", choices=FACTORS, default=FACTORS, help="which to analyse; default all")
    levels: dict[str, Any] = {"nargs": "+", "type": float, "metavar": "X"}
    parser.add_argument("--sigma", **levels, default=(), help="isotropic blurs, in pixels; default Gaussian8's")
    parser.add_argument("--angle", **levels, default=(0, 45, 90, 135), help="degrees; default 0 45 90 135")
    parser.add_argument("--noise", **levels, default=(0, 5, 10, 20), help="of 255, at the mid sigma; default 0 5 10 20")
    parser.add_argument("--jpeg", **levels, default=(90, 70, 50, 30), help="qualities, at the mid sigma; 90 70 50 30")
    levels["nargs"] = 2
    parser.add_argument("--widths", **levels, default=(4, 1.5), help="sigmas of the --angle blurs; default 4 1.5")
    parser.add_argument("--crop", type=int, default=128, metavar="N", help=f"side of the images' crops{default}")
    parser.add_argument("--crops", type=int, default=16, metavar="N", help=f"of an image, at most{default}")


def run(args: argparse.Namespace) -> int:
    _check(args)

    from lightbsr_arch.analysis.idr import factor, read_idrs
    from lightbsr_arch.analysis.plot import plot
    from lightbsr_arch.data.gt_source import GTSource
    from lightbsr_arch.io import write_whole

    source = GTSource(args.images, "lmdb" if Path(args.images).suffix == ".lmdb" else "disk")
    models = _load(args.models, args.untrained)
    scale = next(iter(models.values())).scale
    names = [name for name in FACTORS if name in args.factors]
    factors = [factor(name, scale, args.sigma, args.angle, args.noise, args.jpeg, args.widths) for name in names]
    size = args.crop - args.crop % scale
    readings = read_idrs(models, factors, source, size, args.crops)
    report: dict[str, Any] = {
        "images": {"from": args.images, "used": len(set(readings.images.tolist())), "left_out": readings.failures},
        "crops": {"number": len(readings.images), "size": size},
        "scale": scale,
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
    titles = {
        model: {name: _title(model, figures, report["factors"][name]) for name, figures in of_model["figures"].items()}
        for model, of_model in report["models"].items()
    }
    png = io.BytesIO()
    plot(readings.vectors, factors, titles).savefig(png, format="png", dpi=110)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    write_whole(args.output, png.getvalue())
    write_whole(args.output.with_suffix(".json"), f"{text}\n".encode())
    print(text if args.json else _tables(report))
    print(f"Written: {args.output}, {args.output.with_suffix('.json')}", file=sys.stderr)
    for failure in readings.failures:
        print(f"lightbsr idr: left out: {failure}", file=sys.stderr)
    return 1 if readings.failures else 0


def _check(args: argparse.Namespace) -> None:
    """What can be known to fail is said before the work."""
    needed = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}
    missing = [package for module, package in needed.items() if find_spec(module) is None]
    if missing:
        raise UserError(f"the analysis needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    if args.output.suffix != ".png":
        raise UserError(f"-o {args.output}: the plot must be named .png")
    if args.crop < SMALLEST_CROP:
        raise UserError(f"--crop {args.crop}: the smallest is {SMALLEST_CROP}")
    if args.crops < 1:
        raise UserError(f"--crops {args.crops}: at least one of each image")
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{args.output.parent}: cannot be made: {error.strerror}") from None


def _load(given: list[str], with_untrained: bool) -> dict[str, "BlindSR"]:
    """The models by the names that tables and panels show."""
    from lightbsr_arch import load
    from lightbsr_arch.analysis.idr import untrained
    from lightbsr_arch.archs import BlindSR

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


def _short(name: str) -> str:
    """A file's name without its ending; of what training writes, EXPERIMENT/models/net_g_latest.pth, the experiment."""
    path = Path(name)
    return path.parents[1].name if path.parent.name == "models" and path.stem.startswith("net_") else path.stem


def _figures(models: dict[str, "BlindSR"], factors: "list[Factor]", readings: "Readings") -> dict[str, Any]:
    from tqdm import tqdm

    from lightbsr_arch.analysis.idr import measure_use
    from lightbsr_arch.analysis.measures import linear_cka, measure

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


def _tables(report: dict[str, Any]) -> str:
    """Markdown, a table a factor."""
    images, crops = report["images"], report["crops"]
    lines = [
        f"IDRs at x{report['scale']} of {crops['number']} crops of {images['used']} images, "
        f"{crops['size']}x{crops['size']} pixels, under every level. Accuracies and R2 are of images not learnt from; "
        "by degradation and by content: shares of the IDR's variance.",
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


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if key in PERCENT else f"{value:.2f}"
