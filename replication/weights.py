"""A trained network apart from its run: what `replication.training.runs.load_model` needs. No torch in here."""

from __future__ import annotations

import shutil
from pathlib import Path

from replication.files import read_json, write_json

WEIGHTS = "model.safetensors"


def copy_model(run: Path, target: Path) -> None:
    """Copy weights and run.json into an existing folder; this run.json has the checksum of the weights alone.

    Raises:
        ResultsError: run.json is missing or damaged.
    """
    description = read_json(run / "run.json")
    shutil.copyfile(run / WEIGHTS, target / WEIGHTS)
    write_json(target / "run.json", description | {"sha256": {WEIGHTS: description["sha256"][WEIGHTS]}})
