"""What margins the classifiers leave, and what their modules can tell apart."""

from __future__ import annotations

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
from replication.report.labels import METHOD_STYLES, NETWORKS
from replication.report.results import DatasetResults

_MARGIN_METHODS = (*NETWORKS, "adaboost-mm", "gradient-boosting")


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
    """The same for what each method leaves in the end, on training (dashed) and test images."""
    methods = [method for method in _MARGIN_METHODS if method in analyses]
    if not methods:
        return None
    figure, (axes,) = new(HALF, analysed_caption(results, analyses, methods))
    for method in methods:
        for split, dash in (("train", TRAIN_DASH), ("test", "-")):
            curves = [_margins(analysis, split, None) for analysis in analyses[method]]
            draw_mean(axes, curves, method, linestyle=dash, marker="", linewidth=1.0)
    axes.set_xlabel(r"margin $\theta$")
    axes.set_ylabel(r"images at or below $\theta$")
    percent_axis(axes)
    names = [handle(method, marker="") for method in methods]
    dashes = [
        Line2D([], [], color=GREY, linestyle=TRAIN_DASH, label="training"),
        Line2D([], [], color=GREY, label="test"),
    ]
    axes.legend(handles=[*names, *dashes], loc="upper left", fontsize=6.5, labelspacing=0.25, handlelength=1.8)
    return figure


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
