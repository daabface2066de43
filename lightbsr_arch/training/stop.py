"""Ctrl-C, SIGTERM and other signals. Training ends after the current iteration, when a checkpoint can be saved."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# SLURM's --signal=USR1@60 sends SIGUSR1 before the time is up, and a closed terminal sends SIGHUP. Windows lacks both.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]
TORCHRUN_REPEATS = 1.0
"""Seconds within which a second signal is a copy of the first: torchrun repeats the terminal's signals."""


class Stopped(KeyboardInterrupt):
    """The user asked the program to end. It is not an ``Exception``, so that no handler of errors catches it."""


class StopRequest:
    """The state of a stop that the user's signals ask for.

    The first signal is only noted while the program is ``busy``, and raises ``Stopped`` otherwise. The second one
    always raises.

    Attributes:
        signum: the first signal, or 0 if there was none.
        busy: whether an iteration is running, which a checkpoint needs complete.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.busy = False
        self._first = 0.0

    def listen(self) -> None:
        """Install the handlers of ``SIGNALS``, except SIGHUP if ``nohup`` ignores it."""
        for signum in SIGNALS:
            if signum.name != "SIGHUP" or signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, self._handle)

    @property
    def exit_code(self) -> int:
        """Exit code as in shells, 128 + the signal's number: 130 for SIGINT, 143 for SIGTERM; 0 without a signal."""
        return 128 + self.signum if self.signum else 0

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise ``Stopped`` at the first signal within the block, which may be left at any point."""
        was_busy, self.busy = self.busy, False
        try:
            yield
        finally:
            self.busy = was_busy

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signum and now - self._first < TORCHRUN_REPEATS:
            return
        first, self._first = not self.signum, now
        self.signum = signum
        if not (first and self.busy):
            raise Stopped
        # print() is not safe in a handler that may have interrupted it.
        with suppress(OSError):  # the terminal may be gone
            os.write(2, b"\nStopping: this iteration ends, then a checkpoint is saved. Ctrl-C again stops at once.\n")
