"""BoostResNet under other budgets: every run published as a run of that length is, trained once, and no other's."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from replication.analysis.evaluate import evaluate
from replication.budgets import measure_budgets
from replication.files import read_csv, read_json
from replication.training.train import train

RESULTS = Path("results")


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trained(monkeypatch):
    """Budget and seed of every training that was started."""
    calls = []

    def counted(experiment, data, method, seed, *arguments):
        calls.append((experiment.budget, seed))
        return train(experiment, data, method, seed, *arguments)

    monkeypatch.setattr("replication.scratch_runs.train", counted)
    return calls


def folder(budget: str, seed: int) -> Path:
    return RESULTS / "digits" / "budgets" / budget / "digits" / "boostresnet" / f"seed{seed}"


def test_every_budget_and_seed_is_published_as_a_run_of_its_own_would_be(experiment, digits, trained):
    assert measure_budgets(experiment, (0.5, 2.0), digits, (0, 1)) == [
        folder("0.5", 0), folder("0.5", 1), folder("2", 0), folder("2", 1),
    ]  # fmt: skip
    assert trained == [(0.5, 0), (0.5, 1), (2.0, 0), (2.0, 1)]
    longer = attrs.evolve(experiment, budget=2.0)
    train(longer, digits, "boostresnet", 1)
    assert read_json(folder("2", 1) / "metrics.json") == evaluate(longer, digits, "boostresnet", 1)
    assert [row["gradient_updates"] for row in read_csv(folder("2", 1) / "rounds.csv")] == ["12"] * 5
    assert (folder("2", 1) / "rounds.csv").read_bytes() == Path("runs/digits/boostresnet/seed1/rounds.csv").read_bytes()


def test_a_second_call_trains_only_what_is_new_and_forgets_what_is_not_asked_for(experiment, digits, trained):
    measure_budgets(experiment, (0.5, 2.0), digits, (0, 1))
    before = (folder("0.5", 0) / "metrics.json").read_bytes()
    del trained[:]
    measure_budgets(experiment, (0.5, 3.0), digits, (0,))
    assert trained == [(3.0, 0)]
    assert (folder("0.5", 0) / "metrics.json").read_bytes() == before
    published = {path.parent for path in RESULTS.rglob("metrics.json")}
    assert published == {folder("0.5", 0), folder("3", 0)}
    assert sorted(path.name for path in (RESULTS / "digits" / "budgets").iterdir()) == ["0.5", "3"]


def test_nothing_is_removed_before_everything_is_there(experiment, digits, monkeypatch):
    measure_budgets(experiment, (0.5,), digits, (0,))

    def broken(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("replication.scratch_runs.train", broken)
    with pytest.raises(KeyboardInterrupt):
        measure_budgets(experiment, (2.0,), digits, (0,))
    assert (folder("0.5", 0) / "metrics.json").is_file()


def test_no_budgets_leave_an_empty_folder(experiment, digits, trained):
    assert measure_budgets(experiment, (), digits, (0,)) == []
    assert list((RESULTS / "digits" / "budgets").iterdir()) == [] and not trained
