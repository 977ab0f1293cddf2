"""One process at a time where two would be in each other's way; the lock of a process that died is no lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from replication.errors import ReplicationError, TrainingError
from replication.files import readable_os_errors

_LOOK_SECONDS = 0.05


@contextlib.contextmanager
def exclusive(
    path: Path,
    what: str,
    doing: str = "trained",
    error: type[ReplicationError] = TrainingError,
    wait_seconds: float = 0.0,
) -> Iterator[None]:
    """Hold the lock file `path` while in the block; the system takes it back from a process that ends in any way.

    Args:
        path: made if need be, and removed at the end by its holder.
        what: what is held, for the message: "`what` is being `doing` by process …".
        doing: a participle.
        error: what to raise.
        wait_seconds: how long another process may hold it.

    Raises:
        ReplicationError: of type `error` if another process still holds it, and the line says which; any if the file
            system refused.
    """
    deadline = time.monotonic() + wait_seconds
    with readable_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while (stream := _locked(path)) is None and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
    if stream is None:
        raise error(f"{what} is being {doing} by {_holder(path)}; wait for it or stop it")
    with stream:
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same, only without a name
            os.ftruncate(stream.fileno(), 0)
            os.write(stream.fileno(), f"process {os.getpid()} on {os.uname().nodename}\n".encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()  # before it is given back, so that nobody else can hold it by then


def _locked(path: Path) -> TextIO | None:
    """The lock file, open and locked; None where another process has it."""
    while True:
        stream = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            return None
        except OSError:
            stream.close()
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
        stream.close()  # its holder removed it between our two calls: what we locked has no name any more


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return " ".join(path.read_text(encoding="utf-8").split()) or "another process"
    return "another process"
