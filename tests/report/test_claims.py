"""Verdicts of every kind from made-up results, and the criteria file itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from replication.errors import ResultsError
from replication.files import read_csv, read_json, write_csv
from replication.report import claims
from replication.report.claims import Range, judge, load_criteria, write_claims
from replication.report.comparisons import differences_at_end
from replication.report.evidence import Evidence, update_ratio
from replication.report.intervals import student_interval, wilson_interval
from replication.report.reported import reported
from replication.report.results import load_results
from tests.report.synthetic import edit_json, plant_run
from tests.report.synthetic_more import plant_cost


def verdicts(tmp_path: Path, dataset: str = "digits") -> dict[str, claims.Verdict]:
    return {verdict.id: verdict for verdict in judge(dataset, tmp_path / "results")}


def plant_pair(plant, first, second, gaps, dataset="digits", **options):
    """Runs of two methods, one seed per gap: the first's test accuracy is 0.9, the second's lower by the gap."""
    for seed, gap in enumerate(gaps):
        for method, accuracy in ((first, 0.9), (second, 0.9 - gap)):
            folder = plant(dataset, method, seed, **options)
            edit_json(folder / "metrics.json", lambda values, a=accuracy: values.update(test_accuracy=a))


def set_column(folder: Path, column: str, values) -> None:
    lines = (folder / "rounds.csv").read_text().splitlines()
    header = lines[0].split(",")
    rows = [dict(zip(header, line.split(","), strict=True)) for line in lines[1:]]
    for row, value in zip(rows, values, strict=True):
        row[column] = value
    write_csv(folder / "rounds.csv", header, rows)


def plant_analysis(folder: Path, **fields: object) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    digests = json.loads((folder / "run.json").read_text())["sha256"]
    keys = ("dataset", "method", "seed", "reading", "budget", "blocks", "official_data")
    summary = {"schema": 1, "model_sha256": digests["model.safetensors"], **{key: metrics[key] for key in keys}}
    (folder / "analysis.json").write_text(json.dumps(summary | fields))


def test_the_criteria_cover_every_claim_and_every_reported_number():
    criteria = {criterion.id: criterion for criterion in load_criteria()}
    assert {identifier.partition("-")[0].rstrip("ab") for identifier in criteria if identifier[0].isdigit()} == set(
        map(str, range(1, 11))
    )
    late = {identifier for identifier, criterion in criteria.items() if criterion.added}
    assert late == {"3a-binary", "3b-binary", "9-flops", "10-resampled", "relation-features-larger"}
    for identifier in late:
        namesake = criteria[identifier.rpartition("-")[0]]
        thresholds = (criteria[identifier].range, criteria[identifier].rule)
        assert thresholds == (namesake.range, namesake.rule), "those of the claim it is named after"
    assert 4 <= sum(identifier.startswith("relation-") for identifier in criteria) <= 7
    numbers = {
        (criterion.datasets[0], criterion.options["method"], criterion.options["split"]): criterion
        for criterion in criteria.values()
        if criterion.statistic == "reported_difference"
    }
    for (dataset, method, split), criterion in numbers.items():
        figures = reported(dataset, method)
        assert figures is not None
        assert f"{getattr(figures, split)} %" in criterion.source and criterion.minimum_budget == 1
    assert len(numbers) == 6
    assert all(criterion.minimum_seeds >= 2 for criterion in criteria.values())


def test_without_results_nothing_was_run(tmp_path):
    found = verdicts(tmp_path)
    assert {verdict.verdict for verdict in found.values()} == {"not run"}
    assert all(verdict.reason for verdict in found.values())
    assert not found["5a"].applies and found["5a"].reason == "a claim about svhn"
    assert found["1"].applies and "no published run of boostresnet" in found["1"].reason
    assert (found["1"].lacks, found["8"].lacks, found["5a"].lacks) == ("runs", "costs", "")


def test_a_claim_about_every_seed_holds_fails_or_stays_open(plant, tmp_path):
    folders = [plant("digits", "boostresnet", seed) for seed in range(3)]
    found = verdicts(tmp_path)
    for identifier in ("1", "2a", "2b", "3a", "3b", "4"):
        assert found[identifier].verdict == "holds", identifier
    assert (found["3a"].statistic, found["3a"].n, found["3a"].interval_method) == (1.0, 3, "Wilson")
    assert found["3a"].evidence == tuple(f"digits/boostresnet/seed{seed}/rounds.csv" for seed in range(3))
    assert (found["1"].data, found["1"].budget) == ("official", 0.02)
    gammas = [0.5, 0.4, -0.1, 0.3, 0.3, 0.2, 0.1]
    set_column(folders[0], "gamma", gammas)
    assert verdicts(tmp_path)["3a"].verdict == "inconclusive"
    set_column(folders[1], "gamma", gammas)
    found = verdicts(tmp_path)
    assert found["3a"].verdict == "fails" and found["3a"].statistic == pytest.approx(1 / 3)
    assert found["3a"].values["0"] == -0.1


def plant_variant(root: Path, variant: str, accuracies: list[float], budget: float = 0.02, **more: object) -> None:
    """Rows of ablations.csv, one a seed, behind those that are there."""
    path = root / "digits/ablations.csv"
    rows = [
        {"variant": variant, "changes": "weak_learners.modules = stages", "method": "adaboost-mm", "seed": seed,
         "gradient_updates": 350, "train_accuracy": 0.9, "validation_accuracy": 0.9, "test_accuracy": accuracy,
         "exact_test_accuracy": "", "final_edge": "", "positive_gamma_blocks": "", "rounds": 7, "budget": budget,
         "official_data": True, **more}
        for seed, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    write_csv(path, tuple(rows[0]), [*(read_csv(path) if path.is_file() else []), *rows])


def test_boostresnet_is_held_against_the_strongest_form_of_another_method_that_was_trained(plant, tmp_path):
    root = tmp_path / "results"
    for seed in range(3):
        plant("digits", "boostresnet", seed)
    accuracies = [json.loads((root / f"digits/boostresnet/seed{seed}/metrics.json").read_text())["test_accuracy"]
                  for seed in range(3)]  # fmt: skip
    found = verdicts(tmp_path)["10-resampled"]
    assert (found.verdict, found.lacks, found.added) == ("not run", "variants", "after first results")
    assert verdicts(tmp_path, "mnist")["10-resampled"].lacks == "runs"
    plant_variant(root, "adaboost-resampled-larger", [0.1] * 3, budget=0.5)  # another length: not comparable
    plant_variant(root, "adaboost-resampled-larger", [0.1] * 3, method="gradient-boosting")
    assert verdicts(tmp_path)["10-resampled"].verdict == "not run"
    plant_variant(root, "adaboost-resampled", [accuracy - 0.25 - 0.01 * n for n, accuracy in enumerate(accuracies)])
    found = verdicts(tmp_path)["10-resampled"]
    assert found.verdict == "holds" and list(found.values.values()) == pytest.approx([0.25, 0.26, 0.27])
    assert found.evidence == (
        *(f"digits/boostresnet/seed{seed}/metrics.json" for seed in range(3)), "digits/ablations.csv",
    )  # fmt: skip
    assert (found.budget, found.data, found.n) == (0.02, "official", 3)
    plant_variant(root, "adaboost-resampled-larger", [0.1])
    assert verdicts(tmp_path)["10-resampled"].n == 3, "one seed does not take the place of three"
    table = root / "digits/ablations.csv"
    rows = [row for row in read_csv(table) if row["test_accuracy"] != "0.1"]
    write_csv(table, tuple(rows[0]), rows)
    # With larger learners it is the stronger one, and the one that counts.
    plant_variant(root, "adaboost-resampled-larger", [accuracy + 0.01 for accuracy in accuracies], official_data=False)
    found = verdicts(tmp_path)["10-resampled"]
    assert (found.verdict, found.statistic, found.data) == ("fails", pytest.approx(-0.01), "unofficial")
    assert not verdicts(tmp_path)["relation-features-larger"].statistic  # of gradient boosting there is none


def test_under_another_budget_it_is_held_against_the_variant_of_that_budget(plant, tmp_path):
    root = tmp_path / "results"
    for seed in range(3):
        plant("digits", "boostresnet", seed)
        plant_run(root / "digits/budgets/0.5", "digits", "boostresnet", seed, budget=0.5)
    plant_variant(root, "adaboost-resampled-full-length", [0.5, 0.51, 0.52], budget=0.5)
    own, (judged,) = judge("digits", root), claims.judge_budgets("digits", root).values()
    assert next(one for one in own if one.id == "10-resampled").verdict == "not run"
    found = next(one for one in judged if one.id == "10-resampled")
    assert (found.verdict, found.budget) == ("holds", 0.5)
    assert found.evidence[-1] == "digits/ablations.csv" and found.evidence[0].startswith("digits/budgets/0.5/digits/")


def test_binary_runs_are_judged_by_themselves(plant, tmp_path):
    for seed in range(3):
        plant("digits", "boostresnet", seed)
        folder = plant("digits", "boostresnet-binary", seed)
        set_column(folder, "gamma", [0.5, -0.4, 0.1, 0.3, 0.3, 0.2, 0.1])
        set_column(folder, "covariance", [0, 1e-33, -0.1, 0.2, 0, 0, 0])
    found = verdicts(tmp_path)
    assert (found["3a"].verdict, found["3b"].verdict) == ("holds", "holds")
    assert (found["3a-binary"].verdict, found["3b-binary"].verdict) == ("fails", "fails")
    assert found["3a-binary"].added == "after first results" and found["3a"].added == ""


def test_a_bound_that_is_never_below_one_holds_vacuously(plant, tmp_path):
    folders = [plant("digits", "boostresnet", seed) for seed in range(3)]
    for folder in folders:
        set_column(folder, "bound", [9, 8, 7, 6, 5, 4, 0.9])
    assert (verdicts(tmp_path)["2a"].verdict, verdicts(tmp_path)["2a"].qualification) == ("holds", "")
    set_column(folders[0], "bound", [9, 8, 7, 6, 5, 4, 1.0])
    assert verdicts(tmp_path)["2a"].qualification == "vacuous in 1 of 3 seeds"
    for folder in folders:
        set_column(folder, "bound", [9, 8, 7, 6, 5, 4, 1.0])
    found = verdicts(tmp_path)["2a"]
    assert (found.verdict, found.qualification) == ("holds", "vacuous")
    for folder in folders:
        set_column(folder, "bound", [9, 0.001, 7, 6, 5, 4, 1.0])
    found = verdicts(tmp_path)["2a"]
    assert (found.verdict, found.qualification) == ("fails", "")


def test_one_seed_gives_no_verdict(plant, tmp_path):
    for method in ("boostresnet", "e2e", "boostresnet-refined"):
        folder = plant("digits", method, 0)
        plant_analysis(folder, lesions={"single_mean_increase": 0.1, "single_median_increase": 0.0})
    for verdict in judge("digits", tmp_path / "results"):
        assert verdict.verdict in ("inconclusive", "not run"), verdict
        if verdict.verdict == "inconclusive":
            assert verdict.reason == "a value for 1 of at least 3 seeds" and verdict.n == 1


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([0.02, 0.025, 0.03], "holds"),
        ([-0.02, -0.025, -0.03], "fails"),
        ([0.02, -0.02, 0.01], "inconclusive"),
        ([0.02, 0.03], "inconclusive"),
        ([0.02, 0.02, 0.02], "holds"),
        ([0.0, 0.0, 0.0], "fails"),
    ],
)
def test_paired_differences_are_judged_by_their_interval(plant, tmp_path, gaps, expected):
    plant_pair(plant, "boostresnet-refined", "boostresnet", gaps)
    verdict = verdicts(tmp_path)["relation-joint"]
    assert verdict.verdict == expected
    assert verdict.statistic == pytest.approx(np.mean(gaps))
    assert verdict.n == len(gaps)


@pytest.mark.parametrize("difference", ["budgets", "copies of the data"])
def test_methods_that_were_not_trained_alike_are_not_compared(plant, tmp_path, difference):
    for seed in range(3):
        plant("cifar10", "boostresnet", seed, budget=1.0)
        folder = plant("cifar10", "adaboost-mm", seed, budget=1.0 if difference != "budgets" else 0.25)
        if difference != "budgets":
            edit_json(folder / "run.json", lambda run: run["data"].update(content_hash="f" * 64))
    found = verdicts(tmp_path, "cifar10")
    assert (found["10"].verdict, found["10"].lacks) == ("not run", "equal terms")
    assert f"boostresnet and adaboost-mm were trained with different {difference}: " in found["10"].reason
    assert found["2b"].verdict == "holds", "one method's own claims stand"


def test_only_seeds_that_both_methods_have_are_paired(plant, tmp_path):
    """By their seeds, whatever their places in the list of each method."""
    for method, accuracies in (
        ("boostresnet-refined", {0: 0.95, 2: 0.79, 8: 0.99}),
        ("boostresnet", {0: 0.9, 1: 0.5, 2: 0.7, 7: 0.2}),
    ):
        for seed, accuracy in accuracies.items():
            folder = plant("digits", method, seed)
            edit_json(folder / "metrics.json", lambda values, a=accuracy: values.update(test_accuracy=a))
    found = verdicts(tmp_path)["relation-joint"]
    assert found.values == {"0": pytest.approx(0.05), "2": pytest.approx(0.09)}
    differences = differences_at_end(load_results("digits", tmp_path / "results"), "boostresnet-refined", "boostresnet")
    assert differences == [pytest.approx(0.05), pytest.approx(0.09)]


def test_an_equivalence_holds_inside_fails_outside(plant, tmp_path):
    plant_pair(plant, "boostresnet", "e2e", [0.004, 0.005, 0.006], dataset="svhn", budget=1.0)
    assert verdicts(tmp_path, "svhn")["5b"].verdict == "holds"
    for seed in range(3):
        folder = tmp_path / f"results/svhn/e2e/seed{seed}"
        edit_json(folder / "metrics.json", lambda values, s=seed: values.update(test_accuracy=0.8 + s / 1000))
    assert verdicts(tmp_path, "svhn")["5b"].verdict == "fails"


def test_a_budget_below_the_minimum_is_not_judged_and_unofficial_data_is_said(plant, tmp_path):
    plant_pair(plant, "boostresnet", "e2e", [0.0, 0.0, 0.0], dataset="svhn", budget=0.1, official=False)
    found = verdicts(tmp_path, "svhn")["5b"]
    assert (found.verdict, found.budget, found.data) == ("not judged", 0.1, "unofficial")
    assert "0.1 of the full length, at least 0.5 asked" in found.reason and found.lacks == "budget"
    assert verdicts(tmp_path, "svhn")["svhn-boostresnet-test"].verdict == "not judged"


@pytest.mark.parametrize(("accuracies", "expected"), [
    ((0.820, 0.821, 0.822), "holds"), ((0.70, 0.71, 0.72), "fails"), ((0.80, 0.82, 0.84), "inconclusive"),
])  # fmt: skip
def test_reported_numbers(plant, tmp_path, accuracies, expected):
    for seed, accuracy in enumerate(accuracies):
        folder = plant("cifar10", "boostresnet", seed, budget=1.0)
        edit_json(folder / "metrics.json", lambda values, a=accuracy: values.update(test_accuracy=a))
        edit_json(folder / "metrics.json", lambda values, a=accuracy: values.update(train_accuracy=a + 0.1))
    found = verdicts(tmp_path, "cifar10")
    test, train = (found[f"cifar10-boostresnet-{split}"] for split in ("test", "train"))
    assert test.verdict == expected == train.verdict
    assert test.statistic == pytest.approx(np.mean(accuracies) - 0.821) == train.statistic, "of 82.1 % and of 92.1 %"


def test_updates_to_the_same_accuracy_and_a_method_that_never_gets_there(plant, tmp_path):
    for seed in range(3):
        for method, curve in (("e2e", [(400, 0.5), (800, 0.9)]), ("boostresnet", [(100, 0.91), (200, 0.9)])):
            folder = plant("svhn", method, seed, budget=1.0)
            columns = (folder / "history.csv").read_text().splitlines()[0].split(",")
            rows = [
                {
                    **dict.fromkeys(columns, 0.5),
                    "gradient_updates": updates,
                    "block": 0,
                    "validation_accuracy": accuracy,
                }
                for updates, accuracy in curve
            ]
            write_csv(folder / "history.csv", columns, rows)
    found = verdicts(tmp_path, "svhn")["5a"]
    assert (found.statistic, found.verdict) == (pytest.approx(3.0), "holds")
    for seed in range(3):
        folder = tmp_path / f"results/svhn/e2e/seed{seed}"
        text = (folder / "history.csv").read_text().replace("0.9", "0.6")
        (folder / "history.csv").write_text(text)
    found = verdicts(tmp_path, "svhn")["5a"]
    assert found.statistic == pytest.approx(3.0), "at least all its updates"
    assert (found.verdict, found.reason) == ("holds", ""), "a lower bound can show that it is large"
    for seed in range(3):
        path = tmp_path / f"results/svhn/e2e/seed{seed}/history.csv"
        rows = read_csv(path)
        write_csv(path, tuple(rows[0]), [row | {"gradient_updates": "100"} for row in rows[:1]])
    censored = verdicts(tmp_path, "svhn")["5a"]
    assert (censored.statistic, censored.verdict) == (pytest.approx(0.0), "inconclusive"), (
        "it stopped too early to fail"
    )
    assert censored.reason == "3 of 3 values are lower bounds, which show no failure"


def test_the_accuracy_to_reach_is_the_final_one_and_reached_when_met(plant, tmp_path):
    for method, curve in (("e2e", [(400, 0.9), (800, 0.95)]), ("boostresnet", [(100, 0.8), (200, 0.95), (300, 0.9)])):
        folder = plant("digits", method, 0)
        columns = (folder / "history.csv").read_text().splitlines()[0].split(",")
        rows = [
            {**dict.fromkeys(columns, 0.5), "gradient_updates": updates, "block": 0, "validation_accuracy": accuracy}
            for updates, accuracy in curve
        ]
        write_csv(folder / "history.csv", columns, rows)
    evidence = Evidence(tmp_path / "results", load_results("digits", tmp_path / "results"), tmp_path / "results/digits")
    # 0.9 after 400 and after 200 updates; neither 0.95, nor more than 0.9.
    assert update_ratio(evidence, "e2e", "boostresnet", 1.0).by_seed == {0: 1.0}


def test_analysis_fields_and_their_differences(plant, tmp_path):
    for seed in range(3):
        for method, value in (("boostresnet", 0.1), ("e2e", 0.3)):
            folder = plant("digits", method, seed)
            plant_analysis(
                folder,
                alignment={"mean": 0.2 + seed / 100},
                modules={"probe_test_kendall_tau": None},
                lesions={"single_mean_increase": value, "single_median_increase": value},
            )
    found = verdicts(tmp_path)
    assert found["relation-descent"].verdict == "holds" and found["relation-descent"].n == 3
    assert found["relation-ensemble"].verdict == "fails"
    assert found["relation-independence"].verdict == "holds"
    assert found["relation-refinement"].verdict == "not run" and "has the value" in found["relation-refinement"].reason
    assert found["relation-refinement"].lacks == "analyses"


def test_values_that_are_no_numbers_are_left_out(plant, tmp_path):
    for seed, mean in enumerate((0.2, 0.21, None)):
        plant_analysis(plant("digits", "e2e", seed), alignment={"mean": mean})
    found = verdicts(tmp_path)["relation-descent"]
    assert (found.verdict, found.n) == ("inconclusive", 2)
    write_claims("digits", tmp_path / "results", tmp_path / "claims.json")


@pytest.mark.parametrize(
    ("key", "other"),
    [("seed", 5), ("reading", "mlp"), ("budget", 0.5), ("blocks", 9), ("official_data", False), ("schema", 0)],
)
def test_an_analysis_of_another_run_is_refused(plant, tmp_path, key, other):
    folder = plant("digits", "e2e", 0)
    plant_analysis(folder, alignment={"mean": 0.2})
    judge("digits", tmp_path / "results")
    edit_json(folder / "analysis.json", lambda values: values.update({key: other}))
    again = "analyse the run again: python -m replication analyse digits e2e --seed 0"
    with pytest.raises(ResultsError, match=rf"analysis\.json: {key} must be \S+, got \S+; {again}$"):
        judge("digits", tmp_path / "results")


def test_depth_and_cost(plant, tmp_path):
    columns = ("method", "depth", "seed", "train_accuracy", "test_accuracy", "budget", "official_data")
    rows = [
        {"method": method, "depth": depth, "seed": seed, "train_accuracy": 0.99 - fall * depth, "test_accuracy": 0.9,
         "budget": 1.0, "official_data": True}
        for method, fall in (("e2e", 0.01), ("boostresnet", 0.0)) for depth in (1, 5, 10) for seed in range(3)
    ]  # fmt: skip
    path = tmp_path / "results/mnist/e2e/depth.csv"
    for there in ([], rows[:3]):
        if there:
            write_csv(path, columns, there)
        found = verdicts(tmp_path, "mnist")
        assert (found["7a"].verdict, found["7a"].lacks) == ("not run", "depths")
        assert found["7a"].reason == f"mnist/e2e/depth.csv {'has not two depths' if there else 'is not there'}"
        assert (found["7a"].data, found["7a"].budget) == (None, None), "without evidence"
    write_csv(path, columns, [row | {"official_data": "maybe"} for row in rows])
    with pytest.raises(ResultsError, match=r"depth\.csv: row 1: official_data must be True or False, got 'maybe'"):
        judge("mnist", tmp_path / "results")
    write_csv(path, columns, rows)
    found = verdicts(tmp_path, "mnist")
    assert (found["7a"].verdict, found["7b"].verdict) == ("holds", "holds")
    assert found["7a"].statistic == pytest.approx(-0.09) and found["7a"].data == "official"
    write_csv(path, columns, [rows[0] | {"official_data": False}, *rows[1:]])
    assert verdicts(tmp_path, "mnist")["7a"].data == "unofficial", "one is enough"
    write_csv(path, columns, [rows[0] | {"budget": 0.001}, *rows[1:]])
    short = verdicts(tmp_path, "mnist")["7a"]
    assert (short.verdict, short.lacks, short.budget) == ("not judged", "budget", 0.001), "by the shortest of its runs"
    write_csv(path, columns, rows)


def test_under_another_budget_boostresnets_rounds_are_its_depths(plant, tmp_path):
    assert plant("mnist", "boostresnet", 0) and verdicts(tmp_path, "mnist")["7b"].lacks == "depths"
    for seed, (first, last) in enumerate(((0.9, 0.95), (0.95, 0.9), (0.9, 0.91))):
        folder = plant_run(tmp_path / "results/mnist/budgets/1", "mnist", "boostresnet", seed, budget=1.0)
        set_column(folder, "train_accuracy", [first, *[0.5] * 5, last])
    verdict = {one.id: one for one in claims.judge_budgets("mnist", tmp_path / "results")["1"]}["7b"]
    assert list(verdict.values.values()) == pytest.approx([0.05, -0.05, 0.01])
    assert (verdict.verdict, verdict.n, verdict.budget) == ("inconclusive", 3, 1.0)
    assert verdict.evidence[0] == "mnist/budgets/1/mnist/boostresnet/seed0/rounds.csv"
    for gain, expected in ((0.05, "holds"), (-0.009, "holds"), (-0.011, "fails"), (-0.05, "fails")):
        for seed in range(3):
            set_column(folder.with_name(f"seed{seed}"), "train_accuracy", [0.9, *[0.5] * 5, 0.9 + gain + 1e-5 * seed])
        found = {one.id: one for one in claims.judge_budgets("mnist", tmp_path / "results")["1"]}
        assert found["7b"].verdict == expected and found["7b"].statistic == pytest.approx(gain + 1e-5)
    assert "7a" not in found, "end to end starts anew at every depth"
    for seed in range(3):
        set_column(folder.with_name(f"seed{seed}"), "train_accuracy", [0.9, *[0.5] * 5, ""])
    assert "7b" not in {one.id for one in claims.judge_budgets("mnist", tmp_path / "results")["1"]}


def test_claims_on_costs(tmp_path):
    assert verdicts(tmp_path)["8"].lacks == "costs"
    cost = plant_cost(tmp_path / "results")
    edit_json(cost, lambda values: values.update(repetitions=9))
    ratios = {"peak_memory_e2e_vs_boostresnet": 6.3, "boostresnet_cached_vs_e2e": 70}
    edit_json(cost, lambda values: values["ratios"].update(ratios))
    edit_json(cost, lambda values: values["end_to_end"].update(flops=700))
    edit_json(cost, lambda values: values["blocks"][3].update(cached_flops=None))
    uncounted = verdicts(tmp_path)["9-flops"]
    assert uncounted.lacks == "costs" and uncounted.reason == "digits/cost.json has no count of operations"

    def count(values: dict[str, Any]) -> None:
        for block, flops in zip(values["blocks"], [50, 150] * 3 + [100], strict=True):
            block["cached_flops"] = flops

    edit_json(cost, count)
    found = verdicts(tmp_path)
    assert (found["9-flops"].verdict, found["9-flops"].statistic, found["9-flops"].n) == ("holds", pytest.approx(1), 1)
    assert (found["8"].n, found["9"].n) == (1, 9), "memory is counted, time is measured again and again"
    assert (found["8"].data, found["8"].interval) == ("official", None)
    assert (found["8"].verdict, found["8"].statistic) == ("holds", pytest.approx(0.9))
    assert (found["9"].verdict, found["9"].statistic) == ("fails", pytest.approx(10.0))
    edit_json(cost, lambda values: values["ratios"].pop("boostresnet_cached_vs_e2e"))
    assert verdicts(tmp_path)["9"].reason == "digits/cost.json has no ratio boostresnet_cached_vs_e2e"
    for damage in ({"blocks": 3}, {"schema": 1}, {"dataset": "mnist"}):
        kept = json.loads(cost.read_text())
        edit_json(cost, lambda values, damage=damage: values.update(damage))
        with pytest.raises(ResultsError, match=r"cost\.json.*; measure it again: python -m replication cost digits$"):
            judge("digits", tmp_path / "results")
        cost.write_text(json.dumps(kept))


def test_an_interval_ends_where_the_statistic_does(plant, tmp_path):
    """Edges whose order is almost perfect: Student's interval of the rank correlations reaches beyond 1."""
    for seed, order in enumerate(([1, 0, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6])):
        set_column(plant("digits", "boostresnet", seed), "edge", [0.1 + 0.05 * place for place in order])
    found = verdicts(tmp_path)["4"]
    assert (found.unit, found.interval[1]) == ("Kendall's tau", 1.0) and found.interval[0] < found.statistic < 1


