"""Ctrl-C, SIGTERM and other signals. Training stops after the current iteration, when a checkpoint can be saved."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# SLURM's --signal=USR1@60 sends SIGUSR1 before the time limit. A closed terminal sends SIGHUP. Windows has neither.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]
TORCHRUN_REPEATS = 1.0
"""Seconds within which a second signal counts as a copy of the first, because torchrun repeats signals."""


class Stopped(KeyboardInterrupt):
    """The user requested the end of the program. It is not an ``Exception``, so no handler of errors catches it."""


class StopRequest:
    """The state of a stop that the user requests by signals.

    While the program is ``busy``, the first signal is only recorded. Otherwise it raises ``Stopped``. The second signal
    always raises ``Stopped``.

    Attributes:
        signum: the first signal, or 0 if there was none.
        busy: whether an iteration is running, which must be complete before a checkpoint.
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
        """Return the exit code as in shells: 128 + the number of the signal, or 0 without a signal."""
        return 128 + self.signum if self.signum else 0

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise ``Stopped`` at the first signal within the block, which may be interrupted at any point."""
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
        # print() is not safe here, because the handler may have interrupted another print().
        with suppress(OSError):  # the terminal may be gone
            os.write(2, b"\nStopping: this iteration ends, then a checkpoint is saved. Ctrl-C again stops at once.\n")
