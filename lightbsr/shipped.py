"""The weights that come with the package. This module finds and describes them without PyTorch."""

import json
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

from lightbsr.errors import UserError

LONGEST_HEADER = 100_000_000
"""Largest header in bytes, as the safetensors format defines it."""


def folder() -> Path:
    """Return the folder of the shipped weights, ``lightbsr_arch/weights``, without importing that package."""
    spec = find_spec("lightbsr_arch")
    places = spec.submodule_search_locations if spec else None
    assert places, "both packages are installed together"
    return Path(places[0]) / "weights"


def names() -> list[str]:
    """Return the names of the shipped weights in alphabetical order."""
    return sorted(file.stem for file in folder().glob("*.safetensors"))


def find_weights(name_or_path: str | Path) -> Path:
    """Return the file of shipped weights with this name, or the file at this path.

    Raises:
        UserError: neither exists.
    """
    if not str(name_or_path):
        raise UserError(f"an empty name of weights; expected a file or one of {', '.join(names())}")
    with suppress(OSError, RuntimeError):  # a name that is too long, or the home of a missing user
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return path
        shipped = folder() / f"{name_or_path}.safetensors"
        if shipped.is_file():
            return shipped
    raise UserError(
        f"{name_or_path}: no such file, and no shipped weights of that name ({', '.join(names()) or 'none'})"
    )


def students() -> list[str]:
    """Return the names of the shipped weights that need only the low-quality image, unlike teachers."""
    return [name for name in names() if _metadata(name)["extra_input"] is None]


def students_with(estimator: str) -> list[str]:
    """Return the names of the shipped students whose estimator has this type."""
    networks = {name: _metadata(name)["network"] for name in students()}
    return [name for name, network in networks.items() if network.get("estimator", {}).get("type") == estimator]


_BREADTH = {"MixedDegradation": 2, "SecondOrderDegradation": 1}
"""Rank of the degradations in training, by how many real pictures are like them."""


def default_name(outscale: float | None = None) -> str:
    """Return the name of the best shipped weights for pictures of unknown origin.

    Weights that were trained on a mixture of degradations come first, because real pictures may be of any quality, and
    then those that were trained on the second-order degradation. The next criterion is the scale: the smallest that is
    not below ``outscale``, or else the largest. The last is the highest mean PSNR-Y over the benchmarks, with the
    second-order degradation for these weights, else with Gaussian8.

    Raises:
        UserError: no student is shipped.
    """
    metadata = {name: _metadata(name) for name in students()}
    if not metadata:
        raise UserError("no weights are shipped with this installation; name a file of weights")

    def merit(name: str) -> tuple[int, bool, int, float]:
        card, network = metadata[name]["card"], metadata[name]["network"]
        breadth = _BREADTH.get(card.get("degradation", {}).get("type"), 0)
        figures = card.get("psnr_y", {}).get("second-order" if breadth else "gaussian8", {}).values()
        psnr = fmean(each[0] if isinstance(each, list) else each for each in figures) if figures else 0.0
        scale = network.get("restorer", network).get("scale", 4)
        suffices = outscale is not None and scale >= outscale
        return breadth, suffices, -scale if suffices else scale, psnr

    return max(metadata, key=merit)


def degradation_text(options: Any) -> str:
    """Return the degradation of a card as a phrase, which gives the types and shares of the parts of a mixture."""
    if not isinstance(options, dict):
        return str(options)
    if options.get("type") == "MixedDegradation":
        shares = [odds / sum(options["prob"]) for odds in options["prob"]]
        parts = (f"{share:.0%} {part['type']}" for share, part in zip(shares, options["parts"]))
        return f"MixedDegradation of {', '.join(parts)}"
    rest = ", ".join(f"{key} {_range(value)}" for key, value in options.items() if key != "type")
    return f"{options['type']}, {rest}" if "type" in options else rest


def _range(value: Any) -> str:
    return " to ".join(map(str, value)) if isinstance(value, list) and len(value) == 2 else str(value)


def _metadata(name: str) -> dict[str, Any]:
    return read_metadata(folder() / f"{name}.safetensors")


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a ``.safetensors`` file of this package.

    They are ``network`` (its arguments), ``card`` and ``extra_input`` (a name, or None).

    Raises:
        UserError: the file cannot be read, is cut short, or has no such metadata.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            metadata = json.loads(file.read(min(size, LONGEST_HEADER)))["__metadata__"]
        content = {key: json.loads(metadata[key]) for key in ("network", "card")}
        return {**content, "extra_input": metadata.get("extra_input")}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path}: no .safetensors file of this package; lightbsr convert makes one") from None