def test_what_is_written(plant, tmp_path):
    for seed in range(3):
        plant("digits", "boostresnet", seed)
    path = tmp_path / "results/digits/claims.json"
    written = write_claims("digits", tmp_path / "results", path)
    document = read_json(path)
    assert len(document["claims"]) == len(written) == len(load_criteria())
    assert len(document["criteria_sha256"]) == 64 and document["dataset"] == "digits"
    keys = {"id", "claim", "source", "verdict", "evidence", "statistic", "interval", "n", "data", "budget"}
    assert all(keys <= set(claim) and claim["verdict"] in claims.VERDICTS for claim in document["claims"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": {"kind": "mean"}}, "claim 1 is malformed .*needs above"),
        ({"rule": {"kind": "guess", "above": 0}}, "claim 1 is malformed .*guess"),
        ({"statistic": {"name": "magic"}}, "claim 1 is malformed .*magic"),
        ({"statistic": {"name": "bound_slack", "split": "test"}}, "claim 1 is malformed .*split"),
        ({"minimum_budget": "much"}, "claim 1 is malformed"),
        ({"bounds": [1, -1]}, "claim 1 is malformed .*bounds"),
    ],
)
def test_mistakes_in_the_criteria_name_the_claim(tmp_path, change, message):
    document = yaml.safe_load(claims.CRITERIA.read_text())
    document["claims"] = [document["claims"][0] | change]
    path = tmp_path / "criteria.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ResultsError, match=message):
        load_criteria(path)
    with pytest.raises(ResultsError, match="cannot read the criteria"):
        load_criteria(tmp_path / "none.yaml")


def test_intervals_are_the_textbooks():
    values = [0.1, 0.4, 0.2, 0.35]
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert student_interval(values) == pytest.approx(expected)
    assert student_interval([0.5]) is None
    proportion = stats.binomtest(7, 9).proportion_ci(0.95, method="wilson")
    assert wilson_interval(7, 9) == pytest.approx((proportion.low, proportion.high))
    assert wilson_interval(3, 3)[1] == 1.0 and wilson_interval(0, 3)[0] == 0.0


def test_ranges_open_and_closed():
    assert Range(low=0).holds(0.1) and not Range(low=0).holds(0)
    assert Range(low=0, low_closed=True).holds(0)
    assert Range(low=0).misses(-1, 0) and not Range(low=0, low_closed=True).misses(-1, 0)
    assert Range(-0.02, 0.02).misses(0.03, 0.05) and not Range(-0.02, 0.02).misses(0.01, 0.05)
    assert str(Range(0, 1, low_closed=True)) == "at least 0 and below 1"
