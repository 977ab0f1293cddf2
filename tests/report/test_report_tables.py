"""Tables: hand-computed means, deviations and the row at equal updates; their texts; the README."""

from __future__ import annotations

import io
import math
import shutil
from functools import partial
from pathlib import Path
from statistics import fmean

import attrs
import pytest
from rich.console import Console

from replication.errors import ResultsError
from replication.files import read_csv, write_csv
from replication.report.comparisons import (
    agree,
    compared_at,
    differences_at_end,
    equal_operations_points,
    equal_updates_points,
    joined,
    operations,
)
from replication.report.costs import load_cost
from replication.report.formats import (
    Estimate,
    counts,
    duration,
    fixed,
    latex_escape,
    latex_note,
    percent,
    signed,
    significant,
)
from replication.report.labels import E2E_AT_EQUAL_OPERATIONS, E2E_AT_EQUAL_UPDATES
from replication.report.macros import numbers
from replication.report.readme import is_current, markers, update_page
from replication.report.render import latex_results, latex_rounds, markdown_results, print_summary
from replication.report.reported import reported
from replication.report.results import load_results
from replication.report.tables import ResultsTable, results_table, round_rows
from tests.report.pages import page_of
from tests.report.synthetic import Plant, edit_json
from tests.report.synthetic_more import plant_cost


def _table(tmp_path: Path, dataset: str = "digits") -> ResultsTable:
    return results_table(load_results(dataset, tmp_path / "results"))


def test_mean_and_sample_deviation() -> None:
    estimate = Estimate.of([0.90, 0.92, 0.97])
    assert estimate is not None and estimate.std is not None
    assert estimate.mean == pytest.approx(0.93)
    assert estimate.std == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2))
    assert percent(estimate, "") == "93.00 ± 3.61"
    assert percent(Estimate.of([0.9]), "") == "90.00"
    assert Estimate.of([]) is None
    assert Estimate.of([1.0, math.inf]) == Estimate(math.inf, None, 2)


def test_a_method_row_by_hand(plant: Plant, tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.90, 0.92, 0.97)):
        plant("digits", "e2e", seed, final_test=accuracy)
    row = _table(tmp_path).row("e2e")
    assert (row.seeds, row.gradient_updates, row.blocks) == ((0, 1, 2), (2800,) * 3, (6,) * 3)
    assert percent(row.test, "") == "93.00 ± 3.61"
    assert row.seconds == pytest.approx(2800 * 0.02 + 1)


def test_the_row_at_equal_updates(plant: Plant, tmp_path: Path) -> None:
    """BoostResNet of seed 1 ends at 1370 updates; the end-to-end run was evaluated every 100."""
    plant("digits", "boostresnet", 1, early=True)
    plant("digits", "e2e", 1)
    plant("digits", "e2e", 2)  # no BoostResNet of this seed: not in the row
    results = load_results("digits", tmp_path / "results")
    point = next(point for point in results.of("e2e")[0].history if point.gradient_updates == 1300)
    row = results_table(results).row(E2E_AT_EQUAL_UPDATES)
    assert (row.seeds, row.gradient_updates) == ((1,), (1300,))
    assert row.test == Estimate(point.test_accuracy or 0, None, 1)
    assert row.seconds == pytest.approx(1300 * 0.02)
    assert compared_at(results) == "after 1,300 of BoostResNet's 1,370 updates"
    values = numbers(results)
    assert values["e2e-at-boostresnet/after"] == compared_at(results)
    assert "(digits: after 1,300 of BoostResNet's 1,370 updates)." in latex_results(results_table(results))


