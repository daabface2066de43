"""Tables in Markdown, and the parts of the documentation that benchmarks write."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lightbsr.errors import UserError
from lightbsr_arch.io import write_whole


def write_between(page: Path, name: str, text: str) -> None:
    """Replace the text of a page between the lines ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.

    Raises:
        UserError: the page does not exist or does not have these lines.
    """
    begin, end = (f"<!-- {name}: {place} -->" for place in ("begin", "end"))
    if not page.is_file():
        raise UserError(f"{page}: no such page")
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise UserError(f"{page}: needs the lines {begin} and {end}, between which the table is written")
    write_whole(page, f"{before}{begin}\n\n{text}\n\n{end}{after}".encode())


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a table in Markdown. The first ``left`` columns are aligned to the left, the others to the right."""
    lines = [heads, ["---" if column < left else "---:" for column in range(len(heads))], *rows]
    # A separator has no spaces, as in the other pages.
    return "\n".join(
        f"|{'|'.join(line)}|" if number == 1 else f"| {' | '.join(line)} |" for number, line in enumerate(lines)
    )
