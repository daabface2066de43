"""Errors that are a user's to mend."""

from lightbsr_cli.errors import UserError

__all__ = ["UserError"]
