"""The figures: vector PDF and PNG, the same bytes for the same results.

Readable in print and without colour: Okabe and Ito's colours, one per method everywhere, and a marker per method.
Lines are means over seeds, shaded areas reach from the lowest seed to the highest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from replication.files import atomic_path
from replication.report.labels import DATASET_LABELS, METHOD_STYLES, UNOFFICIAL
from replication.report.results import DatasetResults, HistoryPoint, Round, Run

#: Names of all figures that can exist for a dataset; each is written as .pdf and .png.
FIGURES = ("accuracy", "gamma", "edge", "bound")

_STYLE: Any = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "0.88",
    "lines.linewidth": 1.2,
    "lines.markersize": 3.2,
    "lines.markeredgewidth": 0.8,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,  # embed TrueType: journals and print shops refuse Type 3
    "svg.hashsalt": "replication",
}
_WIDE, _THIRD = (6.3, 2.9), (2.1, 1.9)  # inches: the width they have in the article
_TRAIN_DASH = (0, (4, 1.6))

_CLIMB = 0.08  # part of the horizontal axis whose accuracies may fall off the figure

Curve = tuple[np.ndarray, np.ndarray]


def draw_figures(results: DatasetResults, folder: Path) -> list[Path]:
    """Write every figure that `results` allow into `folder`; returns the files, PDF before PNG."""
    written: list[Path] = []
    with mpl.rc_context(_STYLE):
        if results.all:
            written += _save(accuracy_figure(results), folder / "accuracy")
        if results.of("boostresnet"):
            written += _save(gamma_figure(results), folder / "gamma")
            written += _save(edge_figure(results), folder / "edge")
            written += _save(bound_figure(results), folder / "bound")
    return written


def accuracy_figure(results: DatasetResults) -> Figure:
    """Accuracy against gradient updates (the paper's Figure 3): BoostResNet, then its refinement, and end to end."""
    figure, axes = _new(_WIDE, results)
    measured_on_test = any(point.test_accuracy is not None for run in results.all for point in run.history)
    held_out = "test" if measured_on_test else "validation"
    handles = []
    for method in results.runs:
        style = METHOD_STYLES[method]
        for name, dash in (("train", _TRAIN_DASH), (held_out, "-")):
            curves = [_curve(_joined_history(results, run), f"{name}_accuracy") for run in results.of(method)]
            _draw_mean(axes, [c for c in curves if len(c[0])], method, linestyle=dash, hollow=name == "train")
        handles.append(Line2D([], [], color=style.colour, marker=style.marker, label=style.label))
    handles.append(Line2D([], [], color="0.35", marker="o", mfc="white", linestyle=_TRAIN_DASH, label="training"))
    handles.append(Line2D([], [], color="0.35", marker="o", label=held_out))
    starts = [run.metrics.gradient_updates for run in results.of("boostresnet")]
    if starts and results.of("boostresnet-refined"):
        axes.axvline(float(np.mean(starts)), color="0.25", linestyle=":", linewidth=1.0)
        handles.append(Line2D([], [], color="0.25", linestyle=":", linewidth=1.0, label="refinement starts"))
    axes.set_xlabel("gradient updates")
    axes.set_ylabel("accuracy")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    axes.margins(y=0.04)
    axes.set_ylim(_lower_limit(axes), min(axes.get_ylim()[1], 1.005))
    figure.legend(handles=handles, loc="outside right center", handlelength=2.4)
    return figure


def gamma_figure(results: DatasetResults) -> Figure:
    """gamma_t against depth (the paper's Figure 4a); the weak learning condition asks for values above zero."""
    figure, axes = _round_figure(results, {"-": lambda entry: entry.gamma})
    axes.axhline(0.0, color="0.25", linewidth=0.8)
    axes.set_ylabel(r"$\gamma_t$")
    return figure


def edge_figure(results: DatasetResults) -> Figure:
    """Edge of the hypothesis modules against depth (the paper's Figure 4b)."""
    figure, axes = _round_figure(results, {"-": lambda entry: entry.edge})
    axes.set_ylabel(r"$\tilde\gamma_{t+1}$")
    return figure


def bound_figure(results: DatasetResults) -> Figure:
    """Training error and the bound of Theorem 4.2 per round, on a log axis; no error is drawn as half an image."""
    half_an_image = 0.5 / max(1, max(run.info.train_size for run in results.of("boostresnet")))
    figure, axes = _round_figure(
        results, {"-": lambda entry: max(entry.train_error, half_an_image), "--": lambda entry: entry.bound}
    )
    axes.set_yscale("log")
    axes.set_ylabel("training error")
    colour, marker = METHOD_STYLES["boostresnet"].colour, METHOD_STYLES["boostresnet"].marker
    measured = Line2D([], [], color=colour, marker=marker, label="measured")
    axes.set_ylim(top=12 * axes.get_ylim()[1])  # room for the legend
    bound = Line2D([], [], color=colour, marker=marker, mfc="white", linestyle="--", label="bound")
    axes.legend(handles=[bound, measured], loc="upper right", ncols=2, handlelength=1.8, columnspacing=0.8, borderpad=0)
    return figure


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


def _new(size: tuple[float, float], results: DatasetResults, lines: int = 1) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(_caption(results, lines), loc="right", fontsize=7, color="0.35", pad=3)
    return figure, axes


def _caption(results: DatasetResults, lines: int) -> str:
    """What must stand wherever results are: dataset, budget, and a data mark where the copy is not the official one."""
    parts = [DATASET_LABELS[results.dataset], "budget " + ", ".join(f"{budget:g}" for budget in results.budgets)]
    fewest, most = min(map(len, results.runs.values())), max(map(len, results.runs.values()))
    parts.append((f"{fewest} to " if fewest < most else "") + ("1 seed" if most == 1 else f"{most} seeds"))
    if not results.official:
        parts.append(UNOFFICIAL)
    half = (len(parts) + 1) // lines
    return "\n".join(" · ".join(parts[start : start + half]) for start in range(0, len(parts), half))


def _round_figure(results: DatasetResults, series: dict[str, Callable[[Round], float]]) -> tuple[Figure, Axes]:
    figure, axes = _new(_THIRD, results, lines=2)
    for linestyle, value in series.items():
        curves = []
        for run in results.of("boostresnet"):
            depth = np.array([entry.block for entry in run.rounds], dtype=float)
            curves.append((depth, np.array([value(entry) for entry in run.rounds])))
        _draw_mean(axes, curves, "boostresnet", linestyle=linestyle, hollow=linestyle == "--")
    axes.set_xlabel("depth (round $t$)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def _joined_history(results: DatasetResults, run: Run) -> Sequence[HistoryPoint]:
    """A refinement's history with the point that it starts from, so that its curve meets BoostResNet's."""
    start = results.seed("boostresnet", run.seed) if run.method == "boostresnet-refined" else None
    if start is None or run.history[0].gradient_updates <= start.history[-1].gradient_updates:
        return run.history
    return (start.history[-1], *run.history)


def _curve(history: Sequence[HistoryPoint], name: str) -> Curve:
    points = [(point.gradient_updates, getattr(point, name)) for point in history]
    known = [(x, y) for x, y in points if y is not None]
    return np.array([x for x, _ in known], dtype=float), np.array([y for _, y in known], dtype=float)


def mean_and_range(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, mean, lowest and highest over curves, at every x of any of them that lies within all of them.

    Seeds may have been evaluated at different updates (BoostResNet leaves a block when it may); between points a curve
    is taken as linear.
    """
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    x = np.unique(np.concatenate([x for x, _ in curves]))
    x = x[(x >= low) & (x <= high)]
    values = np.stack([np.interp(x, *curve) for curve in curves])
    return x, values.mean(0), values.min(0), values.max(0)


def _draw_mean(axes: Axes, curves: Sequence[Curve], method: str, *, linestyle: Any, hollow: bool = False) -> None:
    if not curves:
        return
    style = METHOD_STYLES[method]
    x, mean, low, high = mean_and_range(curves)
    axes.plot(
        x,
        mean,
        color=style.colour,
        marker=style.marker,
        linestyle=linestyle,
        markevery=max(1, len(x) // 10),
        markerfacecolor="white" if hollow else style.colour,
    )
    if len(curves) > 1:
        axes.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0)


def _save(figure: Figure, stem: Path) -> list[Path]:
    """Write PDF and PNG without anything in them that depends on when or where they were made."""
    paths = []
    for suffix, omitted in (("pdf", ("CreationDate", "Creator", "Producer")), ("png", ("Software",))):
        path = stem.with_suffix(f".{suffix}")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=200, metadata=dict.fromkeys(omitted))
        paths.append(path)
    return paths
