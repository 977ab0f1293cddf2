"""Published results as frozen objects: `results/DATASET/METHOD/seedN/`, read, checked, and nothing else.

A run that is not there is "not run", which is no error. A run that is there must be whole: a missing file, a missing
field or a value of the wrong kind is a ResultsError that names file and field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs

from replication.errors import ResultsError
from replication.report.fields import Fields, read_object, read_rows
from replication.report.labels import METHOD_STYLES

FILES = ("metrics.json", "history.csv", "rounds.csv", "timing.csv", "run.json")
SCHEMA = 1

#: What a covariance of order one, computed in double precision, may be off by.
ROUNDING = 1e-12


@attrs.frozen
class Metrics:
    """Final numbers of one run; accuracies are fractions."""

    train_accuracy: float
    validation_accuracy: float
    test_accuracy: float
    gradient_updates: int
    blocks: int
    parameters: int
    official_data: bool
    budget: float
    reading: str
    lemma_difference: float | None
    final_edge: float | None
    bound: float | None
    positive_gamma_blocks: int | None


@attrs.frozen
class HistoryPoint:
    """One evaluation point; None where the quantity was not measured."""

    gradient_updates: int
    block: int | None
    train_accuracy: float | None
    validation_accuracy: float | None
    test_accuracy: float | None


@attrs.frozen
class Round:
    """One round of BoostResNet: the module it trained and what came of it."""

    block: int
    module: str
    gradient_updates: int
    cumulative_updates: int
    moved_on: str
    edge: float
    gamma: float
    weak_learning_gain: float
    covariance: float | None
    alpha: float
    bound: float
    train_error: float
    train_accuracy: float | None
    validation_accuracy: float | None
    test_accuracy: float | None

    @property
    def positive_covariance(self) -> bool:
        """Whether the second half of Definition 4.1 fails: above zero by more than rounding.

        In the first round o_t = 0, so that the covariance is zero, but computed it is some 1e-33 of either sign.
        """
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
    commit: str | None
    dirty: bool
    versions: dict[str, str]
    hardware: dict[str, str]
    wall_seconds: float

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration with dotted names: {"optimizer.learning_rate": 0.001, ...}."""
        return _flat(self.config)


@attrs.frozen
class Run:
    """One published run."""

    path: Path
    dataset: str
    method: str
    seed: int
    metrics: Metrics
    history: tuple[HistoryPoint, ...]
    rounds: tuple[Round, ...]
    timing: tuple[TimingPoint, ...]
    info: RunInfo


@attrs.frozen
class DatasetResults:
    """All published runs of one dataset, by method, each sorted by seed."""

    dataset: str
    runs: dict[str, tuple[Run, ...]]

    def of(self, method: str) -> tuple[Run, ...]:
        """Runs of one method; empty means not run."""
        return self.runs.get(method, ())

    def seed(self, method: str, seed: int) -> Run | None:
        """The run of one method and seed."""
        return next((run for run in self.of(method) if run.seed == seed), None)

    @property
    def all(self) -> tuple[Run, ...]:
        """Every run, method by method."""
        return tuple(run for runs in self.runs.values() for run in runs)

    @property
    def official(self) -> bool:
        """False as soon as one run used a copy of the data whose checksum is not the official one."""
        return all(run.metrics.official_data for run in self.all)

    @property
    def budgets(self) -> tuple[float, ...]:
        """The different budgets among the runs, ascending."""
        return tuple(sorted({run.metrics.budget for run in self.all}))


def load_results(dataset: str, results_root: Path = Path("results")) -> DatasetResults:
    """Every published run of `dataset`; what is not there is left out.

    Raises:
        ResultsError: a run is incomplete or malformed, or the seeds of one method were not trained alike.
    """
    runs = {}
    for method in METHOD_STYLES:
        folder = results_root / dataset / method
        found = tuple(load_run(folder / f"seed{seed}", dataset, method, seed) for seed in _seeds(folder))
        if found:
            _check_alike(found)
            runs[method] = found
    return DatasetResults(dataset, runs)


def load_run(path: Path, dataset: str, method: str, seed: int) -> Run:
    """One published run from its folder, checked to be the run that the folder's name promises."""
    for name in FILES:
        if not (path / name).is_file():
            raise ResultsError(f"{path / name} is missing; {_mend(dataset, method, seed)}")
    try:
        metrics, run = read_object(path / "metrics.json"), read_object(path / "run.json")
        for fields in (metrics, run):
            for name, expected in (("dataset", dataset), ("method", method), ("seed", seed)):
                fields.expect(name, expected)
        run.expect("schema", SCHEMA)
        history = tuple(map(_history_point, read_rows(path / "history.csv")))
        rounds = tuple(map(_round, read_rows(path / "rounds.csv")))
        timing = tuple(map(_timing_point, read_rows(path / "timing.csv")))
        if not history:
            raise ResultsError(f"{path / 'history.csv'} has no rows")
        if method == "boostresnet" and not rounds:
            raise ResultsError(f"{path / 'rounds.csv'} has no rows")
        _check_rising(path / "history.csv", [point.gradient_updates for point in history])
        return Run(path, dataset, method, seed, _metrics(metrics), history, rounds, timing, _info(run))
    except ResultsError as error:
        raise ResultsError(f"{error}; {_mend(dataset, method, seed)}") from None


