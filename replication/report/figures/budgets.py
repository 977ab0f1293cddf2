"""BoostResNet under several budgets: accuracy against floating-point operations, and the edge block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from replication.report.budgets import Budgeted, longest_beside_labels, with_boostresnet
from replication.report.comparisons import operations
from replication.report.costs import Cost
from replication.report.figures.style import (
    WIDE,
    Curve,
    caption,
    depth_axis,
    draw_mean,
    handle,
    known,
    new,
    percent_axis,
)
from replication.report.figures.training import boosting_figure
from replication.report.results import Run

# BoostResNet's own look is that of the experiment's own budget; longer blocks are darker, shorter ones lighter.
_LONGER: tuple[dict[str, Any], ...] = (
    {"color": "#004B78", "marker": "^"}, {"color": "#00304D", "marker": "D"}, {"color": "#00121C", "marker": "s"},
)  # fmt: skip
_SHORTER: tuple[dict[str, Any], ...] = ({"color": "#7FB8DE", "marker": "v"}, {"color": "#B5D6EC", "marker": "<"})
_FURTHER: dict[str, Any] = {"color": "#8F3E00", "marker": "D"}  # end to end under another budget


def budgets_figure(budgets: Sequence[Budgeted], cost: Cost | None) -> Figure | None:
    """Left, where operations were counted: held-out accuracy of BoostResNet after every round and of end to end,
    against the operations behind it. Right: the edge against depth. Mean and range over seeds. End to end under another
    budget has a line of its own where its curve does not go on from that of the others.
    """
    further, budgets = [one for one in budgets if not one.own and one.results.of("e2e")], with_boostresnet(budgets)
    if not budgets:
        return None
    further = [one for one in further if not _is_joined(one, budgets[0].compared.of("e2e"))][-1:]
    counted = cost is not None and all(operations(run, cost) for budgeted in budgets for run in budgeted.runs)
    shown = {f"{budgeted.budget:g}": budgeted.runs for budgeted in budgets}
    shown |= {f"{one.budget:g}": one.results.of("e2e") for one in further} if counted else {}
    figure, axes = new(WIDE, caption(budgets[0].results, shown), columns=2 if counted else 1)
    if counted and cost is not None:
        _draw_accuracy(axes[0], budgets, further, cost)
    for look, budgeted in zip(_looks(budgets), budgets, strict=True):
        edges = [
            (np.array([float(entry.block) for entry in run.rounds]), _column(run.rounds, "edge"))
            for run in budgeted.runs
        ]
        draw_mean(axes[-1], edges, "boostresnet", **look)
    depth_axis(axes[-1])
    axes[-1].set_ylabel(r"edge $\tilde\gamma_{t+1}$")
    lines = [
        handle("boostresnet", f"BoostResNet,\nbudget {budgeted.budget:g}", **look)
        for look, budgeted in zip(_looks(budgets), budgets, strict=True)
    ]
    if counted and budgets[0].compared.of("e2e"):
        lines.append(handle("e2e"))
        lines += [handle("e2e", f"End to end,\nbudget {one.budget:g}", **_FURTHER) for one in further]
    figure.legend(handles=lines, loc="outside right center", handlelength=2.0)
    return figure


def longest_boosting_figure(budgets: Sequence[Budgeted]) -> Figure | None:
    """Accuracy of BoostResNet and of the boosting of labels under the greatest other budget that both were run at."""
    longest = longest_beside_labels(budgets)
    return boosting_figure(longest.results) if longest else None


def _draw_accuracy(axes: Axes, budgets: Sequence[Budgeted], further: Sequence[Budgeted], cost: Cost) -> None:
    runs = [run for budgeted in budgets for run in budgeted.runs]
    held_out = "test" if any(point.test_accuracy is not None for run in runs for point in run.history) else "validation"
    for look, budgeted in zip(_looks(budgets), budgets, strict=True):
        curves: list[Curve] = [
            known(np.array(operations(run, cost)), _column(run.rounds, f"{held_out}_accuracy")) for run in budgeted.runs
        ]
        draw_mean(axes, curves, "boostresnet", **look)
    draw_mean(axes, _by_updates(budgets[0].compared.of("e2e"), held_out), "e2e")
    for one in further:
        draw_mean(axes, _by_updates(one.results.of("e2e"), held_out), "e2e", **_FURTHER)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("operations, in end-to-end updates")
    axes.set_ylabel(f"{held_out} accuracy")
    percent_axis(axes)


def _by_updates(runs: Sequence[Run], held_out: str) -> list[Curve]:
    return [
        known(
            np.array([float(point.gradient_updates) for point in run.history]),
            _column(run.history, f"{held_out}_accuracy"),
        )
        for run in runs
    ]


def _is_joined(one: Budgeted, curves: Sequence[Run]) -> bool:
    """Whether the curves of all its seeds are among these, as their ends."""
    ends = {run.seed: run.metrics.gradient_updates for run in curves}
    return all(ends.get(run.seed, 0) >= run.metrics.gradient_updates for run in one.results.of("e2e"))


def _column(rows: Sequence[Any], name: str) -> np.ndarray:
    return np.array([np.nan if (value := getattr(row, name)) is None else value for row in rows], dtype=float)


def _looks(budgets: Sequence[Budgeted]) -> list[dict[str, Any]]:
    own = next((number for number, budgeted in enumerate(budgets) if budgeted.own), 0)
    shorter = [_SHORTER[number % len(_SHORTER)] for number in range(own)]
    longer = [_LONGER[number % len(_LONGER)] for number in range(len(budgets) - own - 1)]
    return [*reversed(shorter), {}, *longer]
