"""BoostResNet under other budgets: the same experiment with longer (or shorter) blocks, to see what length changes.

What each run leaves is published as every run's is, in a results folder of its own for each budget. No other method is
trained: the first updates of end-to-end training do not depend on how many follow, so that its curve has a value at as
many floating-point operations, as far as it goes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs

from replication.analysis.evaluate import evaluate
from replication.config import Experiment
from replication.datasets import PreparedDataset
from replication.scratch_runs import scratch_run
from replication.training.runs import run_folder

METHOD = "boostresnet"


def measure_budgets(
    experiment: Experiment,
    budgets: tuple[float, ...],
    data: PreparedDataset,
    seeds: tuple[int, ...],
    results_root: Path = Path("results"),
    scratch: Path = Path("scratch/budgets"),
) -> list[Path]:
    """Write `results_root`/DATASET/budgets/BUDGET/DATASET/boostresnet/seedN for every budget and seed.

    The runs are kept in `scratch`, so that an interrupted call goes on; those of other parameters, data or code are not
    taken for them. What was published before is replaced when all runs are there (under DVC, which removes what a stage
    shall make anew, it is gone before).

    Returns:
        The published folders, budget by budget.

    Raises:
        TrainingError: a training failed.
        ResultsError: a run in `scratch` is damaged.
    """
    folder = results_root / data.name / "budgets"
    runs = []
    for budget in budgets:
        other = attrs.evolve(experiment, budget=budget)
        for seed in seeds:
            runs.append((other, seed, scratch_run(other, data, METHOD, seed, scratch / f"{budget:g}")))
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)  # the stage's output, also of an empty list
    written = []
    for other, seed, root in runs:
        published = folder / f"{other.budget:g}"
        evaluate(other, data, METHOD, seed, root, published)
        written.append(run_folder(published, data.name, METHOD, seed))
    return written
