"""Writes the tables of the pages in ``docs/systems``: python tools/system_tables.py

``<!-- KIND ARGUMENT: begin -->`` and ``<!-- KIND ARGUMENT: end -->`` enclose a table:

- ``published NAME``: the papers' figures in ``lightbsr_arch/bench/papers``, of tables with a method of this name.
- ``recipes PATTERN``: the recipes in ``options``.
- ``weights PATTERN``: the shipped weights, with the first line of their cards.
"""

import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightbsr_arch.io import write_whole

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs/systems"
PAPERS = ROOT / "lightbsr_arch/bench/papers"
PLACE = re.compile(
    r"(?P<begin><!-- (?P<kind>published|recipes|weights) (?P<argument>\S+): begin -->)\n"
    r".*?(?P<end><!-- (?P=kind) (?P=argument): end -->)",
    re.DOTALL,
)
LONGEST_LIST = 4  # number of conditions whose figures share a cell; more conditions get a column each


def main() -> None:
    for page in sorted(PAGES.glob("*.md")):
        write_whole(page, filled(page.read_text(encoding="utf-8")).encode())


def filled(markdown: str) -> str:
    """Return a page with new tables between its markers."""

    def table(place: re.Match[str]) -> str:
        return f"{place['begin']}\n\n{TABLES[place['kind']](place['argument']).rstrip()}\n\n{place['end']}"

    return PLACE.sub(table, markdown)


def published(name: str) -> str:
    """Return every published table with a method whose name contains ``name``, as Markdown."""
    papers = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(PAPERS.glob("*.json"))]
    parameters = {method: number for paper in papers for method, number in paper.get("parameters_M", {}).items()}
    parts = []
    for table in (_with_psnr(table) for paper in papers for table in paper.get("tables", ())):
        if not any(name in method for method in table["figures"]):
            continue
        parts.append(f"**{table['source']}**: x{table['scale']}, {_described(table)}\n")
        if len(table["conditions"]) <= LONGEST_LIST or not _is_listed(table):
            parts.append(_by_dataset(table, name, parameters))
        else:
            parts += [_by_condition(table, dataset, name) for dataset in _datasets(table)]
        if table.get("s_fold"):
            methods = ", ".join(table["s_fold"])
            text = "may have been downsampled by taking every scale-th pixel (s-fold), not bicubically"
            parts.append(f"The LR images of {methods} {text}.\n")
    if not parts:
        raise ValueError(f"{PAPERS.name} has no figures of {name}")
    return "\n".join(parts)


def recipes(pattern: str) -> str:
    """Return a table of the options files of that name in ``options``, with the first sentence of each."""
    files = sorted((ROOT / "options").rglob(pattern))
    if not files:
        return "The package has no recipe of this system."
    rows = [f"| [{_short(file)}]({_from_systems(file)}) | {_first_sentence(file)} |" for file in files]
    return "\n".join(["| recipe | purpose |", "|---|---|", *rows])


def weights(pattern: str) -> str:
    """Return a list of the shipped weights of that name, with the first line of their cards."""
    lines = []
    for card in sorted((ROOT / "lightbsr_arch/weights").glob(f"{pattern}.md")):
        summary = card.read_text(encoding="utf-8").splitlines()[2]
        lines.append(f"- [`{card.stem}`]({_from_systems(card)}): {summary}")
    return "\n".join(lines) or "The package has no weights of this system."


TABLES: dict[str, Callable[[str], str]] = {"published": published, "recipes": recipes, "weights": weights}


def _with_psnr(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table without the methods of which it only states SSIM-Y."""
    figures = table["figures"].items()
    kept = {method: datasets for method, datasets in figures if all("psnr_y" in each for each in datasets.values())}
    return {**table, "figures": kept, "s_fold": [method for method in table.get("s_fold", ()) if method in kept]}


def _datasets(table: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(dataset for figures in table["figures"].values() for dataset in figures))


def _is_listed(table: dict[str, Any]) -> bool:
    return any(isinstance(each["psnr_y"], list) for figures in table["figures"].values() for each in figures.values())


def _described(table: dict[str, Any]) -> str:
    conditions = table["conditions"]
    if len(conditions) == 1:
        return "the data sets' own LR images"
    if _is_listed(table):
        return f"{table['degradation']}, at {', '.join(conditions)}" if len(conditions) <= LONGEST_LIST else "setting2"
    return f"{table['degradation']}, mean over {conditions[0]} to {conditions[-1]}"


def _by_dataset(table: dict[str, Any], name: str, parameters: dict[str, float]) -> str:
    datasets = _datasets(table)
    lines = [f"| | parameters | {' | '.join(datasets)} |", "|---|---:|" + "---:|" * len(datasets)]
    for method, figures in table["figures"].items():
        cells = [_cell(figures.get(dataset)) for dataset in datasets]
        size = f"{parameters[method]:.2f} M" if method in parameters else ""
        lines.append(f"| {_shown(method, name)} | {size} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return ""
    if isinstance(figures["psnr_y"], list):
        return " / ".join(f"{each:.2f}" for each in figures["psnr_y"])
    others = [f"{figures[metric]:.4f}" for metric in ("ssim_y", "lpips-vgg") if metric in figures]
    return " / ".join([f"{figures['psnr_y']:.2f}", *others])


def _by_condition(table: dict[str, Any], dataset: str, name: str) -> str:
    """Return one row per method and noise level, and one column per kernel."""
    noises = list(dict.fromkeys(_noise(condition) for condition in table["conditions"]))
    kernels = list(dict.fromkeys(condition.partition("_noise")[0] for condition in table["conditions"]))
    heads = [kernel.removeprefix("sigma").replace("_theta", ", ") + "°" for kernel in kernels]
    lines = [f"| {dataset} | noise | {' | '.join(heads)} |", "|---|---:|" + "---:|" * len(heads)]
    for method, figures in table["figures"].items():
        if dataset not in figures:
            continue
        by_condition = dict(zip(table["conditions"], figures[dataset]["psnr_y"], strict=True))
        for noise in noises:
            cells = [f"{by_condition[each]:.2f}" for each in table["conditions"] if _noise(each) == noise]
            lines.append(f"| {_shown(method, name)} | {noise} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _noise(condition: str) -> str:
    return condition.partition("_noise")[2] or "0"


def _shown(method: str, name: str) -> str:
    return f"**{method}**" if name in method else method


def _short(file: Path) -> str:
    return f"`{file.relative_to(ROOT / 'options').as_posix()}`"


def _from_systems(file: Path) -> str:
    """Return a link from a page in ``docs/systems``."""
    return posixpath.relpath(file.as_posix(), PAGES.as_posix())


def _first_sentence(file: Path) -> str:
    """Return the first sentence of the comment at a file's top."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# yaml-language-server"):
            continue
        if not line.startswith("# "):
            break
        lines.append(line[2:])
    return re.split(r"(?<=\.) (?=[A-Z0-9]|docs/)", " ".join(lines))[0]


if __name__ == "__main__":
    main()
