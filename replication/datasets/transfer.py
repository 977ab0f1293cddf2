"""One file from one address into NAME.part, resumed by HTTP Range and bounded in time, size and redirects.

What may be resumed is decided by the server: the part is continued only with If-Range and the validator (a strong
ETag, or Last-Modified) that came with its first bytes, so a file that changed in between starts over. urllib3's own
retries are off: they know nothing of resuming, nor of the next mirror.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import attrs
import requests
import urllib3
from tqdm import tqdm

from replication import files
from replication.datasets.sources import Archive
from replication.datasets.watchdog import Watchdog

_CHUNK = 1 << 18
_PROGRESS = 1 << 20  # an interrupted transfer that brought less than this counts as stuck
_MOST_INTERRUPTIONS = 100
_NETWORK_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
_GONE = {400, 401, 403, 404, 405, 406, 410, 451}


class GiveUp(Exception):
    """This place does not have the file, and asking again would not help."""


class TryAgain(Exception):
    """This place failed for now."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after  # seconds


class _Interrupted(Exception):
    """The transfer broke off; what came is in the part file."""


@attrs.frozen
class Limits:
    """How long to wait for what; times in seconds."""

    rounds: int = 3  # times that all places are asked
    stuck: int = 3  # interrupted transfers in a row without progress before another place is asked
    connect: float = 10.0
    read: float = 30.0
    idle: float = 60.0  # for an answer's headers, and then for any of its body, however many bytes arrive
    first_wait: float = 1.0
    longest_wait: float = 60.0  # also caps what a server may ask for with Retry-After
    slowest: float = (
        8192.0  # bytes per second, measured over `window`; the slowest official server gives six times that
    )
    window: float = 60.0
    redirects: int = 5

    def backoff(self, turn: int) -> float:
        """Seconds to wait after the given failed attempt, counted from 0."""
        return float(min(self.longest_wait, self.first_wait * 2**turn))


def ceiling(archive: Archive) -> int:
    """Bytes beyond which a file cannot be a copy of the archive, official or not."""
    return 2 * archive.size + (64 << 20)


def discard(part: Path) -> None:
    """Forget an unfinished download."""
    with files.readable_os_errors(part):
        part.unlink(missing_ok=True)
        _notes(part).unlink(missing_ok=True)


def download(url: str, part: Path, archive: Archive, limits: Limits) -> bool:
    """Fetch `url` into `part`, going on after interruptions; True when some of it came from an earlier request.

    Raises:
        GiveUp, TryAgain: see there; the part file is left to be resumed.
        ReplicationError: the file system refused.
    """
    resumed, stuck, reason = False, 0, ""
    for _ in range(_MOST_INTERRUPTIONS):
        before = _size(part)
        try:
            return _transfer(url, part, archive, limits) or resumed
        except _Interrupted as error:
            stuck = 0 if _size(part) >= before + _PROGRESS else stuck + 1
            if stuck >= limits.stuck:
                raise TryAgain(str(error)) from error
            reason, resumed = str(error), resumed or _size(part) > 0
            time.sleep(limits.backoff(stuck))
    raise TryAgain(reason)


def _transfer(url: str, part: Path, archive: Archive, limits: Limits) -> bool:
    """One request; True when it continued the part file."""
    offset, validator = _resumable(part, url)
    headers = {"Range": f"bytes={offset}-", "If-Range": validator} if offset else {}
    with Watchdog(limits.idle) as watchdog, _open(watchdog, url, headers, limits) as response:
        if response.status_code == 416:  # what we have is longer than what they have
            discard(part)
            raise _Interrupted("HTTP 416: the server's file is shorter than the part already here")
        _check(response)
        if response.status_code != 206:
            offset = 0  # the file changed, or the server knows no ranges
        total = _total(response, offset, part)
        if total is not None and total > ceiling(archive):
            raise GiveUp(f"{total} bytes, far more than the official {archive.size}")
        if offset == 0:
            _remember(part, url, response)
        received = _receive(_Body(response, watchdog), part, offset, total, archive, limits)
        if total is not None and received != total:
            raise _Interrupted(f"connection closed after {received} of {total} bytes")
    return offset > 0


@contextlib.contextmanager
def _open(watchdog: Watchdog, url: str, headers: dict[str, str], limits: Limits) -> Iterator[requests.Response]:
    """GET with redirects followed by hand: requests would read a redirect's body, of whatever length, into memory."""
    session, timeout, response = watchdog.session, (limits.connect, limits.read), None
    session.headers["Accept-Encoding"] = "identity"  # the bytes as they are stored, or no checksum would match
    try:
        for _ in range(limits.redirects + 1):
            if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
                raise GiveUp(f"leads to an address that is neither http nor https: {url:.100}")
            watchdog.start_wait()
            response = session.get(url, headers=headers, stream=True, timeout=timeout, allow_redirects=False)
            if watchdog.has_shut:  # headers that break off look as if they were complete
                raise TryAgain("no answer in time")
            target = session.get_redirect_target(response)
            if target is None:
                break
            response.close()
            url = urllib.parse.urljoin(url, target)
        else:
            raise GiveUp(f"more than {limits.redirects} redirects")
    except requests.Timeout as error:
        raise TryAgain("no answer in time") from error
    except ValueError as error:  # an address that is none; requests' own exceptions for that are ValueErrors too
        raise GiveUp(f"no valid address ({_reason(error)})") from error
    except _NETWORK_ERRORS as error:
        raise TryAgain("no answer in time" if watchdog.has_shut else _reason(error)) from error
    try:
        yield response
    finally:
        response.close()


