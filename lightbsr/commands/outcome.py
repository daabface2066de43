"""The exit code of a command and its one-line errors."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from types import FrameType

from lightbsr.errors import UserError, one_line

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(KeyboardInterrupt):
    """The program was asked to end by a signal other than Ctrl-C.

    Attributes:
        signum: the number of the signal.
    """

    signum: int = signal.SIGTERM


def run_command(run: Callable[[argparse.Namespace], int], args: argparse.Namespace, label: str) -> int:
    """Run a command; return its exit code, 2 after an error that the user can correct, 130 after Ctrl-C,
    141 if the reader of its output has ended, or 128 + N after the signal N within `ending_at_signals`.

    Args:
        run: the command.
        args: its parsed arguments.
        label: the text in front of errors on stderr.
    """
    if sys.stderr is None:  # closed, as after 2>&-; progress bars need it
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the program ends
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
        text = error.shown() if isinstance(error, UserError) else one_line(str(error))
        print(f"{label}: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        advice = f"; {stop}" if str(stop) else ""
        print(f"{label}: stopped{advice}", file=sys.stderr)
        return 128 + (stop.signum if isinstance(stop, Terminated) else signal.SIGINT)


@contextmanager
def ending_at_signals() -> Iterator[None]:
    """Raise `Terminated` within the block at SIGTERM and SIGHUP, so that temporary files are removed.

    Signals with another handler, or that are ignored as under nohup, are left unchanged. Processes must not be forked
    within the block, because they would inherit the handler.
    """

    def end(signum: int, frame: FrameType | None) -> None:
        stop = Terminated()
        stop.signum = signum
        raise stop

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    changed = [signum for signum in _SIGNALS if signal.getsignal(signum) is signal.SIG_DFL]
    for signum in changed:
        signal.signal(signum, end)
    try:
        yield
    finally:
        for signum in changed:
            signal.signal(signum, signal.SIG_DFL)
