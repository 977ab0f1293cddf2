"""The figures: vector PDF and PNG, the same bytes for the same results."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from replication.report.budgets import Budgeted
from replication.report.costs import Cost
from replication.report.depth import DepthRun
from replication.report.figures import bound, budgets as lengths, cost as costs, ensemble, rounds, theory, training
from replication.report.figures.style import STYLE, Analyses, save
from replication.report.labels import BINARY
from replication.report.results import DatasetResults

#: Names of all figures that can exist for a dataset; each is written as .pdf and .png.
FIGURES = (
    "accuracy", "accuracy-boosting", "accuracy-depth", "budgets", "budgets-boosting", "bound", "gamma", "covariance",
    "edge", "bound-binary", "gamma-binary", "covariance-binary", "margins-depth", "margins-methods", "modules",
    "deletions", "lesions", "swaps", "paths", "alignment", "cost-blocks", "cost-time", "cost-memory",
)  # fmt: skip


def draw_figures(
    results: DatasetResults,
    analyses: Analyses,
    cost: Cost | None,
    depth: tuple[DepthRun, ...],
    budgets: tuple[Budgeted, ...],
    folder: Path,
) -> list[Path]:
    """Write every figure that there is evidence for into `folder`; returns the files, PDF before PNG."""
    written: list[Path] = []
    with mpl.rc_context(STYLE):
        for name in FIGURES:
            figure = _draw(name, results, analyses, cost, depth, budgets)
            if figure is not None:
                written += save(figure, folder / name)
    return written


def _draw(
    name: str,
    results: DatasetResults,
    analyses: Analyses,
    cost: Cost | None,
    depth: tuple[DepthRun, ...],
    budgets: tuple[Budgeted, ...],
) -> Figure | None:
    if name.startswith("cost-"):
        draw = {"blocks": costs.blocks_figure, "time": costs.depth_time_figure, "memory": costs.depth_memory_figure}
        return None if cost is None else draw[name.removeprefix("cost-")](cost)
    if name in ("accuracy", "accuracy-boosting"):
        return training.accuracy_figure(results) if name == "accuracy" else training.boosting_figure(results)
    if name == "accuracy-depth":
        return training.depth_figure(results.dataset, depth)
    if name == "budgets":
        return lengths.budgets_figure(budgets, cost)
    if name == "budgets-boosting":
        return lengths.longest_boosting_figure(budgets)
    if name == "edge":
        return rounds.edge_figure(results)
    by_round = {"bound": bound.bound_figure, "gamma": rounds.gamma_figure, "covariance": rounds.covariance_figure}
    kind, _, binary = name.partition("-")
    if kind in by_round:
        return by_round[kind](results, analyses, BINARY if binary else "boostresnet")
    others = {
        "margins-depth": theory.margins_by_depth_figure,
        "margins-methods": theory.margins_by_method_figure,
        "modules": theory.modules_figure,
        "deletions": ensemble.deletions_figure,
        "lesions": ensemble.lesions_figure,
        "swaps": ensemble.swaps_figure,
        "paths": ensemble.paths_figure,
        "alignment": ensemble.alignment_figure,
    }
    return others[name](results, analyses)
