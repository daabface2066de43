"""The texts of problems in options files, which the tests compare in one place.

Tests of options assert the place, key and code of a problem. ``codes`` records its text, and ``test_messages.py`` looks
for it in ``messages.txt``.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from lightbsr_arch.option_types.problems import OptionsError, dotted
from tests.option_files import OPTIONS

FILE = Path(__file__).with_name("messages.txt")
HEAD = """\
# Keys and texts of the problems that the tests find in options files, by code. `make messages` writes this file again.
# {folder} is the current folder. <...> is text of another program or of the machine; write it by hand, it is kept.
"""
ANY = "<...>"

Message = tuple[str, str]
"""The code of a problem, and its line without the place."""

recorded: set[Message] = set()


def codes(error: OptionsError) -> list[str]:
    """Return ``place: key: code`` of each problem in the order of the message, and record the texts."""
    lines = []
    for problem in error.problems:
        place = str(problem.location)
        text = (
            str(problem)
            .removeprefix(f"{place}: ")
            .replace(f"{OPTIONS.parent}/", "")
            .replace(str(Path.cwd()), "{folder}")
        )
        recorded.add((problem.code, text))
        lines.append(": ".join(filter(None, (place, dotted(problem.key), problem.code))))
    return lines


def read() -> set[Message]:
    """Return the messages of the file."""
    messages, code = set(), ""
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            code = line.strip("[]")
        elif line.startswith("  "):
            messages.add((code, line[2:]))
    return messages


def write(messages: Iterable[Message]) -> None:
    lines, section = [HEAD.rstrip()], ""
    for code, text in sorted(messages):
        if code != section:
            lines += ["", f"[{code}]"]
            section = code
        lines.append(f"  {text}")
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def find(message: Message, known: set[Message]) -> Message | None:
    """Return the known message that equals this one, or that does so with any text for ``<...>``."""
    if message in known:
        return message
    code, text = message
    for other, pattern in known:
        if code == other and ANY in pattern and re.fullmatch(re.escape(pattern).replace(re.escape(ANY), ".*"), text):
            return other, pattern
    return None