def _mend(dataset: str, method: str, seed: int) -> str:
    return f"publish it again: python -m replication evaluate {dataset} {method} --seed {seed}"


def _seeds(folder: Path) -> list[int]:
    """Seeds that have a folder with something in it (an interrupted pipeline may leave an empty one)."""
    if not folder.is_dir():
        return []
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and any(entry.iterdir())]
    return sorted(int(name[4:]) for name in names if re.fullmatch(r"seed(0|[1-9][0-9]*)", name))


def _check_rising(path: Path, updates: list[int]) -> None:
    if any(later < earlier for earlier, later in pairwise(updates)):
        raise ResultsError(f"{path}: gradient_updates must not fall from row to row")


def _check_alike(runs: Sequence[Run]) -> None:
    """A mean over seeds is one only if nothing but the seed differed (and where it ran)."""
    first = runs[0]
    for other in runs[1:]:
        pairs = {"data.content_hash": (first.info.content_hash, other.info.content_hash)}
        ours, theirs = first.info.settings, other.info.settings
        pairs |= {f"config.{key}": (ours[key], theirs[key]) for key in ours.keys() & theirs.keys()}
        for key in sorted(pairs):
            ours_value, theirs_value = pairs[key]
            if ours_value != theirs_value and not key.startswith("config.runtime."):
                raise ResultsError(
                    f"{other.path / 'run.json'}: {key} is {theirs_value!r:.40} but seed {first.seed} has "
                    f"{ours_value!r:.40}; train all seeds of {first.method} alike, or remove the odd one"
                )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _metrics(fields: Fields) -> Metrics:
    return Metrics(
        train_accuracy=fields.fraction("train_accuracy"),
        validation_accuracy=fields.fraction("validation_accuracy"),
        test_accuracy=fields.fraction("test_accuracy"),
        gradient_updates=fields.integer("gradient_updates"),
        blocks=fields.integer("blocks"),
        parameters=fields.integer("parameters"),
        official_data=fields.boolean("official_data"),
        budget=fields.number("budget"),
        reading=fields.text("reading"),
        lemma_difference=fields.optional(fields.number, "lemma_3_2_max_difference"),
        final_edge=fields.optional(fields.number, "final_edge"),
        bound=fields.optional(fields.number, "bound"),
        positive_gamma_blocks=fields.optional(fields.integer, "positive_gamma_blocks"),
    )


def _history_point(row: Fields) -> HistoryPoint:
    return HistoryPoint(
        gradient_updates=row.integer("gradient_updates"),
        block=row.cell(row.integer, "block"),
        train_accuracy=row.cell(row.fraction, "train_accuracy"),
        validation_accuracy=row.cell(row.fraction, "validation_accuracy"),
        test_accuracy=row.cell(row.fraction, "test_accuracy"),
    )


def _round(row: Fields) -> Round:
    return Round(
        block=row.integer("block"),
        module=row.label("module"),
        gradient_updates=row.integer("gradient_updates"),
        cumulative_updates=row.integer("cumulative_updates"),
        moved_on=row.text("moved_on"),
        edge=row.number("edge"),
        gamma=row.number("gamma"),
        weak_learning_gain=row.number("weak_learning_gain"),
        covariance=row.cell(row.number, "covariance"),
        alpha=row.number("alpha"),
        bound=row.number("bound"),
        train_error=row.fraction("train_error"),
        train_accuracy=row.cell(row.fraction, "train_accuracy"),
        validation_accuracy=row.cell(row.fraction, "validation_accuracy"),
        test_accuracy=row.cell(row.fraction, "test_accuracy"),
    )


def _timing_point(row: Fields) -> TimingPoint:
    return TimingPoint(
        gradient_updates=row.integer("gradient_updates"),
        seconds=row.number("seconds"),
        peak_memory_bytes=row.cell(row.integer, "peak_memory_bytes"),
    )


def _info(fields: Fields) -> RunInfo:
    data, git = fields.section("data"), fields.section("git")
    return RunInfo(
        config=fields.section("config").values,
        content_hash=data.text("content_hash"),
        train_size=data.integer("train_size"),
        validation_size=data.integer("validation_size"),
        test_size=data.integer("test_size"),
        classes=data.size("classes"),
        commit=git.optional(git.text, "commit"),
        dirty=bool(git.optional(git.boolean, "dirty")),
        versions=fields.section("versions").as_text(),
        hardware=fields.section("hardware").as_text(),
        wall_seconds=fields.number("wall_seconds"),
    )
