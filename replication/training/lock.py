"""One training per run directory at a time; the lock of a process that died is no lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from replication.errors import TrainingError
from replication.files import readable_os_errors


@contextlib.contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` while in the block; the system takes it back from a process that ends in any way.

    Raises:
        TrainingError: another process holds it; the line says which.
    """
    with readable_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+", encoding="utf-8")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            raise TrainingError(f"{what} is being trained by {holder}; wait for it or stop it") from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        stream.flush()
        yield
