"""Final numbers of a run, and the small files of its run directory, published under results/."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch

from replication.analysis.checks import binary_pair, check_finite, check_same_parameters, check_train_error, read_run_on
from replication.analysis.theory import lemma_3_2_difference
from replication.config import BOOSTED, BinaryParams, Experiment
from replication.datasets import SPLITS, PreparedDataset
from replication.datasets.loader import to_device_split
from replication.datasets.pairs import data_of_method
from replication.errors import ResultsError
from replication.files import atomic_path, read_csv, readable_os_errors, remove_leftovers, write_json
from replication.rounding import ROUNDING
from replication.run_directory import PUBLISHED
from replication.training.device import choose_device
from replication.training.features import FrozenPrefix, SplitFeatures
from replication.training.record import accuracy_and_loss, measure_splits
from replication.training.runs import load_model, load_tensors, model_kind, run_folder

EXACT = "exact_test"  # of an unofficial copy: the test images that are known to be the official ones
# Copies of a data set that we have compared with the official one: MD5 of the archive, and how many test images, the
# first, are the official ones. Of any other copy nothing is known.
KNOWN_COPIES = {"f7b2a3fea01f4bb414222f9d4a4c1122": 1000}  # CIFAR-10; the later test images went through JPEG


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
        ResultsError: the run is missing, damaged, or was made from other data or with other parameters.
    """
    folder = run_folder(runs_root, experiment.dataset, method, seed)
    description = read_run_on(data, folder, method, seed)
    check_same_parameters(folder, description, experiment)
    pair = binary_pair(description, folder / "run.json")
    exact = _exact_test_images(experiment, data, pair if method == "boostresnet-binary" else None)
    data = data_of_method(data, method, pair)
    metrics = _identity(description)
    if model_kind(description) == "scores":
        metrics |= _accuracies_of_scores(data, folder, exact)
    else:
        metrics |= _accuracies(experiment, data, folder, exact)
    if method in BOOSTED:
        metrics["lemma_3_2_max_difference"] = lemma_3_2_difference(folder, data)
        metrics |= _metrics_of_rounds(folder, _boosting_metrics)
    if method == "adaboost-mm":
        metrics |= _metrics_of_rounds(folder, _ensemble_metrics)
    check_train_error(folder, method, 1.0 - metrics["train_accuracy"])
    check_finite(folder, metrics)
    target = run_folder(results_root, experiment.dataset, method, seed)
    # File by file: the folder holds what `analyse` publishes as well. The metrics come last, as a sign of completeness;
    # those of an earlier run go first, so that a kill in between leaves none beside files that are not theirs.
    with readable_os_errors(target):
        (target / "metrics.json").unlink(missing_ok=True)
        for name in (*PUBLISHED, "metrics.json"):
            remove_leftovers(target / name)
    for name in PUBLISHED:
        with atomic_path(target / name) as temporary:
            shutil.copyfile(folder / name, temporary)
    write_json(target / "metrics.json", metrics)
    return metrics


def _identity(description: dict[str, Any]) -> dict[str, Any]:
    keys = ("dataset", "method", "seed", "reading", "budget", "blocks", "parameters", "gradient_updates")
    where_they_apply = ("learners", "stock_library", "train_samples")
    metrics = {key: description[key] for key in keys}
    metrics |= {key: description[key] for key in where_they_apply if key in description}
    return metrics | {"official_data": description["data"]["official"]}


def _exact_test_images(experiment: Experiment, data: PreparedDataset, pair: BinaryParams | None) -> int:
    """How many test images, the first (of two classes: of theirs), to measure apart; 0 for none.

    Never more than are known to be official, whatever `data.exact_test_images` says.
    """
    if data.official or experiment.data.exact_test_images is None:
        return 0
    known = min(KNOWN_COPIES.get(source.md5, 0) for source in data.sources if not source.official)
    labels = data.labels["test"][: min(experiment.data.exact_test_images, known)]
    if pair is None:
        return len(labels)
    return int(((labels == pair.negative) | (labels == pair.positive)).sum())


def _accuracies(experiment: Experiment, data: PreparedDataset, folder: Path, exact: int) -> dict[str, float]:
    runtime = experiment.runtime
    device = choose_device(runtime)
    network = load_model(folder).to(device)
    splits = {name: to_device_split(data, name, device) for name in SPLITS}
    if exact:
        test = splits["test"]
        splits[EXACT] = attrs.evolve(test, images=test.images[:exact], labels=test.labels[:exact])
    images = FrozenPrefix(network, fast=runtime.fast)
    batch_size = experiment.evaluation.batch_size
    return measure_splits(
        network, {name: SplitFeatures(split, images, batch_size, runtime) for name, split in splits.items()}
    )


def _accuracies_of_scores(data: PreparedDataset, folder: Path, exact: int) -> dict[str, float]:
    """Of a run that kept its model's scores on the three splits instead of the model."""
    scores, metrics = load_tensors(folder / "model.safetensors"), {}
    for name in SPLITS:
        labels = torch.from_numpy(data.labels[name])
        if name not in scores or len(scores[name]) != len(labels):
            raise ResultsError(f"{folder}/model.safetensors has no scores for the {name} split; train the run again")
        metrics[f"{name}_accuracy"], metrics[f"{name}_loss"] = accuracy_and_loss(scores[name], labels)
        if name == "test" and exact:
            first = accuracy_and_loss(scores[name][:exact], labels[:exact])
            metrics[f"{EXACT}_accuracy"], metrics[f"{EXACT}_loss"] = first
    return metrics


def _metrics_of_rounds(folder: Path, measure: Callable[[list[dict[str, str]]], dict[str, Any]]) -> dict[str, Any]:
    path = folder / "rounds.csv"
    rounds = read_csv(path)
    try:
        return measure(rounds)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ResultsError(f"{path} is malformed ({error!r:.80}); train the run again") from error


def _ensemble_metrics(rounds: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "bound": float(rounds[-1]["bound"]),
        "smallest_edge": min(float(row["edge"]) for row in rounds),
        "rounds": len(rounds),
    }


def _boosting_metrics(rounds: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "final_edge": float(rounds[-1]["edge"]),
        "bound": float(rounds[-1]["bound"]),
        "positive_gamma_blocks": sum(float(row["gamma"]) > 0 for row in rounds),
        "nonpositive_covariance_blocks": sum(float(row["covariance"]) <= ROUNDING for row in rounds),
        "rounds": len(rounds),
    }
