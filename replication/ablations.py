"""Deviations, measured: a method trained with one thing as the paper or the released code has it, beside our default.

The default's rows are those of its runs; every variant is trained here, on the same data, under the same seeds. A
variant with a budget of its own stands beside the default under that budget, whose runs are those of `budgets`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from replication.analysis.checks import check_published, check_same_parameters
from replication.analysis.evaluate import evaluate
from replication.config import UNCHANGED, EvaluationParams, Experiment, Variant
from replication.datasets import PreparedDataset
from replication.errors import ResultsError
from replication.files import read_csv, read_json, write_csv
from replication.lock import exclusive
from replication.scratch_runs import Progress, scratch_metrics, silent, under_budget
from replication.training.runs import read_description, run_folder

SCRATCH = Path("scratch/ablations")
_ALL_ANEW = "get it back from git, or remove it and measure all anew"
MEASURED = (
    "gradient_updates",
    "train_accuracy",
    "validation_accuracy",
    "test_accuracy",
    "exact_test_accuracy",
    "final_edge",
    "positive_gamma_blocks",
    "rounds",
    "budget",
    "official_data",
)
Row = dict[str, Any]
COLUMNS = ("variant", "changes", "method", "seed", *MEASURED)


def measure_ablations(
    experiment: Experiment,
    variants: tuple[Variant, ...],
    data: PreparedDataset,
    seeds: tuple[int, ...],
    runs_root: Path = Path("runs"),
    results_root: Path = Path("results"),
    progress: Progress = silent,
) -> list[Row]:
    """Write `results_root`/DATASET/ablations.csv: a row per variant, method and seed, the default's first, by budget.

    The variants' runs are kept in scratch/, so that an interrupted call goes on; those of other parameters, data or
    code are not taken for them. So are the default's under other budgets than the experiment's.

    Raises:
        ResultsError: a run of the default is missing, damaged, or was made with other parameters or data.
        TrainingError: a variant's training failed, or the default's under its budget.
    """
    defaults = dict.fromkeys((one.default(experiment), method) for one in variants for method in one.methods)
    rows: list[Row] = []
    for default, method in defaults:
        for seed in seeds:
            if default == experiment:
                rows.append(_default_row(experiment, data, method, seed, runs_root))
            else:
                kept = under_budget(default.budget)
                metrics = scratch_metrics(default, data, method, seed, kept, progress)
                rows.append(_row(UNCHANGED, "", method, seed, metrics))
    for variant in variants:
        for method in variant.methods:
            rows += [_variant_row(experiment, variant, data, method, seed, progress) for seed in seeds]
    rows.sort(key=_order(experiment, variants))
    with _writing(data):
        write_csv(results_root / data.name / "ablations.csv", COLUMNS, rows)
    return rows


def measure_one(
    experiment: Experiment,
    variants: tuple[Variant, ...],
    data: PreparedDataset,
    name: str,
    seed: int,
    results_root: Path | None = None,
    progress: Progress = silent,
) -> list[Row]:
    """Train and measure what of `measure_ablations` is of the variant `name` and this seed, unless that is done.

    Several processes can share the work, each with a variant and seed of its own.

    Args:
        results_root: put the rows into the table there, in the places of those that they replace, beside the default's
            by what is published of its runs; without it nothing is published.

    Returns:
        The variant's rows.

    Raises:
        ResultsError: a run of the default, of this or another seed of the table, is not published, or was made with
            other parameters or data; or the table has the variant with other changes.
        TrainingError: the training failed.
    """
    variant = next(variant for variant in variants if variant.name == name)
    if results_root is not None:  # before hours of training
        _beside(experiment, variant, variants, data, seed, results_root)
    rows = [_variant_row(experiment, variant, data, method, seed, progress) for method in variant.methods]
    if results_root is not None:
        with _writing(data):  # and again, as others may have written in the meantime
            beside = _beside(experiment, variant, variants, data, seed, results_root)
            merged = {_place(row): row for row in (*beside, *rows)}
            ordered = sorted(merged.values(), key=_order(experiment, variants))
            write_csv(results_root / data.name / "ablations.csv", COLUMNS, ordered)
    return rows


def _writing(data: PreparedDataset) -> contextlib.AbstractContextManager[None]:
    return exclusive(SCRATCH / f"{data.name}.lock", f"{data.name}'s ablations.csv", "written", wait_seconds=60.0)


def _variant_row(
    experiment: Experiment,
    variant: Variant,
    data: PreparedDataset,
    method: str,
    seed: int,
    progress: Progress,
) -> Row:
    varied = attrs.evolve(variant.experiment, runtime=experiment.runtime, evaluation=_few_points(experiment))
    metrics = scratch_metrics(varied, data, method, seed, SCRATCH / variant.name, progress)
    return _row(variant.name, _in_words(variant.changes), method, seed, metrics)


def _default_row(experiment: Experiment, data: PreparedDataset, method: str, seed: int, runs_root: Path) -> Row:
    folder = run_folder(runs_root, data.name, method, seed)
    check_same_parameters(folder, read_description(folder), experiment)
    metrics = evaluate(experiment, data, method, seed, runs_root, SCRATCH / UNCHANGED / "results")
    return _row(UNCHANGED, "", method, seed, metrics)


def _beside(
    experiment: Experiment,
    variant: Variant,
    variants: tuple[Variant, ...],
    data: PreparedDataset,
    seed: int,
    results_root: Path,
) -> list[Row]:
    """What is published of this and other variants and seeds, and the default's rows of this seed by its own results.

    Raises:
        ResultsError: they are not there, damaged, or not alike.
    """
    path = results_root / data.name / "ablations.csv"
    table: list[Row] = list(read_csv(path)) if path.is_file() else []
    budgets = {one.name: str(one.experiment.budget) for one in variants}
    for row in table:
        if set(row) != set(COLUMNS) or None in row.values() or not row["seed"].isdecimal():
            raise ResultsError(f"{path} is damaged, or of another version; {_ALL_ANEW}")
        # The default, and a variant that params.yaml no longer has, may stand under any budget in use.
        any_in_use = row["budget"] if row["budget"] in budgets.values() else str(experiment.budget)
        alike = {"budget": budgets.get(row["variant"], any_in_use), "official_data": str(data.official)}
        if row["variant"] == variant.name:
            alike["changes"] = _in_words(variant.changes)
        for column, value in alike.items():
            if row[column] != value:
                found = f"a row of {row['variant']} with {column} {row[column]}"
                raise ResultsError(f"{path} has {found}, and here it is {value}; {_ALL_ANEW}")
    seeds = {int(row["seed"]) for row in table if row["budget"] == budgets[variant.name]} | {seed}
    defaults = {(method, one): _published_default(experiment, variant, data, method, one, results_root)
                for method in variant.methods for one in sorted(seeds)}  # fmt: skip
    return [*table, *(row for (_, one), row in defaults.items() if one == seed)]


def _published_default(
    experiment: Experiment, variant: Variant, data: PreparedDataset, method: str, seed: int, results_root: Path
) -> Row:
    default = variant.default(experiment)
    own = default == experiment
    root = results_root if own else under_budget(default.budget, results_root / data.name / "budgets")
    folder = run_folder(root, data.name, method, seed)
    if not (folder / "metrics.json").is_file():
        command = f"python -m replication budgets {data.name} --only {method} --seed {seed} --budget {default.budget:g}"
        first = "evaluate the default's run first" if own else f"first: {command} --publish"
        raise ResultsError(f"{folder} has no metrics.json to hold a variant against; {first}")
    check_published(folder, default, data, "evaluate a run of the same data first, or get it back from git")
    metrics = read_json(folder / "metrics.json")
    if not isinstance(metrics, dict):
        raise ResultsError(f"{folder}/metrics.json is damaged; evaluate the run again, or get it back from git")
    return _row(UNCHANGED, "", method, seed, metrics)


def _place(row: Row) -> tuple[str, ...]:
    return tuple(str(row[column]) for column in ("variant", "budget", "method", "seed"))


def _order(experiment: Experiment, variants: tuple[Variant, ...]) -> Callable[[Row], tuple[float, ...]]:
    """By budget, the experiment's own first; there, the default, then the variants in their order."""
    names = (UNCHANGED, *(variant.name for variant in variants))
    methods = tuple(dict.fromkeys(method for variant in variants for method in variant.methods))

    def key(row: Row) -> tuple[float, ...]:
        budget, name, method = float(row["budget"]), row["variant"], row["method"]
        return (
            budget != experiment.budget,
            budget,
            names.index(name) if name in names else len(names),  # what this would not write comes last
            methods.index(method) if method in methods else len(methods),
            int(row["seed"]),
        )

    return key


def _few_points(experiment: Experiment) -> EvaluationParams:
    """Curves with a point at the end of every block alone, which takes less time and changes nothing that is learnt."""
    return attrs.evolve(experiment.evaluation, interval=10**9, train_samples=1, held_out_samples=1, test_curve=False)


def _in_words(changes: dict[str, Any]) -> str:
    """'model.reading = paper-text, model.width = 15'."""
    return ", ".join(f"{name} = {'null' if value is None else value}" for name, value in changes.items())


def _row(variant: str, changes: str, method: str, seed: int, metrics: dict[str, Any]) -> Row:
    """Columns that a method has no value for stay empty."""
    measured = {name: metrics.get(name) for name in MEASURED}
    return {"variant": variant, "changes": changes, "method": method, "seed": seed, **measured}
