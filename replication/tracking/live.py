"""Follow a training from a thread of its own, so that MLflow, slow, dead or absent, costs it nothing but one line."""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from replication.tracking import records
from replication.tracking.location import one_line, tracking_uri, without_credentials
from replication.tracking.records import Point
from replication.tracking.runs import log_run
from replication.tracking.store import Store, installed

logger = logging.getLogger(__name__)

_FLUSH_SECONDS = 2.0  # how far a live curve may be behind
_FINISH_SECONDS, _FAIL_SECONDS = 30.0, 5.0  # the longest that a training waits for its tracker when it ends


class Tracker:
    """Follows one training; this base follows nothing (MLflow is absent or not wanted). No method ever raises.

    As a context manager it closes the MLflow run as FAILED or KILLED when the block is left without `finish`.
    """

    def log(self, kind: str, row: Mapping[str, Any]) -> None:
        """Take one row of history.csv, rounds.csv or timing.csv, `kind` being "history", "rounds" or "timing"."""

    def finish(self, run_dir: Path) -> None:
        """The run directory is complete: bring MLflow up to date with it and close the run."""

    def fail(self, status: str = "FAILED") -> None:
        """Training ends without a result; `status` is FAILED or KILLED."""

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A signal that training heeded is an error with an exit code as shells have it, 128 plus the signal's number.
        killed = (kind is not None and not issubclass(kind, Exception)) or getattr(error, "exit_code", 0) > 128
        self.fail("KILLED" if killed else "FAILED")


def open_tracker(run_description: Mapping[str, Any], enabled: bool = True) -> Tracker:
    """Start to follow a training; returns at once, MLflow is imported and asked in the background.

    Args:
        run_description: what is known of run.json at the start (dataset, method, seed, config, data, git, …).
        enabled: False gives a tracker that does nothing.
    """
    if not enabled:
        return Tracker()
    if not installed():
        logger.info("MLflow is not installed; `python -m replication log-runs` can import the run elsewhere")
        return Tracker()
    return _LiveTracker(run_description)


class _LiveTracker(Tracker):
    """The training's thread touches a queue and nothing else."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self._description = dict(description)
        self._uri = tracking_uri()
        self._queue: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._closing = self._behind = False
        self._logged: set[tuple[str, int]] = set()
        threading.Thread(target=self._work, name="mlflow", daemon=True).start()

    def log(self, kind: str, row: Mapping[str, Any]) -> None:
        if not (self._behind or self._closing):
            self._queue.put(("points", records.row_points(kind, row, records.now())))

    def finish(self, run_dir: Path) -> None:
        self._close("finish", Path(run_dir), _FINISH_SECONDS)

    def fail(self, status: str = "FAILED") -> None:
        self._close("fail", status if status in ("FAILED", "KILLED") else "FAILED", _FAIL_SECONDS)

    def _close(self, command: str, argument: Any, seconds: float) -> None:
        if self._closing:
            return
        self._closing = True
        self._queue.put((command, argument))
        if not self._closed.wait(seconds):
            self._complain(TimeoutError(f"no answer within {seconds:g} s"))

    def _complain(self, error: BaseException) -> None:
        """Say once that MLflow has fallen behind, and how to mend it."""
        if self._behind:
            return
        self._behind = True
        print(
            f"note: MLflow at {without_credentials(self._uri)} is behind ({one_line(error)}); training goes on "
            "and loses nothing, import the run afterwards with `python -m replication log-runs`",
            file=sys.stderr,
            flush=True,
        )

    def _work(self) -> None:
        """The thread: start the run, follow it, close it."""
        started: tuple[Store, str] | None = None
        try:
            store = Store(self._uri)
            started = store, store.start(self._description, live=True)
        except Exception as error:
            self._complain(error)
        command, argument = self._follow(started)
        try:
            if command == "finish" and started is None:
                log_run(argument)  # the server may be there by now
            elif command == "finish" and started is not None:
                started[0].complete(started[1], argument, None, self._logged)
            elif started is not None:
                started[0].client.set_terminated(started[1], argument)
        except Exception as error:
            self._complain(error)
        self._closed.set()

    def _follow(self, started: tuple[Store, str] | None) -> tuple[str, Any]:
        """Send points in batches until the closing command comes, and return it."""
        pending: list[Point] = []
        due = time.monotonic() + _FLUSH_SECONDS
        while True:
            command: str = "points"
            argument: Any = []
            with contextlib.suppress(queue.Empty):
                command, argument = self._queue.get(timeout=max(0.0, due - time.monotonic()))
            if command == "points":
                pending += argument
                if time.monotonic() < due:
                    continue
            if pending and started is not None and not self._behind:
                try:
                    started[0].log_points(started[1], pending)
                    self._logged.update((point.key, point.step) for point in pending)
                except Exception as error:
                    self._complain(error)
            if command != "points":
                return command, argument
            pending, due = [], time.monotonic() + _FLUSH_SECONDS
