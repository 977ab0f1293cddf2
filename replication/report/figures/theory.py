"""What margins the classifiers leave, and what their modules can tell apart."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from replication.report.analyses import Analysis
from replication.report.figures.style import (
    GREY,
    HALF,
    TRAIN_DASH,
    WIDE,
    Analyses,
    analysed_caption,
    block_axis,
    draw_mean,
    handle,
    known,
    mean_and_range,
    new,
    percent_axis,
)
from replication.report.labels import LABEL_BOOSTING, METHOD_STYLES, NETWORKS
from replication.report.results import DatasetResults

_MARGIN_METHODS = (*NETWORKS, *LABEL_BOOSTING)
_FEW = 0.5  # a curve that is lower than this until the last point is flat on a linear axis, and then vertical


def margins_by_depth_figure(results: DatasetResults, analyses: Analyses) -> Figure | None:
    """Share of training images with a margin at or below theta, for every hypothesis module of BoostResNet."""
    found = analyses.get("boostresnet", ())
    if not found:
        return None
    figure, (axes,) = new(HALF, analysed_caption(results, analyses, ["boostresnet"]))
    last = int(max(analysis.column("margins", "block").max() for analysis in found))
    shades = LinearSegmentedColormap.from_list("depth", ["#BBD7EA", METHOD_STYLES["boostresnet"].colour, "#00243A"])
    norm = Normalize(0, max(last, 1))
    for block in range(last + 1):
        curves = [_margins(analysis, "train", block) for analysis in found]
        curves = [curve for curve in curves if len(curve[0])]
        if curves:
            x, mean, *_ = mean_and_range(curves)
            axes.plot(x, mean, color=shades(norm(block)), linewidth=1.0)
    bar = figure.colorbar(mpl.cm.ScalarMappable(norm, shades), ax=axes, pad=0.02)
    bar.set_label("round $t$", fontsize=8)
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel(r"margin $\theta$")
    axes.set_ylabel(r"images at or below $\theta$")
    percent_axis(axes)
    return figure


def margins_by_method_figure(results: DatasetResults, analyses: Analyses) -> Figure | None:
    """The same for what each method leaves in the end, on training (dashed) and test images.

    Where a method leaves most test images a margin near one, its curve is flat and coincides with others of that kind
    until it leaps: then fractions are on a logarithmic axis, which shows how many images are left.
    """
    methods = [method for method in _MARGIN_METHODS if method in analyses]
    if not methods:
        return None
    figure, (axes,) = new(HALF, analysed_caption(results, analyses, methods))
    if any(_most_near_one(analyses[method]) for method in methods):
        axes.set_yscale("log")
    for number, method in enumerate(methods):
        for split, dash in (("train", TRAIN_DASH), ("test", "-")):
            curves = [_margins(analysis, split, None) for analysis in analyses[method]]
            draw_mean(
                axes, curves, method, linestyle=dash, hollow=split == "train", linewidth=0.9, markersize=2.6,
                markevery=(2 * number, 2 * len(_MARGIN_METHODS)),  # not where the other methods have theirs
            )  # fmt: skip
    axes.set_xlabel(r"margin $\theta$")
    axes.set_ylabel(r"images at or below $\theta$")
    percent_axis(axes)
    names = [handle(method, markersize=2.6) for method in methods]
    dashes = [
        Line2D([], [], color=GREY, linestyle=TRAIN_DASH, label="training"),
        Line2D([], [], color=GREY, label="test"),
    ]
    axes.legend(
        handles=[*names, *dashes], loc="best", fontsize=6, labelspacing=0.25, handlelength=1.7, handletextpad=0.5,
        borderaxespad=0.1,
    )  # fmt: skip
    return figure


def _most_near_one(found: Sequence[Analysis]) -> bool:
    """Whether few test images have margins up to the last tabulated one below one; mean over seeds."""
    curves = [_margins(analysis, "test", None) for analysis in found]
    left = [float(y[x < 1].max(initial=0.0)) for x, y in curves if len(x)]
    return bool(left) and float(np.mean(left)) < _FEW


def modules_figure(results: DatasetResults, analyses: Analyses) -> Figure | None:
    """Test accuracy of linear probes behind every module, and of BoostResNet's own hypothesis modules."""
    methods = [method for method in NETWORKS if method in analyses]
    if not methods:
        return None
    figure, (axes,) = new(WIDE, analysed_caption(results, analyses, methods))
    handles = []
    for method in methods:
        curves = [
            known(analysis.column("modules", "block"), analysis.column("modules", "probe_test_accuracy"))
            for analysis in analyses[method]
        ]
        draw_mean(axes, curves, method)
        handles.append(handle(method, f"{METHOD_STYLES[method].label}: probe"))
    if "boostresnet" in analyses:
        curves = [
            known(analysis.column("modules", "block"), analysis.column("modules", "test_accuracy"))
            for analysis in analyses["boostresnet"]
        ]
        draw_mean(axes, curves, "boostresnet", linestyle=TRAIN_DASH, hollow=True)
        handles.append(handle("boostresnet", "BoostResNet: own $o_t$", linestyle=TRAIN_DASH, mfc="white"))
    rows = analyses[methods[0]][0].rows("modules")
    block_axis(axes, [row.integer("block") for row in rows], [row.text("module") for row in rows], "module")
    axes.set_ylabel("test accuracy")
    percent_axis(axes)
    figure.legend(handles=handles, loc="outside right center", handlelength=2.4)
    return figure


def _margins(analysis: Analysis, split: str, block: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Margins and cumulative fractions of one block; None is the last one."""
    rows = [row for row in analysis.rows("margins") if row.values.get("split") == split]
    if not rows:
        return np.empty(0), np.empty(0)
    wanted = max(row.integer("block") for row in rows) if block is None else block
    chosen = [row for row in rows if row.integer("block") == wanted]
    return np.array([row.number("margin") for row in chosen]), np.array([row.number("cumulative") for row in chosen])
