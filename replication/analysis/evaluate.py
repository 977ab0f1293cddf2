"""Final numbers of a run, and the small files of its run directory, published under results/."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from replication.analysis.theory import lemma_3_2_difference
from replication.config import Experiment
from replication.datasets import PreparedDataset
from replication.datasets.loader import to_device_split
from replication.errors import ResultsError
from replication.files import atomic_folder, read_csv, write_json
from replication.training.device import choose_device
from replication.training.features import FrozenPrefix, SplitFeatures
from replication.training.record import measure_splits
from replication.training.runs import load_model, read_description, run_folder

PUBLISHED = ("history.csv", "rounds.csv", "timing.csv", "run.json")


def evaluate(
    experiment: Experiment,
    data: PreparedDataset,
    method: str,
    seed: int,
    runs_root: Path = Path("runs"),
    results_root: Path = Path("results"),
) -> dict[str, Any]:
    """Evaluate a run on its whole splits and publish it to `results_root`.

    metrics.json holds only what the seed determines: no times, no machine.

    Returns:
        The metrics.

    Raises:
        ResultsError: the run is missing, damaged, or was made from other data.
    """
    folder = run_folder(runs_root, experiment.dataset, method, seed)
    description = read_description(folder)
    if description["data"]["content_hash"] != data.content_hash:
        raise ResultsError(f"{folder} was trained on other data than the prepared {data.name}; train it again")
    metrics = _identity(description) | _accuracies(experiment, data, folder)
    if method == "boostresnet":
        metrics |= _boosting_metrics(data, folder)
    target = run_folder(results_root, experiment.dataset, method, seed)
    with atomic_folder(target) as temporary:
        for name in PUBLISHED:
            shutil.copyfile(folder / name, temporary / name)
        write_json(temporary / "metrics.json", metrics)
    return metrics


def _identity(description: dict[str, Any]) -> dict[str, Any]:
    keys = ("dataset", "method", "seed", "reading", "budget", "blocks", "parameters", "gradient_updates")
    return {key: description[key] for key in keys} | {"official_data": description["data"]["official"]}


def _accuracies(experiment: Experiment, data: PreparedDataset, folder: Path) -> dict[str, float]:
    device = choose_device(experiment.runtime)
    network = load_model(folder).to(device)
    splits = {}
    for name in ("train", "validation", "test"):
        split = to_device_split(data, name, device)
        splits[name] = SplitFeatures(split, FrozenPrefix(network), experiment.evaluation.batch_size, memory_limit=0)
    return measure_splits(network, splits)


def _boosting_metrics(data: PreparedDataset, folder: Path) -> dict[str, Any]:
    rounds = read_csv(folder / "rounds.csv")
    return {
        "lemma_3_2_max_difference": lemma_3_2_difference(folder, data),
        "final_edge": float(rounds[-1]["edge"]),
        "bound": float(rounds[-1]["bound"]),
        "positive_gamma_blocks": sum(float(row["gamma"]) > 0 for row in rounds),
        "nonpositive_covariance_blocks": sum(float(row["covariance"]) <= 0 for row in rounds),
        "rounds": len(rounds),
    }
