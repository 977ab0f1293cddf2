"""What can be known of a run directory without torch: whether its files are those that training wrote, and which of
them `replication.training.runs.load_model` needs.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from replication.errors import ResultsError
from replication.files import read_json, sha256, write_json

WEIGHTS = "model.safetensors"
#: What is copied to results/ and MLflow as it is.
PUBLISHED = ("history.csv", "rounds.csv", "timing.csv", "run.json")


def check_digests(folder: Path, description: Mapping[str, Any]) -> None:
    """Hold the files of a run directory against the checksums in `description`, its run.json.

    Raises:
        ResultsError: there are no checksums, or a file was changed, cut or damaged since, or is gone.
    """
    digests = description.get("sha256")
    if not isinstance(digests, dict) or WEIGHTS not in digests:
        raise ResultsError(f"{folder}/run.json has no valid 'sha256'; train the run again")
    for name, digest in digests.items():
        path = folder / Path(name).name
        if path.is_file() and sha256(path) == digest:
            continue
        problem = "is not what training wrote" if path.is_file() else "is not there"
        raise ResultsError(f"{path} {problem}; copy the run directory once more or train the run again")


def kept_run(published: Path, scratch: Path) -> Path | None:
    """The run directory that BUDGET/DATASET/METHOD/seedN was published from, if it lies under one of the hashes that
    `scratch`/BUDGET has; those of other parameters or other trainings have another run.json.
    """
    root = published.parents[2]
    candidates = sorted((scratch / root.name).glob(f"*/{published.relative_to(root)}"))
    return next((run for run in candidates if is_published_from(published, run)), None)


def is_published_from(published: Path, run: Path) -> bool:
    """Whether the published folder is of the training that left this run directory: their run.json are the same."""
    first, second = published / "run.json", run / "run.json"
    return first.is_file() and second.is_file() and first.read_bytes() == second.read_bytes()


def is_analysed(published: Path) -> bool:
    """Whether a published folder has an analysis, and that of the network which the training beside it left: under
    the same seed, another processor trains another.

    Raises:
        ResultsError: analysis.json or run.json is no JSON.
    """
    paths = published / "analysis.json", published / "run.json"
    if not all(path.is_file() for path in paths):
        return False
    analysis, run = map(read_json, paths)
    try:
        return bool(analysis["model_sha256"] == run["sha256"][WEIGHTS])
    except (KeyError, TypeError):
        return False


def copy_model(run: Path, target: Path) -> None:
    """Copy weights and run.json into an existing folder; this run.json has the checksum of the weights alone.

    Raises:
        ResultsError: the run is missing or damaged.
    """
    description = read_json(run / "run.json")
    check_digests(run, description)
    shutil.copyfile(run / WEIGHTS, target / WEIGHTS)
    write_json(target / "run.json", description | {"sha256": {WEIGHTS: description["sha256"][WEIGHTS]}})
