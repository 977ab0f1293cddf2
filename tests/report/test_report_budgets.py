"""BoostResNet under several budgets: what is read, what is compared with what, and errors of one line."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from replication.errors import ResultsError
from replication.report.budgets import (
    budget_numbers,
    differences,
    latex_budgets,
    load_budgets,
    markdown_budgets,
    updates_worth,
)
from replication.report.costs import load_cost
from replication.report.figures.budgets import budgets_figure
from replication.report.results import load_results
from tests.report.synthetic import edit_json, plant_run
from tests.report.synthetic_more import plant_budgets, plant_cost


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """BoostResNet of 7 rounds of 100, 200 and 400 updates, and end to end of 2,800 with a point every 100."""
    for seed in range(3):
        for method in ("boostresnet", "e2e"):
            plant_run(tmp_path, "digits", method, seed)
    plant_budgets(tmp_path)
    plant_cost(tmp_path)
    return tmp_path


def test_the_experiments_own_runs_stand_among_the_others(planted: Path) -> None:
    budgets = load_budgets(load_results("digits", planted), planted)
    assert [budgeted.budget for budgeted in budgets] == [0.01, 0.02, 0.04]
    assert [budgeted.runs[0].metrics.gradient_updates for budgeted in budgets] == [700, 1400, 2800]
    assert all(len(budgeted.results.of("e2e")) == 3 for budgeted in budgets)
    assert load_budgets(load_results("svhn", planted), planted) == ()
    shutil.rmtree(planted / "digits/budgets")
    assert load_budgets(load_results("digits", planted), planted) == (), "one budget is nothing to compare"


def test_what_is_held_against_end_to_end(planted: Path) -> None:
    """An update takes a tenth of the operations of one end to end, and 7 rounds with a pass of 1,293 images each
    7 * 12.93 / 30 more: 73, 143 and 283 updates. The first lies before end to end's first point, at 100.
    """
    results, cost = load_results("digits", planted), load_cost("digits", planted)
    budgets = load_budgets(results, planted)
    assert [set(updates_worth(budgeted, cost)) for budgeted in budgets] == [{73}, {143}, {283}]
    assert differences(budgets[0], cost) == []
    for split in ("test", "validation"):
        for seed, difference in enumerate(differences(budgets[2], cost, split)):
            run = results.seed("e2e", seed)
            assert run is not None
            at = {point.gradient_updates: getattr(point, f"{split}_accuracy") for point in run.history}
            ours = getattr(budgets[2].runs[seed].history[-1], f"{split}_accuracy")
            assert difference == pytest.approx(ours - (at[200] + 0.83 * (at[300] - at[200])))
    assert all(updates_worth(budgeted, None) == differences(budgeted, None) == [] for budgeted in budgets)


def test_numbers_for_the_prose(planted: Path) -> None:
    results, cost = load_results("digits", planted), load_cost("digits", planted)
    numbers = budget_numbers(load_budgets(results, planted), cost)
    assert numbers["budgets/list"] == "0.01, 0.02, 0.04"
    assert (numbers["budgets/first/updates_per_block"], numbers["budgets/last/updates_per_block"]) == ("100", "400")
    assert (numbers["budgets/compared/budget"], numbers["budgets/compared/worth"]) == ("0.04", "283")
    assert (numbers["budgets/last/positive_gamma"], numbers["budgets/last/rounds"]) == ("7", "7")
    assert "budgets/first/gap" not in numbers and numbers["budgets/compared/gap"].endswith("points")
    uncounted = budget_numbers(load_budgets(results, planted), None)
    assert not [name for name in uncounted if "worth" in name or "gap" in name]
    assert budget_numbers((), cost) == {}


def test_the_tables_say_what_the_data_are(planted: Path) -> None:
    results, cost = load_results("digits", planted), load_cost("digits", planted)
    budgets = load_budgets(results, planted)
    latex, markdown = latex_budgets(budgets, cost), markdown_budgets([((), None), (budgets, cost)])
    assert (
        r"0.01 & 100 & 700 & 3 &" in latex and "& 73 & -- & -- & 7 & 7 &" in latex and "Data: official copy." in latex
    )
    assert "| digits | 0.04 | 400 | 2,800 | 3 |" in markdown and "unofficial" not in markdown
    assert markdown_budgets([((), None)]) == "Nothing was run under other budgets."
    for path in planted.glob("**/metrics.json"):
        edit_json(path, lambda values: values.update(official_data=False, exact_test_accuracy=0.5))
    budgets = load_budgets(load_results("digits", planted), planted)
    assert "Data: unofficial copy." in latex_budgets(budgets, cost)
    markdown = markdown_budgets([(budgets, cost)])
    assert "| digits (unofficial copy) | 0.01 |" in markdown
    assert "official ones, by budget: 0.01: 50.00 ± 0.00; 0.02: 50.00 ± 0.00; 0.04: 50.00 ± 0.00." in markdown


def test_the_figure_has_a_line_per_budget_and_end_to_end_where_operations_were_counted(planted: Path) -> None:
    budgets = load_budgets(load_results("digits", planted), planted)
    figure = budgets_figure(budgets, load_cost("digits", planted))
    assert figure is not None
    accuracy, edges = figure.axes
    assert len(accuracy.get_lines()) == 4 and len(edges.get_lines()) == 3
    first = accuracy.get_lines()[0].get_xdata()
    assert first[0] == pytest.approx(10 + 12.93 / 30) and first[-1] == pytest.approx(7 * first[0])
    plain = budgets_figure(budgets, None)
    assert plain is not None and len(plain.axes) == 1
    assert budgets_figure((), None) is None


@pytest.mark.parametrize(("column", "value"), [("budget", 0.5), ("content_hash", "1" * 64)])
def test_another_budgets_or_another_datas_run_is_refused(planted: Path, column: str, value: object) -> None:
    folder = planted / "digits/budgets/0.04/digits/boostresnet"
    for seed in range(3):
        if column == "budget":
            edit_json(folder / f"seed{seed}/metrics.json", lambda values: values.update(budget=value))
        else:
            edit_json(folder / f"seed{seed}/run.json", lambda values: values["data"].update(content_hash=value))
    with pytest.raises(ResultsError, match=r"0\.04/digits/boostresnet/seed0 was trained .*replication budgets digits"):
        load_budgets(load_results("digits", planted), planted)


def test_rounds_without_a_test_curve_are_left_out_of_the_figure(planted: Path) -> None:
    for path in planted.glob("**/boostresnet/*/rounds.csv"):
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(row | {"test_accuracy": ""} for row in rows)
    figure = budgets_figure(load_budgets(load_results("digits", planted), planted), load_cost("digits", planted))
    assert figure is not None
    assert [len(line.get_xdata()) for line in figure.axes[0].get_lines()] == [28]  # end to end's alone