@pytest.mark.parametrize(
    ("flip", "checks", "updates"),
    [(False, 1, 146), (True, 1, 286), (False, 3, 154)],
)
def test_the_row_at_equal_operations(plant: Plant, tmp_path: Path, flip: bool, checks: int, updates: int) -> None:
    """1,400 updates of BoostResNet: on stored outputs a tenth of the operations each, augmented anew a fifth; and in 7
    rounds 1,293 images go to logits at every check, 0.0004 of an update each, and are stored, 0.0003: 6.3 with one
    check a round, and 13.6 with three.
    """
    root = tmp_path / "results"
    folder = plant("digits", "boostresnet", 0)
    edit_json(folder / "run.json", lambda run: run["config"]["augmentation"].update(flip=flip, cached_views=0))
    interval = math.ceil(200 / checks) * 50  # the budget is 0.02
    edit_json(folder / "run.json", lambda run: run["config"]["boostresnet"].update(check_interval=interval))
    plant("digits", "e2e", 0)
    path = plant_cost(root, "digits")
    results, cost = load_results("digits", root), load_cost("digits", root)
    table = results_table(results, cost)
    row = table.row(E2E_AT_EQUAL_OPERATIONS)
    assert row.gradient_updates == (updates,)
    (run,) = results.of("e2e")
    low, high = (
        next(p for p in run.history if p.gradient_updates == at)
        for at in (updates // 100 * 100, updates // 100 * 100 + 100)
    )
    assert row.test is not None and row.test.mean == pytest.approx(
        fmean([low.test_accuracy or 0] * (100 - updates % 100) + [high.test_accuracy or 0] * (updates % 100))
    )
    assert row.seconds == pytest.approx(updates * 0.02), "not those of the point before"
    assert "At BoostResNet's operations: likewise, at the same number of floating-point operations" in latex_results(
        table
    )
    assert numbers(results, cost)["gap/equal_operations/words"].startswith("BoostResNet is ahead by ")
    edit_json(path, lambda value: value.update(reading="paper-text"))
    keys = {row.key for row in results_table(results, load_cost("digits", root)).rows}
    assert E2E_AT_EQUAL_OPERATIONS not in keys, "counted on another network"
    assert E2E_AT_EQUAL_OPERATIONS not in {row.key for row in results_table(results).rows}


def test_operations_that_nothing_counted_are_none(plant: Plant, tmp_path: Path) -> None:
    cost = load_cost("digits", plant_cost(tmp_path / "results", "digits").parents[1])
    assert cost is not None
    for section, changes, counted in (
        ("augmentation", {"flip": True, "cached_views": 2}, 0),  # the views' making
        ("augmentation", {"flip": False, "cached_views": 2}, 7),  # without augmentation there is none
        ("boostresnet", {"prefix_mode": "training"}, 0),  # whose outputs are not stored
        ("boostresnet", {"prefix_mode": "evaluation"}, 7),
    ):
        folder = tmp_path / "results/digits/boostresnet/seed0"
        if not folder.exists():
            plant("digits", "boostresnet", 0)
        edit_json(folder / "run.json", lambda run, s=section, c=changes: run["config"][s].update(c))  # type: ignore[misc]
        (run,) = load_results("digits", tmp_path / "results").of("boostresnet")
        assert len(operations(run, cost)) == counted


def test_nothing_is_interpolated_from_before_the_first_update(plant: Plant, tmp_path: Path) -> None:
    """BoostResNet's updates are worth 146 end to end, which lies between the points at 100 and 200; at 0 and 200, the
    accuracy in between is no matter of a straight line.
    """
    root = tmp_path / "results"
    plant("digits", "boostresnet", 0)
    history = plant("digits", "e2e", 0) / "history.csv"
    plant_cost(root, "digits")
    cost = load_cost("digits", root)
    assert len(equal_operations_points(load_results("digits", root), cost)) == 1
    rows = read_csv(history)
    write_csv(history, tuple(rows[0]), [rows[0] | {"gradient_updates": "0"}, *rows[1:]])
    assert equal_operations_points(load_results("digits", root), cost) == []


def test_ends_after_other_numbers_of_updates_are_no_comparison_at_equal_ones(plant: Plant, tmp_path: Path) -> None:
    for seed in range(2):
        for method in ("boostresnet-refined", "e2e"):
            plant("digits", method, seed)
    ask = partial(differences_at_end, first="boostresnet-refined", second="e2e")
    assert len(ask(load_results("digits", tmp_path / "results"), equal_updates=True)) == 2
    for name in ("metrics.json", "run.json"):  # one seed is enough
        edit_json(tmp_path / "results/digits/e2e/seed1" / name, lambda value: value.update(gradient_updates=7))
    results = load_results("digits", tmp_path / "results")
    assert ask(results, equal_updates=True) == [] and len(ask(results)) == 2


def test_curves_of_other_images_are_not_joined(plant: Plant, tmp_path: Path) -> None:
    """End to end twice as long, with the same values where the curves meet, but on a sample of 5 images."""
    folder = plant("digits", "e2e", 0)
    (run,) = load_results("digits", tmp_path / "results").of("e2e")
    metrics = attrs.evolve(run.metrics, gradient_updates=2 * run.metrics.gradient_updates)
    longer = attrs.evolve(run, metrics=metrics)
    assert agree(run, longer) and joined([run, longer]).metrics == metrics
    edit_json(folder / "run.json", lambda value: value["config"]["evaluation"].update(train_samples=5))
    (sampled,) = load_results("digits", tmp_path / "results").of("e2e")
    other = attrs.evolve(sampled, metrics=metrics)
    assert not agree(run, other) and joined([run, other]) is run


def test_refined_networks_at_equal_operations(plant: Plant, tmp_path: Path) -> None:
    """BoostResNet's 1,400 updates are worth 146 end to end, as above; its refinement's are as many end to end."""
    root = tmp_path / "results"
    for method in ("boostresnet", "boostresnet-refined", "e2e"):
        plant("digits", method, 0)
    plant_cost(root, "digits")
    results, cost = load_results("digits", root), load_cost("digits", root)
    values = numbers(results, cost)
    ((run, point),) = equal_operations_points(results, cost, refined=True)
    assert run.method == "e2e" and point.gradient_updates == 146 + 1400
    assert values["gap/refined_operations/after"] == "1,546"
    end = results.of("boostresnet-refined")[0].history[-1]
    for split in ("test", "validation"):
        points = 100 * (getattr(end, f"{split}_accuracy") - getattr(point, f"{split}_accuracy"))
        text = f"{points:+.2f}\N{NO-BREAK SPACE}points".replace("-", "\N{MINUS SIGN}")
        assert values[f"gap/refined_operations/{split}"] == text
    edit_json(root / "digits/boostresnet-refined/seed0/metrics.json", lambda one: one.update(gradient_updates=2300))
    ((_, point),) = equal_operations_points(load_results("digits", root), cost, refined=True)
    assert point.gradient_updates == 146 + 900, "of the refinement alone"
    shutil.rmtree(root / "digits/boostresnet-refined")
    results = load_results("digits", root)
    assert equal_operations_points(results, cost, refined=True) == []
    assert not [name for name in numbers(results, cost) if "refined_operations" in name]


def test_differences_on_the_official_images(plant: Plant, tmp_path: Path) -> None:
    for method, exact in (("boostresnet", 0.7), ("e2e", 0.8)):
        path = plant("digits", method, 0, official=False) / "metrics.json"
        edit_json(path, lambda metrics, exact=exact: metrics.update(exact_test_accuracy=exact))  # type: ignore[misc]
    values = numbers(load_results("digits", tmp_path / "results"))
    assert values["gap/boostresnet/exact"] == "\N{MINUS SIGN}10.00 points (1 seed)" != values["gap/boostresnet"]
    edit_json(path, lambda metrics: metrics.pop("exact_test_accuracy"))
    assert "gap/boostresnet/exact" not in numbers(load_results("digits", tmp_path / "results"))


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("data", {"content_hash": "f" * 64}),
        ("evaluation", {"train_samples": 7}),
        ("evaluation", {"held_out_samples": 7}),
        ("evaluation", {"held_out_samples": 400}),  # more than there are: all, as without
    ],
)
def test_points_of_curves_of_other_images_are_not_compared(
    plant: Plant, tmp_path: Path, section: str, change: dict[str, object]
) -> None:
    root, folders = tmp_path / "results", {}
    for method in ("boostresnet", "e2e", "boostresnet-refined"):
        folders[method] = plant("digits", method, 0)
    plant_cost(root, "digits")
    cost = load_cost("digits", root)

    def compared() -> list[bool]:
        results = load_results("digits", root)
        plain, refined = (equal_operations_points(results, cost, refined=refined) for refined in (False, True))
        return [bool(points) for points in (equal_updates_points(results), plain, refined)]

    def alter(run: dict[str, dict[str, dict[str, object]]]) -> None:
        (run if section == "data" else run["config"])[section].update(change)  # type: ignore[arg-type]

    same = change == {"held_out_samples": 400}
    assert compared() == [True] * 3
    edit_json(folders["boostresnet-refined"] / "run.json", alter)
    assert compared() == [True, True, same]
    edit_json(folders["e2e"] / "run.json", alter)
    assert compared() == [same] * 3


