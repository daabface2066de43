"""Errors that the user can correct. The commands print them as one line without a traceback."""


class UserError(Exception):
    """An error in the user's input. The message names the file, key or picture and says what to do."""


def reason_of(error: Exception) -> str:
    """Return one line on why a single item failed: a `UserError`'s own message, otherwise the type and first line."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return "memory does not suffice"
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}".removesuffix(": ")
