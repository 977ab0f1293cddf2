"""Take in a run that was trained elsewhere: check it against everything it claims, then record it as if trained here.

For a GPU machine or a cluster node without DVC or MLflow: `python -m replication train …` there, copy the run directory
back, `python -m replication adopt FOLDER` here; `dvc repro` then finds the run up to date.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

from replication.analysis.checks import read_run
from replication.config import COMMON, METHODS, Experiment, load_experiment
from replication.datasets import PreparedDataset, load_prepared
from replication.datasets.pairs import data_of_method
from replication.errors import ReplicationError, ResultsError
from replication.files import atomic_folder
from replication.training.record import COLUMNS
from replication.training.runs import load_model, load_tensors, read_description, run_folder

# What the machine decides: a run made under other values is still the run that params.yaml describes.
_OF_THE_MACHINE = ("runtime", *COMMON)
_REFINED = "boostresnet-refined"


def adopt(
    source: Path, params: Path, prepared_root: Path = Path("data/prepared"), runs_root: Path = Path("runs")
) -> tuple[Path, str]:
    """Check the run directory `source` and put it under `runs_root`.

    Returns:
        The run directory, and the DVC stage that it stands for.

    Raises:
        ResultsError: it is incomplete, damaged, or was made with other parameters or data; the line says which.
    """
    if not source.is_dir():
        raise ResultsError(f"there is no folder {source}; give the run directory that was copied")
    description = read_description(source)
    dataset, method, seed = _identity(source, description)
    experiment = load_experiment(dataset, params)
    _check_parameters(source, description, experiment)
    _check_data(source, description, load_prepared(prepared_root / f"{dataset}.safetensors"), method, experiment)
    _check_files(source, description, method)
    target = run_folder(runs_root, dataset, method, seed)
    if source.resolve() != target.resolve():
        with atomic_folder(target) as temporary:
            for path in source.iterdir():
                if path.name in _expected_files():
                    shutil.copyfile(path, temporary / path.name)
    return target, f"{'refine' if method == _REFINED else 'train'}@{dataset}-{method}-{seed}"


def record(stage: str) -> None:
    """Write the run into dvc.lock, with the hashes of the code, data and parameters that are here.

    Raises:
        ReplicationError: DVC is missing or refuses.
    """
    try:
        finished = subprocess.run(
            ["dvc", "commit", "--force", stage], capture_output=True, text=True, timeout=600, check=False
        )
    except FileNotFoundError as error:
        raise ReplicationError("dvc is not installed here; adopt the run where the pipeline is") from error
    if finished.returncode != 0:
        reason = (finished.stderr.strip() or finished.stdout.strip()).splitlines()[-1]
        raise ReplicationError(f"dvc does not take {stage}: {reason}; is it in the lists of params.yaml?")


def _identity(source: Path, description: dict[str, Any]) -> tuple[str, str, int]:
    dataset, method, seed = (description.get(key) for key in ("dataset", "method", "seed"))
    if not isinstance(dataset, str) or method not in METHODS or type(seed) is not int or seed < 0:
        raise ResultsError(f"{source}/run.json names no run of ours ({dataset!r}, {method!r}, seed {seed!r})")
    return dataset, str(method), seed


def _check_parameters(source: Path, description: dict[str, Any], experiment: Experiment) -> None:
    found = description.get("config")
    if not isinstance(found, dict):
        raise ResultsError(f"{source}/run.json has no configuration; copy the run directory again")
    for section, wanted in experiment.as_dict().items():
        if section in _OF_THE_MACHINE or found.get(section) == wanted:
            continue
        raise ResultsError(
            f"{source} was trained with {section} = {found.get(section)}, and params.yaml has {wanted}; change"
            " params.yaml to what was trained, or train again"
        )


def _check_data(
    source: Path, description: dict[str, Any], data: PreparedDataset, method: str, experiment: Experiment
) -> None:
    here = data_of_method(data, method, experiment.binary).describe()["content_hash"]
    there = description.get("data", {}).get("content_hash")
    if there != here:
        raise ResultsError(
            f"{source} was trained on other data (hash {str(there)[:12]}) than data/prepared holds (hash {here[:12]});"
            " prepare the same archives here, or train again"
        )


def _expected_files() -> set[str]:
    return {"run.json", "model.safetensors", "auxiliary.safetensors", *(f"{kind}.csv" for kind in COLUMNS)}


def _check_files(source: Path, description: dict[str, Any], method: str) -> None:
    missing = sorted(name for name in _expected_files() if not (source / name).is_file())
    if missing:
        raise ResultsError(f"{source} lacks {', '.join(missing)}; copy the whole run directory again")
    read_run(source, *_identity(source, description))
    load_tensors(source / "auxiliary.safetensors")
    if description["model"].get("kind", "resnet") != "scores":
        weights = load_model(source).state_dict()
        if not all(bool(torch.isfinite(tensor.double()).all()) for tensor in weights.values()):
            raise ResultsError(f"{source}/model.safetensors holds numbers that are not finite; train again")