def test_a_point_exactly_at_the_updates_counts(plant: Plant, tmp_path: Path) -> None:
    plant("digits", "boostresnet", 0)
    plant("digits", "e2e", 0)
    assert _table(tmp_path).row(E2E_AT_EQUAL_UPDATES).gradient_updates == (1400,)
    assert compared_at(load_results("digits", tmp_path / "results")) == "after the same number of updates"
    assert "at or before that number of updates. Time" in latex_results(_table(tmp_path)), (
        "nothing to add where they are the same"
    )
    assert compared_at(load_results("svhn", tmp_path / "results")) == ""


@pytest.mark.parametrize(("gaps", "words"), [
    ((-0.01, -0.011, -0.012), "end to end is ahead by 1.10 points"),
    ((0.01, 0.011, 0.012), "BoostResNet is ahead by 1.10 points"),
    ((-0.01, 0.004), "end to end is ahead by 0.30 points, which 2 seeds cannot tell from zero"),
    ((0.00001, 0.00001), "neither is ahead"),
    ((0.005,), "BoostResNet is ahead by 0.50 points (1 seed)"),
])  # fmt: skip
def test_who_is_ahead_in_words(plant: Plant, tmp_path: Path, gaps: tuple[float, ...], words: str) -> None:
    for seed, gap in enumerate(gaps):
        folder = plant("digits", "boostresnet", seed)
        plant("digits", "e2e", seed)
        results = load_results("digits", tmp_path / "results")
        (point,) = [point for run, point in equal_updates_points(results) if run.seed == seed]
        # By the curves, which are of the same images; metrics.json may be of more of them.
        rows = read_csv(folder / "history.csv")
        rows[-1]["test_accuracy"] = str((point.test_accuracy or 0) + gap)
        write_csv(folder / "history.csv", tuple(rows[0]), rows)
    assert numbers(load_results("digits", tmp_path / "results"))["gap/equal_updates/words"] == words


