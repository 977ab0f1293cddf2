"""Accuracy against depth (results/DATASET/e2e/depth.csv): the paper's Figure 2."""

from __future__ import annotations

from pathlib import Path

import attrs

from replication.report.fields import Fields, read_rows

DEPTH = "e2e/depth.csv"  # under results/DATASET


@attrs.frozen
class DepthRun:
    """The end of one run of a network with so many residual blocks."""

    method: str
    depth: int
    seed: int
    train_accuracy: float
    test_accuracy: float
    budget: float
    official: bool


def load_depth(dataset: str, results_root: Path = Path("results")) -> tuple[DepthRun, ...]:
    """The runs of depth.csv; none where it does not exist.

    Raises:
        ResultsError: it is damaged.
    """
    path = results_root / dataset / DEPTH
    return tuple(map(_depth_run, read_rows(path))) if path.is_file() else ()


def _depth_run(row: Fields) -> DepthRun:
    return DepthRun(
        method=row.text("method"),
        depth=row.integer("depth"),
        seed=row.integer("seed"),
        train_accuracy=row.fraction("train_accuracy"),
        test_accuracy=row.fraction("test_accuracy"),
        budget=row.number("budget"),
        official=row.flag("official_data"),
    )
