"""Problems in an options file, and their places in it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from lightbsr.errors import UserError

KeyPath: TypeAlias = tuple[str | int, ...]

MOST_LINES = 50
LONGEST_LINE = 2000


class Finding(NamedTuple):
    """A mistake that a check found, without its place in the file."""

    key: KeyPath
    code: str
    """The kind of mistake, such as ``unknown-key``, for programs and tests. The message does not show it."""
    text: str
    meant: str | None = None
    """The known key in the same section that the user probably meant, for an unknown key."""


@dataclass(frozen=True)
class Location:
    """The place where an option was written."""

    line: int  # 0 for an option of the command line
    source: str

    @property
    def order(self) -> tuple[bool, str, int]:
        return self.line > 0, self.source, self.line

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass(frozen=True)
class Problem:
    """A line for the user with the place, the key and the correction."""

    location: Location
    code: str
    text: str
    key: KeyPath = ()

    def __str__(self) -> str:
        return _one_line(": ".join(filter(None, (str(self.location), dotted(self.key), self.text))))


class OptionsError(UserError):
    """An options file that cannot be used.

    Its text has one line per problem, first those of the command line, then those of each file from top to bottom.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.location.order)
        lines = [*map(str, self.problems[:MOST_LINES])]
        if len(self.problems) > MOST_LINES:
            lines.append(f"... and {len(self.problems) - MOST_LINES} more")
        super().__init__("\n".join(lines))

    def shown(self) -> str:
        return str(self)


def dotted(key: KeyPath) -> str:
    """Return a key in the notation of messages. ``("train", "betas", 0)`` becomes ``train.betas[0]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


def _one_line(text: str) -> str:
    """Remove line breaks and escape control characters, which keys and messages of other programs may contain."""
    text = re.sub(r"\s*\n\s*", " ", text.strip())
    if len(text) > LONGEST_LINE:
        text = f"{text[:LONGEST_LINE]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