def test_falls_of_the_error_are_counted_by_the_sign_of_gamma(plant: Plant, tmp_path: Path) -> None:
    folder = plant("digits", "boostresnet", 0)
    rows = read_csv(folder / "rounds.csv")
    errors, gammas = (0.9, 0.8, 0.85, 0.7, 0.7, 0.6, 0.5), (0.1, 0.1, 0.1, -0.1, 0.0, -0.1, 0.1)
    for row, error, gamma in zip(rows, errors, gammas, strict=True):
        row |= {"train_error": str(error), "gamma": str(gamma)}
    write_csv(folder / "rounds.csv", tuple(rows[0]), rows)
    values = numbers(load_results("digits", tmp_path / "results"))
    assert (values["boostresnet/fell/positive"], values["boostresnet/fell/nonpositive"]) == ("2 of 3", "2 of 3")
    assert values["boostresnet/positive_gamma"] == "4", "zero is not positive"
    assert values["boostresnet/sign_changes"] == "2 of 6"


def test_only_blocks_short_of_their_limit_ended_early(plant: Plant, tmp_path: Path) -> None:
    """The limit is 10,000 updates under a budget of 0.02."""
    folder = plant("digits", "boostresnet", 0, per_block=200)
    assert numbers(load_results("digits", tmp_path / "results"))["boostresnet/early_blocks"] == "0"
    rows = read_csv(folder / "rounds.csv")
    rows[2]["gradient_updates"] = "199"
    write_csv(folder / "rounds.csv", tuple(rows[0]), rows)
    assert numbers(load_results("digits", tmp_path / "results"))["boostresnet/early_blocks"] == "1"


