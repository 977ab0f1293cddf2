"""The statistics that criteria.yaml names: one value per seed, from the published results of a dataset.

A seed that lacks what a statistic needs is left out, and so is a value that is no number. No torch here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import attrs

from replication.ranks import rank_correlation
from replication.report.ablations import AblationRun, load_ablations
from replication.report.analyses import ANALYSIS, load_analysis
from replication.report.costs import Cost, load_cost
from replication.report.depth import DEPTH, DepthRun, load_depth
from replication.report.records import Metrics
from replication.report.reported import reported
from replication.report.results import DatasetResults, Run


@attrs.frozen
class Values:
    """What a statistic found.

    Attributes:
        by_seed: the value of each seed; finite.
        files: what it was read from, relative to the results folder.
        budgets: of the runs behind it.
        official: whether all of it was made from official data; None without evidence.
        repetitions: of a measurement that has no seeds; None for all others.
        missing: what is not there, in words; empty where nothing is missing.
        lacks: the same in a word or two, for a table's cell.
        qualification: what weakens a claim that holds, in words; empty where nothing does.
        lower_bounds: how many of the values are no more than that: what they are of is at least as large, so that no
            claim that it is large fails by them.
    """

    by_seed: dict[int, float]
    files: tuple[str, ...]
    budgets: tuple[float, ...] = ()
    official: bool | None = None
    repetitions: int | None = None
    missing: str = ""
    lacks: str = ""
    qualification: str = ""
    lower_bounds: int = 0


@attrs.frozen
class Evidence:
    """The published results of one dataset under one budget.

    Attributes:
        root: where their files are, by their names.
        results: the runs.
        folder: of all that is published of the dataset, its ablations among it, whatever their budget.
    """

    root: Path
    results: DatasetResults
    folder: Path

    @property
    def dataset(self) -> str:
        """Its name."""
        return self.results.dataset

    def per_run(self, method: str, file: str, value: Callable[[Run], float | None]) -> Values:
        """`value` of each run of `method`, which reads it from `file`; None where a run does not have it."""
        return self._per_seed((method,), file, lambda runs: value(runs[0]))

    def per_pair(self, first: str, second: str, file: str, value: Callable[[Run, Run], float | None]) -> Values:
        """`value` of the runs of two methods under the same seed."""
        return self._per_seed((first, second), file, lambda runs: value(runs[0], runs[1]))

    def _per_seed(self, methods: tuple[str, ...], file: str, value: Callable[[list[Run]], float | None]) -> Values:
        absent = [method for method in methods if not self.results.of(method)]
        if absent:
            return Values({}, (), missing=f"no published run of {' and '.join(absent)}", lacks="runs")
        incomparable = self.results.incomparable(*methods)
        if incomparable:
            return Values({}, (), missing=incomparable, lacks="equal terms")
        by_seed, used = {}, []
        for first in self.results.of(methods[0]):
            runs = [self.results.seed(method, first.seed) for method in methods]
            complete = [run for run in runs if run is not None]
            found = value(complete) if len(complete) == len(runs) else None
            if found is not None and math.isfinite(found):
                by_seed[first.seed] = found
                used += complete
        return Values(
            by_seed,
            tuple(f"{run.dataset}/{run.method}/seed{run.seed}/{file}" for run in used),
            tuple(run.metrics.budget for run in used),
            all(run.metrics.official_data for run in used) if used else None,
            missing="" if by_seed else f"no {file} of {' and '.join(methods)} has the value",
            lacks="" if by_seed else ("analyses" if file == ANALYSIS else "values"),
        )


Statistic = Callable[..., Values]


def lemma_difference(evidence: Evidence) -> Values:
    """Largest difference of the two sides of Lemma 3.2."""
    return evidence.per_run("boostresnet", "metrics.json", lambda run: run.metrics.lemma_difference)


def bound_slack(evidence: Evidence) -> Values:
    """Smallest distance from the training error up to Theorem 4.2's bound, over the blocks.

    No error is above one, so a bound that never falls below one says nothing: the claim is then vacuous.
    """
    values = evidence.per_run(
        "boostresnet", "rounds.csv", lambda run: min(entry.bound - entry.train_error for entry in run.rounds)
    )
    runs = [run for run in evidence.results.of("boostresnet") if run.seed in values.by_seed]
    vacuous = sum(all(entry.bound >= 1 for entry in run.rounds) for run in runs)
    share = "" if vacuous == len(runs) else f" in {vacuous} of {len(runs)} seeds"
    return attrs.evolve(values, qualification=f"vacuous{share}" if vacuous else "")


def round_trend(evidence: Evidence, column: str) -> Values:
    """Rank correlation of a column of rounds.csv with the block's number."""

    def trend(run: Run) -> float | None:
        values = _column(run, column)
        return None if values is None else rank_correlation([entry.block for entry in run.rounds], values)

    return evidence.per_run("boostresnet", "rounds.csv", trend)


