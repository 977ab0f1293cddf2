"""The results table and the table of rounds as neutral rows; `render` and `readme` turn them into text.

Comparisons are made at equal gradient updates: besides the ends of the runs there is a row for the end-to-end network
as it was when it had received as many updates as BoostResNet of the same seed took (the last evaluation point at or
before that number).
"""

from __future__ import annotations

import attrs

from replication.report.formats import Estimate, counts
from replication.report.labels import E2E_AT_EQUAL_UPDATES, E2E_AT_EQUAL_UPDATES_LABEL, METHOD_STYLES
from replication.report.records import HistoryPoint
from replication.report.remarks import curve_images, remark
from replication.report.reported import Reported, reported
from replication.report.results import DatasetResults, Run, budgets_of

SAME_UPDATES = "after the same number of updates"


@attrs.frozen
class ResultRow:
    """One line of the results table; with `seeds` empty it reads "not run".

    `exact_test` is the test accuracy on the images of an unofficial copy that are known to be the official ones;
    `learners` counts weak learners (the rounds of BoostResNet, whose weak learners are differences of hypothesis
    modules) and is empty for what is no sum of them; `budgets` is empty for
    what has no lengths to shorten; `remark` is what a reader must know before comparing the line.
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
    remark: str = ""
    exact_test: Estimate | None = None


@attrs.frozen
class ResultsTable:
    """All lines of one dataset and what holds for all of them; `compared` and `curve_images` are what the functions of
    these names say.
    """

    dataset: str
    rows: tuple[ResultRow, ...]
    official: bool
    budgets: tuple[float, ...]
    exact_test_images: int | None = None
    compared: str = ""
    curve_images: str = ""

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


def results_table(results: DatasetResults) -> ResultsTable:
    """The results of one dataset: a line per method, and one for end to end at BoostResNet's updates."""
    rows = []
    for method, style in METHOD_STYLES.items():
        if method == "e2e":
            rows.append(_equal_updates_row(results))
        rows.append(_method_row(results, method, style.label))
    exact = {run.info.settings.get("data.exact_test_images") for run in results.all}
    return ResultsTable(
        results.dataset,
        tuple(rows),
        results.official,
        results.budgets,
        exact.pop() if len(exact) == 1 else None,
        compared_at(results),
        curve_images(results),
    )


def point_at(run: Run, gradient_updates: int) -> HistoryPoint | None:
    """The last evaluation point at or before so many updates."""
    return next((point for point in reversed(run.history) if point.gradient_updates <= gradient_updates), None)


def equal_updates_points(results: DatasetResults) -> list[tuple[Run, HistoryPoint]]:
    """End-to-end runs with the point where they had BoostResNet's number of updates, for the seeds that both have."""
    pairs = []
    for run in results.of("e2e"):
        boosted = results.seed("boostresnet", run.seed)
        point = point_at(run, boosted.metrics.gradient_updates) if boosted else None
        if point is not None:
            pairs.append((run, point))
    return pairs


def equal_updates_differences(results: DatasetResults) -> list[float]:
    """Test accuracy of BoostResNet less that of end to end after as many updates, seed by seed, both as their curves
    have it: on the same images.
    """
    differences = []
    for run, point in equal_updates_points(results):
        boosted = results.seed("boostresnet", run.seed)
        end = point_at(boosted, boosted.metrics.gradient_updates) if boosted else None
        if end is not None and end.test_accuracy is not None and point.test_accuracy is not None:
            differences.append(end.test_accuracy - point.test_accuracy)
    return differences


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


def compared_at(results: DatasetResults) -> str:
    """When the end-to-end network is held against BoostResNet's: 'after the same number of updates', or 'after 160 of
    BoostResNet's 200 updates' where it was not evaluated at the very end of BoostResNet's; empty without both.
    """
    pairs = [(run, point.gradient_updates) for run, point in equal_updates_points(results)]
    updates = [
        (reached, boosted.metrics.gradient_updates)
        for run, reached in pairs
        if (boosted := results.seed("boostresnet", run.seed))
    ]
    if not updates:
        return ""
    if all(reached == taken for reached, taken in updates):
        return SAME_UPDATES
    reached_text, taken_text = (counts(numbers, "") for numbers in zip(*updates, strict=True))
    return f"after {reached_text} of BoostResNet's {taken_text} updates"


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
        remark=remark(runs, results.budgets),
        exact_test=_estimate([run.metrics.exact_test_accuracy for run in runs]) if runs else None,
    )


def _learners(run: Run) -> int | None:
    return len(run.rounds) or run.metrics.learners


def _equal_updates_row(results: DatasetResults) -> ResultRow:
    pairs = equal_updates_points(results)
    return ResultRow(
        key=E2E_AT_EQUAL_UPDATES,
        label=E2E_AT_EQUAL_UPDATES_LABEL,
        seeds=tuple(run.seed for run, _ in pairs),
        train=_estimate([point.train_accuracy for _, point in pairs]),
        validation=_estimate([point.validation_accuracy for _, point in pairs]),
        test=_estimate([point.test_accuracy for _, point in pairs]),
        gradient_updates=tuple(point.gradient_updates for _, point in pairs),
        blocks=tuple(run.metrics.blocks for run, _ in pairs),
        parameters=tuple(run.metrics.parameters for run, _ in pairs),
        seconds=_mean([_seconds_at(run, point.gradient_updates) for run, point in pairs]),
        reported=None,
        budgets=budgets_of([run for run, _ in pairs]),
    )


def _seconds_at(run: Run, gradient_updates: int) -> float | None:
    return next((t.seconds for t in reversed(run.timing) if t.gradient_updates <= gradient_updates), None)


def _estimate(values: list[float | None]) -> Estimate | None:
    """An estimate only where every seed has the value: a mean over some seeds would not compare with its neighbours."""
    known = [value for value in values if value is not None]
    return Estimate.of(known) if len(known) == len(values) else None


def _mean(values: list[float | None]) -> float | None:
    estimate = _estimate(values)
    return None if estimate is None else estimate.mean
