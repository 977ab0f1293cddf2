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
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from replication.report.analyses import load_analyses
from replication.report.costs import load_cost
from replication.report.figures.bound import bound_figure
from replication.report.figures.cost import blocks_figure
from replication.report.figures.ensemble import alignment_figure, deletions_figure
from replication.report.figures.rounds import covariance_figure, edge_figure, gamma_figure
from replication.report.figures.theory import margins_by_method_figure, modules_figure
from replication.report.results import load_results
from tests.report.synthetic import Plant
from tests.report.synthetic_more import plant_cost, plant_full_analysis


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


def _bound_figure(plant: Plant, root: Path, errors: Sequence[Sequence[float]], **columns: Any) -> Figure:
    """The bound's figure of one seed per list of training errors; other columns of the theory the same for all."""
    for seed, of_seed in enumerate(errors):
        folder = plant("digits", "boostresnet", seed)
        plant_full_analysis(folder)
        _edit_csv(folder / "analysis/theory.csv", train_error=of_seed, **columns)
    results = load_results("digits", root / "results")
    figure = bound_figure(results, load_analyses(results))
    assert figure is not None
    return figure


def _labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_no_training_error_lies_below_everything_and_is_called_zero(plant: Plant, tmp_path: Path) -> None:
    """Whatever loss and bound are, so that a bound that holds does not look violated."""
    halving = [0.5**number for number in range(7)]
    figure = _bound_figure(plant, tmp_path, [[0.0] * 7], bound_product=[1e-5 * one for one in halving])
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    (zeros,) = [line for line in _marked(axes) if line.get_marker() == "*"]
    assert list(zeros.get_xdata()) == list(range(7))
    foot = axes.transAxes.transform((0, 0))[1]
    assert zeros.get_transform().transform((0, 0))[1] == pytest.approx(foot), "at the foot of the axis"
    others = [value for line in _marked(axes) if line is not zeros for value in _y(line)]
    assert min(others) == pytest.approx(1e-5 * halving[-1]) and min(others) > axes.get_ylim()[0]
    assert [text.get_text() for text in axes.texts] == ["0"]
    assert _labels(figure)[-1] == "training error: 0" and "training error" not in _labels(figure)


def test_a_mean_of_seeds_with_and_without_errors_is_no_zero(plant: Plant, tmp_path: Path) -> None:
    first, second = [0.4, 0.2, 0.1, 0.0, 0.0, 0.0, 0.0], [0.4, 0.2, 0.0, 0.02, 0.0, 0.0, 0.0]
    figure = _bound_figure(plant, tmp_path, [first, second])
    *_, error, zeros = _marked(figure.axes[0])
    assert (zeros.get_marker(), list(zeros.get_xdata())) == ("*", [4, 5, 6])
    assert _y(error)[:4] == pytest.approx([0.4, 0.2, 0.05, 0.01]) and np.isnan(_y(error)[4:]).all()
    assert _labels(figure)[-2:] == ["training error", "training error: 0"]


def test_a_bound_that_stays_near_the_number_of_classes_has_an_axis_of_its_own(plant: Plant, tmp_path: Path) -> None:
    names = ("bound_exponential", "bound_product", "bound_telescoped", "exponential_loss")
    near = {name: [9 - 0.01 * n * number for number in range(7)] for n, name in enumerate(names)}
    figure = _bound_figure(plant, tmp_path, [[0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.0]], **near)
    above, below = figure.axes
    assert above.get_yscale() == below.get_yscale() == "linear"
    assert [_y(line) for line in _marked(above)] == [pytest.approx(column) for column in near.values()]
    low, high = above.get_ylim()
    assert 8.7 < low < 8.82 and 9 < high < 9.1, "what they differ by fills the axis"
    assert [_y(line) for line in _marked(below)] == [[0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.0]]
    assert _labels(figure)[-1] == "training error"


def _ticks(figure: Figure | None) -> dict[float, str]:
    assert figure is not None
    (axes,) = figure.axes
    return {place: text.get_text() for place, text in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}


def test_blocks_without_stages_have_the_numbers_that_are_in_their_names(plant: Plant, tmp_path: Path) -> None:
    folder = plant("mnist", "boostresnet", 0)
    plant_full_analysis(folder, blocks=10)
    for table in ("deletions", "alignment"):  # as of an MLP, whose first block is no stem and can be deleted
        _edit_csv(folder / f"analysis/{table}.csv", block=range(10), module=[f"block{n}" for n in range(1, 11)])
    _edit_csv(folder / "analysis/deletions.csv", transition=["False"] * 10)
    results = load_results("mnist", tmp_path / "results")
    analyses = load_analyses(results)
    deletions, alignment = deletions_figure(results, analyses), alignment_figure(results, analyses)
    assert _ticks(deletions) == _ticks(alignment) == {float(n): str(n + 1) for n in range(10)}
    assert deletions is not None and deletions.axes[0].get_xlabel() == "deleted block"
    assert _labels(deletions) == ["BoostResNet", "no block deleted"], "nothing is shaded, so nothing says what it is"