def _check(response: requests.Response) -> None:
    """Raise unless the answer carries the file."""
    status = response.status_code
    if status in (200, 206):
        return
    reason = f"HTTP {status} {response.reason or ''}".strip()
    if status in _GONE or status < 400:
        raise GiveUp(reason)
    wait = response.headers.get("Retry-After", "")
    # The date form of Retry-After is left aside: it needs a clock in agreement with the server's.
    raise TryAgain(reason, float(wait) if re.fullmatch(r"\d{1,9}", wait) else 0.0)


def _total(response: requests.Response, offset: int, part: Path) -> int | None:
    """The length of the whole file, where the server says it."""
    if response.status_code == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != offset or not offset:
            discard(part)
            raise _Interrupted("the server sent another range than the one asked for")
        return int(match[2])
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"\d{1,18}", length) else None


def _receive(body: _Body, part: Path, offset: int, total: int | None, archive: Archive, limits: Limits) -> int:
    """Append the body to the part file; the length of the part afterwards."""
    # disable=None: no bar where there is no terminal to draw it on.
    bar = tqdm(total=total, initial=offset, unit="B", unit_scale=True, desc=archive.name, disable=None, leave=False)
    # Around it all: closing a file writes what is left, and fails again on a full disk. Network errors are already
    # something else when they leave `body`.
    with files.readable_os_errors(part), part.open("r+b" if offset else "wb") as stream, bar:
        stream.seek(offset)
        stream.truncate()
        started, mark = time.monotonic(), offset
        while chunk := body.read():
            stream.write(chunk)
            offset += len(chunk)
            bar.update(len(chunk))
            if offset > ceiling(archive):
                raise GiveUp(f"sends more than {ceiling(archive)} bytes, the official file has {archive.size}")
            if (elapsed := time.monotonic() - started) > limits.window:
                if offset - mark < limits.slowest * elapsed:
                    raise _Interrupted(f"slower than {limits.slowest:.0f} bytes per second")
                started, mark = time.monotonic(), offset
    return offset


@attrs.frozen
class _Body:
    """What an answer carries."""

    _response: requests.Response
    _watchdog: Watchdog

    def read(self) -> bytes:
        """What has arrived, b"" at the end.

        read1, unlike read, returns what is there instead of waiting for a full chunk, so that a trickle cannot hold us.
        """
        self._watchdog.start_wait()
        try:
            chunk: bytes = self._response.raw.read1(_CHUNK, decode_content=False)
        except (urllib3.exceptions.ReadTimeoutError, TimeoutError) as error:
            raise _Interrupted("nothing arrived in time") from error
        except (*_NETWORK_ERRORS, ValueError) as error:
            raise _Interrupted("nothing arrived in time" if self._watchdog.has_shut else _reason(error)) from error
        if not chunk and self._watchdog.has_shut:
            raise _Interrupted("nothing arrived in time")
        return chunk


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _key(url: str) -> str:
    """A name for an address that gives away no password in it."""
    return hashlib.sha256(url.encode()).hexdigest()


def _remember(part: Path, url: str, response: requests.Response) -> None:
    """Write down which version of which file the part is the beginning of."""
    etag = response.headers.get("ETag", "")
    # A weak ETag promises no identical bytes and is not allowed in If-Range.
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    discard(part)
    files.write_json(_notes(part), {"address": _key(url), "validator": validator})


def _resumable(part: Path, url: str) -> tuple[int, str]:
    """(length of the part, validator), or (0, "") when it cannot be continued from this address."""
    try:
        notes = json.loads(_notes(part).read_text(encoding="utf-8"))
        address, validator = notes["address"], notes["validator"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return 0, ""
    usable = address == _key(url) and isinstance(validator, str) and re.fullmatch(r"[\x20-\x7e]+", validator)
    return (_size(part), validator) if usable else (0, "")


def _reason(error: BaseException) -> str:
    """The innermost cause, in a few words, of the nested errors that requests raises."""
    for _ in range(10):
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    # urllib3 begins with its own object: "HTTPSConnection(host='…', port=443): Failed to resolve …".
    return re.sub(r"^\S*Connection.*?[)>]: ", "", " ".join(str(text).split()))[:160]
