"""Tables that benchmarks write into pages of the documentation."""

from pathlib import Path

from lightbsr.errors import UserError
from lightbsr_arch.io import write_whole


def write_on_page(page: Path, name: str, text: str) -> None:
    """Replace the text of a page between the lines ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.

    Raises:
        UserError: the page does not exist, or does not have these lines.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if not page.is_file():
        raise UserError(f"{page}: no such file")
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise UserError(f"{page}: needs the lines {begin} and {end}, between which the table is written")
    write_whole(page, f"{before}{begin}\n\n{text}\n\n{end}{after}".encode())
