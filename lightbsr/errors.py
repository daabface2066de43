"""Errors that the user can correct. The commands print them as one line without a traceback."""

import unicodedata

_NOT_IN_A_LINE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of control characters, bytes that are not UTF-8, and separators of lines and paragraphs."""


class UserError(Exception):
    """An error in the user's input. The message names the file, key or picture and says what to do."""

    def shown(self) -> str:
        """Return the text that a command prints, which is one line except for options files with several problems."""
        return one_line(str(self))


def one_line(text: str) -> str:
    r"""Return a text with its control characters escaped, such as \n, because names of files may contain any."""
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _NOT_IN_A_LINE else c for c in text
    )


def reason_of(error: Exception, item: object = "") -> str:
    """Return one line on why a single item failed: a `UserError`'s own message, otherwise the type and first line.

    Args:
        error: the failure.
        item: name of the item. It is removed from the start of the message, for callers that print it themselves.
    """
    if isinstance(error, UserError):
        return one_line(str(error)).removeprefix(one_line(f"{item}: "))
    if isinstance(error, MemoryError):
        return "memory does not suffice"
    first_line = str(error).strip().partition("\n")[0]
    return one_line(f"{type(error).__name__}: {first_line}").removesuffix(": ")
