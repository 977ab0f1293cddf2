"""What all figures share: look, caption, means over seeds with their range, and files with the same bytes every time.

Readable in print and without colour: Okabe and Ito's colours, one per method everywhere, and a marker per method.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from replication.files import atomic_path
from replication.report.analyses import Analysis
from replication.report.labels import DATASET_LABELS, METHOD_STYLES, UNOFFICIAL
from replication.report.results import DatasetResults, Run

STYLE: Any = {
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
    "axes.axisbelow": True,
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
#: Inches: the width that a figure has in the article.
WIDE, HALF = (6.3, 2.6), (3.1, 2.2)
ROUND = (HALF[0], 2.45)  # half width with a legend of seeds below the axes
TRAIN_DASH = (0, (4, 1.6))
GREY = "0.35"
_DPI = 110
_NAMED, _NUMBERED = 9, 26  # how many modules have room for their names along x, and how many for numbers
_CROWDED = 6.5  # font size of many numbers

_SEED_MARKERS = ("o", "^", "s", "D", "v", "X")
_DARK, _LIGHT = "0.12", "0.55"

Analyses = Mapping[str, tuple[Analysis, ...]]  # by method, sorted by seed
Curve = tuple[np.ndarray, np.ndarray]  # x ascending, y


def new(size: tuple[float, float], caption: str, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of `columns` axes side by side, with the caption above its right end."""
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
    axes[-1].set_title(caption, loc="right", fontsize=7, color=GREY, pad=3)
    return figure, axes


def stacked(size: tuple[float, float], caption: str, heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """A figure of axes above each other with one x axis, heights in proportion to `heights`; the caption above all."""
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(len(heights), sharex=True, height_ratios=heights))
    axes[0].set_title(caption, loc="right", fontsize=7, color=GREY, pad=3)
    return figure, axes


def caption(results: DatasetResults, runs: Mapping[str, Sequence[Run]]) -> str:
    """What must stand wherever results are: dataset, budget, seeds, and a mark where the data is no official copy.

    Args:
        results: of the dataset.
        runs: what the figure shows, by method.
    """
    everything = [run for found in runs.values() for run in found]
    budgets = sorted({run.metrics.budget for run in everything})
    parts = [DATASET_LABELS[results.dataset], "budget " + ", ".join(f"{budget:g}" for budget in budgets)]
    fewest, most = min(map(len, runs.values())), max(map(len, runs.values()))
    parts.append((f"{fewest} to " if fewest < most else "") + ("1 seed" if most == 1 else f"{most} seeds"))
    if not all(run.metrics.official_data for run in everything):
        parts.append(UNOFFICIAL)
    return " · ".join(parts)


def analysed_caption(
    results: DatasetResults, analyses: Mapping[str, Sequence[Analysis]], methods: Sequence[str]
) -> str:
    """`caption` of the runs of `methods` that were analysed."""
    return caption(results, {method: [analysis.run for analysis in analyses[method]] for method in methods})


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


def known(x: np.ndarray, y: np.ndarray) -> Curve:
    """The points where y is a number."""
    return x[np.isfinite(y)], y[np.isfinite(y)]


def draw_mean(axes: Axes, curves: Sequence[Curve], method: str, *, hollow: bool = False, **look: Any) -> None:
    """Mean over curves (one per seed) in the method's colour and marker, with the area from lowest to highest."""
    curves = [curve for curve in curves if len(curve[0])]
    if not curves:
        return
    style = METHOD_STYLES[method]
    x, mean, low, high = mean_and_range(curves)
    look = {"color": style.colour, "marker": style.marker, "linestyle": "-"} | look
    look.setdefault("markevery", max(1, len(x) // 10))
    axes.plot(x, mean, mfc="white" if hollow else look["color"], **look)
    if len(curves) > 1:
        axes.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)


def handle(method: str, label: str | None = None, **look: Any) -> Line2D:
    """A method's line for a legend."""
    style = METHOD_STYLES[method]
    return Line2D([], [], label=label or style.label, **({"color": style.colour, "marker": style.marker} | look))


def seed_look(method: str, number: int) -> dict[str, Any]:
    """Marker and colour of the `number`-th seed of a method: lightness, not hue, so that no colour need be seen."""
    colours = (METHOD_STYLES[method].colour, _DARK, _LIGHT)
    return {"color": colours[number % len(colours)], "marker": _SEED_MARKERS[number % len(_SEED_MARKERS)]}


def percent_axis(axes: Axes) -> None:
    """Fractions as per cent."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def depth_axis(axes: Axes, label: str = "depth (round $t$)") -> None:
    """Whole numbers along x."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def block_axis(axes: Axes, places: Sequence[int], names: Sequence[str], label: str) -> None:
    """Modules along x by their names, which text and tables use; by the numbers in these where names have no room."""
    if len(names) <= _NAMED:
        axes.set_xticks(places, [name.replace(".", "\n") for name in names])
        axes.set_xlabel(label)
        return
    numbers = [".".join(re.findall(r"\d+", name)) or name for name in names]
    every = -(-len(names) // _NUMBERED)
    axes.set_xticks(places[::every], numbers[::every], fontsize=_CROWDED if len(names) > 2 * _NAMED else None)
    axes.set_xlabel(f"{label} (stage.block)" if any("." in number for number in numbers) else label)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write PDF and PNG without anything in them that depends on when or where they were made."""
    paths = []
    for suffix, omitted in (("pdf", ("CreationDate", "Creator", "Producer")), ("png", ("Software",))):
        path = stem.with_suffix(f".{suffix}")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=_DPI, metadata=dict.fromkeys(omitted))
        paths.append(path)
        figure.set_layout_engine("none")  # laid out once
    return paths
