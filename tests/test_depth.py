"""Accuracy against depth: BoostResNet's rounds as they are, end-to-end training anew, equal numbers of updates."""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs
import pytest

from replication.config import DepthParams
from replication.depth import measure_depth
from replication.errors import ConfigError, ResultsError
from replication.files import hash_of_code, read_csv, write_csv
from replication.training import checkpoint, record
from replication.training.checkpoint import run_key
from replication.training.train import train
from tests.tampering import renew_digests


@pytest.fixture
def shallow(experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return attrs.evolve(
        experiment,
        model=attrs.evolve(experiment.model, reading="mlp", blocks=3, width=8),
        boostresnet=attrs.evolve(experiment.boostresnet, auxiliary="linear"),
        depth=DepthParams((1, 3)),
    )


@pytest.fixture
def trained(monkeypatch):
    """Depth of every end-to-end network whose training was started."""
    depths = []

    def counted(experiment, *arguments):
        depths.append(experiment.model.blocks)
        return train(experiment, *arguments)

    monkeypatch.setattr("replication.scratch_runs.train", counted)
    return depths


def test_every_depth_seed_and_method_has_a_row_at_equal_updates(shallow, digits):
    folders = {seed: train(shallow, digits, "boostresnet", seed) for seed in (0, 1)}
    measure_depth(shallow, digits, (0, 1))
    rows = read_csv(Path("results/digits/e2e/depth.csv"))
    found = {(row["method"], int(row["depth"]), int(row["seed"])): int(row["gradient_updates"]) for row in rows}
    assert found == {(method, d, seed): 6 * d for method in ("boostresnet", "e2e") for d in (1, 3) for seed in (0, 1)}
    rounds = read_csv(folders[1] / "rounds.csv")
    one = next(row for row in rows if (row["method"], row["depth"], row["seed"]) == ("boostresnet", "3", "1"))
    assert (one["train_accuracy"], one["test_accuracy"]) == (rounds[2]["train_accuracy"], rounds[2]["test_accuracy"])


def test_a_row_has_the_numbers_of_its_own_run(shallow, digits, monkeypatch):
    """All numbers differ, so that none is taken for another."""
    half, copy, asked = attrs.evolve(shallow, budget=0.5), attrs.evolve(digits, official=False), []
    rounds = train(half, copy, "boostresnet", 1) / "rounds.csv"
    values = (("0.11", "0.12", "0.13"), ("0.21", "0.22", "0.23"), ("0.31", "0.32", "0.33"))
    names = ("train_accuracy", "validation_accuracy", "test_accuracy")
    rows = [row | dict(zip(names, three, strict=True)) for row, three in zip(read_csv(rounds), values, strict=True)]
    write_csv(rounds, record.COLUMNS["rounds"], rows)
    renew_digests(rounds.parent)

    def scratch_metrics(experiment, data, method, seed, scratch, progress):
        asked.append((experiment.model.blocks, experiment.end_to_end.updates, method, seed))
        updates = experiment.scaled(experiment.end_to_end.updates)
        return {"train_accuracy": 0.9, "validation_accuracy": 0.85, "test_accuracy": 0.8, "gradient_updates": updates,
                "budget": 0.25}  # fmt: skip

    monkeypatch.setattr("replication.depth.scratch_metrics", scratch_metrics)
    measure_depth(half, copy, (1,))
    # 6 updates a block, as in params.yaml; training takes half of them.
    assert asked == [(1, 6, "e2e", 1), (3, 18, "e2e", 1)]
    assert [tuple(row.values()) for row in read_csv(Path("results/digits/e2e/depth.csv"))] == [
        ("boostresnet", "1", "1", "3", "0.11", "0.13", "0.5", "False"),
        ("boostresnet", "3", "1", "9", "0.31", "0.33", "0.5", "False"),
        ("e2e", "1", "1", "3", "0.9", "0.8", "0.25", "False"),
        ("e2e", "3", "1", "9", "0.9", "0.8", "0.25", "False"),
    ]
    with pytest.raises(ResultsError, match=f"^{rounds.parent} was trained on other data than the prepared digits; "):
        measure_depth(half, attrs.evolve(copy, content_hash="0" * 64), (1,))


def test_a_second_call_trains_nothing_and_other_parameters_train_again(shallow, digits, trained):
    train(shallow, digits, "boostresnet", 0)
    first = measure_depth(shallow, digits, (0,))
    analysed = attrs.evolve(shallow, analysis=attrs.evolve(shallow.analysis, bootstrap=7))  # changes no run
    for same in (shallow, analysed):
        assert measure_depth(same, digits, (0,)) == first
    assert trained == [1, 3]
    changed = attrs.evolve(shallow, optimizer=attrs.evolve(shallow.optimizer, learning_rate=0.01))
    train(changed, digits, "boostresnet", 0)
    measure_depth(changed, digits, (0,))
    assert trained == [1, 3, 1, 3]


def test_a_run_of_other_code_is_trained_again(shallow, digits, trained, monkeypatch):
    train(shallow, digits, "boostresnet", 0)
    one = attrs.evolve(shallow, depth=DepthParams((1,)))
    for _ in range(2):
        measure_depth(one, digits, (0,))
        assert trained == [1]
    # The key is the hash of parameters, data and code; after a change of the code it is another.
    monkeypatch.setattr("replication.scratch_runs.run_key", lambda determines: "0" * 32)
    measure_depth(one, digits, (0,))
    assert trained == [1, 1]


def test_the_code_that_trains_is_in_the_key_of_a_run(tmp_path, monkeypatch):
    """To the byte, and by what is in it: a copy elsewhere is the same code."""
    package = Path(checkpoint.__file__).parents[1]
    shutil.copytree(package, tmp_path / "replication", ignore=shutil.ignore_patterns("__pycache__"))
    here = hash_of_code(package, checkpoint.CODE)
    for name, trains in {
        "boosting/multiclass.py": True,
        "datasets/loader.py": True,
        "training/update.py": True,
        "datasets/download.py": False,
        "report/build.py": False,
    }.items():
        path = tmp_path / "replication" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + b" ")
        assert (hash_of_code(tmp_path / "replication", checkpoint.CODE) != here) is trains, name
        path.write_bytes(whole)
        assert hash_of_code(tmp_path / "replication", checkpoint.CODE) == here
    key = run_key({"code": "is named"})
    monkeypatch.setattr(checkpoint, "_CODE", "other code")
    assert run_key({"code": "is named"}) != key


