"""An end to connections that stay lively and bring nothing.

A socket's timeout starts anew with every byte. A server that sends its headers a byte at a time, `100 Continue` for
ever or a chunk's extension without end therefore holds a reader as long as it likes. Here a thread shuts the sockets
of a request when a single wait for something useful takes too long; whoever waits then finds the connection closed.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Any

import requests
from requests.adapters import HTTPAdapter


class Watchdog:
    """Watches over the connections of its `session`, between entering and leaving it as a context.

    Args:
        patience: seconds that one wait may take.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._sockets: list[socket.socket] = []
        self._done = threading.Event()
        self.has_shut = False  # whether it ended a connection
        self.session = requests.Session()
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, _WatchedAdapter(self))

    def __enter__(self) -> Watchdog:
        self.start_wait()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self.session.close()
        for connection in self._sockets:
            connection.close()

    def start_wait(self) -> None:
        """Count the patience from now on: to be called before every wait."""
        self._deadline = time.monotonic() + self._patience

    def add(self, connection: socket.socket) -> None:
        """Watch over a new connection as well, whose answer is waited for from now on."""
        # A duplicate, because TLS takes the original's descriptor away.
        self._sockets.append(connection.dup())
        self.start_wait()

    def _watch(self) -> None:
        while not self._done.wait(max(0.0, self._deadline - time.monotonic())):
            if time.monotonic() >= self._deadline:
                for connection in tuple(self._sockets):
                    self.has_shut = True
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                self.start_wait()


class _WatchedAdapter(HTTPAdapter):
    """Shows every connection that it opens to the watchdog."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        watchdog, plain = self._watchdog, pool.ConnectionCls

        class Watched(plain):  # type: ignore[misc, valid-type]
            def _new_conn(self) -> socket.socket:
                connection: socket.socket = super()._new_conn()
                watchdog.add(connection)
                return connection

        Watched.__name__ = plain.__name__  # it is shown in messages
        pool.ConnectionCls = Watched
        return pool
