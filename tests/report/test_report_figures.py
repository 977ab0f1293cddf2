"""What figures show: seeds one by one, zeros that look like zeros, curves that can be told apart, names of blocks."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from replication.report.analyses import load_analyses
from replication.report.figures.rounds import covariance_figure, edge_figure, gamma_figure
from replication.report.results import load_results
from tests.report.synthetic import Plant
from tests.report.synthetic_more import plant_full_analysis


def _edit_csv(path: Path, **columns: Sequence[Any] | Callable[[dict[str, str]], Any]) -> None:
    """Replace columns of a table, by their values or by what a function makes of each row."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for name, values in columns.items():
        for number, row in enumerate(rows):
            row[name] = values(row) if callable(values) else values[number]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _marked(axes: Axes) -> list[Line2D]:
    """Curves with markers, without the lines and caps of intervals."""
    return [line for line in axes.get_lines() if line.get_marker() not in ("", "None", "_") and len(line.get_xdata())]


def _y(line: Line2D) -> list[float]:
    return [float(value) for value in np.asarray(line.get_ydata())]


@pytest.mark.parametrize("analysed", [False, True])
def test_seeds_that_alternate_against_each_other_are_drawn_one_by_one(
    plant: Plant, tmp_path: Path, analysed: bool
) -> None:
    signs = [(-1.0) ** number for number in range(7)]
    for seed, sign in enumerate((1, -1)):
        folder = plant("mnist", "boostresnet-binary", seed)
        _edit_csv(folder / "rounds.csv", gamma=[sign * one for one in signs])
        if analysed:
            plant_full_analysis(folder)
            _edit_csv(folder / "analysis/theory.csv", gamma=[sign * one for one in signs])
    results = load_results("mnist", tmp_path / "results")
    figure = gamma_figure(results, load_analyses(results), "boostresnet-binary")
    assert figure is not None
    first, second = _marked(figure.axes[0])
    assert (_y(first), _y(second)) == (signs, [-one for one in signs]), "their mean, zero, is not drawn"
    assert first.get_marker() != second.get_marker() and first.get_linewidth() < 1
    assert abs(sum(to_rgb(first.get_color())) - sum(to_rgb(second.get_color()))) > 0.5, "told apart by lightness"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["seed 0", "seed 1"]
    bars = [bar for container in figure.axes[0].containers for bar in container.lines[2]]
    assert len(bars) == (2 if analysed else 0)


def test_the_covariance_is_drawn_from_the_rounds_where_it_was_not_analysed(plant: Plant, tmp_path: Path) -> None:
    for method in ("boostresnet", "boostresnet-binary"):
        folder = plant("mnist", method, 0)
        _edit_csv(folder / "rounds.csv", covariance=[0.0, -0.1, "", 0.2, -0.3, -0.4, -0.5])
    results = load_results("mnist", tmp_path / "results")
    for method in ("boostresnet", "boostresnet-binary"):
        figure = covariance_figure(results, {}, method)
        assert figure is not None
        (line,) = _marked(figure.axes[0])
        assert _y(line) == [0.0, -0.1, 0.2, -0.3, -0.4, -0.5]
        assert list(line.get_xdata()) == [0, 1, 3, 4, 5, 6], "a round without it is left out"
        assert figure.axes[0].get_legend() is None, "runs do not record the covariance of the proof"
        _edit_csv(tmp_path / "results/mnist" / method / "seed0/rounds.csv", covariance=[""] * 7)
    assert covariance_figure(load_results("mnist", tmp_path / "results"), {}) is None


def test_covariances_of_many_orders_of_magnitude_get_a_logarithmic_axis(plant: Plant, tmp_path: Path) -> None:
    folder, scales = plant("mnist", "boostresnet", 0), []
    for last in (-1e-3, -1e-9):
        _edit_csv(folder / "rounds.csv", covariance=[3e-33, -0.1, -0.1, -0.1, -0.1, -0.1, last])
        figure = covariance_figure(load_results("mnist", tmp_path / "results"), {})
        assert figure is not None
        scales.append(figure.axes[0].get_yscale())
    assert scales == ["linear", "symlog"]


def test_without_runs_there_are_no_figures_of_rounds(tmp_path: Path) -> None:
    results = load_results("mnist", tmp_path)
    assert (edge_figure(results), gamma_figure(results, {}), covariance_figure(results, {})) == (None, None, None)
