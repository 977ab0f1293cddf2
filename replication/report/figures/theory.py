"""Theory measured: rounds, Theorem 4.2's bound in three forms, the weak learning condition, margins, modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator

from replication.report.analyses import Analysis
from replication.report.figures.style import (
    GREY,
    HALF,
    TRAIN_DASH,
    WIDE,
    analysed_caption,
    caption,
    depth_axis,
    draw_mean,
    handle,
    known,
    mean_and_range,
    new,
    percent_axis,
)
from replication.report.labels import METHOD_STYLES, NETWORKS
from replication.report.records import ROUNDING, Round
from replication.report.results import DatasetResults

Analyses = dict[str, tuple[Analysis, ...]]
_SPREAD = 0.36  # how far the seeds of one round are set apart
_ORDERS = 1e3  # from this ratio on, a linear axis would show the smaller values as zero
_PROOF = "proof_covariance"
_MARGIN_METHODS = (*NETWORKS, "adaboost-mm", "gradient-boosting")


def edge_figure(results: DatasetResults, method: str = "boostresnet") -> Figure | None:
    """Edge of the hypothesis modules against depth (the paper's Figure 4b)."""
    return _round_figure(results, method, r"edge $\tilde\gamma_{t+1}$", lambda entry: entry.edge)


def gamma_figure(results: DatasetResults, analyses: Analyses, method: str = "boostresnet") -> Figure | None:
    """gamma_t against depth (Figure 4a) with bootstrap intervals; the condition asks for values above zero."""
    found = analyses.get(method, ())
    if not found:
        figure = _round_figure(results, method, r"$\gamma_t$", lambda entry: entry.gamma)
    else:
        figure = _interval_figure(results, found, method, "gamma", r"$\gamma_t$")
    if figure is not None:
        figure.axes[0].axhline(0.0, color="0.25", linewidth=0.8)
    return figure


def covariance_figure(results: DatasetResults, analyses: Analyses, method: str = "boostresnet") -> Figure | None:
    """The covariance against depth with bootstrap intervals; the condition asks for values at or below zero.

    Beside that of Definition 4.1, hollow and dashed, the one that Theorem 4.2's proof needs, where it was analysed.
    """
    found = analyses.get(method, ())
    if not found:
        return None
    figure = _interval_figure(results, found, method, "covariance", "covariance")
    (axes,) = figure.axes
    axes.axhline(0.0, color="0.25", linewidth=0.8)
    names = ["covariance"]
    if all(_PROOF in row.values for analysis in found for row in analysis.rows("theory")):
        names.append(_PROOF)
        look: dict[str, Any] = {"linestyle": "--", "mfc": "white"}
        _draw_intervals(axes, found, method, _PROOF, **look)
        handles = [handle(method, "Definition 4.1"), handle(method, r"proof, with $\alpha$", **look)]
        axes.legend(handles=handles, fontsize=7, loc="best", handlelength=2.2)
    sizes = np.abs(np.concatenate([analysis.column("theory", name) for analysis in found for name in names]))
    sizes = sizes[sizes > ROUNDING]
    if len(sizes) and sizes.max() > _ORDERS * sizes.min():
        # Edges near one leave covariances of all orders of magnitude: logarithmic on both sides of zero.
        axes.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(sizes.min())), linscale=0.5)
        locator = SymmetricalLogLocator(axes.yaxis.get_transform())
        locator.set_params(numticks=7)
        axes.yaxis.set_major_locator(locator)
    else:
        axes.ticklabel_format(axis="y", scilimits=(-3, 3))
    return figure