def test_gradient_boosting_stands_beside_the_steps_of_networks(plant: Plant, tmp_path: Path) -> None:
    results = tmp_path / "results"
    plant_full_analysis(plant("digits", "e2e", 0))
    alone = alignment_figure(found := load_results("digits", results), load_analyses(found))
    plant_full_analysis(plant("digits", "gradient-boosting", 0))
    both = alignment_figure(found := load_results("digits", results), load_analyses(found))
    assert (_labels(alone), _labels(both)) == (["End to end"], ["End to end", "Gradient boosting"])
    assert alone is not None and alone.axes[0].get_xlabel() == "block"
    assert both is not None and both.axes[0].get_xlabel() == "block, or weak learner"


def test_blocks_in_stages_are_named_where_there_is_room_and_numbered_elsewhere(plant: Plant, tmp_path: Path) -> None:
    folder, ticks = plant("digits", "boostresnet", 0), []
    results = load_results("digits", tmp_path / "results")
    for blocks in (6, 12):
        plant_full_analysis(folder, blocks)
        figure = deletions_figure(results, load_analyses(results))
        ticks.append(list(_ticks(figure).values()))
        assert figure is not None and _labels(figure) == ["BoostResNet", "block starts a stage", "no block deleted"]
    assert ticks[0][:3] == ["stage1\nblock1", "stage1\nblock2", "stage2\nblock1"] and len(ticks[0]) == 6
    assert ticks[1][:3] == ["1.1", "1.2", "2.1"] and len(ticks[1]) == 12
    modules = modules_figure(results, load_analyses(results))
    assert list(_ticks(modules).values())[:2] == ["stem", "1.1"]
    assert modules is not None and modules.axes[0].get_xlabel() == "module (stage.block)"


@pytest.mark.parametrize(("first", "second", "scale"), [(0.01, 0.03, "log"), (0.6, 0.8, "linear")])
def test_margin_curves_are_told_apart_wherever_they_lie(
    plant: Plant, tmp_path: Path, first: float, second: float, scale: str
) -> None:
    for method, fraction in (("boostresnet", first), ("e2e", second)):
        folder = plant("digits", method, 0)
        plant_full_analysis(folder)
        share = {"test": fraction, "train": 0.0}
        cumulative = [share[split] if n < 40 else 1.0 for split in share for n in range(41)]
        with (folder / "analysis/margins.csv").open("w", encoding="utf-8") as stream:
            stream.write("split,block,module,margin,cumulative\n")
            stream.writelines(
                f"{'test' if n < 41 else 'train'},6,stage3.block2,{-1 + 0.05 * (n % 41):.2f},{value}\n"
                for n, value in enumerate(cumulative)
            )
    results = load_results("digits", tmp_path / "results")
    figure = margins_by_method_figure(results, load_analyses(results))
    assert figure is not None
    (axes,) = figure.axes
    assert axes.get_yscale() == scale
    lower, upper = (line for line in axes.get_lines() if line.get_linestyle() == "-")
    assert (_y(lower)[:40], _y(upper)[:40]) == ([first] * 40, [second] * 40)
    apart = axes.transData.transform((0, second))[1] - axes.transData.transform((0, first))[1]
    assert apart > 0.1 * axes.bbox.height
    places = [set(range(*line.get_markevery()[:1], 41, line.get_markevery()[1])) for line in (lower, upper)]
    assert not places[0] & places[1], "markers are not drawn on top of each other"


def test_horizontal_lines_of_the_cost_differ_in_their_dashes(tmp_path: Path) -> None:
    plant_cost(tmp_path)
    cost = load_cost("digits", tmp_path)
    assert cost is not None
    figure = blocks_figure(cost)
    dashes = {text.get_text(): line.get_linestyle() for text, line in
              zip(figure.legends[0].get_texts(), figure.legends[0].get_lines(), strict=True)}  # fmt: skip
    levels = {line.get_linestyle(): _y(line)[0] for line in figure.axes[0].get_lines() if len(set(_y(line))) == 1}
    expected = {"AdaBoost.MM, a weak learner": 12.0, "end to end, plain loop": 60.0, "end to end, ours": 40.0}
    assert {label: levels[dashes[label]] for label in expected} == expected
