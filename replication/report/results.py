"""Published results as frozen objects: `results/DATASET/METHOD/seedN/`, read, checked, and nothing else.

A run that is not there is "not run", which is no error. A run that is there must be whole: a missing file, a missing
field or a value of the wrong kind is a ResultsError that names file and field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import attrs

from replication.config import BOOSTED, CHANGE_NO_RUN, PRECISIONS
from replication.errors import ResultsError
from replication.files import sha256
from replication.report.fields import Fields, read_object, read_rows
from replication.report.labels import LABEL_BOOSTING, METHOD_STYLES, STOCK_LIBRARY
from replication.report.records import (
    HistoryPoint,
    Metrics,
    Round,
    RunInfo,
    TimingPoint,
    read_history_point,
    read_info,
    read_metrics,
    read_round,
    read_timing_point,
)
from replication.run_directory import PUBLISHED

FILES = ("metrics.json", *PUBLISHED)
SCHEMA = 1

_CHANGE_NO_RUN = tuple(f"config.{section}." for section in CHANGE_NO_RUN)
_PRECISIONS = tuple(f"config.runtime.{key}" for key in PRECISIONS)


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
        return budgets_of(self.all)

    def incomparable(self, *methods: str) -> str:
        """The reason why these methods' runs cannot be compared (other budgets or data); empty if they can."""
        runs = [run for method in methods for run in self.of(method)]
        for what, values in (
            ("budgets", {f"{run.metrics.budget:g}" for run in runs}),
            ("copies of the data", {run.info.content_hash[:12] for run in runs}),
        ):
            if len(values) > 1:
                return f"{' and '.join(methods)} were trained with different {what}: {', '.join(sorted(values))}"
        return ""


def budgets_of(runs: Sequence[Run]) -> tuple[float, ...]:
    """The different budgets that shortened these runs, ascending; a stock library's runs have no lengths to shorten."""
    return tuple(sorted({run.metrics.budget for run in runs if run.method != STOCK_LIBRARY}))


def load_results(dataset: str, results_root: Path = Path("results"), again: str = "") -> DatasetResults:
    """Every published run of `dataset`; what is not there is left out.

    Args:
        again: the command that makes damaged runs anew, for the error; by default each run's `evaluate`.

    Raises:
        ResultsError: a run is incomplete or malformed, or the seeds of one method were not trained alike.
    """
    runs = {}
    for method in METHOD_STYLES:
        folder = results_root / dataset / method
        found = tuple(load_run(folder / f"seed{seed}", dataset, method, seed, again) for seed in _seeds(folder))
        if found:
            check_alike(found, advice=f"run again: {again}" if again else "")
            runs[method] = found
    return DatasetResults(dataset, runs)


def load_other_budgets(dataset: str, results_root: Path = Path("results")) -> dict[str, DatasetResults]:
    """What was run under other budgets (`results_root`/DATASET/budgets/BUDGET/), by the name of the folder, budgets
    ascending.

    Raises:
        ResultsError: a folder is no budget's, or has a run of another budget; or as in `load_results`.
    """
    again = f"python -m replication budgets {dataset}"
    found = {}
    for folder in sorted(path for path in (results_root / dataset / "budgets").glob("*") if path.is_dir()):
        results = load_results(dataset, folder, again)
        for run in results.all:
            if f"{run.metrics.budget:g}" != folder.name:
                raise ResultsError(f"{run.path} was trained under budget {run.metrics.budget:g}; run again: {again}")
        if results.all:
            found[folder.name] = results
    return dict(sorted(found.items(), key=lambda pair: pair[1].all[0].metrics.budget))


def load_run(path: Path, dataset: str, method: str, seed: int, again: str = "") -> Run:
    """One published run from its folder, checked to be the run that the folder's name promises."""
    publish = again or f"python -m replication evaluate {dataset} {method} --seed {seed}"
    mend = f"publish it again: {publish}; or bring the committed one back: git restore {path}"
    for name in FILES:
        if not (path / name).is_file():
            raise ResultsError(f"{path / name} is missing; {mend}")
    try:
        metrics, run = read_object(path / "metrics.json"), read_object(path / "run.json")
        for fields in (metrics, run):
            for name, expected in (("dataset", dataset), ("method", method), ("seed", seed)):
                fields.expect(name, expected)
        run.expect("schema", SCHEMA)
        _check_digests(path, run)
        history = tuple(map(read_history_point, read_rows(path / "history.csv")))
        rows = read_rows(path / "rounds.csv")
        rounds = tuple(map(read_round, rows)) if method in BOOSTED else ()
        timing = tuple(map(read_timing_point, read_rows(path / "timing.csv")))
        if not history:
            raise ResultsError(f"{path / 'history.csv'} has no rows")
        if method in (*BOOSTED, *LABEL_BOOSTING) and not rows:
            raise ResultsError(f"{path / 'rounds.csv'} has no rows")
        _check_rising(path / "history.csv", [point.gradient_updates for point in history])
        return Run(path, dataset, method, seed, read_metrics(metrics), history, rounds, timing, read_info(run))
    except ResultsError as error:
        raise ResultsError(f"{error}; {mend}") from None


def _check_digests(path: Path, run: Fields) -> None:
    """Hold a run's tables against the checksums in its run.json, which older ones do not have."""
    digests = run.section("sha256").values if "sha256" in run.values else {}
    for name in PUBLISHED:
        if name in digests and sha256(path / name) != digests[name]:
            raise ResultsError(f"{path / name} is not what training wrote")


def _seeds(folder: Path) -> list[int]:
    """Seeds that have a folder with something in it (an interrupted pipeline may leave an empty one)."""
    if not folder.is_dir():
        return []
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and any(entry.iterdir())]
    return sorted(int(name[4:]) for name in names if re.fullmatch(r"seed(0|[1-9][0-9]*)", name))


def _check_rising(path: Path, updates: list[int]) -> None:
    if any(later < earlier for earlier, later in pairwise(updates)):
        raise ResultsError(f"{path}: gradient_updates must not fall from row to row")


def check_alike(runs: Sequence[Run], but: str = "", advice: str = "") -> None:
    """A mean over seeds is one only if nothing but the seed differed (and where it ran, and the setting `but`).

    Args:
        advice: what to do about it, for the error; by default to train the seeds alike.

    Raises:
        ResultsError: naming the setting and both runs.
    """
    first = runs[0]
    advice = advice or f"train all seeds of {first.method} alike, or remove the odd one"
    for other in runs[1:]:
        pairs = {"data.content_hash": (first.info.content_hash, other.info.content_hash)}
        ours, theirs = first.info.settings, other.info.settings
        pairs |= {f"config.{key}": (ours[key], theirs[key]) for key in ours.keys() & theirs.keys()}
        for key in sorted(pairs):
            ours_value, theirs_value = pairs[key]
            matters = key in _PRECISIONS or not key.startswith(_CHANGE_NO_RUN)
            matters = matters and key != f"config.{but}"
            if ours_value != theirs_value and matters:
                raise ResultsError(
                    f"{other.path / 'run.json'}: {key} is {theirs_value!r:.40} but {first.path / 'run.json'} has "
                    f"{ours_value!r:.40}; {advice}"
                )
