"""The whole analysis on runs that were really trained, in every reading."""

from __future__ import annotations

import shutil
from operator import attrgetter

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file

from replication import analysis
from replication.analysis import weak_learning
from replication.analysis.analyse import TABLES, analyse
from replication.analysis.evaluate import evaluate
from replication.analysis.margins import l1_complexity
from replication.analysis.sampling import subset
from replication.datasets.loader import to_device_split
from replication.errors import ResultsError
from replication.files import read_csv, read_json
from replication.run_directory import is_analysed
from replication.training.runs import load_model
from replication.training.train import train
from tests.tampering import renew_digests


@pytest.fixture
def quick(experiment):
    """Few draws: what is tested is that everything is there and right, not precise."""
    few = {"test_samples": 60, "random_samples": 40, "random_draws": 3, "bootstrap": 20, "probe_samples": 150}
    return attrs.evolve(experiment, analysis=attrs.evolve(experiment.analysis, **few))


def tables_of(folder):
    return {name: read_csv(folder / "analysis" / f"{name}.csv") for name in TABLES}


def test_rounds_are_counted_by_what_holds_in_them(quick, digits, tmp_path, monkeypatch):
    """Five rounds in which the two halves of the weak learning condition, and the ends of intervals, differ."""
    made = weak_learning.weak_learning_rows
    gains, covariances = (True, True, True, False, False), (True, False, False, True, False)
    lows, highs = (0.1, -0.1, 0.2, -0.3, -0.2), (0.3, 0.2, 0.4, 0.1, -0.1)
    bounds = (9.0, 0.9, 0.8, 1.2, 0.7)

    def crafted(*arguments, **options):
        values = zip(made(*arguments, **options), gains, covariances, lows, highs, bounds, strict=True)
        return [
            row | {"gain_positive": gain, "covariance_nonpositive": covariance, "gamma_low": low, "gamma_high": high,
                   "covariance_low": low, "proof_covariance_low": high, "proof_covariance_nonpositive": not gain,
                   "bound_product": bound}
            for row, gain, covariance, low, high, bound in values
        ]  # fmt: skip

    monkeypatch.setattr(weak_learning, "weak_learning_rows", crafted)
    runs = tmp_path / "runs"
    train(quick, digits, "boostresnet", 0, runs)
    theory = analyse(quick, digits, "boostresnet", 0, runs, tmp_path / "results")["theory"]
    assert {key: count for key, count in theory.items() if key.endswith("_blocks") and key != "bound_holds_blocks"} == {
        "positive_gain_blocks": 3,
        "nonpositive_covariance_blocks": 2,
        "condition_blocks": 1,
        "surely_positive_gain_blocks": 2,
        "surely_nonpositive_gain_blocks": 1,
        "surely_positive_covariance_blocks": 2,
        "nonpositive_proof_covariance_blocks": 2,
        "surely_positive_proof_covariance_blocks": 4,
    }
    assert theory["first_nonvacuous_block"] == 1


def test_draws_are_by_the_runs_seed_and_gradients_of_all_sampled_images(quick, digits, tmp_path, monkeypatch):
    asked, images = [], []

    def watch(name, note):
        original = attrgetter(name)(analysis)

        def watched(*arguments):
            note(*arguments)
            return original(*arguments)

        monkeypatch.setattr(f"replication.analysis.{name}", watched)

    watch("analyse.draws", lambda *arguments: asked.append(arguments))
    watch("paths.PathGradients", lambda _network, batch, _labels: images.append(len(batch)))
    watch("steps.step_alignment", lambda _network, batch, *_: images.append(len(batch)))
    small = attrs.evolve(quick, model=attrs.evolve(quick.model, reading="mlp", blocks=2))
    train(small, digits, "boostresnet", 7, tmp_path / "runs")
    analyse(small, digits, "boostresnet", 7, tmp_path / "runs", tmp_path / "results")
    assert sorted(asked) == [(7, stream) for stream in ("bootstrap", "deletions", "labels", "paths", "swaps")]
    assert images == [60, 60]


