"""Verdicts, analyses, cost and depth: what is read, what the report says of it, and errors of one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from replication.errors import ResultsError
from replication.files import read_csv, write_csv
from replication.report import measured
from replication.report.ablations import ablation_numbers, latex_ablations, load_ablations, markdown_ablations
from replication.report.analyses import load_analyses
from replication.report.claims import write_claims
from replication.report.costs import Cost, linear_fit, load_cost, targets
from replication.report.depth import load_depth
from replication.report.figures.cost import blocks_figure, depth_memory_figure, depth_time_figure
from replication.report.figures.ensemble import swaps_figure
from replication.report.figures.rounds import covariance_figure
from replication.report.measured import analysis_numbers, cost_numbers, depth_numbers, rounds_numbers, spread
from replication.report.readme import is_current, markers, update_page
from replication.report.render import latex_targets, markdown_targets
from replication.report.results import load_results
from replication.report.verdict_pages import Sheet, latex_claims, markdown_claims, markdown_counts, markdown_overview
from replication.report.verdicts import (
    Judged,
    applying,
    counted,
    load_verdicts,
    verdict_numbers,
)
from tests.report.pages import page_of
from tests.report.synthetic import Plant, edit_json, plant_run
from tests.report.synthetic_more import plant_ablations, plant_cost, plant_full_analysis


def _judged(identifier: str, verdict: str, **changes: Any) -> Judged:
    judged = Judged(
        id=identifier, claim="A claim about 1 % & more", source="[P]", verdict=verdict, applies=True, reason="",
        criterion="every seed above 0", statistic=2 / 3, interval=(0.2, 0.9), interval_method="Wilson", n=3,
        data="official", budget=0.5,
    )  # fmt: skip
    return attrs.evolve(judged, **changes)


def test_verdicts_are_read_and_counted(shared_tree: Path) -> None:
    verdicts = load_verdicts("digits", shared_tree)
    assert len(applying(verdicts)) == 20 and len(verdicts) == 32
    assert load_verdicts("svhn", shared_tree) == ()
    numbers = verdict_numbers(verdicts)
    assert numbers["claims/paper/number"] == "13" and numbers["claims/relation/number"] == "7"
    assert numbers["claim/1/verdict"] == "holds" and numbers["claim/5a/verdict"] == "\N{EN DASH}"
    assert verdict_numbers(()) == {}


def test_verdicts_in_words() -> None:
    mixed = [_judged("1", "holds"), _judged("2", "holds"), _judged("3", "fails"), _judged("4", "not judged")]
    assert counted(mixed) == "2 hold, 1 fails, 1 not judged"
    vacuous = _judged("2a", "holds", qualification="vacuous")
    assert counted([*mixed, vacuous]) == "3 hold (1 vacuous), 1 fails, 1 not judged"
    assert mixed[0].measured == "2 of 3 seeds"
    student = _judged("5", "holds", statistic=0.0312, interval=(-0.01, 0.07), interval_method="Student")
    assert attrs.evolve(student, interval=(0.0312, 0.0312)).measured == "0.0312 (all seeds equal)"
    assert student.measured == "0.0312 [\N{MINUS SIGN}0.0100, 0.0700]"
    assert _judged("6", "not run", statistic=None).measured == "\N{EN DASH}"
    assert _judged("6", "not judged", lacks="budget").words == "not judged"
    assert _judged("7a", "not run", lacks="depths").words == "not run: depths"
    assert _judged("2a", "holds", qualification="vacuous").words == "holds (vacuous)"
    assert _judged("5a", "not run", applies=False).words == "\N{EN DASH}"
    assert _judged("8", "holds", statistic=0.9, interval=None, interval_method=None).measured == "0.900"
    elsewhere = _judged("relation-x", "not run", applies=False, statistic=None)
    latex = latex_claims("cifar10", [*mixed, elsewhere, _judged("a-b", "inconclusive", reason="1 of 3 seeds")])
    late = latex_claims(
        "cifar10", [_judged("3a-binary", "fails", added="after first results", qualification="vacuous")]
    )
    assert r"3a-\allowbreak{}binary$^\dagger$ &" in late and "2 of 3 seeds; vacuous & " in late
    assert r"a-\allowbreak{}b & A claim about 1 \% \& more [P] & every seed above 0 & 2 of 3 seeds; 1 of 3" in latex
    assert r"\verdict{inconclusive}" in latex and "Not judged: 4. About other data: relation-x." in latex
    assert "A claim about 1" not in latex.partition(r"\end{longtable}")[2] and "\n4 & " not in latex
    assert "3 seeds, budget 0.5." in latex
    missing = [_judged("1", "not run", statistic=None, lacks="runs"), _judged("6", "not judged", lacks="budget")]
    silent = latex_claims("svhn", [*missing, elsewhere])
    assert silent == (
        "SVHN: none of 2 claims was judged. Not run, for want of runs: 1. Not judged, for want of budget: 6. "
        "About other data: relation-x.\n\n"
    )


def test_verdicts_by_other_criteria_are_refused(plant: Plant, tmp_path: Path) -> None:
    plant("digits", "boostresnet", 0)
    path = tmp_path / "results/digits/claims.json"
    write_claims("digits", tmp_path / "results", path)
    edit_json(path, lambda value: value["claims"][0].update(verdict="perhaps"))
    with pytest.raises(ResultsError, match=r"claim 1: verdict must be one of holds, .*, got 'perhaps'; judge again: "):
        load_verdicts("digits", tmp_path / "results")
    edit_json(path, lambda value: value.update(criteria_sha256="0"))
    with pytest.raises(ResultsError, match=r"judged by other criteria than criteria.yaml has now; judge again: "):
        load_verdicts("digits", tmp_path / "results")


def test_the_readme_has_verdicts_where_it_asks_for_them(shared_tree: Path, tmp_path: Path) -> None:
    text = page_of("claims-in-full", tmp_path, shared_tree)
    assert "| digits | 0.02 | 1: Lemma 3.2 holds on the trained network | [P] Lemma 3.2 | every seed at most" in text
    assert "| 3 of 3 seeds; smallest gamma " in text and "5a:" not in text
    assert " | 3 | [**holds**](../results/digits/claims.json) |" in text
    assert "| CIFAR-10 (unofficial copy) | 0.002 | 1: " in text and "| digits | \N{EN DASH} | 9: " in text
    assert "9-flops†: " in text and "† added after the first results" in text
    assert "SVHN: no claim judged yet." in text
    some = markdown_claims([Sheet("digits", (_judged("1", "holds"), _judged("4", "not run", reason="no runs")))])
    assert "| digits | 0.5 | 1: A claim" in some and "†" not in some
    (line,) = (line for line in some.splitlines() if "4: A claim" in line)
    assert line.endswith("| [**not run**](results/digits/claims.json): no runs |")
    assert "digits: 1 holds, 1 not run. Not run: 4." in some
    doubtful = markdown_claims([Sheet("mnist", (_judged("2a", "holds", qualification="vacuous", claim="A | B"),))])
    assert r"2a: A \| B |" in doubtful and "| [**holds**](results/mnist/claims.json) (vacuous) |" in doubtful
    readme = tmp_path / "README.md"
    readme.write_text("<!-- claims:start -->\n", encoding="utf-8")
    with pytest.raises(ResultsError, match="must hold '<!-- claims:start -->' and then"):
        update_page(readme, shared_tree)


def test_the_overview_has_a_line_per_claim_and_a_column_per_dataset(shared_tree: Path, tmp_path: Path) -> None:
    text = page_of("claims", tmp_path, shared_tree)
    digits, cifar10 = (
        f"[{name}](../results/{dataset}/claims.json)"
        for name, dataset in (("digits{}", "digits"), ("CIFAR-10", "cifar10"))
    )
    longer = [digits.format(f" at budget {budget}") for budget in ("0.01", "0.04")]
    heads = f"| Claim | Source | {' | '.join([digits.format(''), *longer, cifar10])} (unofficial copy) |\n"
    assert heads in text, "digits at three budgets; the others were not judged"
    assert text.count("1: Lemma 3.2 holds") == 1 and "5a: " not in text
    sheets = [
        Sheet("digits", (_judged("1", "holds"), _judged("5a", "not run", applies=False), _judged("2a", "fails"))),
        Sheet("digits", (_judged("2a", "holds", budget=0.75),), "0.75"),
        Sheet("cifar10", (_judged("2a", "holds", qualification="vacuous"), _judged("1", "not judged", lacks="budget"))),
        Sheet("svhn", ()),
    ]
    some = markdown_overview(sheets)
    first, second = (line for line in some.splitlines() if ": A claim" in line)
    assert "| holds | – | not judged |" in first and "| fails | holds | holds (vacuous) |" in second
    assert "| *Budget* |  | 0.5 | 0.75 | 0.5 |" in some and "SVHN" not in some
    assert markdown_counts(sheets) == (
        "- digits: 1 holds, 1 fails.\n- digits at budget 0.75: 1 holds.\n- CIFAR-10: 1 holds (1 vacuous), 1 not judged."
    )


def test_the_readme_has_the_targets_where_it_asks_for_them(shared_tree: Path, tmp_path: Path) -> None:
    readme, results = tmp_path / "README.md", tmp_path / "results"
    readme.write_text("\n".join(markers("targets")), encoding="utf-8")
    assert update_page(readme, results)
    assert "| GPU: end-to-end update | at most 1.5 ms | not measured | – |" in readme.read_text(encoding="utf-8")
    plant_cost(results, "cifar10")
    assert update_page(readme, results) and is_current(readme, results)
    text = readme.read_text(encoding="utf-8")
    assert "| stored prefix against a plain end-to-end update | at least 20 times | 9.2 times | missed |" in text
    assert "Measured on CIFAR-10, 7 rounds" in text


def test_numbers_of_analyses(shared_tree: Path) -> None:
    results = load_results("digits", shared_tree)
    analyses = load_analyses(results)
    assert set(analyses) == set(results.runs) - {"hist-gradient-boosting"}
    numbers = analysis_numbers(analyses)
    rises = {m: [one.number("lesions.single_mean_increase") for one in analyses[m]] for m in ("boostresnet", "e2e")}
    difference = np.subtract(rises["boostresnet"], rises["e2e"]) * 100  # type: ignore[arg-type]
    expected = f"{difference.mean():+.2f} ± {difference.std(ddof=1):.2f}\N{NO-BREAK SPACE}points"
    assert numbers["boostresnet/lesions/against_e2e"] == expected.replace("-", "\N{MINUS SIGN}")
    assert numbers["e2e/lesions/single_max_module"] == "stage2.block1"
    assert numbers["boostresnet/theory/nonpositive_proof_covariance"] == "3"
    assert numbers["boostresnet/theory/condition"] == "4" and "e2e/theory/condition" not in numbers
    assert numbers["e2e/complexity/vacuous"] == "3 of 3"
    steps = [(one.number("alignment.mean"), one.number("alignment.control_mean")) for one in analyses["e2e"]]
    above = [mean - control for mean, control in steps]
    assert min(above) > 0 and "+" not in numbers["e2e/alignment/over_control"]
    assert float(numbers["e2e/alignment/over_control"].split()[0]) == pytest.approx(np.mean(above), abs=0.005)
    assert np.isnan(analyses["boostresnet"][0].column("theory", "covariance_low")[3])
    edges = [run.rounds[0].edge for run in results.of("boostresnet")]
    assert rounds_numbers(results)["boostresnet/first_gamma_half"] == spread(
        [np.sqrt((edge**2 - 0.25) / 0.75) for edge in edges]
    )


def test_where_algorithm_1_would_have_ended(plant: Plant, tmp_path: Path) -> None:
    """With the first round t, from 0, whose gamma is not positive: here the third of seed 1, and none of seed 0."""
    for seed in (0, 1):
        path = plant("digits", "boostresnet", seed) / "rounds.csv"
    assert "boostresnet/first_failure/round" not in rounds_numbers(load_results("digits", tmp_path / "results"))
    rows = read_csv(path)
    rows[2] |= {"gamma": "0", "test_accuracy": "0.75"}
    rows[4] |= {"gamma": "-0.5"}
    write_csv(path, tuple(rows[0]), rows)
    values = rounds_numbers(load_results("digits", tmp_path / "results"))
    assert values["boostresnet/first_failure/round"] == "2"
    assert values["boostresnet/first_failure/seeds"] == "1 of 2 seeds"
    assert values["boostresnet/first_failure/test"] == "75.00\N{NO-BREAK SPACE}% (1 seed)"


def test_the_article_asks_for_the_numbers_there_are() -> None:
    paper = Path(__file__).parents[2] / "paper"
    article = "".join(path.read_text(encoding="utf-8") for path in paper.glob("*.tex"))
    names = {name for fields, _ in measured._TEXTS for name in fields}
    unasked = {name for name in names if not re.search(rf"/{name}\b", article)}
    assert unasked <= {"swaps/one", "swaps/tau_error", "theory/positive_gain", "theory/surely_nonpositive_gain"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "analysis/paths.csv").unlink(), "analysis/paths.csv"),
        (lambda folder: (folder / "analysis/paths.csv").write_text("length\n1\n"), "field 'share' is missing"),
        (lambda folder: (folder / "analysis/paths.csv").write_text("length,sha"), "analysis/paths.csv has no rows"),
        (lambda folder: edit_json(folder / "analysis.json", lambda v: v.update(seed=9)), "seed must be 0, got 9"),
        (lambda folder: edit_json(folder / "analysis.json", lambda v: v.update(budget=1.0)), "budget must be 0.02, "),
        (
            lambda folder: edit_json(folder / "run.json", lambda v: v.update(sha256={"model.safetensors": "new"})),
            "e2e/seed0/analysis.json is of another training than run.json beside it",
        ),
        (
            lambda folder: edit_json(folder / "analysis.json", lambda v: v.pop("model_sha256")),
            "e2e/seed0/analysis.json is of another training than run.json beside it",
        ),
    ],
)
def test_a_damaged_analysis_gives_one_line(
    plant: Plant, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = plant("digits", "e2e", 0)
    plant_full_analysis(folder)
    damage(folder)
    with pytest.raises(ResultsError) as caught:
        load_analyses(load_results("digits", tmp_path / "results"))["e2e"][0].column("paths", "share")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert "; analyse the run again: python -m replication analyse digits e2e --seed 0" in str(caught.value)


def _cost(tmp_path: Path) -> Cost:
    plant_cost(tmp_path)
    cost = load_cost("digits", tmp_path)
    assert cost is not None
    return cost


def test_targets_are_met_missed_or_not_measured(tmp_path: Path) -> None:
    by_name = {row.quantity: row for row in targets(_cost(tmp_path))}
    row = by_name["stored prefix against a plain end-to-end update"]
    assert (row.target, row.reached, row.met) == ("at least 20 times", "9.2 times", False)
    row = by_name["stored-prefix update at T = 49 against T = 9"]
    assert (row.target, row.reached, row.met) == ("at most 1.1 times", "1.02 times", True)
    assert (
        by_name["checks, evaluation, logging, checkpoints: share of a run of full length, computed"].target
        == "at most 8 %"
    )
    assert by_name["GPU: end-to-end update"].met is None
    assert all(row.met is None for row in targets(None))
    gpu = attrs.evolve(_cost(tmp_path), device="cuda:0")
    by_name = {row.quantity: row for row in targets(attrs.evolve(gpu, seconds={"update": 100.0, "check": 20.0}))}
    assert by_name["GPU: end-to-end update"].reached == "40 ms"
    assert by_name["GPU: a whole run of full length"].reached == "2 min"


def test_the_promise_is_fitted_to_end_to_end(tmp_path: Path) -> None:
    assert linear_fit([1, 2, 3], [5, 7, 9]) == pytest.approx((2, 3))
    # Unconstrained it would be 5.5 x - 3.33; through the origin the least-squares slope is 57 / 14.
    assert linear_fit([1, 2, 3], [3, 6, 14]) == pytest.approx((57 / 14, 0)), "no cost below zero"
    numbers = cost_numbers(_cost(tmp_path))
    assert numbers["cost/C1"] == "5.00\N{NO-BREAK SPACE}ms" and numbers["cost/C2"] == "3.00\N{NO-BREAK SPACE}ms"
    assert numbers["cost/promised_ms"] == "8.00\N{NO-BREAK SPACE}ms"
    assert numbers["cost/measured_ms"] == "7.00\N{NO-BREAK SPACE}ms"
    assert numbers["cost/share/update"] == "90\N{NO-BREAK SPACE}%"
    nearly = attrs.evolve(_cost(tmp_path), seconds={"update": 996.0, "check": 4.0})
    assert cost_numbers(nearly)["cost/share/update"] == "99.6\N{NO-BREAK SPACE}%"
    all_but_all = attrs.evolve(nearly, seconds={"update": 99_990.0, "check": 10.0})
    assert cost_numbers(all_but_all)["cost/share/update"] == "over 99.9\N{NO-BREAK SPACE}%"
    tiny = attrs.evolve(nearly, seconds={"update": 10_000.0, "logging": 0.001})
    assert cost_numbers(tiny)["cost/share/logging"] == "under 0.01\N{NO-BREAK SPACE}%"
    assert numbers["cost/time_over_rounds"] == "0.89"
    assert cost_numbers(None) == {}


def test_numbers_of_cost(tmp_path: Path) -> None:
    cost = _cost(tmp_path)
    # Seven blocks, beside which end to end took 37, 38, ... 43 ms.
    assert (cost.end_to_end.median, cost.end_to_end.low, cost.end_to_end.high) == (40.0, 37.0, 43.0)
    space = "\N{NO-BREAK SPACE}"
    expected = {
        "cost/e2e_ms": f"40.0{space}ms", "cost/plain_e2e_ms": f"60.0{space}ms", "cost/cached_ms": f"6.50{space}ms",
        "cost/augmented_ms": f"12.0{space}ms", "cost/stored_saves_ms": f"5.50{space}ms",
        "cost/stored_memory": f"6.00{space}MiB", "cost/as_released_memory": f"5.00{space}MiB",
        "cost/adaboost_mm_ms": f"12.0{space}ms", "cost/adaboost_mm_memory": f"3.00{space}MiB",
        "cost/e2e_share": f"40{space}%", "cost/peak/cached/copy": f"25{space}%",
    }  # fmt: skip
    numbers = cost_numbers(cost)
    assert {name: numbers[name] for name in expected} == expected
    nothing_stored = [attrs.evolve(block, stored_features=None) for block in cost.blocks]
    assert "cost/stored_memory" not in cost_numbers(attrs.evolve(cost, blocks=tuple(nothing_stored)))


def test_a_cost_says_in_which_precision_it_was_measured(tmp_path: Path) -> None:
    path = plant_cost(tmp_path)
    for asked, used in (("auto", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")):
        edit_json(path, lambda value, asked=asked: value["runtime"].update(precision=asked))
        cost = load_cost("digits", tmp_path)
        assert cost is not None and cost.machine == f"Example_CPU @ 2.0 GHz, 2 threads, {used}"
        assert f"2 threads, {used}. The targets were set for" in markdown_targets(cost)
    gpu = attrs.evolve(cost, hardware=cost.hardware | {"gpu": "Example GPU"})
    assert gpu.machine == "Example GPU, bfloat16"


def test_a_cost_of_an_older_schema_is_to_be_measured_again(tmp_path: Path) -> None:
    path = plant_cost(tmp_path)
    edit_json(path, lambda value: value.update(schema=1))
    with pytest.raises(ResultsError, match=r"schema must be 2, got 1; measure it again: python -m replication cost"):
        load_cost("digits", tmp_path)
    edit_json(path, lambda value: value.update(schema=2, blocks=[]))
    with pytest.raises(ResultsError, match="blocks is empty; measure it again"):
        load_cost("digits", tmp_path)


def test_an_unofficial_copy_is_marked_with_the_cost_too(tmp_path: Path) -> None:
    cost = attrs.evolve(_cost(tmp_path), official=False)
    assert "digits (unofficial copy), 7 rounds" in latex_targets(cost)
    for draw in (blocks_figure, depth_time_figure, depth_memory_figure):
        figure = draw(cost)
        assert figure is not None and "unofficial copy" in figure.axes[-1].get_title(loc="right")


def test_a_damaged_cost_or_depth_gives_one_line(tmp_path: Path) -> None:
    path = plant_cost(tmp_path)
    edit_json(path, lambda value: value["blocks"][2].pop("cached_ms"))
    with pytest.raises(ResultsError, match=r"blocks 3: field 'cached_ms' is missing; measure it again: python -m"):
        load_cost("digits", tmp_path)
    assert load_cost("mnist", tmp_path) is None and load_depth("digits", tmp_path) == ()
    header = "method,depth,seed,train_accuracy,test_accuracy,budget,official_data\n"
    (tmp_path / "digits/e2e").mkdir()
    (tmp_path / "digits/e2e/depth.csv").write_text(f"{header}e2e,4,0,0.9,0.8,1.0,maybe\n", encoding="utf-8")
    with pytest.raises(ResultsError, match="row 1: official_data must be True or False, got 'maybe'"):
        load_depth("digits", tmp_path)


def test_numbers_against_depth(shared_tree: Path) -> None:
    numbers = depth_numbers(load_depth("mnist", shared_tree))
    assert (numbers["depth/e2e/first"], numbers["depth/e2e/last"]) == ("2", "10")
    assert numbers["depth/e2e/test/last"] == "96.00 ± 0.00\N{NO-BREAK SPACE}%"


def test_what_variants_change(tmp_path: Path) -> None:
    path = plant_ablations(tmp_path)
    ablations = load_ablations("digits", tmp_path)
    assert [one.is_default for one in ablations] == [True, *[False] * 19]
    numbers = ablation_numbers(ablations)
    # The first variant is 1.0, 1.2 and 1.4 points below; Student's factor for three seeds is 4.303.
    plain = str.maketrans({"\N{NO-BREAK SPACE}": " ", "\N{MINUS SIGN}": "-"})
    points = {name: text.translate(plain) for name, text in numbers.items()}
    assert points["ablation/oracle-exponential/test"] == "-1.20 [-1.70, -0.70] points"
    assert points["ablation/oracle-exponential/positive_gamma"] == "6\N{EN DASH}7 of 7"
    assert points["ablation/initial-edge/train"] == "-2.00 points (all seeds equal)"
    assert points["ablation/oracle-exponential/validation"] == "0.00 points (all seeds equal)"
    latex = latex_ablations(ablations)
    assert r"default & 350 & 98.00\linebreak \mbox{\ensuremath{\pm} 0.00} & -- & -- & -- & 0.990000 & 6--7 \\" in latex
    interval = r"[\ensuremath{-}1.70, \ensuremath{-}0.70]"
    assert rf"\ensuremath{{-}}1.20\linebreak \mbox{{{interval}}} &" in latex
    assert "section.key = 1 & 350 & 96.80" in latex and "Data: official copy. Budget: 0.005." in latex
    assert points["ablation/oracle-exponential/seeds"] == "3 seeds" and ", 3 seeds &" not in latex
    rows = read_csv(path)
    write_csv(path, tuple(rows[0]), [row for row in rows if (row["variant"], row["seed"]) != ("no-clamp", "2")])
    assert ", 2 seeds & 350 & 89.2" in latex_ablations(load_ablations("digits", tmp_path))
    path.write_text(path.read_text(encoding="utf-8").replace("True", "False"), encoding="utf-8")
    assert "3 seeds." in latex and "Data: unofficial copy." in latex_ablations(load_ablations("digits", tmp_path))


def test_boostresnet_is_held_against_a_variant_of_another_method_at_the_same_budget(tmp_path: Path) -> None:
    for seed in range(3):
        plant_run(tmp_path, "digits", "boostresnet", seed, budget=0.005)
    boosted = load_results("digits", tmp_path).of("boostresnet")
    path = plant_ablations(tmp_path)
    rows = [row for row in read_csv(path) if row["variant"] in ("default", "adaboost-resampled", "no-shrinkage")]
    for row in rows:
        metrics = boosted[int(row["seed"])].metrics
        row["method"] = "adaboost-mm"
        row["test_accuracy"], row["validation_accuracy"] = metrics.test_accuracy - 0.02, metrics.validation_accuracy
    rows = [row | {"budget": "1.0"} if row["variant"] == "no-shrinkage" else row for row in rows]
    rows += [row | {"variant": "default", "budget": "1.0"} for row in rows if row["variant"] == "no-shrinkage"]
    write_csv(path, tuple(rows[0]), rows)
    numbers = ablation_numbers(load_ablations("digits", tmp_path), boosted)
    assert numbers["ablation/adaboost-resampled/gap/test"] == "+2.00\N{NO-BREAK SPACE}points (all seeds equal)"
    assert numbers["ablation/adaboost-resampled/gap/validation"].startswith("0.00")
    assert numbers["ablation/adaboost-resampled/test_accuracy"].endswith("%")
    assert "ablation/no-shrinkage/test_accuracy" in numbers and "ablation/no-shrinkage/gap/test" not in numbers


def test_a_variant_is_held_against_the_default_under_the_same_seed(tmp_path: Path) -> None:
    path = plant_ablations(tmp_path)
    rows = read_csv(path)
    accuracies = {"default": ("0.9", "0.5", "0.7"), "oracle-exponential": ("0.91", "0.52", "0.73")}
    for row in rows:
        if row["variant"] in accuracies:
            row["test_accuracy"] = accuracies[row["variant"]][int(row["seed"])]
    write_csv(path, tuple(rows[0]), [row for row in rows if (row["variant"], row["seed"]) != ("default", "1")])
    (variant,) = (one for one in load_ablations("digits", tmp_path) if one.runs[0].variant == "oracle-exponential")
    assert variant.differences(lambda run: run.test_accuracy) == [pytest.approx(0.01), pytest.approx(0.03)]


def test_a_variant_of_another_budget_is_held_against_the_default_of_that_budget(tmp_path: Path) -> None:
    path = plant_ablations(tmp_path)
    rows = [row for row in read_csv(path) if row["variant"] in ("default", "smaller-steps")]
    for row in rows:
        row["budget"] = {"default": "0.005", "smaller-steps": "1.0"}[row["variant"]]
    longer = [row | {"budget": "1.0", "test_accuracy": "0.5"} for row in rows if row["variant"] == "default"]
    write_csv(path, tuple(rows[0]), rows)
    assert ablation_numbers(load_ablations("digits", tmp_path)) == {}, "nothing of its budget"
    write_csv(path, tuple(rows[0]), [*rows[:3], *longer, *rows[3:]])
    own, default, variant = load_ablations("digits", tmp_path)
    assert own.is_default and default.is_default and variant.defaults == default.runs
    assert all(difference > 0.2 for difference in variant.differences(lambda run: run.test_accuracy))
    latex = latex_ablations((own, default, variant))
    assert "Budget: 0.005, 1." in latex and "default, budget 0.005 &" in latex and "default, budget 1 &" in latex


def test_variants_of_several_datasets_in_one_markdown_table(tmp_path: Path) -> None:
    plant_ablations(tmp_path)
    markdown = markdown_ablations({name: load_ablations(name, tmp_path) for name in ("digits", "svhn")})
    heading, rule, first, second, *_ = markdown.splitlines()
    assert heading.count("|") == rule.count("|") == first.count("|") == second.count("|")
    assert first == "| digits | default | 350 | 98.00 ± 0.00 | – | – | – | 0.990000 | 6–7 |"
    # Validation is 0.9 with and without the change, training 0.01 worse with it.
    assert "| 0.00 (all seeds equal) | −1.00 (all seeds equal) |" in second
    assert "SVHN" not in markdown and "- digits: 3 seeds." in markdown
    assert markdown_ablations({"svhn": ()}) == "No deviation was measured."


def test_an_empty_file_is_damaged_and_no_table_without_variants(tmp_path: Path) -> None:
    path = plant_ablations(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(ResultsError, match=rf"^{path} is empty; get it back from git, or measure again: python -m"):
        load_ablations("digits", tmp_path)


def test_accuracy_on_the_official_images_of_a_copy_stands_where_all_seeds_have_it(tmp_path: Path) -> None:
    path = plant_ablations(tmp_path, "cifar10")
    assert "Official test" not in latex_ablations(load_ablations("cifar10", tmp_path))
    kept = {"default": ("0.5", "0.52", "0.54"), "initial-edge": ("0.4", "", "0.4")}
    rows = read_csv(path)
    for row in rows:
        row["exact_test_accuracy"] = kept.get(row["variant"], ("", "", ""))[int(row["seed"])]
    write_csv(path, tuple(rows[0]), rows)
    ablations = load_ablations("cifar10", tmp_path)
    latex, markdown = latex_ablations(ablations), markdown_ablations({"cifar10": ablations, "svhn": ()})
    assert r"Test & Official test & Test less default &" in latex and "Official test: on those test images" in latex
    cell = r"%s\linebreak \mbox{\ensuremath{\pm} %s}"
    test, official = cell % ("98.00", "0.00"), cell % ("52.00", "2.00")
    assert f"default & 350 & {test} & {official} & -- & -- & -- &" in latex
    heading, _, default, _, initial_edge, *_ = markdown.splitlines()
    assert heading.startswith("| Dataset | What is changed | Updates | Test | Official test | Test less default |")
    assert default.startswith("| CIFAR-10 | default | 350 | 98.00 ± 0.00 | 52.00 ± 2.00 | – |")
    assert "| 350 | 95.60 ± 0.40 | – | " in initial_edge, "of one seed it is not known"


def test_variants_of_one_seed_of_other_methods_and_without_default(tmp_path: Path) -> None:
    path = plant_ablations(tmp_path, seeds=1)
    numbers = ablation_numbers(load_ablations("digits", tmp_path))
    assert numbers["ablation/no-clamp/test"] == "\N{MINUS SIGN}8.00\N{NO-BREAK SPACE}points", (
        "the eighth in params.yaml"
    )
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("boostresnet", "e2e").replace("default,", "other,"), encoding="utf-8")
    ablations = load_ablations("digits", tmp_path)
    assert ablation_numbers(ablations) == {}  # nothing to be held against
    path.write_text(text.replace("boostresnet", "gradient-boosting"), encoding="utf-8")
    others = ablation_numbers(load_ablations("digits", tmp_path))
    assert {name: text for name, text in others.items() if not name.endswith("/test_accuracy")} == numbers
    assert "other (e2e) & 350 & 98.00 & -- & -- & -- &" in latex_ablations(ablations)
    assert load_ablations("svhn", tmp_path) == ()
    path.write_text(text.replace("True", "maybe"), encoding="utf-8")
    with pytest.raises(ResultsError, match="row 1: official_data must be True or False, got 'maybe'"):
        load_ablations("digits", tmp_path)


def test_digits_suit_the_mean() -> None:
    assert spread([0.9, 0.92]) == "0.910 ± 0.014"
    assert spread([-0.0082, -0.0049, 0.0107]) == "−0.0008 ± 0.0101"  # the mean alone would look exact
    assert spread([12.0, 14.0]) == "13.0 ± 1.4"
    assert spread([0.5]) == "0.500" and spread([]) == ""
    assert spread([1e-7, 3e-7]) == "2.00 × 10⁻⁷"


def test_the_covariance_of_the_proof_is_drawn_where_it_was_analysed(plant: Plant, tmp_path: Path) -> None:
    folder = plant("digits", "boostresnet", 0)
    plant_full_analysis(folder)
    results = load_results("digits", tmp_path / "results")
    with_proof = covariance_figure(results, load_analyses(results))
    table = folder / "analysis/theory.csv"
    rows = [line.split(",")[:17] for line in table.read_text(encoding="utf-8").splitlines()]
    assert rows[0][-1] == "bound_holds"
    table.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    edit_json(folder / "analysis.json", lambda v: v["theory"].pop("nonpositive_proof_covariance_blocks"))
    analyses = load_analyses(results)
    without = covariance_figure(results, analyses)
    assert with_proof is not None and without is not None
    (shown,), (plain,) = ([[one.get_text() for one in legend.get_texts()] for legend in figure.legends]
                          for figure in (with_proof, without))  # fmt: skip
    assert (shown, plain) == (["seed 0", "Definition 4.1", r"proof, with $\alpha$"], ["seed 0"]), "below the axes"
    assert "boostresnet/theory/nonpositive_proof_covariance" not in analysis_numbers(analyses)


def test_one_possible_exchange_is_called_one(plant: Plant, tmp_path: Path) -> None:
    folder = plant("digits", "e2e", 0)
    plant_full_analysis(folder)
    results = load_results("digits", tmp_path / "results")
    many = swaps_figure(results, load_analyses(results))
    rows = [f"{swaps},{draw},{tau},{error}\n" for swaps, draw, tau, error in
            ((1, 0, 0.8666, 0.3), (1, 1, 0.8666, 0.5), (2, 0, 1.0, 0.1), (3, 0, 0.8666, 0.35))]  # fmt: skip
    (folder / "analysis/swaps.csv").write_text("swaps,draw,kendall_tau,error\n" + "".join(rows), encoding="utf-8")
    one = swaps_figure(results, load_analyses(results))
    worst = analysis_numbers(load_analyses(results))["e2e/swaps/worst"]
    assert worst.startswith("40.00"), "the mean of the number of exchanges that costs most, not of the most exchanges"
    assert many is not None and one is not None
    assert many.axes[0].get_title(loc="left") == "" and one.axes[0].get_title(loc="left") == "one possible exchange"
    assert sorted(one.axes[0].get_lines()[0].get_xdata()) == [0.8666, 1.0], "not rounded to classes"
