"""Methods under other budgets: the same experiment with longer (or shorter) blocks, to see what length changes.

What each run leaves is published as every run's is, in a results folder of its own for each budget. BoostResNet may be
alone there: the first updates of end-to-end training do not depend on how many follow, so that the experiment's own
end-to-end runs have a value at as many floating-point operations, as far as their curves go.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs

from replication.analysis.evaluate import evaluate
from replication.config import Experiment
from replication.datasets import PreparedDataset
from replication.errors import TrainingError
from replication.scratch_runs import scratch_root, scratch_run
from replication.training.runs import run_folder

SCRATCH = Path("scratch/budgets")


def budget_root(experiment: Experiment, data: PreparedDataset, budget: float, scratch: Path = SCRATCH) -> Path:
    """The root of the run directories of `experiment` under another budget."""
    return scratch_root(attrs.evolve(experiment, budget=budget), data, scratch / f"{budget:g}")


def train_one(
    experiment: Experiment,
    asked: tuple[tuple[float, str], ...],
    data: PreparedDataset,
    method: str,
    seed: int,
    scratch: Path = SCRATCH,
) -> list[Path]:
    """Train what of `measure_budgets` is of this method and seed, unless it is there, and publish nothing: several
    processes can share the work, each with a run of its own.

    Returns:
        The run directories.

    Raises:
        TrainingError: the training failed, or `method` is asked for under no other budget.
        ResultsError: the run that a refinement starts from is missing or damaged.
    """
    budgets = [budget for budget, name in asked if name == method]
    if not budgets:
        raise TrainingError(f"{method} is under no other budget on {data.name}; add one to budgets in params.yaml")
    found = []
    for budget in budgets:
        root = scratch_run(attrs.evolve(experiment, budget=budget), data, method, seed, scratch / f"{budget:g}")
        found.append(run_folder(root, data.name, method, seed))
    return found


def measure_budgets(
    experiment: Experiment,
    asked: tuple[tuple[float, str], ...],
    data: PreparedDataset,
    seeds: tuple[int, ...],
    results_root: Path = Path("results"),
    scratch: Path = SCRATCH,
) -> list[Path]:
    """Write `results_root`/DATASET/budgets/BUDGET/DATASET/METHOD/seedN for every budget and method asked for, and seed.

    The runs are kept in `scratch`, so that an interrupted call goes on; those of other parameters, data or code are not
    taken for them. What was published before is replaced when all runs are there (under DVC, which removes what a stage
    shall make anew, it is gone before).

    Args:
        asked: budgets with methods, a refinement after the method that it starts from, as `load_budgets` has them.

    Returns:
        The published folders, in the order of `asked`.

    Raises:
        TrainingError: a training failed.
        ResultsError: a run in `scratch` is damaged.
    """
    folder = results_root / data.name / "budgets"
    runs = []
    for budget, method in asked:
        other = attrs.evolve(experiment, budget=budget)
        for seed in seeds:
            runs.append((other, method, seed, scratch_run(other, data, method, seed, scratch / f"{budget:g}")))
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)  # the stage's output, also where nothing is asked for
    written = []
    for other, method, seed, root in runs:
        published = folder / f"{other.budget:g}"
        evaluate(other, data, method, seed, root, published)
        written.append(run_folder(published, data.name, method, seed))
    return written