def test_the_analysis_of_a_boostresnet_run_agrees_with_what_the_run_recorded(quick, digits, tmp_path, monkeypatch):
    runs, results = tmp_path / "runs", tmp_path / "results"
    # With 0, the default, an analysis that did not look at it would agree all the same.
    quick = attrs.evolve(quick, boostresnet=attrs.evolve(quick.boostresnet, initial_edge=0.5))
    run = train(quick, digits, "boostresnet", 0, runs)
    of_lemma = []
    monkeypatch.setattr(
        "replication.analysis.theory.to_device_split",
        lambda data, split, device: of_lemma.append(split) or to_device_split(data, split, device),
    )
    metrics = evaluate(quick, digits, "boostresnet", 0, runs, results)
    assert of_lemma == ["test"]
    summary = analyse(quick, digits, "boostresnet", 0, runs, results)
    folder = results / "digits/boostresnet/seed0"
    assert read_json(folder / "analysis.json") == summary
    assert read_json(folder / "metrics.json") == metrics, "both stages publish into one folder"
    assert is_analysed(folder)
    train(quick, digits, "boostresnet", 1, runs)
    shutil.copyfile(runs / "digits/boostresnet/seed1/run.json", folder / "run.json")
    assert not is_analysed(folder), "of another network"
    tables, rounds = tables_of(folder), read_csv(run / "rounds.csv")
    assert len(tables["theory"]) == len(rounds) == 5
    for row, recorded in zip(tables["theory"], rounds, strict=True):
        for key in ("edge", "gamma", "covariance", "train_error"):
            assert float(row[key]) == pytest.approx(float(recorded[key]), rel=1e-4, abs=1e-6), key
        assert float(row["bound_product"]) == pytest.approx(float(recorded["bound"]), rel=1e-4)
    for key, column in (("nonpositive_covariance_blocks", "covariance_nonpositive"),
                        ("nonpositive_proof_covariance_blocks", "proof_covariance_nonpositive")):  # fmt: skip
        assert summary["theory"][key] == [row[column] for row in tables["theory"]].count("True")
    sure = [float(row["proof_covariance_low"]) > 1e-12 for row in tables["theory"]]
    assert summary["theory"]["surely_positive_proof_covariance_blocks"] == sum(sure)
    theory, rows = summary["theory"], tables["theory"]
    both = [row["gain_positive"] == row["covariance_nonpositive"] == "True" for row in rows]
    assert theory["condition_blocks"] == sum(both)
    assert theory["surely_positive_gain_blocks"] == sum(float(row["gamma_low"]) > 0 for row in rows)
    assert theory["surely_nonpositive_gain_blocks"] == sum(float(row["gamma_high"]) <= 0 for row in rows)
    slack = [float(row["bound_product"]) - float(row["train_error"]) for row in rows]
    assert theory["smallest_slack"] == pytest.approx(min(slack)) != pytest.approx(max(slack))
    assert metrics["lemma_3_2_max_difference"] < 1e-6
    last = tables["modules"][-1]
    assert float(last["test_accuracy"]) == pytest.approx(metrics["test_accuracy"])
    assert float(last["train_accuracy"]) == pytest.approx(metrics["train_accuracy"])
    at_zero = [row for row in tables["margins"] if row["split"] == "test" and row["margin"] == "0.0"]
    assert [int(row["block"]) for row in at_zero] == [0, 1, 2, 3, 4]
    assert float(at_zero[-1]["cumulative"]) == pytest.approx(1 - metrics["test_accuracy"], abs=1e-9)
    for split in ("train", "test"):
        error = 1 - metrics[f"{split}_accuracy"]
        assert summary["margins"][split]["nonpositive"] == pytest.approx(error, abs=1e-9)
    network, splits = load_model(run), {name: to_device_split(digits, name, "cpu") for name in ("train", "test")}
    some = subset(splits["test"], 60)
    with torch.no_grad():
        wrong = network(some.normalise(some.images)).argmax(1) != some.labels
    assert summary["lesions"]["error"] == pytest.approx(float(wrong.double().mean()))
    train_split = splits["train"]
    largest = float(train_split.normalise(train_split.images).abs().max())
    expected = l1_complexity(network, largest, 64, len(train_split))
    assert summary["complexity"]["log10_bound"] == pytest.approx(expected["log10_bound"])
    assert summary["settings"] == {
        "train_images": 150, "validation_images": 60, "test_images": 60, "random_images": 40, "random_draws": 3,
        "bootstrap": 20,
    }  # fmt: skip
    again = analyse(quick, digits, "boostresnet", 0, runs, tmp_path / "again")
    assert again == summary, "only what the seed determines"
    assert tables_of(tmp_path / "again/digits/boostresnet/seed0") == tables


