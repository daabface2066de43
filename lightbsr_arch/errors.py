"""Errors that the user can correct, for programs that import only this package."""

from lightbsr.errors import UserError

__all__ = ["UserError"]
