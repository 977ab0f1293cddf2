"""Methods under other budgets: the same experiment with longer (or shorter) blocks, to see what length changes.

What each run leaves is published as every run's is, in a results folder of its own for each budget. BoostResNet may be
alone there: the first updates of end-to-end training do not depend on how many follow, so that the experiment's own
end-to-end runs have a value at as many floating-point operations, as far as their curves go. So may end to end, to go
further.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs

from replication.analysis.analyse import analyse
from replication.analysis.checks import check_published
from replication.config import Experiment, OtherBudget
from replication.datasets import PreparedDataset
from replication.files import atomic_folder, remove_leftovers
from replication.run_directory import PUBLISHED
from replication.scratch_runs import Progress, measured_run, scratch_root, silent, under_budget
from replication.training.runs import run_folder

_ALL_ANEW = "get it back from git, or make all anew, without --publish"


def budget_root(experiment: Experiment, data: PreparedDataset, budget: float) -> Path:
    """The root of the run directories of `experiment` under another budget."""
    return scratch_root(attrs.evolve(experiment, budget=budget), data, under_budget(budget))


def measure_one(
    experiment: Experiment,
    asked: tuple[OtherBudget, ...],
    data: PreparedDataset,
    method: str,
    seed: int,
    results_root: Path | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Train and measure what of `measure_budgets` is of this method and seed, unless that is done: several processes
    can share the work, each with a run of its own.

    Args:
        results_root: publish it there, beside what is there already, which must be of the same parameters and data;
            without it nothing is published.

    Returns:
        What was published, or would be.

    Raises:
        TrainingError: the training failed.
        ResultsError: a run is damaged, or the one that a refinement starts from is missing, or what is published
            already is of other parameters or data.
    """
    if results_root is not None:
        # Before hours of training: runs that are not alike would be refused by every table.
        for run in sorted((results_root / data.name / "budgets").glob("*/*/*/seed*/run.json")):
            check_published(run.parent, experiment, data, _ALL_ANEW, any_budget=True)
    mine = [(one, _measured(experiment, one, data, seed, progress)) for one in asked if one.method == method]
    if results_root is None:
        return [source for _, source in mine]
    written = []
    for one, source in mine:
        target = _published(results_root / data.name / "budgets", data, one, seed)
        remove_leftovers(target)
        with atomic_folder(target) as temporary:
            _publish(source, temporary, analysed=one.analysed)
        written.append(target)
    return written


def measure_budgets(
    experiment: Experiment,
    asked: tuple[OtherBudget, ...],
    data: PreparedDataset,
    seeds: tuple[int, ...],
    results_root: Path = Path("results"),
    progress: Progress = silent,
) -> list[Path]:
    """Write `results_root`/DATASET/budgets/BUDGET/DATASET/METHOD/seedN for every budget and method asked for, and seed.

    Runs and measurements are kept in scratch/, so that an interrupted call goes on; those of other parameters, data or
    code are not taken for them. What was published before is replaced, as a whole, when everything is there (under DVC,
    which removes what a stage shall make anew, it is gone before).

    Args:
        asked: a refinement after the method that it starts from, as `load_budgets` has them.

    Returns:
        The published folders, in the order of `asked`.

    Raises:
        TrainingError: a training failed.
        ResultsError: a run in scratch/ is damaged.
    """
    measured = [(one, seed, _measured(experiment, one, data, seed, progress)) for one in asked for seed in seeds]
    folder, written = results_root / data.name / "budgets", []
    remove_leftovers(folder)
    with atomic_folder(folder) as temporary:  # the stage's output, also where nothing is asked for
        for one, seed, source in measured:
            target = _published(temporary, data, one, seed)
            _publish(source, target, analysed=one.analysed)
            written.append(folder / target.relative_to(temporary))
    return written


def _published(folder: Path, data: PreparedDataset, one: OtherBudget, seed: int) -> Path:
    return run_folder(under_budget(one.budget, folder), data.name, one.method, seed)


def _publish(source: Path, target: Path, *, analysed: bool) -> None:
    """Copy the published files, and the analysis only if it was asked for: `source` may have one from before."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (*PUBLISHED, "metrics.json", *(["analysis.json"] if analysed else [])):
        shutil.copyfile(source / name, target / name)
    if analysed:
        shutil.copytree(source / "analysis", target / "analysis")


def _measured(experiment: Experiment, one: OtherBudget, data: PreparedDataset, seed: int, progress: Progress) -> Path:
    other, analysis = attrs.evolve(experiment, budget=one.budget), analyse if one.analysed else None
    return measured_run(other, data, one.method, seed, under_budget(one.budget), analysis, progress)