def round_extreme(evidence: Evidence, column: str, extreme: str, method: str = "boostresnet") -> Values:
    """Smallest or largest value of a column of rounds.csv."""
    choose = {"smallest": min, "largest": max}[extreme]

    def value(run: Run) -> float | None:
        values = _column(run, column)
        return None if values is None else choose(values)

    return evidence.per_run(method, "rounds.csv", value)


def accuracy_difference(evidence: Evidence, first: str, second: str, split: str) -> Values:
    """Final accuracy of the first method less that of the second, under the same seed."""

    def difference(one: Run, other: Run) -> float:
        return _accuracy(one.metrics, split) - _accuracy(other.metrics, split)

    return evidence.per_pair(first, second, "metrics.json", difference)


def accuracy_over_variant(evidence: Evidence, method: str, variants: list[str], split: str) -> Values:
    """Final accuracy of BoostResNet less that of another method under one of `variants` of ablations.csv, at the same
    budget and under the same seed: the variant with the most such seeds, the first of several.
    """
    runs = {run.seed: run for run in evidence.results.of("boostresnet")}
    if not runs:
        return Values({}, (), missing="no published run of boostresnet", lacks="runs")
    groups = load_ablations(evidence.dataset, evidence.folder.parent)
    rows = [row for group in groups for row in group.runs if row.method == method and row.seed in runs]
    rows = [row for row in rows if row.budget == runs[row.seed].metrics.budget]
    found = max(([row for row in rows if row.variant == name] for name in variants), key=len)
    if not found:
        missing = f"{method} was not trained under {' or '.join(variants)} at BoostResNet's budget"
        return Values({}, (), missing=missing, lacks="variants")
    pairs = [(runs[row.seed], row) for row in found]
    return Values(
        {row.seed: _accuracy(run.metrics, split) - _accuracy(row, split) for run, row in pairs},
        (
            *(f"{run.dataset}/{run.method}/seed{run.seed}/metrics.json" for run, _ in pairs),
            os.path.relpath(evidence.folder / "ablations.csv", evidence.root),
        ),
        tuple(row.budget for row in found),
        all(run.metrics.official_data and row.official for run, row in pairs),
    )


def reported_difference(evidence: Evidence, method: str, split: str) -> Values:
    """Final accuracy less the one the paper reports."""
    figures = reported(evidence.dataset, method)
    target = None if figures is None else {"train": figures.train, "test": figures.test}[split]
    if target is None:
        return Values({}, (), missing="the reported figure is not available to us", lacks="paper's value")
    return evidence.per_run(method, "metrics.json", lambda run: _accuracy(run.metrics, split) - target / 100)


def update_ratio(evidence: Evidence, slow: str, fast: str, level: float) -> Values:
    """log2 of the updates of `slow` over those of `fast` until the validation accuracy reaches `level` times the final
    one of `fast`. Where `slow` never does, all its updates are counted: the ratio is at least that.
    """
    censored = set()

    def ratio(slow_run: Run, fast_run: Run) -> float | None:
        accuracies = [point.validation_accuracy for point in fast_run.history if point.validation_accuracy is not None]
        if not accuracies:
            return None
        target = level * accuracies[-1]
        fast_updates = updates_to(fast_run, target)
        slow_updates = updates_to(slow_run, target)
        if slow_updates is None:
            censored.add(slow_run.seed)
            slow_updates = slow_run.history[-1].gradient_updates
        return math.log2(slow_updates / fast_updates) if fast_updates and slow_updates else None

    values = evidence.per_pair(slow, fast, "history.csv", ratio)
    return attrs.evolve(values, lower_bounds=len(censored & set(values.by_seed)))


def analysis_field(evidence: Evidence, method: str, field: str) -> Values:
    """A number of analysis.json, by its dotted name."""
    return evidence.per_run(method, ANALYSIS, lambda run: _analysed(run, field))


def analysis_difference(evidence: Evidence, first: str, second: str, field: str) -> Values:
    """A number of analysis.json of the first method less that of the second, under the same seed."""

    def difference(one: Run, other: Run) -> float | None:
        left, right = _analysed(one, field), _analysed(other, field)
        return None if left is None or right is None else left - right

    return evidence.per_pair(first, second, ANALYSIS, difference)


