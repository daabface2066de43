"""The exit code of a command and its one-line errors."""

import argparse
import os
import sys
from collections.abc import Callable
from io import TextIOWrapper

from lightbsr.errors import UserError


def run_command(run: Callable[[argparse.Namespace], int], args: argparse.Namespace, label: str) -> int:
    """Run a command; return its exit code, 2 after an error that the user can correct, 130 after Ctrl-C,
    or 141 if the reader of its output has ended.

    Args:
        run: the command.
        args: its parsed arguments.
        label: the text in front of errors on stderr.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as on stderr, because file names may not be UTF-8
    try:
        code = run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of a pipe, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + 13  # as a shell reports SIGPIPE
    except (UserError, OSError) as error:  # an OSError may be a name that is too long, or a full disk
        print(f"{label}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{label}: stopped", file=sys.stderr)
        return 130
