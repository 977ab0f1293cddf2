"""End-to-end networks as they were when they had received what BoostResNet received: as many updates, or operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import attrs

from replication.config import scaled
from replication.report.costs import BlockCost, Cost
from replication.report.formats import counts
from replication.report.records import HistoryPoint, TimingPoint
from replication.report.remarks import augmented
from replication.report.results import DatasetResults, Run

Point = TypeVar("Point", HistoryPoint, TimingPoint)
SAME_UPDATES = "after the same number of updates"


def point_at(run: Run, gradient_updates: int) -> HistoryPoint | None:
    """The last evaluation point at or before so many updates."""
    return next((point for point in reversed(run.history) if point.gradient_updates <= gradient_updates), None)


def equal_updates_points(results: DatasetResults) -> list[tuple[Run, HistoryPoint]]:
    """End-to-end runs with the point where they had BoostResNet's number of updates, for the seeds that both have, with
    curves of the same images.
    """
    pairs = []
    for run, boosted in _pairs(results):
        point = point_at(run, boosted.metrics.gradient_updates)
        if point is not None:
            pairs.append((run, point))
    return pairs


def joined(runs: Sequence[Run]) -> Run:
    """Of end-to-end runs of one seed, all but the length alike: the longest, its curve with the points that only the
    shorter ones have. The first updates of a run do not depend on how many follow, so that curves agree where they
    meet; where they do not (another machine, other images) or never meet, it is the first run as it is.
    """
    longest = max(runs, key=lambda run: run.metrics.gradient_updates)
    for run in runs:
        if not agree(run, longest):
            return runs[0]
        points = {point.gradient_updates: point for point in (*longest.history, *run.history)}
        longest = attrs.evolve(longest, history=tuple(points[updates] for updates in sorted(points)))
    return longest


def agree(run: Run, other: Run) -> bool:
    """Whether their curves are of the same images, and meet, and are the same where they do."""
    points = {point.gradient_updates: point for point in other.history}
    meet = [point for point in run.history if point.gradient_updates and point.gradient_updates in points]
    return _images(run) == _images(other) and bool(meet) and all(points[at.gradient_updates] == at for at in meet)


def _pairs(results: DatasetResults) -> list[tuple[Run, Run]]:
    """End to end and BoostResNet of the same seed, of which points on the curves may be held against each other."""
    pairs = [(run, results.seed("boostresnet", run.seed)) for run in results.of("e2e")]
    return [(run, boosted) for run, boosted in pairs if boosted and _images(run) == _images(boosted)]


def _images(run: Run) -> tuple[object, ...]:
    """What determines the images behind its curve: the data, and how many of each split."""
    settings, info = run.info.settings, run.info
    held_out = settings.get("evaluation.held_out_samples")
    asked = (
        (settings.get("evaluation.train_samples"), info.train_size),
        (held_out, info.validation_size),
        (held_out, info.test_size),
    )
    return (info.content_hash, *(size if samples is None else min(samples, size) for samples, size in asked))


def paired_accuracies(
    results: DatasetResults,
    pairs: list[tuple[Run, HistoryPoint]],
    split: str = "test",
    method: str = "boostresnet",
) -> list[tuple[float, float]]:
    """Accuracy at the end of `method` and at each of these points of end-to-end runs, seed by seed, both as the curves
    have it: on the same images of `split`.
    """
    found = []
    for run, point in pairs:
        own = results.seed(method, run.seed)
        end = point_at(own, own.metrics.gradient_updates) if own else None
        if end is None:
            continue
        ours, theirs = (getattr(one, f"{split}_accuracy") for one in (end, point))
        if ours is not None and theirs is not None:
            found.append((ours, theirs))
    return found


def differences_at_end(
    results: DatasetResults, first: str, second: str, accuracy: str = "test_accuracy", *, equal_updates: bool = False
) -> list[float]:
    """A final accuracy of the one method less that of the other, seed by seed; none where they were not trained alike,
    or it was not measured.

    Args:
        accuracy: a field of `Metrics`.
        equal_updates: only where both had as many gradient updates.
    """
    if results.incomparable(first, second):
        return []
    pairs = _of_one_seed(results.of(first), results.of(second))
    if equal_updates and any(run.metrics.gradient_updates != other.metrics.gradient_updates for run, other in pairs):
        return []
    return end_differences(results.of(first), results.of(second), accuracy)


def end_differences(first: Sequence[Run], second: Sequence[Run], accuracy: str = "test_accuracy") -> list[float]:
    """A final accuracy of these runs less that of those, seed by seed, whatever their lengths; without what
    one of the two lacks.
    """
    pairs = _of_one_seed(first, second)
    values = [(getattr(run.metrics, accuracy), getattr(other.metrics, accuracy)) for run, other in pairs]
    return [ours - theirs for ours, theirs in values if ours is not None and theirs is not None]


def _of_one_seed(first: Sequence[Run], second: Sequence[Run]) -> list[tuple[Run, Run]]:
    others = {run.seed: run for run in second}
    return [(run, others[run.seed]) for run in first if run.seed in others]


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


def equal_operations_points(
    results: DatasetResults, cost: Cost | None, *, refined: bool = False, training_alone: bool = False
) -> list[tuple[Run, HistoryPoint]]:
    """End-to-end runs as they were when their updates had taken the floating-point operations that BoostResNet took,
    or BoostResNet and its refinement, for the seeds that both have, with curves of the same images: between two points
    of the curve, on the straight line from one to the other.

    Args:
        refined: whether the refinement is counted.
        training_alone: as in `operations`.
    """
    found = []
    for run, boosted in _pairs(results):
        made = operations(boosted, cost, training_alone=training_alone) if cost else ()
        further = _refinement(results, boosted) if refined else 0
        point = _between(run, round(made[-1]) + further) if made and further is not None else None
        if point is not None:
            found.append((run, point))
    return found


def _refinement(results: DatasetResults, boosted: Run) -> int | None:
    """The updates, end to end, of the refinement of a BoostResNet run; None where it was not refined, or its curve is
    of other images.
    """
    run = results.seed("boostresnet-refined", boosted.seed)
    if run is None or _images(run) != _images(boosted):
        return None
    return run.metrics.gradient_updates - boosted.metrics.gradient_updates


def _between(run: Run, gradient_updates: int) -> HistoryPoint | None:
    """The accuracies after so many updates, if they lie between two points of the curve."""
    found = around(run.history, gradient_updates)
    if found is None or found[0].gradient_updates == 0:
        return None
    before, after, part = found

    def value(low: float | None, high: float | None) -> float | None:
        return None if low is None or high is None else low + part * (high - low)

    return attrs.evolve(
        before,
        gradient_updates=gradient_updates,
        train_accuracy=value(before.train_accuracy, after.train_accuracy),
        validation_accuracy=value(before.validation_accuracy, after.validation_accuracy),
        test_accuracy=value(before.test_accuracy, after.test_accuracy),
    )


def around(points: Sequence[Point], gradient_updates: int) -> tuple[Point, Point, float] | None:
    """The points before and after so many updates, and which part of the way between them these are; None outside."""
    before = next((point for point in reversed(points) if point.gradient_updates <= gradient_updates), None)
    after = next((point for point in points if point.gradient_updates >= gradient_updates), None)
    if before is None or after is None:
        return None
    apart = after.gradient_updates - before.gradient_updates
    return before, after, (gradient_updates - before.gradient_updates) / apart if apart else 0.0


def operations(boosted: Run, cost: Cost, *, training_alone: bool = False) -> tuple[float, ...]:
    """The floating-point operations of a BoostResNet run up to the end of each round, in end-to-end updates that make
    as many; empty where the cost was measured on another network, another batch size or without counting, or where
    augmented views were stored, since nothing counts their making.

    Counted are its updates and what comes between them, on stored outputs: at every check of gamma all training images
    go through the new module and its classifier, and at a round's end once more through the module, whose outputs are
    stored.

    Args:
        training_alone: count its updates and nothing between them.
    """
    blocks = {block.module: block for block in cost.blocks}
    whole = cost.end_to_end_flops
    settings = boosted.info.settings
    measured = (cost.reading, cost.auxiliary, cost.batch_size, len(cost.blocks))
    asked = (settings.get("boostresnet.auxiliary"), settings.get("optimizer.batch_size"), len(boosted.rounds))
    uncounted = settings.get("boostresnet.prefix_mode") == "training" or (
        augmented(boosted) and settings.get("augmentation.cached_views")
    )
    if not whole or uncounted or measured != (boosted.metrics.reading, *asked):
        return ()
    made, total = [], 0.0
    for entry in boosted.rounds:
        block = blocks.get(entry.module)
        update = _flops(boosted, block) if block else None
        between = _flops_between(boosted, entry.gradient_updates, block) if block else None
        if update is None or between is None:
            return ()
        total += entry.gradient_updates * update + (0.0 if training_alone else between)
        made.append(total / whole)
    return tuple(made)


def _flops_between(boosted: Run, updates: int, block: BlockCost) -> float | None:
    """Of a round's checks, and of storing its outputs."""
    check, advance = block.check_flops_per_image, block.advance_flops_per_image
    interval = boosted.info.settings.get("boostresnet.check_interval")
    if check is None or advance is None or not isinstance(interval, int):
        return None
    checks = math.ceil(updates / scaled(interval, boosted.metrics.budget))
    return boosted.info.train_size * (checks * check + advance)


def _flops(boosted: Run, block: BlockCost) -> float | None:
    """Of an update as the run made it: images augmented anew go through the frozen blocks every time."""
    return block.augmented_flops if augmented(boosted) else block.cached_flops
