"""BoostResNet under several budgets: what is read, what is compared with what, and errors of one line."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path
from statistics import fmean

import attrs
import pytest

from replication.errors import ResultsError
from replication.files import read_csv, read_json, write_csv
from replication.report.ablations import difference_text
from replication.report.budgets import (
    Budgeted,
    bound_text,
    differences,
    differences_at_equal_updates,
    latex_budgets,
    load_budgeted,
    markdown_budgets,
    tables_of_others,
    updates_worth,
    with_boostresnet,
)
from replication.report.claims import write_claims
from replication.report.costs import load_cost
from replication.report.figures.budgets import budgets_figure, longest_boosting_figure
from replication.report.formats import Estimate, percent, significant
from replication.report.labels import LABEL_BOOSTING, METHOD_STYLES
from replication.report.records import HistoryPoint
from replication.report.render import latex_results
from replication.report.results import Run, load_results
from replication.report.tables import results_table
from replication.report.theory_numbers import budget_numbers, listed, theory_numbers
from replication.report.verdict_pages import latex_claims
from replication.report.verdicts import load_budget_verdicts, load_verdicts
from tests.report.synthetic import edit_json, plant_run
from tests.report.synthetic_more import plant_budgets, plant_cost, plant_label_boosting, plant_other_methods


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """BoostResNet of 7 rounds of 100, 200 and 400 updates, and end to end of 2,800 with a point every 100."""
    for seed in range(3):
        for method in ("boostresnet", "e2e"):
            plant_run(tmp_path, "digits", method, seed)
    plant_budgets(tmp_path)
    plant_cost(tmp_path)
    return tmp_path


def load(root: Path) -> tuple[Budgeted, ...]:
    return load_budgeted(load_results("digits", root), root)


def test_the_experiments_own_runs_stand_among_the_others(planted: Path) -> None:
    budgets = load(planted)
    assert [(budgeted.budget, budgeted.own) for budgeted in budgets] == [(0.01, False), (0.02, True), (0.04, False)]
    assert [budgeted.runs[0].metrics.gradient_updates for budgeted in budgets] == [700, 1400, 2800]
    assert all(len(budgeted.compared.of("e2e")) == 3 for budgeted in budgets)
    assert [set(budgeted.results.runs) == {"boostresnet"} for budgeted in budgets] == [True, False, True]
    assert load_budgeted(load_results("svhn", planted), planted) == ()


def test_one_budget_is_nothing_to_compare(planted: Path) -> None:
    shutil.rmtree(planted / "digits/budgets/0.01")
    shutil.rmtree(planted / "digits/boostresnet")
    assert load(planted) == ()
    # Published under another budget, and since then the experiment's own.
    for seed in range(3):
        plant_run(planted, "digits", "boostresnet", seed, per_block=400, budget=0.04)
    assert load(planted) == ()


def test_what_is_held_against_end_to_end(planted: Path) -> None:
    """An update takes a tenth of the operations of one end to end, and 7 rounds with two passes of 1,293 images each
    7 * 1,293 * 0.7 / 1,000 = 6.3 more: 76, 146 and 286 updates. The first lies before end to end's first point, at 100.
    """
    results, cost, budgets = load_results("digits", planted), load_cost("digits", planted), load(planted)
    assert [set(updates_worth(budgeted, cost)) for budgeted in budgets] == [{76}, {146}, {286}]
    assert differences(budgets[0], cost) == []
    assert [set(updates_worth(one, cost, training_alone=True)) for one in budgets] == [{70}, {140}, {280}]
    for split in ("test", "validation"):
        found = differences(budgets[2], cost, split)
        assert len(found) == 3
        for seed, difference in enumerate(found):
            run = results.seed("e2e", seed)
            assert run is not None
            at = {point.gradient_updates: getattr(point, f"{split}_accuracy") for point in run.history}
            ours = getattr(budgets[2].runs[seed].history[-1], f"{split}_accuracy")
            assert difference == pytest.approx(ours - (at[200] + 0.86 * (at[300] - at[200])))
            alone = differences(budgets[2], cost, split, training_alone=True)[seed]
            assert alone == pytest.approx(ours - (at[200] + 0.8 * (at[300] - at[200])))
    assert all(updates_worth(budgeted, None) == differences(budgeted, None) == [] for budgeted in budgets)
    assert cost is not None
    for other in ({"auxiliary": "linear"}, {"batch_size": 10}, {"blocks": (*cost.blocks, cost.blocks[-1])}):
        assert updates_worth(budgets[2], attrs.evolve(cost, **other)) == [], "counted on another network"


def test_numbers_for_the_prose(planted: Path) -> None:
    cost, budgets = load_cost("digits", planted), load(planted)
    numbers = budget_numbers(budgets, cost)
    assert (numbers["budgets/first/updates_per_block"], numbers["budgets/last/updates_per_block"]) == ("100", "400")
    for name, budgeted in (("first", budgets[0]), ("last", budgets[2])):
        test = Estimate.of([run.metrics.test_accuracy for run in budgeted.runs])
        assert numbers[f"budgets/{name}/test"] == f"{percent(test, '')}\N{NO-BREAK SPACE}%"
    assert numbers["budgets/first/test"] != numbers["budgets/last/test"]
    assert (numbers["budgets/compared/budget"], numbers["budgets/compared/worth"]) == ("0.04", "286")
    assert re.fullmatch(r"\d\.\d, \d\.\d and \d\.\d", numbers["budgets/last/bounds"])
    near, far = ([attrs.evolve(run, rounds=(attrs.evolve(run.rounds[-1], bound=bound),))
                  for run, bound in zip(budgets[2].runs, bounds, strict=True)]
                 for bounds in ((1.0, 2.0, 9.0), (0.01, 0.00002, 0.5)))  # fmt: skip
    assert (bound_text(near), bound_text(far)) == ("4.00", "2.0 \N{MULTIPLICATION SIGN} 10⁻⁵ to 0.50")
    assert (listed(["1"]), listed(["1", "2"]), listed(["1", "2", "3"])) == ("1", "1 and 2", "1, 2 and 3")
    assert (numbers["budgets/last/positive_gamma"], numbers["budgets/last/rounds"]) == ("7", "7")
    for split in ("test", "validation"):
        found = differences(budgets[2], cost, split)
        assert numbers[f"budgets/compared/{split}"] == difference_text(found, "\N{NO-BREAK SPACE}points")
        assert f"budgets/compared/{split}/further" not in numbers, "there are no other end-to-end runs"
        leader = "BoostResNet" if fmean(found) > 0 else "end to end"
        assert numbers[f"budgets/compared/{split}/words"].startswith(f"{leader} is ahead by ")
    assert (numbers["budgets/last/worth"], numbers["budgets/last/training/worth"]) == ("286", "280")
    assert "budgets/first/training/test" not in numbers, "end to end begins later"
    assert not [name for name in budget_numbers(budgets, None) if "compared" in name or "training/" in name]
    assert not [name for name in budget_numbers(budgets[:2], cost) if "compared" in name], "no longer than its own"
    alone = attrs.evolve(budgets[2].compared, runs={"boostresnet": budgets[2].runs})  # nothing to be held against
    below = (attrs.evolve(budgets[1], own=False), attrs.evolve(budgets[2], own=True, compared=alone))
    assert differences(below[0], cost) and not differences(below[1], cost)
    assert not [name for name in budget_numbers(below, cost) if "compared" in name], "shorter than its own"
    assert budget_numbers((), cost) == {}


def test_curves_of_end_to_end_go_on_where_a_longer_run_has_the_same_beginning(planted: Path) -> None:
    before, cost = load(planted), load_cost("digits", planted)
    plant_other_methods(planted)
    budgets = load(planted)
    (curve, *_), own = budgets[0].compared.of("e2e"), load_results("digits", planted).of("e2e")[0]
    assert curve.metrics.gradient_updates == 2 * own.metrics.gradient_updates == 5600
    ends = [*range(100, 2801, 100), *range(3000, 5601, 200)]
    assert [point.gradient_updates for point in curve.history] == ends
    assert curve.history[: len(own.history)] == own.history
    for earlier, later in zip(before, budgets, strict=True):
        assert differences(earlier, cost) == differences(later, cost), "between points that were there before"
    assert [len(budgeted.results.of("e2e")) for budgeted in budgets] == [0, 3, 3]
    assert budgets[1].results.of("e2e")[0] == own, "the experiment's own table is as it was"
    history = planted / "digits/budgets/0.04/digits/e2e/seed0/history.csv"
    rows = read_csv(history)
    write_csv(history, tuple(rows[0]), [rows[0] | {"train_accuracy": "0.5"}, *rows[1:]])
    apart = load(planted)
    for budgeted in apart:
        assert budgeted.compared.of("e2e")[0] == own, "another training is not joined, and the experiment's comes first"
    longer = apart[2].compared_too.of("e2e")[0]
    assert longer == apart[2].results.of("e2e")[0] and longer.path == history.parent


def test_end_to_end_runs_of_another_machine_are_held_against_too(planted: Path) -> None:
    before, cost = load(planted), load_cost("digits", planted)
    assert all(not one.compared_too.of("e2e") and differences(one, cost, too=True) == [] for one in before)
    assert "further end-to-end runs" not in markdown_budgets([(before, cost)])
    plant_other_methods(planted)
    for history in (planted / "digits/budgets/0.04/digits/e2e").glob("seed*/history.csv"):
        rows = read_csv(history)
        write_csv(history, tuple(rows[0]), [row | {"validation_accuracy": "0.25"} for row in rows])
    budgets = load(planted)
    for earlier, later in zip(before, budgets, strict=True):
        for split in ("test", "validation"):
            assert differences(earlier, cost, split) == differences(later, cost, split), "the experiment's come first"
    assert differences(budgets[1], cost, too=True) == [], "their curve begins later"
    found = differences(budgets[2], cost, "validation", too=True)
    ends = [run.history[-1].validation_accuracy for run in budgets[2].runs]
    assert found == pytest.approx([(end or 0) - 0.25 for end in ends]) and len(found) == 3
    markdown = markdown_budgets([(budgets, cost)])
    further = [difference_text(differences(budgets[2], cost, split, too=True)) for split in ("test", "validation")]
    in_prose = budget_numbers(budgets, cost)["budgets/compared/validation/further"]
    assert in_prose.replace("\N{NO-BREAK SPACE}points", "") == further[1]
    sentence = f"0.04: test {further[0]}, validation {further[1]}."
    assert f"digits, by further end-to-end runs, of budget 0.04: {sentence}" in markdown
    assert "by end-to-end runs of budget" not in markdown
    # Where the first curves end too early, the further ones are what there is.
    short = [attrs.evolve(run, history=run.history[:1]) for run in budgets[2].compared.of("e2e")]
    ours = attrs.evolve(budgets[2].compared, runs=budgets[2].compared.runs | {"e2e": tuple(short)})
    longest = attrs.evolve(budgets[2], compared=ours)
    assert differences(longest, cost) == differences(budgets[2], cost, too=True) != []
    assert differences(longest, cost, too=True) == []
    markdown = markdown_budgets([((*budgets[:2], longest), cost)])
    assert "- digits: at budget 0.04, by end-to-end runs of budget 0.04." in markdown


def test_other_methods_under_another_budget(planted: Path) -> None:
    plant_other_methods(planted)
    cost, budgets = load_cost("digits", planted), load(planted)
    shorter, longer = tables_of_others(budgets, cost)
    assert [row.key for row in shorter.rows] == ["boostresnet"] and shorter.name == "digits at budget 0.01"
    lines = ["boostresnet", "e2e-at-operations", "e2e-at-boostresnet", "e2e", "boostresnet-refined"]
    assert [row.key for row in longer.rows] == lines and all(len(row.seeds) == 3 for row in longer.rows)
    assert {row.key: row.gradient_updates[0] for row in longer.rows} == {
        "boostresnet": 2800, "e2e-at-operations": 286, "e2e-at-boostresnet": 2800, "e2e": 5600,
        "boostresnet-refined": 5600,
    }  # fmt: skip
    results = load_results("digits", planted)
    latex = latex_results(results_table(results, cost), [shorter, longer])
    parts = (r"\emph{At budget 0.01}", r"\emph{At budget 0.04}", "BoostResNet, refined & 3")
    assert sorted(parts, key=latex.index) == list(parts)
    assert latex.count("BoostResNet, refined & 3 &") == 1 and "Lines at another budget say so." in latex
    numbers = budget_numbers(budgets, cost)
    assert numbers["budgets/methods"] == "BoostResNet, its refinement and end-to-end networks were"
    assert budget_numbers(budgets[:2], cost)["budgets/methods"] == "BoostResNet alone was"
    assert numbers["budgets/last/boostresnet-refined/gradient_updates"] == "5,600"
    assert (numbers["budgets/refined/budget"], numbers["budgets/refined/gradient_updates"]) == ("0.04", "5,600")
    assert not [name for name in numbers if "budgets/end_to_end/" in name], "it stands beside the longest blocks"
    found = budgets[2].results
    for split in ("test", "validation"):
        refined, whole, boosted = (
            [getattr(run.metrics, f"{split}_accuracy") for run in found.of(method)]
            for method in ("boostresnet-refined", "e2e", "boostresnet")
        )
        early = [getattr(point, f"{split}_accuracy") for run in found.of("e2e") for point in run.history
                 if point.gradient_updates == 2800]  # fmt: skip
        for name, ours, theirs in (("refined/gap", refined, whole), ("equal", boosted, early)):
            gaps = [one - other for one, other in zip(ours, theirs, strict=True)]
            assert numbers[f"budgets/{name}/{split}"] == difference_text(gaps, "\N{NO-BREAK SPACE}points")


def test_end_to_end_and_the_refined_network_beside_shorter_blocks_than_the_longest(planted: Path) -> None:
    for seed in range(3):
        for method in ("e2e", "boostresnet-refined"):
            plant_run(planted / "digits/budgets/0.01", "digits", method, seed, per_block=100, budget=0.01, kind="0.01")
    budgets, cost = load(planted), load_cost("digits", planted)
    numbers, shorter, longest = budget_numbers(budgets, cost), budgets[0].results, budgets[-1].results
    assert {numbers[f"budgets/{name}/budget"] for name in ("end_to_end", "refined")} == {"0.01"}
    assert (numbers["budgets/end_to_end/against"], numbers["budgets/end_to_end/gradient_updates"]) == ("2,800", "1,400")
    pairs = {"end_to_end": (longest, "boostresnet"), "refined": (shorter, "boostresnet-refined")}
    for name, (results, method) in pairs.items():
        ours, theirs = ([run.metrics.test_accuracy for run in runs] for runs in (results.of(method), shorter.of("e2e")))
        gaps = [one - other for one, other in zip(ours, theirs, strict=True)]
        assert numbers[f"budgets/{name}/gap/test"] == difference_text(gaps, "\N{NO-BREAK SPACE}points")


def test_the_boosting_of_labels_beside_the_longest_blocks(planted: Path) -> None:
    assert longest_boosting_figure(load(planted)) is None
    for method in LABEL_BOOSTING:  # the experiment's own budget has a figure of its own
        for seed in range(3):
            plant_run(planted, "digits", method, seed)
    assert longest_boosting_figure(load(planted)) is None
    plant_label_boosting(planted)
    budgets = load(planted)
    assert longest_boosting_figure(budgets[:2]) is None
    numbers, longest = budget_numbers(budgets, None), budgets[-1].results
    assert numbers["budgets/methods"] == "BoostResNet, AdaBoost.MM and gradient boosting were"
    assert numbers["budgets/boosting/updates_per_block"] == "400"
    for method in LABEL_BOOSTING:
        assert numbers[f"budgets/boosting/{method}/test"] == numbers[f"budgets/last/{method}/test"]
        ours, theirs = ([run.metrics.test_accuracy for run in longest.of(name)] for name in ("boostresnet", method))
        gaps = [one - other for one, other in zip(ours, theirs, strict=True)]
        assert numbers[f"budgets/boosting/gap/{method}/test"] == difference_text(gaps, "\N{NO-BREAK SPACE}points")
        first = fmean(run.history[0].test_accuracy or 0 for run in longest.of(method))
        assert numbers[f"budgets/boosting/{method}/first_round_test"].startswith(f"{100 * first:.2f}")
    figure = longest_boosting_figure(budgets)
    assert figure is not None
    assert "budget 0.04" in figure.axes[0].get_title(loc="right")
    assert {line.get_color() for line in figure.axes[0].get_lines()} == {
        METHOD_STYLES[method].colour for method in ("boostresnet", *LABEL_BOOSTING)
    }
    shutil.rmtree(planted / "digits/budgets/0.04/digits/gradient-boosting")
    assert longest_boosting_figure(load(planted)) is None, "one of two would leave sentences unfinished"


def _at(run: Run, gradient_updates: int) -> HistoryPoint:
    return next(point for point in reversed(run.history) if point.gradient_updates == gradient_updates)


def test_after_equally_many_updates_whatever_the_budget_of_end_to_end(planted: Path) -> None:
    """BoostResNet at twice the length took 2,800 updates, as the experiment's own end to end did; at thrice, 4,200,
    which only end to end of 5,600 has passed, with a point every 200.
    """
    longer = planted / "digits/budgets/0.06"
    for seed in range(3):
        plant_run(longer, "digits", "boostresnet", seed, per_block=600, budget=0.06, kind="0.06")
    assert budget_numbers(load(planted), None)["budgets/equal/budget"] == "0.04", "none has 4,200 updates end to end"
    plant_other_methods(planted)
    budgets = load(planted)
    numbers = {name: text for name, text in budget_numbers(budgets, None).items() if "/equal/" in name}
    assert (numbers["budgets/equal/budget"], numbers["budgets/equal/gradient_updates"]) == ("0.06", "4,200")
    for split in ("test", "validation"):
        ours, theirs = (
            [getattr(_at(run, 4200), f"{split}_accuracy") for run in runs]
            for runs in (budgets[3].runs, budgets[2].results.of("e2e"))
        )
        gaps = [one - other for one, other in zip(ours, theirs, strict=True)]
        assert differences_at_equal_updates(budgets[3], budgets, split) == gaps and len(gaps) == 3
        assert numbers[f"budgets/equal/{split}"] == difference_text(gaps, "\N{NO-BREAK SPACE}points")
    assert not [name for name in budget_numbers(budgets[:2], None) if "/equal/" in name], "no longer than its own"


def test_from_when_on_the_bound_says_more_than_the_training_error(planted: Path) -> None:
    first, second, _ = load_results("digits", planted).of("boostresnet")

    def run(of: Run, errors: list[float], bounds: list[float]) -> Run:
        rounds = [
            attrs.evolve(entry, train_error=error, bound=bound)
            for entry, error, bound in zip(of.rounds, errors, bounds, strict=False)
        ]
        return attrs.evolve(of, rounds=tuple(rounds))

    late = run(first, [0.1, 0.0, 0.0, 0.0], [9.0, 3.0, 1.0, 0.9])
    later = run(second, [0.0, 0.0, 0.0, 0.0], [9.0, 3.0, 1.1, 0.9])
    early = run(second, [0.1, 0.1, 0.0], [1.1, 0.9, 0.5])
    never = run(second, [0.1, 0.1, 0.0], [1.3, 1.2, 1.1])
    assert theory_numbers([late])["bound_after_zero"] == "2 rounds"
    assert theory_numbers([late, later])["bound_after_zero"] == "2\N{EN DASH}3 rounds"
    for other in (early, never):
        assert "bound_after_zero" not in theory_numbers([late, other])


def test_end_to_end_may_be_alone_under_a_budget(planted: Path) -> None:
    before, cost = load(planted), load_cost("digits", planted)
    plant_other_methods(planted)  # end to end at 0.04
    for seed in range(3):
        shutil.rmtree(planted / f"digits/budgets/0.04/digits/boostresnet/seed{seed}")
        shutil.rmtree(planted / f"digits/budgets/0.04/digits/boostresnet-refined/seed{seed}")
    budgets = load(planted)
    assert [len(budgeted.runs) for budgeted in budgets] == [3, 3, 0]
    boosted = with_boostresnet(budgets)
    assert [budgeted.budget for budgeted in boosted] == [0.01, 0.02]
    assert boosted[0].compared.of("e2e")[0].metrics.gradient_updates == 5600, "others are held against it"
    assert [row.key for row in tables_of_others(budgets, cost)[1].rows] == ["e2e"]
    numbers, without = budget_numbers(budgets, cost), budget_numbers(before[:2], cost)
    alone = {name: text for name, text in numbers.items() if name.startswith("budgets/end_to_end/")}
    prose = (Path(__file__).parents[2] / "paper/numbers.tex").read_text(encoding="utf-8")
    assert set(re.findall(r"budgets/end_to_end/[a-z_/]+", prose)) == set(alone), "a misspelt key would never be seen"
    assert alone | without | {"budgets/methods": "BoostResNet and end-to-end networks were"} == numbers
    assert (alone["budgets/end_to_end/budget"], alone["budgets/end_to_end/gradient_updates"]) == ("0.04", "5,600")
    assert (alone["budgets/end_to_end/against"], alone["budgets/end_to_end/seeds"]) == ("1,400", "3 seeds")
    for split in ("test", "validation"):
        ours, theirs = (
            [getattr(run.metrics, f"{split}_accuracy") for run in runs]
            for runs in (boosted[-1].runs, budgets[2].results.of("e2e"))
        )
        gaps = [one - other for one, other in zip(ours, theirs, strict=True)]
        assert alone[f"budgets/end_to_end/gap/{split}"] == difference_text(gaps, "\N{NO-BREAK SPACE}points")
    for seed in range(3):
        (planted / f"digits/budgets/0.04/digits/e2e/seed{seed}").rename(planted / f"seed{seed}")
    other = plant_run(planted, "digits", "e2e", 7, per_block=400, budget=0.04)
    other.rename(planted / "digits/budgets/0.04/digits/e2e/seed7")
    unpaired = budget_numbers(load(planted), cost)
    assert "budgets/end_to_end/test" in unpaired and "budgets/end_to_end/gap/test" not in unpaired
    assert with_boostresnet(budgets[1:]) == (), "one budget is nothing to compare"
    assert not [name for name in budget_numbers(budgets[1:], cost) if name.startswith("budgets/")]


def test_runs_of_another_budget_are_judged_by_what_they_allow(planted: Path) -> None:
    plant_other_methods(planted)
    write_claims("digits", planted, planted / "digits/claims.json")
    own, elsewhere = load_verdicts("digits", planted), load_budget_verdicts("digits", planted)
    assert list(elsewhere) == ["0.01", "0.04"]
    shorter, longer = ({judged.id: judged for judged in elsewhere[name]} for name in ("0.01", "0.04"))
    assert set(shorter) == {"1", "2a", "2b", "3a", "3b", "4"}
    assert set(longer) - set(shorter) == {"relation-joint"}
    assert {judged.budget for judged in longer.values()} == {0.04} and all(judged.n == 3 for judged in longer.values())
    document = read_json(planted / "digits/claims.json")
    for claim in document["other_budgets"]["0.04"]:
        assert claim["evidence"] and all((planted / name).is_file() for name in claim["evidence"]), claim["id"]
    assert {one.id for one in own} > set(longer)
    latex = latex_claims("digits", elsewhere["0.04"], "0.04")
    assert "Verdicts on digits at budget 0.04: " in latex and r"\label{tab:digits-claims-0.04}" in latex
    edit_json(planted / "digits/claims.json", lambda values: values["other_budgets"].update({"0.04": [1]}))
    with pytest.raises(ResultsError, match=r"budget 0\.04, claims must be a list of sections; judge again: "):
        load_budget_verdicts("digits", planted)


def test_the_tables_say_what_the_data_are(planted: Path) -> None:
    cost, budgets = load_cost("digits", planted), load(planted)
    latex, markdown = latex_budgets(budgets, cost), markdown_budgets([((), None), (budgets, cost)])
    assert r"0.01 & 100 & 700 & 3 &" in latex
    assert r"& 76 & -- & -- & 7\linebreak \mbox{of 7} & 7\linebreak \mbox{of 7} &" in latex
    assert "Data: official copy." in latex and r"Cov. \ensuremath{\le} 0" in latex
    assert "digits: budget 0.02 is the experiment's own." in markdown
    assert "unofficial" not in markdown
    longest, bounds = budgets[2], [run.rounds[-1].bound for run in budgets[2].runs]
    train, test = (
        percent(Estimate.of([getattr(run.metrics, f"{split}_accuracy") for run in longest.runs]), "")
        for split in ("train", "test")
    )
    gaps = " | ".join(difference_text(differences(longest, cost, split)) for split in ("test", "validation"))
    start = f"| digits | 0.04 | 400 | 2,800 | 3 | {train} | {test} | 286 | {gaps} |"
    equal = [differences_at_equal_updates(longest, budgets, split) for split in ("test", "validation")]
    assert all(len(found) == 3 for found in equal)
    end = f"{significant(fmean(bounds), '')} | {' | '.join(map(difference_text, equal))} |"
    assert f"{start} 7 of 7 | 7 of 7 | {end}" in markdown
    assert markdown_budgets([((), None)]) == "Nothing was run under other budgets."
    for path in planted.glob("**/metrics.json"):
        edit_json(path, lambda values: values.update(official_data=False, exact_test_accuracy=values["budget"]))
    budgets = load(planted)
    assert "Data: unofficial copy." in latex_budgets(budgets, cost)
    markdown = markdown_budgets([(budgets, cost)])
    assert "| digits (unofficial copy) | 0.01 |" in markdown
    assert "Test accuracy on those, by budget: 0.01: 1.00 ± 0.00; 0.02: 2.00 ± 0.00; 0.04: 4.00 ± 0.00." in markdown


def test_the_figure_has_a_line_per_budget_and_end_to_end_where_operations_were_counted(planted: Path) -> None:
    budgets = load(planted)
    figure = budgets_figure(budgets, load_cost("digits", planted))
    assert figure is not None
    accuracy, edges = figure.axes
    assert len(accuracy.get_lines()) == 4 and len(edges.get_lines()) == 3
    assert [line.get_marker() for line in edges.get_lines()] == ["v", "o", "^"]  # the own budget's in the middle
    first = accuracy.get_lines()[0].get_xdata()
    assert first[0] == pytest.approx(10 + 1.293 * 0.7) and first[-1] == pytest.approx(7 * first[0])
    plain = budgets_figure(budgets, None)
    assert plain is not None and len(plain.axes) == 1
    assert budgets_figure((), None) is None


def test_the_figure_shows_end_to_end_alone_where_its_curve_does_not_go_on_from_the_others(planted: Path) -> None:
    plant_other_methods(planted)  # end to end at 0.04
    for seed in range(3):
        shutil.rmtree(planted / f"digits/budgets/0.04/digits/boostresnet/seed{seed}")
        shutil.rmtree(planted / f"digits/budgets/0.04/digits/boostresnet-refined/seed{seed}")
    joined = budgets_figure(load(planted), load_cost("digits", planted))
    assert joined is not None and len(joined.axes[0].get_lines()) == 3, "two budgets, and one curve end to end"
    history = planted / "digits/budgets/0.04/digits/e2e/seed1/history.csv"
    rows = read_csv(history)
    write_csv(history, tuple(rows[0]), [rows[0] | {"train_accuracy": "0.5"}, *rows[1:]])  # trained anew
    apart = budgets_figure(load(planted), load_cost("digits", planted))
    assert apart is not None
    whole, longer = apart.axes[0].get_lines()[2:]
    assert (whole.get_xdata()[-1], longer.get_xdata()[-1]) == (2800, 5600)
    assert [text.get_text() for text in apart.legends[0].get_texts()][-2:] == ["End to end", "End to end,\nbudget 0.04"]
    assert "budget 0.01, 0.02, 0.04" in apart.axes[0].get_title(loc="right") + apart.axes[1].get_title(loc="right")


def test_the_figure_shows_end_to_end_trained_anew_beside_boostresnet_as_well(planted: Path) -> None:
    plant_other_methods(planted)  # at 0.04, where BoostResNet is
    history = planted / "digits/budgets/0.04/digits/e2e/seed1/history.csv"
    rows = read_csv(history)
    write_csv(history, tuple(rows[0]), [rows[0] | {"train_accuracy": "0.5"}, *rows[1:]])
    figure = budgets_figure(load(planted), load_cost("digits", planted))
    assert figure is not None
    whole, longer = figure.axes[0].get_lines()[3:]
    assert (whole.get_xdata()[-1], longer.get_xdata()[-1]) == (2800, 5600)


def test_without_a_test_curve_the_figure_shows_the_validation_split(planted: Path) -> None:
    for path in [*planted.glob("**/rounds.csv"), *planted.glob("**/history.csv")]:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        if rows:
            with path.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(row | {"test_accuracy": ""} for row in rows)
    budgets = load(planted)
    figure = budgets_figure(budgets, load_cost("digits", planted))
    assert figure is not None
    assert figure.axes[0].get_ylabel() == "validation accuracy"
    assert [len(line.get_xdata()) for line in figure.axes[0].get_lines()] == [7, 7, 7, 28]
    assert differences(budgets[2], load_cost("digits", planted)) == []


def test_what_ended_after_other_numbers_of_updates_is_not_held_against_each_other(planted: Path) -> None:
    plant_other_methods(planted)
    for seed in range(3):
        metrics = planted / f"digits/budgets/0.04/digits/boostresnet-refined/seed{seed}/metrics.json"
        edit_json(metrics, lambda values: values.update(gradient_updates=5599))
    numbers = budget_numbers(load(planted), load_cost("digits", planted))
    assert not [name for name in numbers if "budgets/refined" in name] and "budgets/last/e2e/test" in numbers


def test_a_folder_that_is_no_budgets_is_refused_in_one_line(planted: Path) -> None:
    shutil.copytree(planted / "digits/budgets/0.04", planted / "digits/budgets/0.04.bak")
    for read in (load, lambda root: write_claims("digits", root, root / "digits/claims.json")):
        with pytest.raises(ResultsError, match=r"0\.04\.bak/.* was trained under budget 0\.04; run again: .* digits$"):
            read(planted)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("metrics.json", {"budget": 0.5}, r"0\.04/.*/seed0 was trained under budget 0\.5; run again: "),
        ("run.json", {"data": "1" * 64}, r"data\.content_hash is '1+ but .*/seed0/run\.json has '0+; run again: "),
        ("run.json", {"width": 99}, r"0\.04/.*: config\.model\.width is 99 but \S*/run\.json has 16; run again: "),
    ],
)
def test_what_is_not_the_same_experiment_is_refused(planted: Path, file: str, change: dict, message: str) -> None:
    def alter(values: dict) -> None:
        if "data" in change:
            values["data"]["content_hash"] = change["data"]
        elif "width" in change:
            values["config"]["model"] |= change
        else:
            values |= change

    for seed in range(3):
        edit_json(planted / f"digits/budgets/0.04/digits/boostresnet/seed{seed}" / file, alter)
    with pytest.raises(ResultsError, match=f"{message}.*budgets digits(; or bring .*: git restore {planted}.*)?$"):
        load(planted)


def test_seeds_of_a_budget_that_are_not_alike_are_run_again_by_the_stage(planted: Path) -> None:
    run = planted / "digits/budgets/0.04/digits/boostresnet/seed1/run.json"
    edit_json(run, lambda values: values["config"]["model"].update(width=99))
    with pytest.raises(ResultsError, match=r"width is 99 .*; run again: python -m replication budgets digits$"):
        load(planted)


def test_a_damaged_run_is_published_again_by_the_stage(planted: Path) -> None:
    (planted / "digits/budgets/0.04/digits/boostresnet/seed1/history.csv").unlink()
    with pytest.raises(ResultsError, match=r"history\.csv is missing; .*: python -m replication budgets digits; or br"):
        load(planted)
