"""Accuracy against depth: BoostResNet's rounds as they are, end-to-end training anew, equal numbers of updates."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from replication.config import DepthParams
from replication.depth import measure_depth
from replication.errors import ResultsError
from replication.files import read_csv
from replication.training.train import train


@pytest.fixture
def shallow(experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return attrs.evolve(
        experiment,
        model=attrs.evolve(experiment.model, reading="mlp", blocks=3, width=8),
        boostresnet=attrs.evolve(experiment.boostresnet, auxiliary="linear"),
        depth=DepthParams((1, 3)),
    )


def test_every_depth_seed_and_method_has_a_row_at_equal_updates(shallow, digits):
    folders = {seed: train(shallow, digits, "boostresnet", seed) for seed in (0, 1)}
    measure_depth(shallow, digits, (0, 1))
    rows = read_csv(Path("results/digits/depth.csv"))
    found = {(row["method"], int(row["depth"]), int(row["seed"])): int(row["gradient_updates"]) for row in rows}
    assert found == {(method, d, seed): 6 * d for method in ("boostresnet", "e2e") for d in (1, 3) for seed in (0, 1)}
    rounds = read_csv(folders[1] / "rounds.csv")
    one = next(row for row in rows if (row["method"], row["depth"], row["seed"]) == ("boostresnet", "3", "1"))
    assert (one["train_accuracy"], one["test_accuracy"]) == (rounds[2]["train_accuracy"], rounds[2]["test_accuracy"])


def test_a_second_call_trains_nothing_and_other_parameters_train_again(shallow, digits, monkeypatch):
    train(shallow, digits, "boostresnet", 0)
    first = measure_depth(shallow, digits, (0,))
    calls = []
    monkeypatch.setattr("replication.depth.train", lambda *arguments: calls.append(arguments) or train(*arguments))
    assert measure_depth(shallow, digits, (0,)) == first
    assert not calls
    changed = attrs.evolve(shallow, optimizer=attrs.evolve(shallow.optimizer, learning_rate=0.01))
    measure_depth(changed, digits, (0,))
    assert len(calls) == 2


def test_what_is_missing_is_named(shallow, digits):
    with pytest.raises(ResultsError, match="no finished run in runs/digits/boostresnet/seed0"):
        measure_depth(shallow, digits, (0,))
    train(shallow, digits, "boostresnet", 0)
    deeper = attrs.evolve(shallow, depth=DepthParams((5,)))
    with pytest.raises(ResultsError, match=r"has 3 blocks, depth\.blocks asks for 5"):
        measure_depth(deeper, digits, (0,))
