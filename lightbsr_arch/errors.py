"""Errors that are a user's to mend."""

from lightbsr_cli.errors import UserError

__all__ = ["UserError", "reason_of"]


def reason_of(error: Exception) -> str:
    """Why something failed, for those who go on with the rest: a `UserError` as it is, others in one line."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return "memory does not suffice"
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}".removesuffix(": ")
