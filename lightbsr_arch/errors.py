"""Errors that are a user's to mend."""

from lightbsr_cli.errors import UserError

__all__ = ["UserError", "reason_of"]


def reason_of(error: Exception) -> str:
    """One line on why something failed, for those who go on with the rest."""
    if isinstance(error, MemoryError):
        return "memory does not suffice"
    text = str(error).strip().partition("\n")[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}".removesuffix(": ")
