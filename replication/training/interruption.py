"""Signals that ask to stop: training finishes its update, saves, says so in one line and exits with the usual code."""

from __future__ import annotations

import signal
from types import FrameType

from replication.errors import ReplicationError

_asked: int | None = None


class Interrupted(ReplicationError):
    """A signal asked to stop; the exit code is 128 plus its number, as shells have it."""

    def __init__(self, number: int, updates: int, *, saved: bool) -> None:
        kept = "everything is saved, run the same command again to go on" if saved else "checkpoints are off"
        super().__init__(f"stopped by {signal.Signals(number).name} after update {updates}; {kept}")
        self.exit_code = 128 + number


def listen() -> None:
    """From now on SIGTERM and SIGINT ask to stop at the next update; a second one stops at once. What is ignored, as
    SIGINT is in a background job, stays so.
    """
    global _asked
    _asked = None  # what an earlier training in this process was asked
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _ask)


def _ask(number: int, _frame: FrameType | None) -> None:
    global _asked
    _asked = number
    signal.signal(number, signal.SIG_DFL)


def asked_to_stop() -> int | None:
    """The signal that asked, if one did."""
    return _asked
