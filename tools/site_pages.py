"""Hook of MkDocs that adds the pages of the documentation site which are not files in ``docs``.

- ``README.md``, ``CONTRIBUTING.md`` and ``CHANGELOG.md`` are pages of the site.
- A link out of ``docs`` leads to a page that shows the linked file or folder, so that the site is complete without the
  repository. A link to a missing file is a warning, and ``make docs`` turns warnings into errors.
- ``<!-- published: NAME -->``, ``<!-- recipes: PATTERN -->`` and ``<!-- weights: PATTERN -->`` are replaced by tables
  of the papers' figures in ``lightbsr_arch/bench/papers``, of the recipes in ``options``, and of the cards of the
  shipped weights.
"""

import json
import logging
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAPERS = ROOT / "lightbsr_arch/bench/papers"
FRONT = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
"""Markdown files outside ``docs`` that are pages of the site's navigation."""

LANGUAGES = {".py": "python", ".yml": "yaml", ".json": "json", ".toml": "toml", ".html": "html"}
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")
MARKER = re.compile(r"<!-- (?P<kind>published|recipes|weights): (?P<argument>\S+) -->")
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
LONGEST_LIST = 4  # number of conditions whose figures share a cell; more conditions get a column each

_log = logging.getLogger("mkdocs.plugins.site_pages")


# ------------------------------------------------------------------------------------------ called by MkDocs


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that this module generates."""
    from mkdocs.structure.files import File

    for uri, content in made_pages():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the tables of a page, and turn its links into links of the site."""
    source = source_of(page.file.src_uri)
    return markdown if source is None else site_text(filled(markdown), source)


# ------------------------------------------------------------------------------------------ pages


def source_of(uri: str) -> Path | None:
    """Return the Markdown file of a page, or None if the page shows a folder or another kind of file."""
    for name, front in FRONT.items():
        if uri == front:
            return ROOT / name
    inner = uri.removeprefix("source/")
    source = ROOT / inner if inner != uri else ROOT / "docs" / uri
    return source if source.is_file() else None


def page_of(path: Path) -> str:
    """Return the address on the site of a file or folder of the repository."""
    inner = path.relative_to(ROOT).as_posix()
    if inner in FRONT:
        return FRONT[inner]
    if inner.startswith("docs/"):
        return inner.removeprefix("docs/")
    if path.is_dir():
        return f"source/{inner}/index.md"
    return f"source/{inner}" if path.suffix == ".md" else f"source/{inner}.md"


def made_pages() -> Iterator[tuple[str, str]]:
    """Yield address and content of all pages that lie outside ``docs``, found by following the links."""
    ahead = [*(ROOT / name for name in FRONT), *sorted((ROOT / "docs").rglob("*.md"))]
    known = set(ahead)
    while ahead:
        path = ahead.pop()
        content = _content(path)
        if not path.is_relative_to(ROOT / "docs"):
            yield page_of(path), site_text(content, path / "index.md") if path.is_dir() else content
        if path.suffix == ".md" or path.is_dir():
            folder = path if path.is_dir() else path.parent
            linked = [(folder / link["path"]).resolve() for link in LINK.finditer(content)]
            new = {each for each in linked if _has_page(each)} - known
            known |= new
            ahead += sorted(new)


def site_text(markdown: str, source: Path) -> str:
    """Turn the links of a file of the repository into those of its page."""
    here = posixpath.dirname(page_of(source))

    def on_site(link: re.Match[str]) -> str:
        target = (source.parent / link["path"]).resolve()
        if not target.exists():
            _log.warning("%s links to %s, which does not exist", source.relative_to(ROOT), link["path"])
            return link[0]
        return posixpath.relpath(page_of(target), here or ".") + (link["anchor"] or "")

    # Python-Markdown shows the backslash of `a\|b` in a table; GitHub needs it.
    rows = (line.replace("\\|", "|") if line.startswith("|") else line for line in markdown.split("\n"))
    return LINK.sub(on_site, "\n".join(rows))


def _has_page(path: Path) -> bool:
    if not path.is_relative_to(ROOT) or path.is_relative_to(ROOT / "docs"):
        return False
    return path.is_dir() or (path.is_file() and path.suffix in (*LANGUAGES, ".md"))


def _content(path: Path) -> str:
    title = f"# {path.relative_to(ROOT).as_posix()}\n\n"
    if path.is_dir():
        names = sorted(
            each.name + "/" * each.is_dir() for each in path.iterdir() if not each.name.startswith(("_", "."))
        )
        lines = [f"- [{name}]({name})" if _has_page(path / name) else f"- {name}" for name in names]
        return UNSEARCHED + title + "\n".join(lines) + "\n"
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return filled(text) if page_of(path) in FRONT.values() else UNSEARCHED + filled(text)
    return f"{UNSEARCHED}{title}`````{LANGUAGES[path.suffix]}\n{text}\n`````\n"


# ------------------------------------------------------------------------------------------ tables


def filled(markdown: str) -> str:
    """Replace every marker by its table."""
    return MARKER.sub(lambda marker: TABLES[marker["kind"]](marker["argument"]), markdown)


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
            parts.append(f"The LR images of {', '.join(table['s_fold'])} may hold every scale-th pixel (s-fold).\n")
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
    """Return a link from a page in ``docs/systems``, where the markers are."""
    return posixpath.relpath(file.as_posix(), (ROOT / "docs/systems").as_posix())


def _first_sentence(file: Path) -> str:
    """Return the first sentence of the comment at a file's top."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# yaml-language-server"):
            continue
        if not line.startswith("# "):
            break
        lines.append(line[2:])
    return re.split(r"(?<=\.) (?=[A-Z0-9])", " ".join(lines))[0]
