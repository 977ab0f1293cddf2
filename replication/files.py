"""Files that are either whole or absent: everything is written under a temporary name and renamed."""

from __future__ import annotations

import contextlib
import csv
import errno
import glob
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from replication.errors import ReplicationError

# It can only be read by setting it: once, before other threads make files, and never to a laxer one.
_UMASK = os.umask(0o077)
os.umask(_UMASK)
_ADVICE = {
    errno.ENOSPC: "no space left on the device; free some and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "the file-size limit is too low (ulimit -f); raise it and run the same command again",
    errno.EROFS: "the file system is read-only; work in a folder that can be written to",
    errno.EACCES: "permission denied; make the folder writable or work in one that is",
}


@contextlib.contextmanager
def readable_os_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into a ReplicationError that names the path and the mend."""
    try:
        yield
    except OSError as error:
        if error.filename and error.filename2 is None and not _belongs_to(Path(error.filename), path):
            raise ReplicationError(f"cannot read {error.filename} ({error.strerror}); make or copy it again") from error
        advice = _ADVICE.get(error.errno or 0)
        if advice is None:
            advice = f"{error.strerror or error}; check the path and its permissions"
        raise ReplicationError(f"cannot write {path}: {advice}") from error


def _belongs_to(refused: Path, path: Path) -> bool:
    """Whether a refused file stands beside `path`, below it, or is a folder on the way to it: not a source to copy."""
    return path.parent in refused.parents or refused.parent in path.parents


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` on success, remove it on failure.

    Raises:
        ReplicationError: the file system refused (full, read-only, no permission).
    """
    with readable_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _settle(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; put it in the place of `path` on success, remove it on failure."""
    with readable_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_UMASK)
            for file in temporary.rglob("*"):
                if file.is_file():
                    _settle(file)
            _put_in_place(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(new: Path, path: Path) -> None:
    """Rename a folder onto another, which is moved aside whole: a kill while it is being removed must not leave half of
    it, and where the renaming fails it comes back.
    """
    if not path.exists():
        new.replace(path)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        path.replace(retired / path.name)
        new.replace(path)
    except BaseException:  # a signal as well
        if not path.exists():
            (retired / path.name).replace(path)
        raise
    finally:
        if path.exists():
            shutil.rmtree(retired, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left beside `path` under temporary names; call it where no other can be at work."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Write to `folder`, or to the nearest folder above it that is there; leave nothing.

    Raises:
        ReplicationError: the file system refuses.
    """
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    with readable_os_errors(folder):
        tempfile.TemporaryFile(dir=nearest).close()


def _settle(file: Path) -> None:
    """Flush a file to the disk; temporary files are private, published ones follow the umask as any other does."""
    file.chmod(0o666 & ~_UMASK)
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline; NaN and infinity are refused (they are not JSON)."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ReplicationError: it is missing or is no JSON, as NaN and numbers that only infinity could stand for are none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number, parse_float=_finite)
    except (OSError, ValueError, RecursionError) as error:
        raise ReplicationError(f"cannot read {path}: {error}; run the stage that writes it again") from error


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text:.20} is too large a number")
    return value


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `rows` under a header; floats in their shortest exact form, None as an empty cell."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header into one dictionary of strings per row.

    Raises:
        ReplicationError: it is missing or is no text.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReplicationError(f"cannot read {path}: {error}; run the stage that writes it again") from error


def hash_of_code(package: Path, parts: Iterable[str]) -> str:
    """SHA-256 over Python files of `package`, names and content, by the byte: a copy elsewhere is the same code.

    Args:
        package: the folder that `parts`, files or folders without their subfolders, are in.
    """
    digest = hashlib.sha256()
    for place in (package / part for part in parts):
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def md5(path: Path) -> str:
    """MD5 of a file, in hexadecimal: what the dataset servers publish; not a defence against forgery."""
    return _digest(path, "md5")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return _digest(path, "sha256")


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
