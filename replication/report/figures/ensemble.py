"""Are residual networks ensembles? (Veit et al. 2016): deleted and reordered blocks, paths, steps downhill."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from replication.report.analyses import Analysis
from replication.report.figures.style import (
    GREY,
    HALF,
    WIDE,
    Analyses,
    Curve,
    analysed_caption,
    block_axis,
    depth_axis,
    draw_mean,
    handle,
    known,
    new,
    percent_axis,
)
from replication.report.labels import GRADIENT_BOOSTING, METHOD_STYLES, NETWORKS
from replication.report.results import DatasetResults

_TAU_STEP = 0.05  # width of the classes in which orders are put together where there are many


def _methods(analyses: Analyses, table: str, among: Sequence[str] = NETWORKS) -> list[str]:
    """Methods, networks unless told otherwise, whose analyses have rows in the table."""
    return [method for method in among if any(len(one.rows(table)) for one in analyses.get(method, ()))]


def deletions_figure(results: DatasetResults, analyses: Analyses) -> Figure | None:
    """Test error without each block, beside that of the whole network (dashed); stages, if any, start where shaded."""
    methods = _methods(analyses, "deletions")
    if not methods:
        return None
    figure, (axes,) = new((WIDE[0], 2.8), analysed_caption(results, analyses, methods))
    width = 0.8 / len(methods)
    for number, method in enumerate(methods):
        found, style = analyses[method], METHOD_STYLES[method]
        errors = np.stack([analysis.column("deletions", "error") for analysis in found])  # (seeds, blocks)
        places = np.arange(errors.shape[1]) + (number - (len(methods) - 1) / 2) * width
        mean = errors.mean(0)
        spread = np.stack([mean - errors.min(0), errors.max(0) - mean]) if len(found) > 1 else None
        axes.bar(
            places, mean, width * 0.92, color=style.colour, yerr=spread, ecolor="0.2", error_kw={"elinewidth": 0.7}
        )
        whole = [value for analysis in found if (value := analysis.number("lesions.error")) is not None]
        if whole:
            axes.axhline(float(np.mean(whole)), color=style.colour, linestyle="--", linewidth=0.9)
    rows = analyses[methods[0]][0].rows("deletions")
    transitions = [place for place, row in enumerate(rows) if row.values.get("transition") == "True"]
    for place in transitions:
        axes.axvspan(place - 0.48, place + 0.48, color="0.93", zorder=0)
    block_axis(axes, range(len(rows)), [row.text("module") for row in rows], "deleted block")
    axes.set_ylabel("test error")
    axes.grid(axis="x", visible=False)
    axes.margins(x=0.01)
    percent_axis(axes)
    handles = [Patch(color=METHOD_STYLES[method].colour, label=METHOD_STYLES[method].label) for method in methods]
    if transitions:
        handles.append(Patch(color="0.93", label="block starts a stage"))
    figure.legend(
        handles=[*handles, Line2D([], [], color=GREY, linestyle="--", linewidth=0.9, label="no block deleted")],
        loc="outside right center",
        handlelength=1.6,
    )
    return figure


def lesions_figure(results: DatasetResults, analyses: Analyses) -> Figure | None:
    """Test error without k random blocks: mean over draws and seeds, and the middle 80 % of all draws."""
    return _draws_figure(results, analyses, "lesions", "deleted", "deleted blocks $k$")


def swaps_figure(results: DatasetResults, analyses: Analyses) -> Figure | None:
    """Test error of reordered networks against the order's rank correlation with the trained one, 1 to the left."""
    figure = _draws_figure(results, analyses, "swaps", "kendall_tau", r"Kendall's $\tau$ with the trained order")
    if figure is not None:
        (axes,) = figure.axes
        axes.invert_xaxis()
        orders = {tuple(np.unique(one.column("swaps", "kendall_tau"))) for found in analyses.values() for one in found}
        if all(len(taus) <= 2 for taus in orders):
            axes.set_xticks(sorted({tau for taus in orders for tau in taus}))
            axes.xaxis.set_major_formatter("{x:.2f}")
            axes.set_title("one possible exchange", loc="left", fontsize=7, color=GREY, pad=3)
    return figure


