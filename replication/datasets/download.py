"""Archives onto this machine: from a local copy or the servers, resumed where possible, verified always.

`fetch` looks, in this order, at the file already in data/raw, at REPLICATION_DATA_MIRROR (a folder or an address
prefix that holds DATASET/NAME), and at the archive's addresses. A place that says no for good (404, a wrong checksum)
is dropped; one that fails for now (a timeout, 503) is asked again in the next of a few rounds, so that a dead server
delays nothing.

An unofficial copy, where it is allowed, is taken from data/raw or from the mirror alone: there somebody put it on
purpose. From the archive's own addresses another file than the official one is an error in any case.

A download grows in NAME.part, with what identifies the server's version of the file beside it in NAME.part.json, and
is renamed only when its MD5 has been checked. MD5 is what the servers publish; it guards against accidents, not
forgers.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import attrs

from replication import files
from replication.datasets.sources import Archive, Source
from replication.datasets.transfer import GiveUp, Limits, TryAgain, ceiling, discard, download
from replication.errors import DataError
from replication.lock import exclusive

MIRROR_VARIABLE = "REPLICATION_DATA_MIRROR"


@attrs.frozen
class RawFile:
    """An archive on this machine and what is known of it."""

    path: Path
    source: Source


def fetch(
    archive: Archive,
    raw_dir: Path,
    *,
    allow_unofficial: bool,
    mirror: str | None = None,
    limits: Limits | None = None,
) -> RawFile:
    """Bring `archive` to `raw_dir`/DATASET/NAME, from the nearest place that has it.

    Args:
        archive: what to fetch.
        raw_dir: the folder of archives as downloaded; nothing in it is taken on trust.
        allow_unofficial: accept a copy with another checksum from `raw_dir` or the mirror; its source then says
            `official=False`.
        mirror: a folder or an http(s) or file address prefix to try first; by default REPLICATION_DATA_MIRROR.
        limits: timeouts, retries and waits.

    Raises:
        DataError: no place gave an acceptable copy, and the message lists them all; or another process fetches it.
        ReplicationError: the file system refused.
    """
    path = raw_dir / archive.dataset / archive.name
    failures: dict[str, str] = {}
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no file where the archive should be one; remove it and run prepare again")
    if path.exists():
        try:
            present = identify(path, archive)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}; check its permissions") from error
        if present.official or allow_unofficial:
            return RawFile(path, present)
        failures[str(path)] = mismatch(present, archive)
    with files.readable_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    mirror = os.environ.get(MIRROR_VARIABLE, "") if mirror is None else mirror
    # Beside the data set's folder, which is an output of the pipeline and holds archives alone.
    lock = raw_dir / f".{archive.dataset}.{archive.name}.lock"
    with exclusive(lock, str(path), "fetched", DataError):
        files.remove_leftovers(path)
        source = _from_anywhere(archive, path, mirror, allow_unofficial, limits or Limits(), failures)
    if source is None:
        raise DataError(_nowhere(archive, failures))
    return RawFile(path, source)


def identify(path: Path, archive: Archive) -> Source:
    """What the file at `path` is, by its checksum and size."""
    digest, size = files.md5(path), path.stat().st_size
    return Source(archive.name, digest, size, official=(digest, size) == (archive.md5, archive.size))


def mismatch(source: Source, archive: Archive) -> str:
    """Why a copy is not the official one, with both checksums."""
    return (
        f"MD5 {source.md5} ({source.size} bytes) where the official copy has {archive.md5} ({archive.size} bytes): "
        "damaged, then copy it again; or another copy on purpose, which data.allow_unofficial: true takes from "
        f"data/raw or {MIRROR_VARIABLE} and marks in every result"
    )


def _from_anywhere(
    archive: Archive, path: Path, mirror: str, allow_unofficial: bool, limits: Limits, failures: dict[str, str]
) -> Source | None:
    """Try every place, several rounds; `failures` collects the last reason of each."""
    places = list(_places(archive, mirror))
    for turn in range(limits.rounds):
        wait = limits.backoff(turn)
        for place in list(places):
            try:
                return _take(place, archive, path, allow_unofficial and place not in archive.urls, limits)
            except GiveUp as error:
                failures[_shown(place)] = str(error)
                places.remove(place)
            except TryAgain as error:
                failures[_shown(place)] = str(error)
                wait = max(wait, min(error.retry_after, limits.longest_wait))
        if not places:
            return None
        if turn + 1 < limits.rounds:
            time.sleep(wait)
    return None


def _places(archive: Archive, mirror: str) -> Iterator[str | Path]:
    """A Path for a file on this machine, a string for an address."""
    relative = f"{archive.dataset}/{archive.name}"
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", mirror)
    if scheme is None:
        if mirror:
            yield Path(mirror).expanduser() / relative
    elif scheme[1].lower() in ("http", "https"):
        yield f"{mirror.rstrip('/')}/{relative}"
    elif scheme[1].lower() == "file":
        yield Path(urllib.request.url2pathname(urllib.parse.urlsplit(mirror).path)) / relative
    else:
        raise DataError(f"{MIRROR_VARIABLE} must be a folder or an http, https or file address, not {scheme[1]}://")
    yield from archive.urls


def _take(place: str | Path, archive: Archive, path: Path, allow_unofficial: bool, limits: Limits) -> Source:
    if isinstance(place, Path):
        return _copy(place, archive, path, allow_unofficial)
    return _download(place, archive, path, allow_unofficial, limits)


def _copy(place: Path, archive: Archive, path: Path, allow_unofficial: bool) -> Source:
    try:
        if not place.is_file():
            folder = place.parents[1]  # that of the mirror, which holds DATASET/NAME
            raise GiveUp("no such file" if folder.is_dir() else f"there is no folder {folder}")
        if place.stat().st_size > ceiling(archive):
            raise GiveUp(f"{place.stat().st_size} bytes, far more than the official {archive.size}")
        with place.open("rb"):
            pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise GiveUp(getattr(error, "strerror", None) or str(error)) from error
    with files.atomic_path(path) as temporary:
        shutil.copyfile(place, temporary)
        source = identify(temporary, archive)  # of the copy: the original may change under us
        if not (source.official or allow_unofficial):
            raise GiveUp(mismatch(source, archive))
    return source


def _download(url: str, archive: Archive, path: Path, allow_unofficial: bool, limits: Limits) -> Source:
    part = path.with_name(f"{path.name}.part")
    if part.is_file() and part.stat().st_size == archive.size and files.md5(part) == archive.md5:
        part.replace(path)  # complete, but the process ended before it was renamed
        discard(part)
        return Source(archive.name, archive.md5, archive.size, official=True)
    resumed = download(url, part, archive, limits)
    with files.readable_os_errors(part):
        source = identify(part, archive)
        if not source.official and resumed:  # perhaps two halves of different files: once more from the start
            discard(part)
            download(url, part, archive, limits)
            source = identify(part, archive)
        if source.official or allow_unofficial:
            part.replace(path)
    discard(part)
    if not (source.official or allow_unofficial):
        raise GiveUp(mismatch(source, archive))
    return source


def _nowhere(archive: Archive, failures: dict[str, str]) -> str:
    tried = "; ".join(f"({number}) {place}: {reason}" for number, (place, reason) in enumerate(failures.items(), 1))
    return (
        f"no usable copy of {archive.dataset}/{archive.name}; tried {tried}. If you have the file, put it at "
        f"FOLDER/{archive.dataset}/{archive.name}, set {MIRROR_VARIABLE}=FOLDER (or an address prefix) "
        "and run prepare again"
    )


def _shown(place: str | Path) -> str:
    """A place as an error may show it: an address without the password or token it may carry."""
    if isinstance(place, Path):
        return str(place)
    try:
        parts = urllib.parse.urlsplit(place)
        return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return place.partition("?")[0].rpartition("@")[2]
