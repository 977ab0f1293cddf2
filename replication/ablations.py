"""Deviations, measured: a method trained with one thing as the paper or the released code has it, beside our default.

The default's rows are those of its runs; every variant is trained here, on the same data, under the same seeds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from replication.analysis.checks import check_parameters
from replication.analysis.evaluate import evaluate
from replication.config import UNCHANGED, EvaluationParams, Experiment, Variant
from replication.datasets import PreparedDataset
from replication.files import write_csv
from replication.scratch_runs import Progress, scratch_metrics, silent
from replication.training.runs import read_description, run_folder

MEASURED = (
    "gradient_updates",
    "train_accuracy",
    "validation_accuracy",
    "test_accuracy",
    "final_edge",
    "positive_gamma_blocks",
    "rounds",
    "budget",
    "official_data",
)
COLUMNS = ("variant", "changes", "method", "seed", *MEASURED)


def measure_ablations(
    experiment: Experiment,
    variants: tuple[Variant, ...],
    data: PreparedDataset,
    seeds: tuple[int, ...],
    runs_root: Path = Path("runs"),
    results_root: Path = Path("results"),
    scratch: Path = Path("scratch/ablations"),
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Write `results_root`/DATASET/ablations.csv: a row per variant, method and seed, the default's first.

    The variants' runs are kept in `scratch`, so that an interrupted call goes on; those of other parameters, data or
    code are not taken for them.

    Raises:
        ResultsError: a run of the default is missing, damaged, or was made with other parameters or data.
        TrainingError: a variant's training failed.
    """
    methods = dict.fromkeys(method for variant in variants for method in variant.methods)
    rows = [_default_row(experiment, data, method, seed, runs_root, scratch) for method in methods for seed in seeds]
    for variant in variants:
        varied = attrs.evolve(variant.experiment, runtime=experiment.runtime, evaluation=_few_points(experiment))
        for method in variant.methods:
            for seed in seeds:
                metrics = scratch_metrics(varied, data, method, seed, scratch / variant.name, progress)
                rows.append(_row(variant.name, _in_words(variant.changes), method, seed, metrics))
    write_csv(results_root / data.name / "ablations.csv", COLUMNS, rows)
    return rows


def _default_row(
    experiment: Experiment, data: PreparedDataset, method: str, seed: int, runs_root: Path, scratch: Path
) -> dict[str, Any]:
    folder = run_folder(runs_root, data.name, method, seed)
    check_parameters(folder, read_description(folder), experiment)
    metrics = evaluate(experiment, data, method, seed, runs_root, scratch / UNCHANGED / "results")
    return _row(UNCHANGED, "", method, seed, metrics)


def _few_points(experiment: Experiment) -> EvaluationParams:
    """Curves with a point at the end of every block alone, which takes less time and changes nothing that is learnt."""
    return attrs.evolve(experiment.evaluation, interval=10**9, train_samples=1, held_out_samples=1, test_curve=False)


def _in_words(changes: dict[str, Any]) -> str:
    """'model.reading = paper-text, model.width = 15'."""
    return ", ".join(f"{name} = {'null' if value is None else value}" for name, value in changes.items())


def _row(variant: str, changes: str, method: str, seed: int, metrics: dict[str, Any]) -> dict[str, Any]:
    """Columns that a method has no value for stay empty."""
    measured = {name: metrics.get(name) for name in MEASURED}
    return {"variant": variant, "changes": changes, "method": method, "seed": seed, **measured}