def test_what_is_missing_is_named(shallow, digits):
    with pytest.raises(ResultsError, match="no finished run in runs/digits/boostresnet/seed0"):
        measure_depth(shallow, digits, (0,))
    deeper = attrs.evolve(shallow, depth=DepthParams((5,)))
    with pytest.raises(ConfigError, match=r"depth\.blocks must be at most 3, BoostResNet's model\.blocks, got 5"):
        measure_depth(deeper, digits, (0,))
    fewer = attrs.evolve(shallow, evaluation=attrs.evolve(shallow.evaluation, held_out_samples=359))
    with pytest.raises(ConfigError, match=r"needs evaluation\.held_out_samples of at least 360: "):
        measure_depth(fewer, digits, (0,))


def test_boostresnet_of_other_parameters_is_not_held_against_end_to_end(shallow, digits, trained):
    folder = train(shallow, digits, "boostresnet", 0)
    longer = attrs.evolve(shallow, budget=2.0)
    unclamped = attrs.evolve(shallow, optimizer=attrs.evolve(shallow.optimizer, gradient_clamp=None))
    faster = attrs.evolve(shallow, runtime=attrs.evolve(shallow.runtime, precision="bfloat16"))
    for other, words in (
        (longer, r"budget = 1\.0, and params\.yaml has 2\.0"),
        (unclamped, r"optimizer\.gradient_clamp = 0\.1, and params\.yaml has None"),
        (faster, r"runtime\.precision = auto, and params\.yaml has bfloat16"),
    ):
        with pytest.raises(ResultsError, match=rf"^{folder} was trained with {words}; change params\.yaml"):
            measure_depth(other, digits, (0,))
    assert not trained
