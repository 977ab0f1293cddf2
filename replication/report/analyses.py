"""What `analyse` published of each run: analysis.json and the tables beside it, read when they are asked for."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import attrs
import numpy as np

from replication.errors import ResultsError
from replication.report.fields import Fields, read_object, read_rows
from replication.report.results import DatasetResults, Run
from replication.run_directory import is_analysed

SCHEMA = 1
ANALYSIS = "analysis.json"
# The section of analysis.json that sums a table up, where it has not the table's name.
_SECTIONS = {"deletions": "lesions"}


@attrs.frozen
class Analysis:
    """The analysis of one run."""

    run: Run
    summary: Fields

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.run.seed

    def number(self, name: str) -> float | None:
        """A number by its dotted name; None where it is absent, null or no number."""
        value: object = self.summary.values
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def rows(self, table: str) -> tuple[Fields, ...]:
        """The rows of analysis/TABLE.csv; none where the method has no use for that table.

        Raises:
            ResultsError: the table is missing or damaged.
        """
        path = self.run.path / "analysis" / f"{table}.csv"
        try:
            rows = _read(path)
        except ResultsError as error:
            raise ResultsError(f"{error}; {_mend(self.run)}") from None
        if not rows and self.summary.values.get(_SECTIONS.get(table, table)):
            raise ResultsError(f"{path} has no rows; {_mend(self.run)}")
        return rows

    def column(self, table: str, name: str) -> np.ndarray:
        """A column of numbers, (rows,); NaN where a cell is empty or no number.

        Raises:
            ResultsError: the table is missing or damaged, or has no such column.
        """
        return np.array([self._cell(row, name) for row in self.rows(table)], dtype=float)

    def _cell(self, row: Fields, name: str) -> float:
        if name not in row.values:
            raise ResultsError(f"{row.where}: field '{name}' is missing; {_mend(self.run)}")
        value = row.values[name]
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def load_analyses(results: DatasetResults) -> dict[str, tuple[Analysis, ...]]:
    """By method, sorted by seed; runs that were not analysed are left out.

    Raises:
        ResultsError: an analysis is damaged or belongs to another run.
    """
    by_method: dict[str, tuple[Analysis, ...]] = {}
    for method, runs in results.runs.items():
        found = tuple(analysis for run in runs if (analysis := load_analysis(run)) is not None)
        if found:
            by_method[method] = found
    return by_method


def load_analysis(run: Run) -> Analysis | None:
    """The analysis of a published run; None where it was not analysed.

    Raises:
        ResultsError: it is damaged, or of another run: one of the same name that was trained and published since is not
            the one that was analysed.
    """
    if not (run.path / ANALYSIS).is_file():
        return None
    metrics = run.metrics
    wanted = {
        "schema": SCHEMA,
        "dataset": run.dataset,
        "method": run.method,
        "seed": run.seed,
        "reading": metrics.reading,
        "budget": metrics.budget,
        "blocks": metrics.blocks,
        "official_data": metrics.official_data,
    }
    try:
        summary = read_object(run.path / ANALYSIS)
        for name, expected in wanted.items():
            summary.expect(name, expected)
        if not is_analysed(run.path):
            raise ResultsError(f"{run.path / ANALYSIS} is of another training than run.json beside it")
    except ResultsError as error:
        raise ResultsError(f"{error}; {_mend(run)}") from None
    return Analysis(run, summary)


def _mend(run: Run) -> str:
    return f"analyse the run again: python -m replication analyse {run.dataset} {run.method} --seed {run.seed}"


def _read(path: Path) -> tuple[Fields, ...]:
    """`read_rows`, remembered as long as the file is the same: several figures read one table."""
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _read_once(path, stamp)


@functools.lru_cache(maxsize=256)
def _read_once(path: Path, _stamp: int) -> tuple[Fields, ...]:
    return tuple(read_rows(path))
