"""Mend what a killed `dvc repro` can leave: half of .dvc/tmp/rwlock or of dvc.lock, both of which DVC writes in place.

    python scripts/mend_pipeline.py [--patience SECONDS]

DVC says "JSON structure is corrupted" or "validation failed" and goes no further. The first file only says who is at
work, and nobody is; the second comes back as it was committed, and what was reproduced since is taken from DVC's cache
or made again. Does nothing where both are whole. Results need no mending: they are renamed into place when complete.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

RWLOCK, LOCK = Path(".dvc/tmp/rwlock"), Path("dvc.lock")


def main() -> int:
    """Look at both files in the working directory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--patience", type=float, default=2.0, help="after so long, what is half-written stays so")
    patience = parser.parse_args().patience
    if _broken(RWLOCK, json.loads, patience):
        RWLOCK.unlink(missing_ok=True)
        print(f"mended: removed {RWLOCK}, which a killed process left half-written", file=sys.stderr)
    if _broken(LOCK, _read_lock, patience):
        committed = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], capture_output=True, check=False)
        if committed.returncode == 0:
            LOCK.write_bytes(committed.stdout)
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
        except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
            time.sleep(wait)
        else:
            return False
    return True


def _read_lock(content: bytes) -> None:
    """KeyError, TypeError or YAMLError unless DVC would take it."""
    document = yaml.safe_load(content)
    if document["schema"] != "2.0":
        raise KeyError("schema")
    for stage in document["stages"].values():
        str(stage["cmd"])
        for entry in [*stage.get("deps", []), *stage.get("outs", [])]:
            str(entry["path"])


if __name__ == "__main__":
    sys.exit(main())