def bound_figure(results: DatasetResults, analyses: Analyses, method: str = "boostresnet") -> Figure | None:
    """Training error, exponential loss and the bound's three forms on a log axis; no error is half an image."""
    found = analyses.get(method, ())
    if not found:
        return None
    half_an_image = 0.5 / max(1, max(run.info.train_size for run in results.of(method)))
    figure, (axes,) = new((WIDE[0], 2.7), analysed_caption(results, analyses, [method]))
    series = (
        ("bound_exponential", r"bound, $e^{-T\gamma^2/2}$", {"color": "0.55", "marker": "v", "linestyle": ":"}),
        ("bound_product", "bound, product", {"color": "0.15", "marker": "s", "linestyle": "--"}),
        ("bound_telescoped", "bound, telescoped", {"color": "0.15", "marker": "x", "linestyle": ""}),
        ("exponential_loss", "exponential loss", {"linestyle": "-.", "marker": "D"}),
        ("train_error", "training error", {"linestyle": "-"}),
    )
    handles = []
    for name, label, look in series:
        curves = []
        for analysis in found:
            y = analysis.column("theory", name)
            y = np.maximum(y, half_an_image) if name == "train_error" else np.where(y > 0, y, np.nan)
            curves.append(known(analysis.column("theory", "block"), y))
        hollow = name != "train_error"
        draw_mean(axes, curves, method, hollow=hollow, **look)
        handles.append(handle(method, label, **look, **({"mfc": "white"} if hollow else {})))
    axes.set_yscale("log")
    depth_axis(axes)
    axes.set_ylabel("on the training images")
    figure.legend(handles=handles, loc="outside right center", handlelength=2.4)
    return figure


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
    depth_axis(axes, "module")
    axes.set_ylabel("test accuracy")
    percent_axis(axes)
    figure.legend(handles=handles, loc="outside right center", handlelength=2.4)
    return figure


def _round_figure(results: DatasetResults, method: str, label: str, value: Callable[[Round], float]) -> Figure | None:
    runs = results.of(method)
    if not runs:
        return None
    figure, (axes,) = new(HALF, caption(results, {method: runs}))
    curves = [
        (np.array([entry.block for entry in run.rounds], dtype=float), np.array([value(entry) for entry in run.rounds]))
        for run in runs
    ]
    draw_mean(axes, curves, method)
    depth_axis(axes)
    axes.set_ylabel(label)
    return figure


def _interval_figure(results: DatasetResults, found: Sequence[Analysis], method: str, name: str, label: str) -> Figure:
    """Mean over seeds as a line, and every seed's value with its bootstrap interval."""
    figure, (axes,) = new(HALF, analysed_caption(results, {method: found}, [method]))
    _draw_intervals(axes, found, method, name)
    depth_axis(axes)
    axes.set_ylabel(label)
    return figure


def _draw_intervals(
    axes: Axes, found: Sequence[Analysis], method: str, name: str, linestyle: str = "-", **look: Any
) -> None:
    style = METHOD_STYLES[method]
    curves = []
    for number, analysis in enumerate(found):
        x, y = analysis.column("theory", "block"), analysis.column("theory", name)
        low, high = (analysis.column("theory", f"{name}_{end}") for end in ("low", "high"))
        # A percentile interval need not hold the value itself.
        errors = np.nan_to_num(np.stack([np.maximum(y - low, 0), np.maximum(high - y, 0)]))
        shift = _SPREAD * (number / (len(found) - 1) - 0.5) if len(found) > 1 else 0.0
        axes.errorbar(
            x + shift, y, errors, fmt=style.marker, color=style.colour, markersize=2.2, elinewidth=0.7, capsize=1.2,
            capthick=0.7, **look,
        )  # fmt: skip
        curves.append(known(x, y))
    x, mean, *_ = mean_and_range([curve for curve in curves if len(curve[0])])
    axes.plot(x, mean, color=style.colour, linewidth=0.9, linestyle=linestyle)


def _margins(analysis: Analysis, split: str, block: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Margins and cumulative fractions of one block; None is the last one."""
    rows = [row for row in analysis.rows("margins") if row.values.get("split") == split]
    if not rows:
        return np.empty(0), np.empty(0)
    wanted = max(row.integer("block") for row in rows) if block is None else block
    chosen = [row for row in rows if row.integer("block") == wanted]
    return np.array([row.number("margin") for row in chosen]), np.array([row.number("cumulative") for row in chosen])
