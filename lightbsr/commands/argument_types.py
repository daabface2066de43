"""Types of the arguments of commands. Each function returns the value of a text, or raises ``ArgumentTypeError``."""

import math
import re
from argparse import ArgumentTypeError


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text}: expected a number") from None


def positive(text: str) -> float:
    value = number(text)
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"{text}: expected a positive number, such as 3.5")
    return value


def crf(text: str) -> float:
    value = number(text)
    if not 0 <= value <= 51:
        raise ArgumentTypeError(f"{text}: expected 0 to 51")
    return value


def degree(text: str) -> float | None:
    """Return a number from 0 to 1, or None for auto."""
    if text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text}: expected 0 to 1, or auto")
    return value


def rows(text: str) -> int | str:
    if text == "auto":
        return text
    if text.isdecimal() and len(text) < 10:
        return int(text)
    raise ArgumentTypeError(f"{text}: expected a number of rows, 0 or auto")


def width_and_height(text: str) -> tuple[int | None, int | None]:
    """Return height and width in pixels."""
    match = re.fullmatch(r"(\d{0,9})x(\d{0,9})", text, re.ASCII)
    width, height = (int(side) if side else None for side in (match.groups() if match else ("", "")))
    if (width, height) == (None, None) or 0 in (width, height):
        raise ArgumentTypeError(f"{text}: expected pixels, as 4000x3000, 4000x or x3000")
    return height, width
