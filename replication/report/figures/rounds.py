"""What the theory says of single rounds, seed by seed: edge, gamma and covariance against depth.

A line per seed and no mean: where gamma changes sign from round to round, seeds that do so in opposite rounds have a
mean that does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import attrs
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import SymmetricalLogLocator

from replication.report.analyses import Analysis
from replication.report.figures.style import (
    GREY,
    ROUND,
    Analyses,
    analysed_caption,
    caption,
    depth_axis,
    known,
    new,
    seed_look,
)
from replication.report.records import Round
from replication.report.results import DatasetResults
from replication.rounding import ROUNDING

_SPREAD = 0.36  # how far the intervals of one round are set apart
_ORDERS = 1e3  # from this ratio on, a linear axis would show the smaller values as zero
_PROOF = "proof_covariance"
_PROOF_LOOK: dict[str, Any] = {"linestyle": "--", "mfc": "white"}


@attrs.frozen
class _SeedCurve:
    """One seed's values, round by round; `errors` (2, rounds) below and above where there are intervals."""

    seed: int
    x: np.ndarray
    y: np.ndarray
    errors: np.ndarray | None = None


def edge_figure(results: DatasetResults) -> Figure | None:
    """Edge of the hypothesis modules against depth (the paper's Figure 4b)."""
    curves = _recorded(results, "boostresnet", lambda entry: entry.edge)
    return _round_figure(_recorded_caption(results, "boostresnet"), "boostresnet", curves, r"edge $\tilde\gamma_{t+1}$")


def gamma_figure(results: DatasetResults, analyses: Analyses, method: str = "boostresnet") -> Figure | None:
    """gamma_t against depth (Figure 4a), with bootstrap intervals where analysed; the condition asks for above zero."""
    figure = _condition_figure(results, analyses, method, "gamma", r"$\gamma_t$")
    if figure is not None:
        figure.axes[0].axhline(0.0, color="0.25", linewidth=0.8)
    return figure


def covariance_figure(results: DatasetResults, analyses: Analyses, method: str = "boostresnet") -> Figure | None:
    """The covariance against depth, intervals where analysed; the condition asks for values at or below zero.

    Beside that of Definition 4.1, hollow and dashed, the one that Theorem 4.2's proof needs, where it was analysed.
    """
    found = analyses.get(method, ())
    both = found and all(_PROOF in row.values for analysis in found for row in analysis.rows("theory"))
    definition = Line2D([], [], color=GREY, marker="o", label="Definition 4.1")
    with_alpha = Line2D([], [], color=GREY, marker="o", label=r"proof, with $\alpha$", **_PROOF_LOOK)
    handles = (definition, with_alpha) if both else ()
    figure = _condition_figure(results, analyses, method, "covariance", "covariance", handles)
    if figure is None:
        return None
    (axes,) = figure.axes
    axes.axhline(0.0, color="0.25", linewidth=0.8)
    shown = _condition_curves(results, found, method, "covariance")
    if both:
        proof = _analysed(found, _PROOF)
        _draw_seeds(axes, proof, method, **_PROOF_LOOK)
        shown += proof
    _covariance_axis(axes, np.abs(np.concatenate([curve.y for curve in shown])))
    return figure


def _covariance_axis(axes: Axes, sizes: np.ndarray) -> None:
    """Edges near one leave covariances of all orders of magnitude: then logarithmic on both sides of zero."""
    sizes = sizes[sizes > ROUNDING]
    if not len(sizes) or sizes.max() <= _ORDERS * sizes.min():
        axes.ticklabel_format(axis="y", scilimits=(-3, 3))
        return
    axes.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(sizes.min())), linscale=0.5)
    locator = SymmetricalLogLocator(axes.yaxis.get_transform())
    locator.set_params(numticks=7)
    axes.yaxis.set_major_locator(locator)


def _condition_figure(
    results: DatasetResults,
    analyses: Analyses,
    method: str,
    name: str,
    label: str,
    handles: Sequence[Line2D] = (),
) -> Figure | None:
    """One half of the weak learning condition: as analysed, or as the runs themselves recorded it."""
    found = analyses.get(method, ())
    text = analysed_caption(results, analyses, [method]) if found else _recorded_caption(results, method)
    return _round_figure(text, method, _condition_curves(results, found, method, name), label, handles)


def _condition_curves(results: DatasetResults, found: Sequence[Analysis], method: str, name: str) -> list[_SeedCurve]:
    return _analysed(found, name) if found else _recorded(results, method, lambda entry: getattr(entry, name))


def _recorded_caption(results: DatasetResults, method: str) -> str:
    runs = results.of(method)
    return caption(results, {method: runs}) if runs else ""


def _recorded(results: DatasetResults, method: str, value: Callable[[Round], float | None]) -> list[_SeedCurve]:
    """A quantity from every run's rounds.csv; seeds without it are left out."""
    curves = []
    for run in results.of(method):
        measured = [(entry.block, number) for entry in run.rounds if (number := value(entry)) is not None]
        if measured:
            x, y = np.array(measured, dtype=float).T
            curves.append(_SeedCurve(run.seed, x, y))
    return curves


def _analysed(found: Sequence[Analysis], name: str) -> list[_SeedCurve]:
    """A quantity with its bootstrap intervals from every analysis."""
    curves = []
    for analysis in found:
        x, y = analysis.column("theory", "block"), analysis.column("theory", name)
        low, high = (analysis.column("theory", f"{name}_{end}") for end in ("low", "high"))
        # A percentile interval need not hold the value itself.
        errors = np.nan_to_num(np.stack([np.maximum(y - low, 0), np.maximum(high - y, 0)]))
        curves.append(_SeedCurve(analysis.seed, x, y, errors))
    return curves


def _round_figure(
    text: str, method: str, curves: Sequence[_SeedCurve], label: str, handles: Sequence[Line2D] = ()
) -> Figure | None:
    """A line per seed, and below the axes which marker is whose, and `handles`."""
    if not curves:
        return None
    figure, (axes,) = new(ROUND, text)
    _draw_seeds(axes, curves, method)
    depth_axis(axes)
    axes.set_ylabel(label)
    seeds = [
        Line2D([], [], label=f"seed {curve.seed}", linewidth=0.7, **seed_look(method, number))
        for number, curve in enumerate(curves)
    ]
    # A legend fills its columns first: the seeds in one row, the others below.
    by_column = [one for pair in zip_longest(seeds, handles) for one in pair if one is not None]
    figure.legend(
        handles=by_column, loc="outside lower center", ncols=min(len(seeds), 5), fontsize=7, handlelength=1.8,
        columnspacing=1.2, borderpad=0.1,
    )  # fmt: skip
    return figure


def _draw_seeds(axes: Axes, curves: Sequence[_SeedCurve], method: str, **look: Any) -> None:
    for number, curve in enumerate(curves):
        style = {"markersize": 2.6, "linewidth": 0.7} | seed_look(method, number) | look
        if curve.errors is None:
            axes.plot(*known(curve.x, curve.y), **style)
            continue
        shift = _SPREAD * (number / (len(curves) - 1) - 0.5) if len(curves) > 1 else 0.0
        axes.errorbar(curve.x + shift, curve.y, curve.errors, elinewidth=0.7, capsize=1.2, capthick=0.7, **style)
