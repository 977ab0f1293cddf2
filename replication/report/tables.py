"""The results table and the table of rounds as neutral rows; `render` and `readme` turn them into text.

Besides the ends of the runs there are rows for the end-to-end network as it was when it had received as many updates as
BoostResNet of the same seed took (the last evaluation point at or before that), or as many floating-point operations
(between two such points, accuracies and time on the straight line from one to the other).
"""

from __future__ import annotations

import attrs

from replication.report.comparisons import around, compared_at, equal_operations_points, equal_updates_points
from replication.report.costs import Cost
from replication.report.formats import Estimate
from replication.report.labels import (
    DATASET_LABELS,
    E2E_AT_EQUAL_OPERATIONS,
    E2E_AT_EQUAL_OPERATIONS_LABEL,
    E2E_AT_EQUAL_UPDATES,
    E2E_AT_EQUAL_UPDATES_LABEL,
    METHOD_STYLES,
)
from replication.report.records import HistoryPoint
from replication.report.remarks import curve_images, detail, remarks
from replication.report.reported import Reported, reported
from replication.report.results import DatasetResults, Run, budgets_of


@attrs.frozen
class ResultRow:
    """One line of the results table; with `seeds` empty it reads "not run".

    `exact_test` is the test accuracy on the images of an unofficial copy that are known to be the official ones;
    `learners` counts weak learners (the rounds of BoostResNet, whose weak learners are differences of hypothesis
    modules) and is empty for what is no sum of them; `budgets` is empty for what has no lengths to shorten; `remarks`
    are what a reader must know before comparing the line, and `detail` what of them differs from dataset to dataset.
    """

    key: str
    label: str
    seeds: tuple[int, ...]
    train: Estimate | None
    validation: Estimate | None
    test: Estimate | None
    gradient_updates: tuple[int, ...]
    blocks: tuple[int, ...]
    parameters: tuple[int, ...]
    seconds: float | None
    reported: Reported | None
    budgets: tuple[float, ...] = ()
    learners: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()
    detail: str = ""
    exact_test: Estimate | None = None


@attrs.frozen
class ResultsTable:
    """All lines of one dataset and what holds for all of them; `compared` and `curve_images` are what the functions of
    these names say, `other_budget` is whether these are runs under another budget than the experiment's own.
    """

    dataset: str
    rows: tuple[ResultRow, ...]
    official: bool
    budgets: tuple[float, ...]
    compared: str = ""
    curve_images: str = ""
    other_budget: bool = False

    @property
    def name(self) -> str:
        """What sentences call it: 'CIFAR-10', or 'CIFAR-10 at budget 0.064'."""
        at = f" at budget {', '.join(f'{budget:g}' for budget in self.budgets)}" if self.other_budget else ""
        return DATASET_LABELS[self.dataset] + at

    @property
    def not_run(self) -> bool:
        """Whether nothing was run on this dataset."""
        return not any(row.seeds for row in self.rows)

    def row(self, key: str) -> ResultRow:
        """The line of a method, or of `E2E_AT_EQUAL_UPDATES`."""
        return next(row for row in self.rows if row.key == key)


@attrs.frozen
class RoundRow:
    """One round of BoostResNet, averaged over seeds."""

    block: int
    module: str
    edge: Estimate | None
    gamma: Estimate | None
    covariance: Estimate | None
    alpha: Estimate | None
    bound: Estimate | None
    train_error: Estimate | None
    test_accuracy: Estimate | None
    gradient_updates: tuple[int, ...]


def results_table(results: DatasetResults, cost: Cost | None = None) -> ResultsTable:
    """The results of one dataset: a line per method, and one for end to end at BoostResNet's updates.

    Args:
        cost: where operations were counted, there is also a line for end to end at as many of them.
    """
    rows = []
    for method, style in METHOD_STYLES.items():
        if method == "e2e":
            points = equal_operations_points(results, cost)
            if points:
                rows.append(_early_row(results, E2E_AT_EQUAL_OPERATIONS, E2E_AT_EQUAL_OPERATIONS_LABEL, points))
            points = equal_updates_points(results)
            rows.append(_early_row(results, E2E_AT_EQUAL_UPDATES, E2E_AT_EQUAL_UPDATES_LABEL, points))
        rows.append(_method_row(results, method, style.label))
    return ResultsTable(
        results.dataset,
        tuple(rows),
        results.official,
        results.budgets,
        compared_at(results),
        curve_images(results),
    )