def depth_difference(evidence: Evidence, method: str, split: str) -> Values:
    """Accuracy of the deepest network less that of the shallowest, from results/DATASET/e2e/depth.csv.

    Under another budget than the experiment's there is no such table, and it is BoostResNet's alone, from its rounds:
    what its first t rounds leave is BoostResNet of depth t.
    """
    name = f"{evidence.dataset}/{DEPTH}"
    if method == "boostresnet" and evidence.root.parent.name == "budgets":
        return evidence.per_run(method, "rounds.csv", _gain(split))
    if not (evidence.root / name).is_file():
        return Values({}, (), missing=f"{name} is not there", lacks="depths")
    runs = [run for run in load_depth(evidence.dataset, evidence.root) if run.method == method]
    by_seed = {}
    for seed in sorted({run.seed for run in runs}):
        accuracies = {run.depth: _accuracy(run, split) for run in runs if run.seed == seed}
        if len(accuracies) > 1:
            by_seed[seed] = accuracies[max(accuracies)] - accuracies[min(accuracies)]
    if not by_seed:
        return Values({}, (name,), missing=f"{name} has not two depths", lacks="depths")
    return Values(by_seed, (name,), tuple(run.budget for run in runs), all(run.official for run in runs))


def _gain(split: str) -> Callable[[Run], float | None]:
    """Accuracy after the last round less that after the first."""

    def gain(run: Run) -> float | None:
        column = _column(run, f"{split}_accuracy")
        return None if column is None or len(column) < 2 else column[-1] - column[0]

    return gain


def cost_ratio(evidence: Evidence, ratio: str) -> Values:
    """A ratio of cost.json divided by the number of modules T that it was measured on: about one for a cost of 1/T.
    Times are measured again and again, memory is counted once.
    """
    return _saving(evidence, lambda cost: cost.ratios.get(ratio), f"ratio {ratio}", repeated=ratio not in _COUNTED)


_COUNTED = ("peak_memory_e2e_vs_boostresnet",)


def flops_ratio(evidence: Evidence) -> Values:
    """Operations of an end-to-end update over the mean of those on stored outputs, divided by T; counted once."""

    def ratio(cost: Cost) -> float | None:
        known = [block.cached_flops for block in cost.blocks if block.cached_flops]
        whole = cost.end_to_end_flops
        return whole * len(known) / sum(known) if whole and known and len(known) == len(cost.blocks) else None

    return _saving(evidence, ratio, "count of operations", repeated=False)


def _saving(evidence: Evidence, ratio: Callable[[Cost], float | None], what: str, *, repeated: bool) -> Values:
    """`ratio` of cost.json over the number of modules T."""
    name, cost = f"{evidence.dataset}/cost.json", load_cost(evidence.dataset, evidence.root)
    if cost is None:
        return Values({}, (), missing=f"{name} is not there", lacks="costs")
    value = ratio(cost)
    if value is None:
        return Values({}, (name,), missing=f"{name} has no {what}", lacks="costs")
    repetitions = cost.repetitions if repeated else 1
    return Values({0: value / len(cost.blocks)}, (name,), official=cost.official, repetitions=repetitions)


STATISTICS: dict[str, Statistic] = {
    function.__name__: function
    for function in (
        lemma_difference, bound_slack, round_trend, round_extreme, accuracy_difference, accuracy_over_variant,
        reported_difference, update_ratio, analysis_field, analysis_difference, depth_difference, cost_ratio,
        flops_ratio,
    )
}  # fmt: skip


def updates_to(run: Run, accuracy: float) -> int | None:
    """Gradient updates until the validation accuracy first reaches `accuracy`; None where it never does."""
    for point in run.history:
        if point.validation_accuracy is not None and point.validation_accuracy >= accuracy:
            return point.gradient_updates
    return None


def _column(run: Run, name: str) -> list[float] | None:
    """A column of rounds.csv, None where a block has no value there."""
    values = [getattr(entry, name) for entry in run.rounds]
    return None if not values or any(value is None for value in values) else values


def _accuracy(end: Metrics | DepthRun | AblationRun, split: str) -> float:
    return {"train": end.train_accuracy, "test": end.test_accuracy}[split]


def _analysed(run: Run, field: str) -> float | None:
    analysis = load_analysis(run)
    return None if analysis is None else analysis.number(field)
