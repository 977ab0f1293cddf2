"""Mend what a killed `dvc repro` can leave: half of .dvc/tmp/rwlock or of dvc.lock, both of which DVC writes in place.

    python scripts/mend_pipeline.py [--patience SECONDS]

DVC says "JSON structure is corrupted" or "validation failed" and goes no further. The first file only says who is at
work, and nobody is; the second comes back as it was committed, and what was reproduced since is taken from DVC's cache
or made again. Does nothing where both are whole, nor while a DVC is at work, which may be about to write the rest.
Results need no mending: they are renamed into place when complete.

Most cuts of dvc.lock are YAML all the same. So it counts as half-written, too, where its last line does not end, and
where it lacks a stage that the committed one has and dvc.yaml still defines: DVC adds stages and changes them, but
takes none out by itself. A stage that was taken out of dvc.yaml may go; to take one out of dvc.lock alone, commit that.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

RWLOCK, LOCK, PIPELINE = Path(".dvc/tmp/rwlock"), Path("dvc.lock"), Path("dvc.yaml")
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError)


def main() -> int:
    """Look at both files in the working directory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--patience", type=float, default=2.0, help="after so long, what is half-written stays so")
    patience = parser.parse_args().patience
    if _broken(RWLOCK, json.loads, patience) and not _dvc_is_at_work():
        RWLOCK.unlink(missing_ok=True)
        print(f"mended: removed {RWLOCK}, which a killed process left half-written", file=sys.stderr)
    committed = _committed_lock()
    wanted = _stages_to_keep(committed)
    if _broken(LOCK, lambda content: _read_lock(content, wanted), patience) and not _dvc_is_at_work():
        if committed is not None:
            LOCK.write_bytes(committed)
        else:
            LOCK.unlink(missing_ok=True)
        print(f"mended: {LOCK}, which a killed process left half-written, is as it was committed", file=sys.stderr)
    return 0


def _broken(path: Path, read: Callable[[bytes], Any], patience: float) -> bool:
    """Whether `path` is there, cannot be read, and still cannot after a while."""
    for wait in (patience, 0.0):
        try:
            read(path.read_bytes())
        except FileNotFoundError:
            return False
        except _MALFORMED:
            time.sleep(wait)
        else:
            return False
    return True


def _dvc_is_at_work() -> bool:
    """Whether a living process holds DVC's locks or is entered in RWLOCK."""
    return any(_is_held(RWLOCK.with_name(name)) for name in ("lock", "rwlock.lock")) or any(map(_lives, _workers()))


def _is_held(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none
        return False
    return False


def _workers() -> list[int]:
    """The processes that are entered as readers or writers; none where the file cannot be read."""
    try:
        content = json.loads(RWLOCK.read_bytes())
        readers = [entry for entries in content.get("read", {}).values() for entry in entries]
        return [int(entry["pid"]) for entry in [*readers, *content.get("write", {}).values()]]
    except (OSError, *_MALFORMED):
        return []


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _committed_lock() -> bytes | None:
    """dvc.lock as it was committed; None where it was not."""
    answer = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], capture_output=True, check=False)
    return answer.stdout if answer.returncode == 0 else None


def _stages_to_keep(committed: bytes | None) -> set[str]:
    """The stages of the committed dvc.lock that dvc.yaml still defines; STAGE@ITEM is of STAGE."""
    try:
        defined, locked = yaml.safe_load(PIPELINE.read_bytes())["stages"], yaml.safe_load(committed or b"")["stages"]
        return {name for name in locked if name.partition("@")[0] in defined}
    except (OSError, *_MALFORMED):
        return set()


def _read_lock(content: bytes, wanted: set[str]) -> None:
    """KeyError, TypeError, ValueError or YAMLError unless it is whole and DVC would take it."""
    document = yaml.safe_load(content)
    if document["schema"] != "2.0":
        raise KeyError("schema")
    if not content.endswith(b"\n") or not wanted <= document["stages"].keys():
        raise ValueError("its end is missing")
    for stage in document["stages"].values():
        str(stage["cmd"])
        for entry in [*stage.get("deps", []), *stage.get("outs", [])]:
            str(entry["path"])


if __name__ == "__main__":
    sys.exit(main())
