"""The exit code of a command and its one-line errors."""

import argparse
import sys
from collections.abc import Callable
from io import TextIOWrapper

from lightbsr.errors import UserError


def run_command(run: Callable[[argparse.Namespace], int], args: argparse.Namespace, label: str) -> int:
    """Run a command; return its exit code, 2 after an error that the user can correct, or 130 after Ctrl-C.

    Args:
        run: the command.
        args: its parsed arguments.
        label: the text in front of errors on stderr.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as on stderr, because file names may not be UTF-8
    try:
        return run(args)
    except (UserError, OSError) as error:  # an OSError may be a name that is too long, or a full disk
        print(f"{label}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{label}: stopped", file=sys.stderr)
        return 130
