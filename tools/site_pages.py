"""Hook of MkDocs that adds the pages of the documentation site which are not files in ``docs``.

- ``README.md``, ``CONTRIBUTING.md`` and ``CHANGELOG.md`` are pages of the site.
- A link out of ``docs`` leads to a page that shows the linked file or folder, so that the site is complete without the
  repository. A link to a missing file is a warning, and ``make docs`` turns warnings into errors.
"""

import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FRONT = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
"""Markdown files outside ``docs`` that are pages of the site's navigation."""

LANGUAGES = {".py": "python", ".yml": "yaml", ".json": "json", ".toml": "toml", ".html": "html"}
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"

_log = logging.getLogger("mkdocs.plugins.site_pages")


# ------------------------------------------------------------------------------------------ called by MkDocs


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that this module generates."""
    from mkdocs.structure.files import File

    for uri, content in made_pages():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn the links of a page into links of the site."""
    source = source_of(page.file.src_uri)
    return markdown if source is None else site_text(markdown, source)


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
        return text if page_of(path) in FRONT.values() else UNSEARCHED + text
    return f"{UNSEARCHED}{title}`````{LANGUAGES[path.suffix]}\n{text}\n`````\n"