def round_rows(results: DatasetResults) -> list[RoundRow]:
    """Rounds of BoostResNet, each a mean over the seeds that reached it."""
    runs = results.of("boostresnet")
    rows = []
    for block in sorted({entry.block for run in runs for entry in run.rounds}):
        entries = [entry for run in runs for entry in run.rounds if entry.block == block]
        rows.append(
            RoundRow(
                block=block,
                module=entries[0].module,
                edge=Estimate.of([entry.edge for entry in entries]),
                gamma=Estimate.of([entry.gamma for entry in entries]),
                covariance=_estimate([entry.covariance for entry in entries]),
                alpha=Estimate.of([entry.alpha for entry in entries]),
                bound=Estimate.of([entry.bound for entry in entries]),
                train_error=Estimate.of([entry.train_error for entry in entries]),
                test_accuracy=_estimate([entry.test_accuracy for entry in entries]),
                gradient_updates=tuple(entry.gradient_updates for entry in entries),
            )
        )
    return rows


def run_seconds(results: DatasetResults, run: Run) -> float | None:
    """Wall time up to the end of a run; a refinement's includes the BoostResNet run that it starts from."""
    if run.method != "boostresnet-refined":
        return run.info.wall_seconds
    start = results.seed("boostresnet", run.seed)
    return None if start is None else start.info.wall_seconds + run.info.wall_seconds


def _method_row(results: DatasetResults, method: str, label: str) -> ResultRow:
    runs = results.of(method)
    return ResultRow(
        key=method,
        label=label,
        seeds=tuple(run.seed for run in runs),
        train=Estimate.of([run.metrics.train_accuracy for run in runs]),
        validation=Estimate.of([run.metrics.validation_accuracy for run in runs]),
        test=Estimate.of([run.metrics.test_accuracy for run in runs]),
        gradient_updates=tuple(run.metrics.gradient_updates for run in runs),
        blocks=tuple(run.metrics.blocks for run in runs),
        parameters=tuple(run.metrics.parameters for run in runs),
        seconds=_mean([run_seconds(results, run) for run in runs]),
        reported=reported(results.dataset, method),
        budgets=budgets_of(runs),
        learners=tuple(count for run in runs if (count := _learners(run)) is not None),
        remarks=remarks(runs, results.budgets),
        detail=detail(runs),
        exact_test=_estimate([run.metrics.exact_test_accuracy for run in runs]) if runs else None,
    )


def _learners(run: Run) -> int | None:
    return len(run.rounds) or run.metrics.learners


def _early_row(results: DatasetResults, key: str, label: str, pairs: list[tuple[Run, HistoryPoint]]) -> ResultRow:
    """The line of runs as they were at a point of their curves."""
    runs = [run for run, _ in pairs]
    return ResultRow(
        key=key,
        label=label,
        seeds=tuple(run.seed for run in runs),
        train=_estimate([point.train_accuracy for _, point in pairs]),
        validation=_estimate([point.validation_accuracy for _, point in pairs]),
        test=_estimate([point.test_accuracy for _, point in pairs]),
        gradient_updates=tuple(point.gradient_updates for _, point in pairs),
        blocks=tuple(run.metrics.blocks for run in runs),
        parameters=tuple(run.metrics.parameters for run in runs),
        seconds=_mean([_seconds_at(run, point.gradient_updates) for run, point in pairs]),
        reported=None,
        budgets=budgets_of(runs),
        remarks=remarks(runs, results.budgets),
    )


def _seconds_at(run: Run, gradient_updates: int) -> float | None:
    """Seconds after so many updates, as the accuracies are: between two points, on the straight line."""
    found = around(run.timing, gradient_updates)
    if found is None:
        return None
    before, after, part = found
    return before.seconds + part * (after.seconds - before.seconds)


def _estimate(values: list[float | None]) -> Estimate | None:
    """An estimate only where every seed has the value: a mean over some seeds would not compare with its neighbours."""
    known = [value for value in values if value is not None]
    return Estimate.of(known) if len(known) == len(values) else None


def _mean(values: list[float | None]) -> float | None:
    estimate = _estimate(values)
    return None if estimate is None else estimate.mean
