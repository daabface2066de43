"""Errors that are a user's to mend: the message is one line, and the commands print it without a traceback."""


class UserError(Exception):
    """Something a user can put right; the message names the file, key or picture and says what to do."""