@pytest.mark.parametrize("reading", ["released", "paper-text", "mlp"])
@pytest.mark.parametrize("method", ["boostresnet", "e2e"])
def test_every_reading_is_analysed(quick, digits, tmp_path, reading, method):
    changed = attrs.evolve(quick, model=attrs.evolve(quick.model, reading=reading, width=5))
    train(changed, digits, method, 0, tmp_path / "runs")
    summary = analyse(changed, digits, method, 0, tmp_path / "runs", tmp_path / "results")
    tables = tables_of(tmp_path / "results/digits" / method / "seed0")
    assert len(tables["deletions"]) == 4 == summary["alignment"]["blocks"] == summary["paths"]["blocks"]
    assert [int(row["length"]) for row in tables["paths"]] == [0, 1, 2, 3, 4]
    assert sum(float(row["share"]) for row in tables["paths"]) == pytest.approx(1)
    for column, key in (("alignment", "mean"), ("control_alignment", "control_mean")):
        mean = sum(float(row[column]) for row in tables["alignment"]) / 4
        assert summary["alignment"][key] == pytest.approx(mean)
    assert summary["alignment"]["mean"] != summary["alignment"]["control_mean"]
    assert len(tables["modules"]) == 4 + (reading != "mlp")
    assert (summary["theory"] is None) == (method == "e2e") == ("untrained" in summary)
    assert bool(tables["theory"]) == (method == "boostresnet")
    assert (summary["swaps"] is None) == (not tables["swaps"])
    assert 0 <= summary["lesions"]["error"] <= 1
    for row in (*tables["deletions"], {"error": summary["lesions"]["error"]}):
        assert float(row["error"]) * 60 == pytest.approx(round(float(row["error"]) * 60)), "of 60 images"
    for row in (*tables["lesions"], *tables["swaps"], {"error": summary["lesions"]["random_error"]}):
        assert float(row["error"]) * 40 == pytest.approx(round(float(row["error"]) * 40)), "of 40 images"


def test_ensembles_have_margins_and_binary_boosting_everything(quick, digits, tmp_path):
    for method in ("adaboost-mm", "gradient-boosting", "boostresnet-binary"):
        train(quick, digits, method, 0, tmp_path / "runs")
        summary = analyse(quick, digits, method, 0, tmp_path / "runs", tmp_path / "results")
        tables = tables_of(tmp_path / "results/digits" / method / "seed0")
        metrics = evaluate(quick, digits, method, 0, tmp_path / "runs", tmp_path / "results")
        margins = [float(row["cumulative"]) for row in tables["margins"]]
        assert margins and all(0 <= fraction <= 1 for fraction in margins)
        assert summary["margins"]["test"]["nonpositive"] >= 1 - metrics["test_accuracy"] - 1e-9
        assert ("lesions" in summary) == (method == "boostresnet-binary") == bool(tables["theory"])
        assert ("alignment" in summary) == bool(tables["alignment"]) == (method != "adaboost-mm"), "votes are no step"
    gradient = analyse(quick, digits, "gradient-boosting", 0, tmp_path / "runs", tmp_path / "results")["alignment"]
    assert gradient["mean"] > 0 > gradient["control_mean"], "fitted to this very direction"


def test_a_run_that_is_not_there_or_of_other_data_is_refused(quick, digits, tmp_path):
    with pytest.raises(ResultsError, match="no finished run"):
        analyse(quick, digits, "e2e", 0, tmp_path / "runs", tmp_path / "results")
    train(quick, digits, "e2e", 0, tmp_path / "runs")
    with pytest.raises(ResultsError, match="other data"):
        analyse(quick, attrs.evolve(digits, content_hash="0"), "e2e", 0, tmp_path / "runs", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_damaged_model_is_not_analysed(quick, digits, tmp_path):
    """Neither one that errs where the run did not, nor, where no error was recorded, one that gives no numbers."""
    small = attrs.evolve(quick, model=attrs.evolve(quick.model, reading="mlp", blocks=2))
    for method, name, damage, words in (
        ("boostresnet", "rounds.1.residual.2.weight", lambda weight: 100 * weight, "does not give what rounds.csv"),
        ("e2e", "head.linear.weight", lambda weight: weight * torch.nan, "gives numbers that are not finite"),
    ):
        run = train(small, digits, method, 0, tmp_path / "runs")
        weights = load_file(run / "model.safetensors")
        save_file(weights | {name: damage(weights[name])}, run / "model.safetensors")
        renew_digests(run)
        with pytest.raises(ResultsError, match=words):
            analyse(small, digits, method, 0, tmp_path / "runs", tmp_path / "results")
    assert not (tmp_path / "results").exists()
