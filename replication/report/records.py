"""The records of a published run, and how each is read from its file's fields."""

from __future__ import annotations

from typing import Any

import attrs

from replication.config import ADDED_LATER
from replication.report.fields import Fields
from replication.rounding import ROUNDING


@attrs.frozen
class Metrics:
    """Final numbers of one run; accuracies are fractions."""

    train_accuracy: float
    validation_accuracy: float
    test_accuracy: float
    gradient_updates: int
    blocks: int
    parameters: int
    exact_test_accuracy: float | None  # of an unofficial copy: on the test images known to be the official ones
    official_data: bool
    budget: float
    reading: str
    lemma_difference: float | None
    bound: float | None
    learners: int | None
    smallest_edge: float | None
    stock_library: str | None
    train_samples: int | None  # training images that were used, where that is not all


@attrs.frozen
class HistoryPoint:
    """One evaluation point; None where the quantity was not measured."""

    gradient_updates: int
    train_accuracy: float | None
    validation_accuracy: float | None
    test_accuracy: float | None


@attrs.frozen
class Round:
    """One round of BoostResNet: the module it trained and what came of it."""

    block: int
    module: str
    gradient_updates: int
    edge: float
    gamma: float
    covariance: float | None
    alpha: float
    bound: float
    train_error: float
    train_accuracy: float | None
    validation_accuracy: float | None
    test_accuracy: float | None

    @property
    def positive_covariance(self) -> bool:
        """Whether the second half of Definition 4.1 fails: above zero by more than rounding."""
        return self.covariance is not None and self.covariance > ROUNDING


@attrs.frozen
class TimingPoint:
    """Seconds since the run's start, and the most memory it had taken by then."""

    gradient_updates: int
    seconds: float
    peak_memory_bytes: int | None


@attrs.frozen
class RunInfo:
    """How a run was made (run.json)."""

    config: dict[str, Any]
    content_hash: str
    train_size: int
    validation_size: int
    test_size: int
    classes: int
    class_names: tuple[str, ...]
    commit: str | None
    dirty: bool
    versions: dict[str, str]
    hardware: dict[str, str]
    wall_seconds: float

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration with dotted names: {"optimizer.learning_rate": 0.001, ...}; of an older run with what there
        was no parameter for.
        """
        return ADDED_LATER | _flat(self.config)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def read_metrics(fields: Fields) -> Metrics:
    return Metrics(
        train_accuracy=fields.fraction("train_accuracy"),
        validation_accuracy=fields.fraction("validation_accuracy"),
        test_accuracy=fields.fraction("test_accuracy"),
        gradient_updates=fields.integer("gradient_updates"),
        blocks=fields.integer("blocks"),
        parameters=fields.integer("parameters"),
        exact_test_accuracy=fields.optional(fields.fraction, "exact_test_accuracy"),
        official_data=fields.boolean("official_data"),
        budget=fields.number("budget"),
        reading=fields.text("reading"),
        lemma_difference=fields.optional(fields.number, "lemma_3_2_max_difference"),
        bound=fields.optional(fields.number, "bound"),
        learners=fields.optional(fields.integer, "learners"),
        smallest_edge=fields.optional(fields.number, "smallest_edge"),
        stock_library=fields.optional(fields.text, "stock_library"),
        train_samples=fields.optional(fields.integer, "train_samples"),
    )


def read_history_point(row: Fields) -> HistoryPoint:
    return HistoryPoint(
        gradient_updates=row.integer("gradient_updates"),
        train_accuracy=row.cell(row.fraction, "train_accuracy"),
        validation_accuracy=row.cell(row.fraction, "validation_accuracy"),
        test_accuracy=row.cell(row.fraction, "test_accuracy"),
    )


def read_round(row: Fields) -> Round:
    return Round(
        block=row.integer("block"),
        module=row.label("module"),
        gradient_updates=row.integer("gradient_updates"),
        edge=row.number("edge"),
        gamma=row.number("gamma"),
        covariance=row.cell(row.number, "covariance"),
        alpha=row.number("alpha"),
        bound=row.number("bound"),
        train_error=row.fraction("train_error"),
        train_accuracy=row.cell(row.fraction, "train_accuracy"),
        validation_accuracy=row.cell(row.fraction, "validation_accuracy"),
        test_accuracy=row.cell(row.fraction, "test_accuracy"),
    )


def read_timing_point(row: Fields) -> TimingPoint:
    return TimingPoint(
        gradient_updates=row.integer("gradient_updates"),
        seconds=row.number("seconds"),
        peak_memory_bytes=row.cell(row.integer, "peak_memory_bytes"),
    )


def read_info(fields: Fields) -> RunInfo:
    data, git = fields.section("data"), fields.section("git")
    return RunInfo(
        config=fields.section("config").values,
        content_hash=data.text("content_hash"),
        train_size=data.integer("train_size"),
        validation_size=data.integer("validation_size"),
        test_size=data.integer("test_size"),
        classes=data.size("classes"),
        class_names=tuple(map(str, names)) if isinstance(names := data.values.get("classes"), list) else (),
        commit=git.optional(git.text, "commit"),
        dirty=bool(git.optional(git.boolean, "dirty")),
        versions=fields.section("versions").as_text(),
        hardware=fields.section("hardware").as_text(),
        wall_seconds=fields.number("wall_seconds"),
    )