def _draws_figure(results: DatasetResults, analyses: Analyses, table: str, column: str, label: str) -> Figure | None:
    methods = _methods(analyses, table)
    if not methods:
        return None
    figure, (axes,) = new(HALF, analysed_caption(results, analyses, methods))
    for method in methods:
        found = [analysis for analysis in analyses[method] if len(analysis.rows(table))]
        x = np.concatenate([analysis.column(table, column) for analysis in found])
        y = np.concatenate([analysis.column(table, "error") for analysis in found])
        whole = [value for analysis in found if (value := analysis.number("lesions.random_error")) is not None]
        if table == "lesions":
            x, y = np.concatenate([np.zeros(len(whole)), x]), np.concatenate([whole, y])
        elif len(np.unique(x)) > 1 / _TAU_STEP:
            x = np.round(x / _TAU_STEP) * _TAU_STEP
        _draw_distribution(axes, x, y, method)
    axes.set_xlabel(label)
    if table == "lesions":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("test error")
    percent_axis(axes)
    axes.legend(handles=[handle(method) for method in methods], fontsize=7, loc="best", handlelength=1.8)
    return figure


def _draw_distribution(axes: Axes, x: np.ndarray, y: np.ndarray, method: str) -> None:
    style, places = METHOD_STYLES[method], np.unique(x)
    groups = [y[x == place] for place in places]
    low, high = (np.array([np.quantile(group, q) for group in groups]) for q in (0.1, 0.9))
    axes.plot(places, [group.mean() for group in groups], color=style.colour, marker=style.marker)
    axes.fill_between(places, low, high, color=style.colour, alpha=0.18, linewidth=0)


def paths_figure(results: DatasetResults, analyses: Analyses) -> Figure | None:
    """Gradient that reaches the first block: through one path of each length, and through all of that length."""
    methods = _methods(analyses, "paths")
    if not methods:
        return None
    figure, (single, share) = new((WIDE[0], 2.3), analysed_caption(results, analyses, methods), columns=2)
    for method in methods:
        for axes, name in ((single, "gradient_norm"), (share, "share")):
            curves = []
            for analysis in analyses[method]:
                y = analysis.column("paths", name)
                curves.append(known(analysis.column("paths", "length"), np.where(y > 0, y, np.nan)))
            draw_mean(axes, curves, method)
    single.set_yscale("log")
    single.set_ylabel("gradient through one path")
    share.set_ylabel("share of all lengths")
    percent_axis(share)
    for axes in (single, share):
        depth_axis(axes, "blocks on the path")
    share.legend(handles=[handle(method) for method in methods], fontsize=7, loc="best", handlelength=1.8)
    return figure


def alignment_figure(results: DatasetResults, analyses: Analyses) -> Figure | None:
    """Cosine of each block's step and the negative gradient of the loss before it; beside it, if there are, that of
    gradient boosting's weak learners, which were fitted to that direction.
    """
    methods = _methods(analyses, "alignment", (*NETWORKS, GRADIENT_BOOSTING))
    if not methods:
        return None
    figure, (axes,) = new(WIDE, analysed_caption(results, analyses, methods))
    for method in methods:
        draw_mean(axes, _columns(analyses[method], "alignment", "block", "alignment"), method)
    axes.axhline(0.0, color="0.25", linewidth=0.8)
    rows = analyses[methods[0]][0].rows("alignment")
    label = "block, or weak learner" if GRADIENT_BOOSTING in methods else "block"
    block_axis(axes, [row.integer("block") for row in rows], [row.text("module") for row in rows], label)
    axes.set_ylabel("cosine with the\nnegative gradient")
    figure.legend(handles=[handle(method) for method in methods], loc="outside right center", handlelength=1.8)
    return figure


def _columns(found: Sequence[Analysis], table: str, x: str, y: str) -> list[Curve]:
    return [known(analysis.column(table, x), analysis.column(table, y)) for analysis in found]
