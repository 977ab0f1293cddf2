"""A loopback network that misbehaves at random: the right file, or a clear failure, in bounded time.

Every sequence has one to three mirrors, each with a script of faults and, after it, a character: honest, dead for good,
or serving other bytes for ever. Where the last is honest, the file must arrive. Where it does not arrive, nothing may
lie under its name, and the same call against an honest mirror must mend everything that is left behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from replication.datasets.download import fetch
from replication.datasets.sources import Archive
from replication.datasets.transfer import Limits
from replication.errors import DataError
from tests.archives import RangeHandler, Server, running
from tests.torture.tally import Tally

NAME = "archive.bin"
CONTENT = random.Random(0).randbytes(600_000)
OTHER = random.Random(1).randbytes(600_000)
LIMITS = Limits(first_wait=0.01, longest_wait=0.05, connect=2, read=0.2, idle=0.5, window=0.2)
_LONGEST = 30.0  # seconds for a whole sequence: far more than its limits allow it to take

Step = Callable[["FaultyHandler"], None]


class FaultyHandler(RangeHandler):
    """Takes the next fault of its server's script; afterwards it does what its server's character says."""

    server: FaultyServer

    def answer(self) -> None:
        if self.server.script:
            name = self.server.script.pop(0)
            self.server.met.append(name)
            FAULTS[name](self)
        else:
            self.server.character(self)

    def body(self, content: bytes, cut: int, *, length: int | None = None, changed: bool = False) -> None:
        """The part of `content` that was asked for, up to `cut` bytes of it, and the connection closes."""
        wanted = self.headers.get("Range", "").removeprefix("bytes=").rstrip("-")
        start = int(wanted) if wanted.isdecimal() and not changed else 0
        headers = {"ETag": self.etag(content)}
        if 0 < start < len(content):
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        part = content[start:]
        status = 206 if "Content-Range" in headers else 200
        self.respond(status, part[:cut], headers, length=len(part) if length is None else length)
        self.wfile.flush()


class FaultyServer(Server):
    """One mirror."""

    def __init__(self, folder: Path, script: list[str], character: Step) -> None:
        super().__init__(folder, FaultyHandler)
        self.script, self.character = script, character
        self.met: list[str] = []


def _stall(handler: FaultyHandler) -> None:
    handler.body(CONTENT, 200_000)
    time.sleep(2 * LIMITS.read)


def _trickle(handler: FaultyHandler) -> None:
    handler.body(CONTENT, 1000)
    with contextlib.suppress(OSError):
        for _ in range(12):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)


def _reset(handler: FaultyHandler) -> None:
    """Not the polite end of a connection."""
    handler.body(CONTENT, 100_000)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def _silent(handler: FaultyHandler) -> None:
    time.sleep(2 * LIMITS.read)
    handler.close_connection = True


def _status(code: int, **headers: str) -> Step:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda handler: handler.respond(code, b"<html>no</html>", named)


def _joined(handler: FaultyHandler) -> None:
    """The rest of another file as if it were the rest of this one."""
    wanted = handler.headers.get("Range", "").removeprefix("bytes=").rstrip("-")
    start = int(wanted) if wanted.isdecimal() else 0
    span = {"Content-Range": f"bytes {start}-{len(OTHER) - 1}/{len(OTHER)}", "ETag": handler.etag(CONTENT)}
    handler.respond(206 if start else 200, OTHER[start:], span)


def _garbage(handler: FaultyHandler) -> None:
    handler.wfile.write(b"\x00\xffno such protocol\r\n\r\n")
    handler.close_connection = True


def _compressed(handler: FaultyHandler) -> None:
    handler.respond(200, CONTENT[:1000], {"Content-Encoding": "gzip"})


def _endless(begin: bytes, again: bytes) -> Step:
    """Lively, and never anything of the file."""

    def step(handler: FaultyHandler) -> None:
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.wfile.write(begin)
            while True:
                handler.wfile.write(again)
                handler.wfile.flush()
                time.sleep(0.05)

    return step


FAULTS: dict[str, Step] = {
    "stall": _stall,
    "trickle": _trickle,
    "drop": lambda handler: handler.body(CONTENT, 300_000),
    "reset": _reset,
    "silence": _silent,
    "truncated": lambda handler: handler.body(CONTENT, 250_000, length=250_000),
    "longer than it says": lambda handler: handler.respond(200, CONTENT, {}, length=len(CONTENT) // 3),
    "says it is longer": lambda handler: handler.respond(200, CONTENT, {}, length=2 * len(CONTENT)),
    "absurd length": lambda handler: handler.respond(200, CONTENT[:10], {}, length=10**15),
    "403": _status(403),
    "404": _status(404),
    "429": _status(429, Retry_After="1"),
    "503": _status(503, Retry_After="86400"),
    "500": _status(500),
    "redirect circle": _status(302, Location=f"/demo/{NAME}"),
    "redirect to a file": _status(302, Location="file:///etc/passwd"),
    "ignores Range": lambda handler: handler.respond(200, CONTENT),
    "changed file": lambda handler: handler.body(OTHER, 350_000, changed=True),
    "joined files": _joined,
    "wrong range": lambda handler: handler.respond(206, CONTENT[5:], {"Content-Range": f"bytes 5-9/{len(CONTENT)}"}),
    "416": _status(416),
    "wrong bytes": lambda handler: handler.respond(200, OTHER),
    "garbage": _garbage,
    "compressed": _compressed,
    "endless header": _endless(b"HTTP/1.1 200 OK\r\nX: ", b"a"),
    "endless 100 Continue": _endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "endless chunk": _endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=", b"a"),
}
_PASSING = ("stall", "trickle", "drop", "reset", "silence", "429", "503", "500", "ignores Range", "endless header")
_FOR_EVER = ("404", "503", "wrong bytes", "redirect circle", "drop", "silence", "endless chunk")


def run_faults(folder: Path, faults: int, seed: int) -> Tally:
    """Sequences of faults until at least `faults` of them were met by a download."""
    tally, generator, number = Tally("network faults"), random.Random(seed), 0
    while tally.total < faults:
        tally.add(_sequence(folder / f"sequence{number}", generator))
        number += 1
    return tally


def _sequence(folder: Path, generator: random.Random) -> Tally:
    """One download from mirrors that misbehave, and, where it failed, another one from an honest mirror."""
    tally = Tally("network faults")
    (folder / "server/demo").mkdir(parents=True)
    (folder / f"server/demo/{NAME}").write_bytes(CONTENT)
    arrives = generator.random() < 0.7
    names = list(FAULTS)
    with contextlib.ExitStack() as stack:
        mirrors = []
        for last in [False] * generator.randint(0, 2) + [True]:
            script = generator.choices(names, k=generator.randint(1, 3))
            character = FAULTS[generator.choice(_FOR_EVER)]
            if (
                last and arrives
            ):  # what says no for good is asked no more, so an honest mirror begins with no such thing
                script, character = generator.choices(_PASSING, k=generator.randint(0, 2)), RangeHandler.answer
            mirrors.append(FaultyServer(folder / "server", script, character))
            stack.enter_context(running(mirrors[-1]))
        said = [" then ".join(mirror.script) or "none" for mirror in mirrors]
        problem = _download(folder / "raw", [mirror.address for mirror in mirrors], must_arrive=arrives)
        for mirror in mirrors:
            for name in mirror.met:
                tally.blow(name)
        honest = stack.enter_context(running(FaultyServer(folder / "server", [], RangeHandler.answer)))
        problem = problem or _download(folder / "raw", [honest.address], must_arrive=True)
    if problem:
        tally.problem(f"faults [{' | '.join(said)}]: {problem}", max(1, tally.total))
    return tally


def _download(raw: Path, addresses: list[str], *, must_arrive: bool) -> str | None:
    """Fetch; what is wrong with how that went, if anything."""
    urls = tuple(f"{address}/demo/{NAME}" for address in addresses)
    archive = Archive("demo", NAME, urls, hashlib.md5(CONTENT).hexdigest(), len(CONTENT))
    begin, path, failure = time.monotonic(), raw / "demo" / NAME, ""
    try:
        fetch(archive, raw, allow_unofficial=False, mirror="", limits=LIMITS)
    except DataError as error:
        failure = str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if time.monotonic() - begin > _LONGEST:
        return f"took {time.monotonic() - begin:.0f} s"
    if failure:
        if must_arrive:
            return f"did not arrive from an honest mirror: {failure}"
        if "\n" in failure or not all(address in failure for address in addresses):
            return f"an unclear failure: {failure!r}"
        return f"there is a file at {path} after a failure" if path.exists() else None
    left = [file.name for file in raw.rglob("*") if file.is_file() and file != path]
    if path.read_bytes() != CONTENT:
        return "wrong bytes were taken for the file"
    return f"left behind: {left}" if left else None
