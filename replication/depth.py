"""Accuracy against depth (the paper's Figure 2, MLP-ResNet on MNIST): does end-to-end training suffer from depth?

One BoostResNet run gives every depth: what its first t rounds leave, with their auxiliary classifier, is BoostResNet of
depth t. End-to-end training starts anew at every depth, for as many gradient updates as BoostResNet may take to get
there, and takes unless gamma ends a block early.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from replication.analysis.checks import check_same_parameters, read_run_on
from replication.config import Experiment, LengthParams
from replication.datasets import PreparedDataset
from replication.errors import ConfigError
from replication.files import read_csv, write_csv
from replication.scratch_runs import Progress, scratch_metrics, silent
from replication.training.runs import run_folder

SCRATCH = Path("scratch/depth")
COLUMNS = ("method", "depth", "seed", "gradient_updates", "train_accuracy", "test_accuracy", "budget", "official_data")


def measure_depth(
    experiment: Experiment,
    data: PreparedDataset,
    seeds: tuple[int, ...],
    runs_root: Path = Path("runs"),
    results_root: Path = Path("results"),
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Write `results_root`/DATASET/e2e/depth.csv from the BoostResNet runs there are and end-to-end runs made here.

    The end-to-end runs are kept in scratch/, so that an interrupted call goes on; those of other parameters, data or
    code are not taken for them. The table is in the folder of end-to-end training because the claims are judged by that
    folder, which every dataset has, and so wait for the table where there is one.

    Raises:
        ConfigError: as in `check_depths`.
        ResultsError: BoostResNet was not run under one of the seeds, or with other parameters or data.
        TrainingError: an end-to-end training failed.
    """
    check_depths(experiment, len(data.labels["test"]))
    rows = [row for seed in seeds for row in _boostresnet_rows(experiment, data, seed, runs_root)]
    for depth in experiment.depth.blocks:
        rows += [_end_to_end_row(experiment, data, depth, seed, progress) for seed in seeds]
    write_csv(results_root / data.name / "e2e" / "depth.csv", COLUMNS, rows)
    return rows


def check_depths(experiment: Experiment, test_images: int) -> None:
    """ConfigError where no run of `experiment`, on data with so many test images, could give accuracy against depth."""
    deepest, blocks = max(experiment.depth.blocks), experiment.model.blocks
    if experiment.model.reading != "mlp":
        raise ConfigError("accuracy against depth needs model.reading mlp: only there are the first blocks a network")
    if deepest > blocks:
        raise ConfigError(f"depth.blocks must be at most {blocks}, BoostResNet's model.blocks, got {deepest}")
    if not experiment.evaluation.test_curve:
        raise ConfigError("accuracy against depth needs evaluation.test_curve true: it is that of BoostResNet's rounds")
    if experiment.evaluation.held_out_samples < test_images:
        raise ConfigError(
            f"accuracy against depth needs evaluation.held_out_samples of at least {test_images}: BoostResNet's rounds "
            "and the networks trained end to end are to be seen on the same images"
        )


def _boostresnet_rows(
    experiment: Experiment, data: PreparedDataset, seed: int, runs_root: Path
) -> Iterator[dict[str, Any]]:
    folder = run_folder(runs_root, data.name, "boostresnet", seed)
    description = read_run_on(data, folder, "boostresnet", seed)
    check_same_parameters(folder, description, experiment)
    rounds = read_csv(folder / "rounds.csv")
    for depth in experiment.depth.blocks:
        row = rounds[depth - 1]
        accuracies = float(row["train_accuracy"]), float(row["test_accuracy"])
        updates, budget = int(row["cumulative_updates"]), description["budget"]
        yield _row(data, "boostresnet", depth, seed, updates, *accuracies, budget)


def _end_to_end_row(
    experiment: Experiment, data: PreparedDataset, depth: int, seed: int, progress: Progress
) -> dict[str, Any]:
    shallow = attrs.evolve(experiment, model=attrs.evolve(experiment.model, blocks=depth))
    # A length before the budget, as in params.yaml.
    shallow = attrs.evolve(shallow, end_to_end=LengthParams(depth * experiment.boostresnet.updates_per_block))
    metrics = scratch_metrics(shallow, data, "e2e", seed, SCRATCH / str(depth), progress)
    accuracies = metrics["train_accuracy"], metrics["test_accuracy"]
    return _row(data, "e2e", depth, seed, metrics["gradient_updates"], *accuracies, metrics["budget"])


def _row(
    data: PreparedDataset,
    method: str,
    depth: int,
    seed: int,
    updates: int,
    train_accuracy: float,
    test_accuracy: float,
    budget: float,
) -> dict[str, Any]:
    values = (method, depth, seed, updates, train_accuracy, test_accuracy, budget, data.official)
    return dict(zip(COLUMNS, values, strict=True))
