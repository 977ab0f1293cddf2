"""MLflow as a view of the run directories: complete and idempotent."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from replication import tracking
from replication.config import ModelParams
from replication.errors import TrainingError
from replication.files import read_json, write_csv, write_json
from replication.models.build import build_network
from replication.models.ensemble import Ensemble, build_weak_learner
from replication.run_directory import PUBLISHED
from replication.tracking.location import one_line, without_credentials
from replication.tracking.store import Store
from replication.training.interruption import Interrupted
from tests.tampering import renew_digests
from tests.tracking.samples import active_runs, description, history_rows, snapshot, write_metrics, write_run


def test_import_holds_everything(store: Store, tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "runs")
    run_id = tracking.log_run(run_dir, write_metrics(tmp_path / "results"))
    run = store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 9500
    assert run.data.params["model.width"] == "16"
    assert run.data.params["optimizer.learning_rate"] == "0.001"
    assert run.data.tags["mlflow.source.git.commit"] == "c" * 40
    assert run.data.tags["replication.data_sha256"] == "ab" * 32
    assert run.data.tags["replication.official"] == "true"
    assert run.data.tags["replication.dvc_stage"] == "train@digits-boostresnet-0"
    curve = store.client.get_metric_history(run_id, "train_accuracy")
    assert [(m.step, m.value) for m in curve] == [(0, 0.0), (100, 0.1), (200, 0.2), (300, 0.3)]
    assert [m.timestamp - run.info.start_time for m in curve] == [0, 1500, 3000, 4500]
    assert [(m.step, m.value) for m in store.client.get_metric_history(run_id, "block/edge")] == [
        (1, 0.25),
        (2, 0.5),
        (3, 0.75),
    ]
    assert run.data.metrics["final/test_accuracy"] == 0.9
    (final,) = store.client.get_metric_history(run_id, "final/test_accuracy")
    assert final.step == 300, "where the curves end"
    assert run.data.metrics["time/peak_memory_bytes"] == 10**9
    assert not any("moved_on" in key or key == "test_accuracy" for key in run.data.metrics)
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("digits", ("ab" * 32)[:36])
    assert {file.path for file in store.client.list_artifacts(run_id, "run")} == {f"run/{name}" for name in PUBLISHED}
    (output,) = run.outputs.model_outputs
    model = store.client.get_logged_model(output.model_id)
    assert str(model.status) in ("READY", "LoggedModelStatus.READY")


def random_model(kind: str) -> torch.nn.Module:
    """What a run of the kind keeps, untrained."""
    params = ModelParams(reading="released", blocks=3, width=4)
    if kind == "resnet":
        return build_network(params, (1, 8, 8), 10, seed=0)
    learners = [build_weak_learner(params, (1, 8, 8), 10, seed=seed) for seed in range(2)]
    return Ensemble(learners, [0.5, 1 / 3], vote=kind == "voting ensemble")


@pytest.mark.parametrize("kind", ["resnet", "ensemble", "voting ensemble"])
def test_logged_model_predicts_as_its_signature_says(store: Store, tmp_path: Path, kind: str) -> None:
    import mlflow

    run_dir = write_run(tmp_path / "runs")
    network = random_model(kind).eval()
    save_file(network.state_dict(), run_dir / "model.safetensors")
    if kind != "resnet":
        run = json.loads((run_dir / "run.json").read_text())
        run["model"] |= {"kind": "ensemble", "learners": 2, "vote": kind == "voting ensemble"}
        write_json(run_dir / "run.json", run)
    renew_digests(run_dir)
    (output,) = store.client.get_run(tracking.log_run(run_dir)).outputs.model_outputs
    mlflow.set_tracking_uri(store.uri)
    model = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    (inputs,), (outputs,) = model.metadata.signature.inputs.inputs, model.metadata.signature.outputs.inputs
    assert (inputs.shape, outputs.shape) == ((-1, 1, 8, 8), (-1, 10))
    images = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(inputs.type)
    scores = model.predict(images)
    assert scores.dtype == outputs.type == np.float32
    with torch.inference_mode():
        assert np.array_equal(scores, network(torch.from_numpy(images)).float().numpy())


def test_a_run_that_kept_no_model_is_logged_without_one(store: Store, tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "runs", method="hist-gradient-boosting")
    run = json.loads((run_dir / "run.json").read_text())
    write_json(run_dir / "run.json", run | {"model": run["model"] | {"kind": "scores"}})
    logged = store.client.get_run(tracking.log_run(run_dir))
    assert logged.info.status == "FINISHED" and logged.data.metrics["train_accuracy"] == pytest.approx(0.3)
    assert not (logged.outputs and logged.outputs.model_outputs)
    assert store.client.search_logged_models([logged.info.experiment_id]) == []


def test_a_report_takes_in_its_own_dataset_alone(store: Store, tmp_path: Path) -> None:
    """Reports of two datasets may be built at once."""
    runs = tmp_path / "runs"
    write_run(runs)
    assert tracking.log_runs(runs, tmp_path, ["cifar10", "mnist"]) == tracking.ImportCounts(0, 0, 0, 0)
    assert tracking.log_runs(runs, tmp_path, ["cifar10", "digits"]) == tracking.ImportCounts(1, 0, 0, 0)


def test_a_run_under_another_budget_stands_beside_the_experiments_own(store: Store, tmp_path: Path) -> None:
    runs, results, scratch = tmp_path / "runs", tmp_path / "results", tmp_path / "scratch"
    write_run(runs)
    longer = write_run(scratch / "0.04" / ("1" * 32), learning_rate=0.002)
    write_run(scratch / "0.04" / ("0" * 32), learning_rate=0.003)  # of other parameters, and so not the published one
    published = write_metrics(results / "digits/budgets/0.04", accuracy=0.75)
    assert tracking.log_runs(runs, results, scratch=scratch) == tracking.ImportCounts(1, 0, 0, 0), "no run.json yet"
    write_json(published / "run.json", json.loads((longer / "run.json").read_text()))
    assert (published / "run.json").read_bytes() == (longer / "run.json").read_bytes()
    assert tracking.log_runs(runs, results, ["digits"], scratch) == tracking.ImportCounts(1, 0, 1, 0)
    before = snapshot(store)
    assert tracking.log_runs(runs, results, ["digits"], scratch) == tracking.ImportCounts(0, 0, 2, 0)
    assert snapshot(store) == before
    found = {run.data.tags["replication.key"]: run for run in active_runs(store)}
    assert set(found) == {"digits/boostresnet/0", "digits/boostresnet/0@0.04"}
    other = found["digits/boostresnet/0@0.04"]
    assert other.info.run_name == "boostresnet seed 0, budget 0.04"
    assert other.data.metrics["final/test_accuracy"] == 0.75 and other.data.params["optimizer.learning_rate"] == "0.002"
    assert other.data.tags["replication.dvc_stage"] == "budgets@digits"
    assert not any("replication.superseded_by" in run.data.tags for run in found.values())


def test_analyses_follow_once(store: Store, tmp_path: Path) -> None:
    runs, results = tmp_path / "runs", tmp_path / "results"
    run_dir = write_run(runs)
    run_id = tracking.log_run(run_dir, write_metrics(results, run=run_dir))
    folder = results / "digits/boostresnet/seed0"
    analysis = {"method": "boostresnet", "theory": None, "lesions": {"error": 0.25, "module": "stem", "by": [1.0]}}
    write_json(folder / "analysis.json", analysis | {"model_sha256": "of an earlier training"})
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(0, 0, 1, 0)
    digest = read_json(run_dir / "run.json")["sha256"]["model.safetensors"]
    write_json(folder / "analysis.json", analysis | {"model_sha256": digest})
    write_csv(folder / "analysis/lesions.csv", ("module", "error"), [{"module": "stem", "error": 0.25}])
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(0, 1, 0, 0)
    logged = store.client.get_run(run_id).data.metrics
    assert {key: value for key, value in logged.items() if "analysis" in key} == {"analysis/lesions.error": 0.25}
    assert [file.path for file in store.client.list_artifacts(run_id, "results/analysis")] == [
        "results/analysis/lesions.csv"
    ]
    before = snapshot(store)
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(0, 0, 1, 0)
    assert snapshot(store) == before
    write_csv(folder / "analysis/lesions.csv", ("module", "error"), [{"module": "stem", "error": 0.5}])
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(0, 1, 0, 0)
    assert len(store.client.get_metric_history(run_id, "final/test_accuracy")) == 1


def test_second_import_changes_nothing(store: Store, tmp_path: Path) -> None:
    runs, results = tmp_path / "runs", tmp_path / "results"
    run_dir = write_run(runs)
    write_run(runs, method="e2e")
    write_run(runs, method="boostresnet-refined").joinpath("model.safetensors").unlink()
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(2, 0, 0, 1)
    before = snapshot(store)
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(0, 0, 2, 1)
    assert snapshot(store) == before
    write_metrics(results, run=run_dir)
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(0, 1, 1, 1)
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(0, 0, 2, 1)


def test_an_import_that_died_at_its_end_is_made_again(store: Store, tmp_path: Path) -> None:
    """Its tags, which say what it holds, may be there already."""
    runs, results = tmp_path / "runs", tmp_path / "results"
    died = tracking.log_run(write_run(runs), write_metrics(results))
    store.client.set_terminated(died, "FAILED")
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(1, 0, 0, 0)
    (whole,) = active_runs(store)
    assert whole.info.run_id != died and whole.info.status == "FINISHED"


def test_a_run_that_was_not_evaluated_yet_has_no_numbers_of_the_one_before(store: Store, tmp_path: Path) -> None:
    runs, results = tmp_path / "runs", tmp_path / "results"
    write_metrics(results, run=write_run(runs))
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(1, 0, 0, 0)
    again = write_run(runs, learning_rate=0.5)
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(1, 0, 0, 0)
    (anew,) = (run for run in active_runs(store) if run.data.params["optimizer.learning_rate"] == "0.5")
    assert "final/test_accuracy" not in anew.data.metrics
    write_metrics(results, accuracy=0.3, run=again)
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(0, 1, 0, 0)
    assert store.client.get_run(anew.info.run_id).data.metrics["final/test_accuracy"] == 0.3


def test_retraining_replaces_and_variations_are_linked(store: Store, tmp_path: Path) -> None:
    first = tracking.log_run(write_run(tmp_path / "first"))
    again = tracking.log_run(write_run(tmp_path / "again", started="2026-01-02T00:00:00Z"))
    assert [run.info.run_id for run in active_runs(store)] == [again] != [first]
    varied_dir = write_run(tmp_path / "varied", learning_rate=0.01)
    varied = tracking.log_run(varied_dir)
    tags = {run.info.run_id: run.data.tags for run in active_runs(store)}
    assert tags[again]["replication.superseded_by"] == varied
    assert tracking.log_run(tmp_path / "again/digits/boostresnet/seed0") == again
    tags = {run.info.run_id: run.data.tags for run in active_runs(store)}
    assert set(tags) == {again, varied}
    assert tags[varied]["replication.superseded_by"] == again
    assert "replication.superseded_by" not in tags[again]


def test_live_run_equals_import(store: Store, tmp_path: Path) -> None:
    tracker = tracking.open_tracker(description())
    for row in history_rows()[:3]:  # the last one only reaches the run directory
        tracker.log("history", row)
    tracker.finish(write_run(tmp_path / "runs"))
    (run,) = active_runs(store)
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 9500, "whenever MLflow was told of its start"
    curve = store.client.get_metric_history(run.info.run_id, "train_accuracy")
    assert sorted((m.step, m.value) for m in curve) == [(0, 0.0), (100, 0.1), (200, 0.2), (300, 0.3)]
    assert run.data.metrics["block/edge"] == 0.75
    assert tracking.log_runs(tmp_path / "runs", tmp_path) == tracking.ImportCounts(0, 0, 1, 0)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError(), "FAILED"),
        (TrainingError("a loss that is no number"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (Interrupted(signal.SIGTERM, 20, saved=True), "KILLED"),
    ],
)
def test_failed_training_closes_the_run(store: Store, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), tracking.open_tracker(description()):
        raise error
    assert [run.info.status for run in active_runs(store)] == [status]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no answer from http://user:pass@host:5000/a", "no answer from http://host:5000/a"),
        ("http://u:p@ss/w@host/a is down", "http://host/a is down"),
        ("postgresql://user@host/db", "postgresql://host/db"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("ask me@example.org about http://host/", "ask me@example.org about http://host/"),
    ],
)
def test_no_part_of_a_password_is_shown(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert one_line(RuntimeError(text)) == shown


def test_a_message_is_cut_after_its_credentials_are_gone() -> None:
    assert "secret" not in one_line(RuntimeError(f"{'x' * 140} http://user:secretsecretsecret@host/"))


def test_pages_show_the_runs_and_not_traces(store: Store, tmp_path: Path) -> None:
    assert tracking.pages("http://127.0.0.1:5000") == {}, "MLflow's own experiment is none of ours"
    tracking.log_run(write_run(tmp_path / "runs"))
    number = store.experiment_id("digits")
    page = f"http://127.0.0.1:5000/#/experiments/{number}?workflowType=machine_learning"
    assert tracking.pages("http://127.0.0.1:5000/") == {"boostresnet/digits": page}