def test_a_refinement_costs_what_it_started_from_too(plant: Plant, tmp_path: Path) -> None:
    plant("digits", "boostresnet-refined", 0)
    assert _table(tmp_path).row("boostresnet-refined").seconds is None
    start = plant("digits", "boostresnet", 0)
    edit_json(start / "run.json", lambda values: values.update(wall_seconds=100.0))
    assert _table(tmp_path).row("boostresnet-refined").seconds == pytest.approx(100 + 1400 * 0.02 + 1)


def test_what_was_not_run_says_so_and_keeps_the_papers_values(plant: Plant, tmp_path: Path) -> None:
    plant("cifar10", "boostresnet", 0, official=False, budget=0.002)
    latex = latex_results(_table(tmp_path, "cifar10"))
    assert r"BoostResNet, refined & not run & -- & -- & -- & -- & -- & 99.6 / 88.1 [Q] & --" in latex
    assert r"End to end & not run & -- & -- & -- & -- & -- & n/a & --" in latex
    assert "Data: unofficial copy. Budget: 0.002." in latex
    assert "No deviation is given for 1 seed." in latex
    assert "This part was not run." in latex_results(_table(tmp_path, "mnist"))


def test_lines_that_do_not_compare_are_marked(shared_tree: Path) -> None:
    latex = latex_results(results_table(load_results("digits", shared_tree)))
    assert "Stock library: histogram gradient boosting [s] & 3 & -- & 153,706" in latex
    assert "[s]: a stock library's row, not our implementation (scikit-learn 0.0, " in latex
    assert "BoostResNet, binary [b] & 3" in latex and "problem than the other lines' (3 against 8)." in latex
    assert "AdaBoost.MM & 3 & 1,400 & 153,706" in latex
    markdown = markdown_results([results_table(load_results("digits", shared_tree))])
    assert "| digits | 0.02 | End to end | 3 | 2,800 |" in markdown and "[s]: a stock library's row" in markdown


def test_only_sourced_values_of_the_paper() -> None:
    for dataset in ("cifar10", "svhn", "mnist"):
        for method in ("boostresnet", "boostresnet-refined", "e2e", "adaboost-mm"):
            value = reported(dataset, method)
            assert value is None or (value.source is None) == (value.train is None and value.test is None)
    assert reported("digits", "boostresnet") is None


def test_rounds_are_means_over_seeds(plant: Plant, tmp_path: Path) -> None:
    plant("digits", "boostresnet", 0)
    plant("digits", "boostresnet", 1)
    results = load_results("digits", tmp_path / "results")
    first, *_, last = round_rows(results)
    edges = [run.rounds[0].edge for run in results.of("boostresnet")]
    assert first.edge is not None and first.edge.mean == pytest.approx(sum(edges) / 2)
    assert (first.block, first.module, last.block) == (0, "stem", 6)
    assert latex_rounds([]) == "\\notrun\n"
    assert latex_rounds([first]).count(r"\\") == 2
    assert "Data: unofficial copy." in latex_rounds([first], "Data: unofficial copy.")


