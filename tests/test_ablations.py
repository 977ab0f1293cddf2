"""Deviations, measured: the default as it was run, every variant trained anew, and nothing taken for what it is not."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from replication.ablations import COLUMNS, measure_ablations
from replication.analysis.evaluate import evaluate
from replication.config import Variant
from replication.errors import ResultsError
from replication.files import read_csv
from replication.training.train import train


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def exponential(experiment):
    changed = attrs.evolve(experiment.boostresnet, oracle_loss="exponential", initial_edge=0.5)
    changes = {"boostresnet.oracle_loss": "exponential", "boostresnet.initial_edge": 0.5}
    return Variant("exponential", changes, ("boostresnet",), attrs.evolve(experiment, boostresnet=changed))


@pytest.fixture
def trained(monkeypatch):
    """Method and seed of every training that was started."""
    calls = []

    def counted(experiment, data, method, seed, *arguments):
        calls.append((method, seed))
        return train(experiment, data, method, seed, *arguments)

    monkeypatch.setattr("replication.scratch_runs.train", counted)
    return calls


def test_the_default_is_the_run_and_the_variant_is_trained_as_it_says(experiment, exponential, digits, trained):
    for seed in (0, 1):
        train(experiment, digits, "boostresnet", seed)
    rows = measure_ablations(experiment, (exponential,), digits, (0, 1))
    written = read_csv(Path("results/digits/ablations.csv"))
    assert [(row["variant"], row["seed"]) for row in written] == [
        ("default", "0"), ("default", "1"), ("exponential", "0"), ("exponential", "1"),
    ]  # fmt: skip
    assert written[2]["changes"] == "boostresnet.oracle_loss = exponential, boostresnet.initial_edge = 0.5"
    assert trained == [("boostresnet", 0), ("boostresnet", 1)]
    metrics = evaluate(experiment, digits, "boostresnet", 1)
    assert {key: value for key, value in rows[1].items() if key in metrics} == {
        key: value for key, value in metrics.items() if key in COLUMNS
    }
    # Fewer points on the curves than a run of its own would have, and the same network.
    train(exponential.experiment, digits, "boostresnet", 1, Path("whole"))
    whole = evaluate(exponential.experiment, digits, "boostresnet", 1, Path("whole"), Path("whole/results"))
    assert {key: value for key, value in rows[3].items() if key in whole} == {
        key: value for key, value in whole.items() if key in COLUMNS
    }


def test_an_interrupted_call_goes_on_and_other_parameters_are_trained_anew(experiment, exponential, digits, trained):
    train(experiment, digits, "boostresnet", 0)
    first = measure_ablations(experiment, (exponential,), digits, (0,))
    assert measure_ablations(experiment, (exponential,), digits, (0,)) == first
    assert len(trained) == 1
    unclamped = attrs.evolve(exponential.experiment.optimizer, gradient_clamp=None)
    other = attrs.evolve(exponential, experiment=attrs.evolve(exponential.experiment, optimizer=unclamped))
    measure_ablations(experiment, (other,), digits, (0,))
    assert len(trained) == 2


def test_a_default_that_is_missing_or_another_is_named(experiment, exponential, digits, trained):
    with pytest.raises(ResultsError, match="no finished run in runs/digits/boostresnet/seed0"):
        measure_ablations(experiment, (exponential,), digits, (0,))
    train(exponential.experiment, digits, "boostresnet", 0)
    with pytest.raises(ResultsError, match=r"boostresnet/seed0 was trained with boostresnet\.oracle_loss = expon"):
        measure_ablations(experiment, (exponential,), digits, (0,))
    train(experiment, digits, "boostresnet", 0)
    faster = attrs.evolve(experiment, runtime=attrs.evolve(experiment.runtime, precision="bfloat16", threads=2))
    with pytest.raises(ResultsError, match=r"trained with runtime\.precision = auto, and params\.yaml has bfloat16"):
        measure_ablations(faster, (exponential,), digits, (0,))
    assert not trained and not Path("results").exists()


def test_other_methods_stand_beside_their_own_default(experiment, exponential, digits):
    short = attrs.evolve(experiment, end_to_end=attrs.evolve(experiment.end_to_end, updates=4))
    unclamped = attrs.evolve(short, optimizer=attrs.evolve(short.optimizer, gradient_clamp=None))
    train(short, digits, "e2e", 0)
    variant = Variant("no-clamp", {"optimizer.gradient_clamp": None}, ("e2e",), unclamped)
    rows = measure_ablations(short, (variant,), digits, (0,))
    assert [(row["variant"], row["method"], row["gradient_updates"]) for row in rows] == [
        ("default", "e2e", 4), ("no-clamp", "e2e", 4),
    ]  # fmt: skip
    assert rows[1]["final_edge"] is None and rows[1]["changes"] == "optimizer.gradient_clamp = null"
