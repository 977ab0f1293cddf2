"""Accuracy against gradient updates (the paper's Figure 3) and against depth (its Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from replication.report.depth import DepthRun
from replication.report.figures.style import (
    GREY,
    TRAIN_DASH,
    WIDE,
    Curve,
    caption,
    depth_axis,
    draw_mean,
    handle,
    new,
    percent_axis,
)
from replication.report.labels import DATASET_LABELS, LABEL_BOOSTING, NETWORKS, UNOFFICIAL
from replication.report.records import HistoryPoint
from replication.report.results import DatasetResults, Run

CURVES = (*NETWORKS, *LABEL_BOOSTING)
_CLIMB = 0.08  # part of the horizontal axis whose accuracies may fall off the figure


def accuracy_figure(results: DatasetResults) -> Figure | None:
    """Figure 3: BoostResNet, then its refinement, and end to end."""
    return _accuracy_figure(results, NETWORKS)


def boosting_figure(results: DatasetResults) -> Figure | None:
    """The same for BoostResNet beside the boosting of labels, which has a point per weak learner."""
    if not any(results.of(method) for method in LABEL_BOOSTING):
        return None
    return _accuracy_figure(results, ("boostresnet", *LABEL_BOOSTING))


def _accuracy_figure(results: DatasetResults, chosen: Sequence[str]) -> Figure | None:
    methods = [method for method in results.runs if method in chosen]
    if not methods:
        return None
    figure, (axes,) = new(WIDE, caption(results, {method: results.of(method) for method in methods}))
    runs = [run for method in methods for run in results.of(method)]
    measured_on_test = any(point.test_accuracy is not None for run in runs for point in run.history)
    held_out = "test" if measured_on_test else "validation"
    handles = []
    for method in methods:
        for name, dash in (("train", TRAIN_DASH), (held_out, "-")):
            curves = [_curve(_joined_history(results, run), f"{name}_accuracy") for run in results.of(method)]
            draw_mean(axes, curves, method, linestyle=dash, hollow=name == "train")
        handles.append(handle(method))
    handles.append(Line2D([], [], color=GREY, marker="o", mfc="white", linestyle=TRAIN_DASH, label="training"))
    handles.append(Line2D([], [], color=GREY, marker="o", label=held_out))
    starts = [run.metrics.gradient_updates for run in results.of("boostresnet")]
    if starts and "boostresnet-refined" in methods:
        axes.axvline(float(np.mean(starts)), color="0.25", linestyle=":", linewidth=1.0)
        handles.append(Line2D([], [], color="0.25", linestyle=":", linewidth=1.0, label="refinement starts"))
    axes.set_xlabel("gradient updates")
    axes.set_ylabel("accuracy")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    percent_axis(axes)
    axes.margins(y=0.04)
    axes.set_ylim(_lower_limit(axes), min(axes.get_ylim()[1], 1.005))
    figure.legend(handles=handles, loc="outside right center", handlelength=2.4)
    return figure


def depth_figure(dataset: str, runs: Sequence[DepthRun]) -> Figure | None:
    """Figure 2: final accuracy of networks of different depth, trained end to end and as BoostResNet."""
    methods = [method for method in CURVES if any(run.method == method for run in runs)]
    if not methods:
        return None
    budgets = ", ".join(f"{budget:g}" for budget in sorted({run.budget for run in runs}))
    mark = "" if all(run.official for run in runs) else f" · {UNOFFICIAL}"
    seeds = len({run.seed for run in runs})
    text = f"{DATASET_LABELS[dataset]} · budget {budgets} · {seeds} seed{'s' * (seeds > 1)}{mark}"
    figure, (axes,) = new(WIDE, text)
    handles = []
    for method in methods:
        for split, dash in (("train", TRAIN_DASH), ("test", "-")):
            curves = [
                _by_depth([run for run in runs if run.method == method and run.seed == seed], split)
                for seed in sorted({run.seed for run in runs if run.method == method})
            ]
            draw_mean(axes, curves, method, linestyle=dash, hollow=split == "train")
        handles.append(handle(method))
    handles.append(Line2D([], [], color=GREY, marker="o", mfc="white", linestyle=TRAIN_DASH, label="training"))
    handles.append(Line2D([], [], color=GREY, marker="o", label="test"))
    depth_axis(axes, "residual blocks")
    axes.set_ylabel("accuracy at the end")
    percent_axis(axes)
    figure.legend(handles=handles, loc="outside right center", handlelength=2.4)
    return figure


def _by_depth(runs: Sequence[DepthRun], split: str) -> Curve:
    ordered = sorted(runs, key=lambda run: run.depth)
    accuracies = [run.train_accuracy if split == "train" else run.test_accuracy for run in ordered]
    return np.array([run.depth for run in ordered], dtype=float), np.array(accuracies)


def _lower_limit(axes: Axes) -> float:
    """Where the accuracy axis begins: below all that comes after the first updates, whose climb would hide the rest."""
    right = axes.get_xlim()[1]
    lowest = 1.0
    for line in axes.get_lines():
        x, y = np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)
        later = y[x >= _CLIMB * right]
        if line.get_linestyle() != ":" and len(later):
            lowest = min(lowest, float(later.min()))
    return max(0.0, 0.05 * np.floor((lowest - 0.01) / 0.05))


def _joined_history(results: DatasetResults, run: Run) -> Sequence[HistoryPoint]:
    """A refinement's history with the point that it starts from, so that its curve meets BoostResNet's."""
    start = results.seed("boostresnet", run.seed) if run.method == "boostresnet-refined" else None
    if start is None or run.history[0].gradient_updates <= start.history[-1].gradient_updates:
        return run.history
    return (start.history[-1], *run.history)


def _curve(history: Sequence[HistoryPoint], name: str) -> Curve:
    points = [(point.gradient_updates, getattr(point, name)) for point in history]
    measured = [(x, y) for x, y in points if y is not None]
    return np.array([x for x, _ in measured], dtype=float), np.array([y for _, y in measured], dtype=float)