def test_strings_are_escaped_for_latex() -> None:
    assert latex_escape(r"50% of {a_b} & $x^2$ #1 ~\n") == (
        r"50\% of \{a\_\allowbreak{}b\} \& \$x\textasciicircum{}2\$ \#1 \textasciitilde{}\textbackslash{}n"
    )
    assert latex_escape("é ± −1 \u4e2d\x07 10⁻³") == (r"é \ensuremath{\pm} \ensuremath{-}1 ?? 10\ensuremath{^{-3}}")


def test_a_note_is_escaped_and_as_wide_as_its_table() -> None:
    assert latex_note("50 %") == r"\par\smallskip\begin{minipage}{\linewidth}\footnotesize 50 \%\end{minipage}"


def test_numbers_as_readers_want_them() -> None:
    assert (counts([5, 5], ""), counts([1200, 900], ""), counts([], "none")) == ("5", "900–1,200", "none")
    assert (duration(3.21, ""), duration(90, ""), duration(600, ""), duration(9000, "")) == (
        "3.2 s",
        "90 s",
        "10 min",
        "2.5 h",
    )
    assert (significant(0.03627, ""), significant(-2.5e-9, "", 2), significant(1234.5, "")) == (
        "0.0363",
        "−2.5 × 10⁻⁹",
        "1234",
    )
    assert (signed(0.5), signed(-1.234), signed(-0.001)) == ("+0.50", "\N{MINUS SIGN}1.23", "0.00")
    assert (significant(0.0, ""), significant(math.inf, ""), fixed(-0.0001, "", 2)) == ("0", "∞", "0.00")


def test_the_summary_fits_a_terminal(tree: Path) -> None:
    for width in (80, 160):
        stream = io.StringIO()
        print_summary("cifar10", tree, Console(file=stream, width=width))
        text = stream.getvalue()
        assert "92.1 / 82.1 [Q]" in text and "unofficial copy" in text and "…" not in text
        assert max(map(len, text.splitlines())) <= width
        assert ("Validation" in text) == (width == 160)


def test_the_readme_follows_the_results(tree: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    start, end = markers("results-in-full")
    readme.write_text(f"# Title\n{start}\nold\n{end}\nafter\n", encoding="utf-8")
    assert not is_current(readme, tree)
    assert update_page(readme, tree)
    assert is_current(readme, tree)
    assert not update_page(readme, tree)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"# Title\n{start}\n| Dataset | Budget | Method") and text.endswith(f"{end}\nafter\n")
    assert "| CIFAR-10 (unofficial copy) | 0.002 | BoostResNet | 1 |" in text
    assert "| SVHN | not run | BoostResNet | not run |" in text
    assert "those images of an unofficial copy that are known to be the official" in text, "not the 1,000 asked for"
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1
    edit_json(tree / "digits/e2e/seed0/metrics.json", lambda value: value.update(test_accuracy=0.5))
    assert not is_current(readme, tree)


def test_a_page_has_the_essentials_where_it_asks_for_them(shared_tree: Path, tmp_path: Path) -> None:
    text = page_of("results", tmp_path, shared_tree)
    heads = "| Dataset | Budget | Method | Seeds | Updates | Train | Validation | Test | Official test | Paper |"
    assert heads in text and "| digits |" not in text, "which are there to try"
    assert "Learners: " not in text and "Parameters: " not in text and "Time: " not in text


START, END = markers("results")


@pytest.mark.parametrize("text", [START, END, f"{END}{START}", f"{START}{END}{START}{END}"])
def test_a_readme_without_markers_is_refused(tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text, encoding="utf-8")
    with pytest.raises(ResultsError, match=r"README.md: must hold"):
        update_page(readme, tmp_path)
    readme.write_text("no marker", encoding="utf-8")
    with pytest.raises(ResultsError, match=f"has no place for a table, such as '{START} {END}'"):
        update_page(readme, tmp_path)
    with pytest.raises(ResultsError, match="cannot read"):
        is_current(tmp_path / "absent.md", tmp_path)
