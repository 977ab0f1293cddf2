"""Methods under other budgets: every run published as a run of that length is, trained once, and no other's."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import attrs
import pytest
import torch
import yaml
from typer.testing import CliRunner

from replication.__main__ import app
from replication.analysis.analyse import analyse
from replication.analysis.evaluate import evaluate
from replication.budgets import budget_root, measure_budgets, measure_one
from replication.config import OtherBudget
from replication.errors import ConfigError, ReplicationError, ResultsError, TrainingError
from replication.files import read_csv, read_json, write_json
from replication.training.train import train

RESULTS = Path("results")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trained(monkeypatch):
    """Budget, method and seed of every training that was started."""
    calls = []

    def counted(experiment, data, method, seed, *arguments):
        calls.append((experiment.budget, method, seed))
        return train(experiment, data, method, seed, *arguments)

    monkeypatch.setattr("replication.scratch_runs.train", counted)
    return calls


def boostresnet(*budgets: float) -> tuple[OtherBudget, ...]:
    return tuple(OtherBudget(budget, "boostresnet") for budget in budgets)


def folder(budget: str, seed: int, method: str = "boostresnet") -> Path:
    return RESULTS / "digits" / "budgets" / budget / "digits" / method / f"seed{seed}"


def test_every_budget_and_seed_is_published_as_a_run_of_its_own_would_be(experiment, digits, trained):
    assert measure_budgets(experiment, boostresnet(0.5, 2.0), digits, (0, 1)) == [
        folder("0.5", 0), folder("0.5", 1), folder("2", 0), folder("2", 1),
    ]  # fmt: skip
    assert trained == [(budget, "boostresnet", seed) for budget in (0.5, 2.0) for seed in (0, 1)]
    longer = attrs.evolve(experiment, budget=2.0)
    train(longer, digits, "boostresnet", 1)
    assert read_json(folder("2", 1) / "metrics.json") == evaluate(longer, digits, "boostresnet", 1)
    assert [row["gradient_updates"] for row in read_csv(folder("2", 1) / "rounds.csv")] == ["12"] * 5
    assert (folder("2", 1) / "rounds.csv").read_bytes() == Path("runs/digits/boostresnet/seed1/rounds.csv").read_bytes()


def test_a_second_call_trains_only_what_is_new_and_forgets_what_is_not_asked_for(experiment, digits, trained):
    measure_budgets(experiment, boostresnet(0.5, 2.0), digits, (0, 1))
    before = (folder("0.5", 0) / "metrics.json").read_bytes()
    del trained[:]
    measure_budgets(experiment, boostresnet(0.5, 3.0), digits, (0,))
    assert trained == [(3.0, "boostresnet", 0)]
    assert (folder("0.5", 0) / "metrics.json").read_bytes() == before
    published = {path.parent for path in RESULTS.rglob("metrics.json")}
    assert published == {folder("0.5", 0), folder("3", 0)}
    assert sorted(path.name for path in (RESULTS / "digits" / "budgets").iterdir()) == ["0.5", "3"]


def test_a_refinement_starts_from_the_run_of_its_own_budget(experiment, digits, trained):
    asked = tuple(OtherBudget(0.5, method) for method in ("boostresnet", "boostresnet-refined", "e2e"))
    assert measure_budgets(experiment, asked, digits, (1,)) == [folder("0.5", 1, one.method) for one in asked]
    assert trained == [(0.5, one.method, 1) for one in asked]
    shorter = attrs.evolve(experiment, budget=0.5)
    for one in asked:
        train(shorter, digits, one.method, 1)
        assert read_json(folder("0.5", 1, one.method) / "metrics.json") == evaluate(shorter, digits, one.method, 1)
    updates = [read_json(folder("0.5", 1, one.method) / "metrics.json")["gradient_updates"] for one in asked]
    assert updates[1] == 2 * updates[0] == updates[2] > 0


def test_several_processes_can_share_the_work(experiment, digits, trained):
    asked = (*boostresnet(0.5), OtherBudget(0.5, "boostresnet-refined"), *boostresnet(2.0))
    with pytest.raises(ReplicationError, match="boostresnet"):
        measure_one(experiment, asked, digits, "boostresnet-refined", 0)
    first, second = measure_one(experiment, asked, digits, "boostresnet", 0)
    assert [read_json(folder / "run.json")["budget"] for folder in (first, second)] == [0.5, 2.0]
    assert measure_one(experiment, asked, digits, "boostresnet-refined", 0)[0].parents[4] == first.parents[4]
    assert measure_one(experiment, asked, digits, "boostresnet", 0) == [first, second]
    assert not RESULTS.exists(), "nothing is published"
    del trained[:]
    measure_budgets(experiment, asked, digits, (0,))
    assert not trained


def test_one_run_can_be_published_beside_what_is_published(experiment, digits, trained):
    measure_budgets(experiment, boostresnet(0.5), digits, (0, 1))
    kept = {path: path.read_bytes() for path in RESULTS.rglob("*") if path.is_file()}
    shutil.rmtree("scratch")
    asked = (*boostresnet(0.5), OtherBudget(2.0, "e2e", analysed=True))
    del trained[:]
    assert measure_one(experiment, asked, digits, "e2e", 1, results_root=RESULTS) == [folder("2", 1, "e2e")]
    assert trained == [(2.0, "e2e", 1)], "what is published is not trained again"
    assert (folder("2", 1, "e2e") / "analysis.json").is_file()
    assert all(path.read_bytes() == content for path, content in kept.items())
    edited = folder("2", 1, "e2e") / "metrics.json"
    published = edited.read_bytes()
    edited.unlink()
    (edited.parent / "stray.csv").touch()
    measure_one(experiment, asked, digits, "e2e", 1, results_root=RESULTS)
    assert edited.read_bytes() == published and not (edited.parent / "stray.csv").exists(), "replaced as a whole"
    del trained[:]
    other = attrs.evolve(experiment, optimizer=attrs.evolve(experiment.optimizer, learning_rate=0.1))
    with pytest.raises(
        ResultsError, match=r"^results/digits/budgets/0\.5/\S+/seed0 was trained with optimizer\.learning"
    ):
        measure_one(other, asked, digits, "e2e", 0, results_root=RESULTS)
    run = folder("0.5", 1) / "run.json"
    description = read_json(run)
    write_json(run, description | {"data": description["data"] | {"content_hash": "0" * 64}})
    with pytest.raises(ResultsError, match=rf"^{run.parent} is of other data than digits's here"):
        measure_one(experiment, asked, digits, "e2e", 0, results_root=RESULTS)
    run.write_text("[]")
    with pytest.raises(ResultsError, match=rf"^{run} is damaged; get it back from git, or make all anew"):
        measure_one(experiment, asked, digits, "e2e", 0, results_root=RESULTS)
    assert not trained, "before the training"


def test_of_many_runs_each_is_followed_and_fails_under_its_name(experiment, digits):
    seen = []

    def progress(name):
        return lambda kind, row: seen.append((name, kind, row.get("gradient_updates")))

    measure_budgets(experiment, (*boostresnet(0.5), OtherBudget(2.0, "e2e")), digits, (0, 1), progress=progress)
    names = [f"budgets/{run} seed {seed}" for run in ("0.5 digits boostresnet", "2 digits e2e") for seed in (0, 1)]
    assert list(dict.fromkeys(name for name, _, _ in seen)) == names
    history = read_csv(folder("2", 1, "e2e") / "history.csv")
    followed = [updates for name, kind, updates in seen if (name, kind) == (names[-1], "history")]
    assert [str(updates) for updates in followed] == [row["gradient_updates"] for row in history] != []
    failing = attrs.evolve(experiment, optimizer=attrs.evolve(experiment.optimizer, learning_rate=1e30))
    with pytest.raises(
        TrainingError, match=r"^budgets/0\.5 digits boostresnet seed 1: the training loss is not a finite"
    ):
        measure_budgets(failing, boostresnet(0.5), digits, (1,))


def test_what_is_analysed_is_published_with_the_run(experiment, digits):
    asked = (*boostresnet(0.5), OtherBudget(2.0, "boostresnet", analysed=True))
    measure_budgets(experiment, asked, digits, (0,))
    assert not (folder("0.5", 0) / "analysis.json").exists()
    longer = attrs.evolve(experiment, budget=2.0)
    train(longer, digits, "boostresnet", 0)
    assert read_json(folder("2", 0) / "analysis.json") == analyse(longer, digits, "boostresnet", 0)
    ours, theirs = folder("2", 0) / "analysis", RESULTS / "digits/boostresnet/seed0/analysis"
    assert [path.name for path in sorted(ours.iterdir())] == [path.name for path in sorted(theirs.iterdir())]
    assert all(path.read_bytes() == (theirs / path.name).read_bytes() for path in ours.iterdir())


def test_only_what_is_asked_for_is_published(experiment, digits):
    measure_budgets(experiment, (OtherBudget(0.5, "boostresnet", analysed=True),), digits, (0,))
    assert (folder("0.5", 0) / "analysis.json").is_file()
    measure_budgets(experiment, boostresnet(0.5), digits, (0,))
    names = {"history.csv", "metrics.json", "rounds.csv", "run.json", "timing.csv"}
    assert {path.name for path in folder("0.5", 0).iterdir()} == names


def test_a_signal_is_heeded_between_two_measurements(experiment, digits, monkeypatch):
    monkeypatch.setattr("replication.scratch_runs.asked_to_stop", lambda: signal.SIGTERM)
    with pytest.raises(ReplicationError, match="stopped by SIGTERM; run the same command again to go on") as caught:
        measure_budgets(experiment, boostresnet(0.5), digits, (0, 1))
    assert caught.value.exit_code == 128 + signal.SIGTERM and not RESULTS.exists()
    assert len(list(Path("scratch/budgets/0.5").glob("*/digits/boostresnet/seed*/run.json"))) == 1, "it is kept"


def test_the_name_of_a_device_makes_no_other_run(experiment, digits):
    named = attrs.evolve(experiment, runtime=attrs.evolve(experiment.runtime, device="cpu"))
    anyone = attrs.evolve(experiment, runtime=attrs.evolve(experiment.runtime, device="auto"))
    fewer = attrs.evolve(named, runtime=attrs.evolve(named.runtime, threads=7))
    roots = [budget_root(one, digits, 0.5) for one in (named, anyone, fewer)]
    if not torch.cuda.is_available():
        assert roots[0] == roots[1]
    assert roots[0] != roots[2]


def test_what_was_measured_is_not_measured_again_unless_the_run_is_another(experiment, digits, monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments[3])
        return evaluate(*arguments)

    monkeypatch.setattr("replication.scratch_runs.evaluate", counted)
    for _ in range(2):
        measure_budgets(experiment, boostresnet(0.5), digits, (0, 1))
        assert calls == [0, 1]
    (run,) = Path("scratch/budgets/0.5").glob("*/digits/boostresnet/seed0")
    description = read_json(run / "run.json")
    write_json(run / "run.json", description | {"wall_seconds": 1.0})
    measure_budgets(experiment, boostresnet(0.5), digits, (0, 1))
    assert calls == [0, 1, 0] and read_json(folder("0.5", 0) / "run.json")["wall_seconds"] == 1.0
    monkeypatch.setattr("replication.scratch_runs._MEASURING_CODE", "other code")
    measure_budgets(experiment, boostresnet(0.5), digits, (0, 1))
    assert calls == [0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "e2e"], "--only METHOD and --seed N go together"),
        (["--seed", "1"], "--only METHOD and --seed N go together"),
        (["--publish"], "--publish goes with --only METHOD and --seed N"),
        (
            ["--only", "adaboost-mm", "--seed", "1"],
            "budgets.digits asks for boostresnet, not for 'adaboost-mm'; choose one of these, or add it",
        ),
        (["--budget", "0.02"], "--budget goes with --only METHOD and --seed N"),
        (
            ["--only", "boostresnet", "--seed", "1", "--budget", "0.5"],
            "params.yaml: budgets.digits asks for boostresnet at 0.02, not at 0.5; choose one, or add it",
        ),
        (["--only", "boostresnet", "--seed", "7"], "7 is not among seeds; add it, or choose one of 0, 1, 2"),
    ],
)
def test_one_run_that_the_stage_would_not_publish_is_refused(arguments, message):
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    answer = CliRunner().invoke(app, ["budgets", "digits", *arguments])
    assert isinstance(answer.exception, ConfigError) and message in str(answer.exception)


def test_one_budget_alone_can_be_asked_for(monkeypatch):
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["budgets"]["digits"] = {"boostresnet": [0.5, 2], "e2e": [2, 3], "analysed": [2]}
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    asked = []
    monkeypatch.setattr("replication.__main__._prepared", lambda *arguments: (None, None))
    monkeypatch.setattr("replication.budgets.measure_one", lambda *arguments, **options: asked.append(arguments) or [])
    command = ["budgets", "digits", "--only", "boostresnet", "--seed", "1"]
    for further in ([], ["--budget", "2.0"]):
        answer = CliRunner().invoke(app, [*command, *further])
        assert answer.exit_code == 0, answer.output
    (_, everything, _, *names), (_, one, _, *same) = asked
    assert names == same == ["boostresnet", 1] and {each.budget for each in everything} == {0.5, 2, 3}
    assert {(each.budget, each.method, each.analysed) for each in one} == {(2, "boostresnet", True), (2, "e2e", True)}


def test_nothing_is_removed_before_everything_is_there(experiment, digits, monkeypatch):
    measure_budgets(experiment, boostresnet(0.5), digits, (0,))

    def broken(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("replication.scratch_runs.train", broken)
    with pytest.raises(KeyboardInterrupt):
        measure_budgets(experiment, boostresnet(2.0), digits, (0,))
    assert (folder("0.5", 0) / "metrics.json").is_file()


def test_no_budgets_leave_an_empty_folder(experiment, digits, trained):
    assert measure_budgets(experiment, (), digits, (0,)) == []
    assert list((RESULTS / "digits" / "budgets").iterdir()) == [] and not trained
