"""``lightbsr models``, which starts without PyTorch."""

import argparse
import json
from typing import Any

from lightbsr import shipped

HELP = "list the shipped weights"
DESCRIPTION = (
    "List the shipped weights with their parameters, scale, degradation in training, licence of the training data and "
    "measured PSNR. --model and lightbsr_arch.load accept their names."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print all data as JSON: a list of objects")


def run(args: argparse.Namespace) -> int:
    models = [describe(name) for name in shipped.names()]
    if args.json:
        print(json.dumps(models, indent=2))
    elif not models:
        print("no weights are shipped with this installation")
    else:
        print("\n\n".join(as_text(model) for model in models))
    return 0


def describe(name: str) -> dict[str, Any]:
    """Return the card of shipped weights, and ``name``, ``file``, ``bytes``, ``default`` and ``network``."""
    path = shipped.find_weights(name)
    metadata = shipped.read_metadata(path)
    return {
        "name": name,
        "default": name == shipped.default_name(),
        "file": str(path),
        "bytes": path.stat().st_size,
        **metadata["card"],
        "network": metadata["network"],
    }


def as_text(model: dict[str, Any]) -> str:
    """Return a description of a few lines, without fields that the card lacks."""
    size = f"x{model['scale']}, " if "scale" in model else ""
    size += f"{model['params'] / 1e6:.2f} M parameters, " if "params" in model else ""
    lines = [
        f"{model['name']}{' (default)' if model['default'] else ''}: {model.get('summary', '')}".rstrip(": "),
        f"  {size}{model['bytes'] / 1e6:.1f} MB",
    ]
    if degradation := model.get("degradation"):
        lines.append(f"  degradation: {shipped.degradation_text(degradation)}")
    lines += [f"  {label}: {model[key]}" for key, label in (("data", "data"), ("licence", "licence")) if key in model]
    for setting, sets in model.get("psnr_y", {}).items():
        figures = ", ".join(f"{name} {_figures(value)}" for name, value in sets.items())
        lines.append(f"  PSNR-Y, {setting}: {figures}")
    return "\n".join(lines)


def _figures(value: Any) -> str:
    return "/".join(f"{number:.2f}" for number in (value if isinstance(value, list) else [value]))
