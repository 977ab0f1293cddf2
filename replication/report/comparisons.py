"""End-to-end networks as they were when they had received what BoostResNet received: as many updates, or operations."""

from __future__ import annotations

from collections.abc import Callable

from replication.report.costs import BlockCost, Cost
from replication.report.formats import counts
from replication.report.records import HistoryPoint
from replication.report.remarks import augmented
from replication.report.results import DatasetResults, Run

SAME_UPDATES = "after the same number of updates"


def point_at(run: Run, gradient_updates: int) -> HistoryPoint | None:
    """The last evaluation point at or before so many updates."""
    return next((point for point in reversed(run.history) if point.gradient_updates <= gradient_updates), None)


def equal_updates_points(results: DatasetResults) -> list[tuple[Run, HistoryPoint]]:
    """End-to-end runs with the point where they had BoostResNet's number of updates, for the seeds that both have."""
    return _points(results, lambda boosted: boosted.metrics.gradient_updates)


def behind(results: DatasetResults, pairs: list[tuple[Run, HistoryPoint]]) -> list[tuple[float, float]]:
    """Test accuracy at the end of BoostResNet and at each of these points of end-to-end runs, seed by seed, both as the
    curves have it: on the same images.
    """
    found = []
    for run, point in pairs:
        boosted = results.seed("boostresnet", run.seed)
        end = point_at(boosted, boosted.metrics.gradient_updates) if boosted else None
        if end is not None and end.test_accuracy is not None and point.test_accuracy is not None:
            found.append((end.test_accuracy, point.test_accuracy))
    return found


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


def equal_operations_points(results: DatasetResults, cost: Cost | None) -> list[tuple[Run, HistoryPoint]]:
    """End-to-end runs with the point where their updates had taken the floating-point operations that all updates of
    BoostResNet took, for the seeds that both have. Checks and the passes between two blocks are not counted.
    """
    if cost is None:
        return []
    points = _points(results, lambda boosted: _updates_worth(boosted, cost))
    return [(run, point) for run, point in points if point.gradient_updates > 0]


def _points(results: DatasetResults, updates: Callable[[Run], int | None]) -> list[tuple[Run, HistoryPoint]]:
    """Every end-to-end run at the number of updates that `updates` gives for BoostResNet's run of the same seed."""
    pairs = []
    for run in results.of("e2e"):
        boosted = results.seed("boostresnet", run.seed)
        number = None if boosted is None else updates(boosted)
        point = None if number is None else point_at(run, number)
        if point is not None:
            pairs.append((run, point))
    return pairs


def _updates_worth(boosted: Run, cost: Cost) -> int | None:
    """How many end-to-end updates make as many operations as the updates of a BoostResNet run; None where the cost was
    measured on another network or without counting.
    """
    flops = {block.module: _flops(boosted, block) for block in cost.blocks}
    made = [(entry.gradient_updates, flops.get(entry.module)) for entry in boosted.rounds]
    whole = cost.end_to_end_flops
    if not whole or cost.reading != boosted.metrics.reading or not made or any(each is None for _, each in made):
        return None
    return int(sum(updates * each for updates, each in made if each is not None) / whole)


def _flops(boosted: Run, block: BlockCost) -> float | None:
    """Of an update as the run made it: images augmented anew go through the frozen blocks every time."""
    anew = augmented(boosted) and not boosted.info.settings.get("augmentation.cached_views")
    return block.augmented_flops if anew else block.cached_flops
