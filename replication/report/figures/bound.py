"""Theorem 4.2's bound in its three forms, beside the exponential loss and the training error that it is to bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from replication.report.figures.style import (
    WIDE,
    Analyses,
    Curve,
    analysed_caption,
    depth_axis,
    draw_mean,
    handle,
    known,
    mean_and_range,
    new,
    percent_axis,
    stacked,
)
from replication.report.labels import METHOD_STYLES
from replication.report.results import DatasetResults

_CROSS: dict[str, Any] = {"marker": "x", "markersize": 5.5, "zorder": 3}  # on what it coincides with, and seen there
#: Loss and bounds: column of theory.csv, label, look.
_ABOVE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("bound_exponential", r"bound, $e^{-T\gamma^2/2}$", {"color": "0.55", "marker": "v", "linestyle": ":"}),
    ("bound_product", "bound, product", {"color": "0.15", "marker": "s", "linestyle": "--"}),
    ("bound_telescoped", "bound, telescoped", {"color": "0.15", "linestyle": ""} | _CROSS),
    ("exponential_loss", "exponential loss", {"linestyle": "-.", "marker": "D"}),
)
_ERROR = "train_error"
_ZERO: dict[str, Any] = {"marker": "*", "markersize": 6.5, "linestyle": ""}
#: Loss and bounds that stay within this factor lie on top of each other on the axis that the error needs as well.
_FACTOR = 10.0

Curves = Mapping[str, Sequence[Curve]]


def bound_figure(results: DatasetResults, analyses: Analyses, method: str = "boostresnet") -> Figure | None:
    """Training error, exponential loss and the bound's three forms: on one logarithmic axis, or in two panels where
    loss and bounds could not be told apart there.
    """
    found = analyses.get(method, ())
    if not found:
        return None
    curves = {
        name: [known(analysis.column("theory", "block"), analysis.column("theory", name)) for analysis in found]
        for name in (*(name for name, *_ in _ABOVE), _ERROR)
    }
    heights = _positive([y for name, *_ in _ABOVE for _, y in curves[name]])
    draw = _two_panels if len(heights) and heights.max() < _FACTOR * heights.min() else _one_axis
    return draw(analysed_caption(results, analyses, [method]), curves, method)


def _one_axis(caption: str, curves: Curves, method: str) -> Figure:
    figure, (axes,) = new((WIDE[0], 2.7), caption)
    handles = _draw_above(axes, {name: [_without_zeros(one) for one in of] for name, of in curves.items()}, method)
    axes.set_yscale("log")
    depth_axis(axes)
    axes.set_ylabel("on the training images")
    handles += _draw_error(axes, curves, method)
    figure.legend(handles=handles, loc="outside right center", handlelength=2.4)
    return figure


def _two_panels(caption: str, curves: Curves, method: str) -> Figure:
    figure, (above, below) = stacked((WIDE[0], 3.4), caption, (1.7, 1.0))
    handles = _draw_above(above, curves, method)
    above.set_ylabel("loss and bounds")
    draw_mean(below, curves[_ERROR], method)
    below.set_ylabel("training error")
    percent_axis(below)
    depth_axis(below)
    figure.legend(handles=[*handles, handle(method, "training error")], loc="outside right center", handlelength=2.4)
    return figure


def _draw_above(axes: Axes, curves: Curves, method: str) -> list[Line2D]:
    for name, _, look in _ABOVE:
        draw_mean(axes, curves[name], method, hollow=True, **look)
    return [handle(method, label, **look, mfc="white") for _, label, look in _ABOVE]


def _draw_error(axes: Axes, curves: Curves, method: str) -> list[Line2D]:
    """The training error on a logarithmic axis, which has no place for zero: rounds in which no seed erred are stars at
    the axis's foot, where "0" is written, and no line leads there.
    """
    style = METHOD_STYLES[method]
    x, mean, low, high = mean_and_range(curves[_ERROR])
    smallest, handles = _positive([y for of in curves.values() for _, y in of]).min(initial=1.0), []
    # Room between the foot and the smallest number that has a place on the axis.
    foot = 10.0 ** np.floor(np.log10(smallest)) / 3
    if mean.any():
        axes.plot(x, np.where(mean > 0, mean, np.nan), color=style.colour, marker=style.marker)
        handles.append(handle(method, "training error"))
        if len(curves[_ERROR]) > 1:
            areas = np.maximum(low, foot), np.maximum(high, foot)
            axes.fill_between(x, *areas, color=style.colour, alpha=0.18, linewidth=0)
    if not low.all():
        axes.set_ylim(bottom=foot)
    if not mean.all():
        zero, at_foot = x[mean == 0], axes.get_xaxis_transform()
        axes.plot(zero, 0 * zero, transform=at_foot, color=style.colour, clip_on=False, zorder=3, **_ZERO)
        axes.annotate(
            "0", (0, 0), xycoords="axes fraction", xytext=(-7, 0), textcoords="offset points", ha="right", va="center",
            fontsize="small",
        )  # fmt: skip
        handles.append(handle(method, "training error: 0", **_ZERO))
    return handles


def _without_zeros(curve: Curve) -> Curve:
    x, y = curve
    return x[y > 0], y[y > 0]


def _positive(values: Sequence[np.ndarray]) -> np.ndarray:
    joined = np.concatenate(values)
    return joined[joined > 0]
