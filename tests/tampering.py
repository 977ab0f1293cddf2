"""Run directories changed on purpose, as if they had been written so."""

from __future__ import annotations

from pathlib import Path

from replication.errors import ReplicationError
from replication.files import read_json, sha256, write_json


def renew_digests(folder: Path) -> None:
    """Give run.json the digests of the files as they are now, so that what was damaged is found by other means or not
    at all. A run.json that is damaged itself stays as it is.
    """
    try:
        description = read_json(folder / "run.json")
    except ReplicationError:
        return
    digests = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != "run.json"}
    write_json(folder / "run.json", description | {"sha256": digests})
