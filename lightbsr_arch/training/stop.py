"""Ctrl-C, SIGTERM and others: training ends after the iteration it is in, when a checkpoint can be saved."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# SLURM's --signal=USR1@60 sends SIGUSR1 before the time is up, and a closed terminal sends SIGHUP. Windows lacks both.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]
TORCHRUN_REPEATS = 1.0
"""Seconds within which a second signal is the first one again: torchrun passes on what the terminal sent already."""


class Stopped(KeyboardInterrupt):
    """The user wants the program to end; not an ``Exception``, so that nothing on the way takes it for an error."""


class StopRequest:
    """What the user's signals ask for.

    The first signal is only noted while the program is ``busy``, and raises ``Stopped`` otherwise. The second one
    always raises.

    Attributes:
        signum: the signal that asked, 0 so far if none did.
        busy: an iteration is under way that a checkpoint may want whole.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.busy = False
        self._first = 0.0

    def listen(self) -> None:
        """Take ``SIGNALS`` from now on, except SIGHUP where ``nohup`` has it ignored."""
        for signum in SIGNALS:
            if signum.name != "SIGHUP" or signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, self._handle)

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as in shells: 130 for SIGINT, 143 for SIGTERM; 0 if nobody asked."""
        return 128 + self.signum if self.signum else 0

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Work that may be left at any point, even at the first signal; raises ``Stopped`` out of it."""
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
