"""Time and memory of a gradient update: block by block, and against depth beside the paper's promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from replication.report.costs import Cost, Spread, linear_fit
from replication.report.figures.style import HALF, WIDE, depth_axis, handle, new
from replication.report.labels import DATASET_LABELS, METHOD_STYLES, UNOFFICIAL

_PROMISE: dict[str, Any] = {"color": "0.25", "linestyle": ":", "linewidth": 1.1, "marker": ""}


def _caption(cost: Cost) -> str:
    parts = [DATASET_LABELS[cost.dataset], cost.reading, f"batch {cost.batch_size}"]
    return " · ".join([*parts, *([] if cost.official else [UNOFFICIAL])])


def blocks_figure(cost: Cost) -> Figure:
    """Milliseconds per update of each block in three ways; of end-to-end training and of a weak learner of AdaBoost.MM
    as horizontal lines, each with a dash of its own: their colours are close to each other.
    """
    figure, (axes,) = new(WIDE, _caption(cost))
    ways: list[tuple[str, Callable[[Any], Spread], dict[str, Any]]] = [
        ("BoostResNet, the released code's way", lambda block: block.as_released, {"linestyle": ":", "marker": "P"}),
        ("BoostResNet, exact augmentation", lambda block: block.augmented, {"linestyle": "--", "marker": "D"}),
        ("BoostResNet, stored prefix", lambda block: block.cached, {}),
    ]
    x = [block.block for block in cost.blocks]
    handles = []
    for number, (label, of, look) in enumerate(ways):
        _draw(axes, x, [of(block) for block in cost.blocks], "boostresnet", hollow=number < 2, **look)
        handles.append(handle("boostresnet", label, **look, **({"mfc": "white"} if number < 2 else {})))
    for label, spread, dash, method in (
        ("AdaBoost.MM, a weak learner", cost.adaboost_mm, "-.", "adaboost-mm"),
        ("end to end, plain loop", cost.plain_end_to_end, "--", "e2e"),
        ("end to end, ours", cost.end_to_end, "-", "e2e"),
    ):
        colour = METHOD_STYLES[method].colour
        axes.axhline(spread.median, color=colour, linestyle=dash, linewidth=1.1)
        axes.axhspan(spread.low, spread.high, color=colour, alpha=0.12, linewidth=0)
        handles.insert(0, Line2D([], [], color=colour, linestyle=dash, label=label))
    axes.set_yscale("log")
    depth_axis(axes, "block in training")
    axes.set_ylabel("milliseconds per update")
    figure.legend(handles=handles, loc="outside right center", handlelength=2.4)
    return figure


def depth_time_figure(cost: Cost) -> Figure | None:
    """Time per update against the number of rounds T, with c1 T + c2 fitted to end to end and c1 + c2 from that fit."""
    return _depth_figure(
        cost,
        [depth.cached for depth in cost.depths],
        [depth.end_to_end for depth in cost.depths],
        ("$c_1T+c_2$", "$c_1+c_2$"),
        "milliseconds per update",
    )


def depth_memory_figure(cost: Cost) -> Figure | None:
    """Peak memory of an update against T, with M1 T + M2 fitted to end to end and M1 + M2 from that fit."""
    return _depth_figure(
        cost,
        [_exact(depth.cached_memory / 2**20) for depth in cost.depths],
        [_exact(depth.end_to_end_memory / 2**20) for depth in cost.depths],
        ("$M_1T+M_2$", "$M_1+M_2$"),
        "MiB per update",
    )


def _depth_figure(
    cost: Cost, cached: Sequence[Spread], whole: Sequence[Spread], promise: tuple[str, str], label: str
) -> Figure | None:
    if len(cost.depths) < 2:
        return None
    rounds = [depth.rounds for depth in cost.depths]
    figure, (axes,) = new(HALF, _caption(cost))
    slope, intercept = linear_fit([float(value) for value in rounds], [spread.median for spread in whole])
    x = np.array([min(rounds), max(rounds)], dtype=float)
    axes.plot(x, slope * x + intercept, **_PROMISE)
    axes.plot(x, np.full(2, slope + intercept), **(_PROMISE | {"linestyle": "-."}))
    _draw(axes, rounds, whole, "e2e")
    _draw(axes, rounds, cached, "boostresnet")
    depth_axis(axes, "rounds $T$")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.legend(
        handles=[
            handle("e2e"),
            Line2D([], [], label=f"{promise[0]}, fitted", **_PROMISE),
            handle("boostresnet", "BoostResNet, stored prefix"),
            Line2D([], [], label=f"{promise[1]}, from that fit", **(_PROMISE | {"linestyle": "-."})),
        ],
        loc="upper left", fontsize=7, handlelength=2.0, labelspacing=0.3,
    )  # fmt: skip
    return figure


def _draw(
    axes: Axes, x: Sequence[int], spreads: Sequence[Spread], method: str, hollow: bool = False, **look: Any
) -> None:
    style = METHOD_STYLES[method]
    look = {"color": style.colour, "marker": style.marker} | look
    axes.plot(x, [spread.median for spread in spreads], mfc="white" if hollow else style.colour, **look)
    low, high = [spread.low for spread in spreads], [spread.high for spread in spreads]
    axes.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0)


def _exact(value: float) -> Spread:
    return Spread(value, value, value)
