"""MLflow as a view of the run directories: complete, idempotent, and never in the way of training."""

from __future__ import annotations

import functools
import json
import multiprocessing
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from replication import tracking
from replication.analysis.evaluate import evaluate
from replication.config import ModelParams, load_experiment
from replication.errors import ReplicationError, ResultsError, TrainingError
from replication.files import write_csv, write_json
from replication.models.build import build_network
from replication.models.ensemble import Ensemble, build_weak_learner
from replication.tracking import live, location, records
from replication.tracking.location import one_line, without_credentials
from replication.tracking.store import Store
from replication.training.interruption import Interrupted
from replication.training.train import describe_start, train

ROOT = Path(__file__).parent.parent
HISTORY = ("gradient_updates", "block", "train_accuracy", "train_loss", "test_accuracy")


@pytest.fixture(scope="session")
def template_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store: MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    Store(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(tmp_path: Path, template_database: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    path.write_bytes(template_database.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    return Store(tracking.tracking_uri())


def description(method: str = "boostresnet", seed: int = 0, learning_rate: float = 0.001) -> dict[str, Any]:
    """What run.json holds at the start of a run."""
    config = load_experiment("digits", ROOT / "params.yaml").as_dict()
    config["optimizer"]["learning_rate"] = learning_rate
    return {
        "schema": 1,
        "dataset": "digits",
        "method": method,
        "seed": seed,
        "budget": 0.02,
        "reading": "released",
        "config": config,
        "model": {"reading": "released", "blocks": 3, "width": 4, "image_shape": [1, 8, 8], "num_classes": 10},
        "data": {"content_hash": "ab" * 32, "official": True, "train_size": 100},
        "git": {"commit": "c" * 40, "dirty": False},
    }


def history_rows() -> list[dict[str, Any]]:
    return [dict(zip(HISTORY, (100 * i, i, i / 10, 2.0 / (i + 1), None), strict=True)) for i in range(4)]


def write_run(folder: Path, started: str = "2026-01-01T00:00:00+00:00", **changes: Any) -> Path:
    """A finished run directory as training leaves it, with the weights as an opaque file."""
    run = description(**changes) | {"gradient_updates": 300, "blocks": 3, "started": started, "wall_seconds": 9.5}
    run_dir = folder / "digits" / run["method"] / f"seed{run['seed']}"
    write_csv(run_dir / "history.csv", HISTORY, history_rows())
    rounds = [{"block": b, "cumulative_updates": 100 * b, "moved_on": "gamma", "edge": b / 4} for b in range(1, 4)]
    write_csv(run_dir / "rounds.csv", tuple(rounds[0]), rounds)
    timing = [{"gradient_updates": 100 * i, "seconds": 1.5 * i, "peak_memory_bytes": 10**9} for i in range(4)]
    write_csv(run_dir / "timing.csv", tuple(timing[0]), timing)
    write_json(run_dir / "run.json", run)
    (run_dir / "model.safetensors").write_bytes(b"weights")
    return run_dir


def write_metrics(results: Path, accuracy: float = 0.9) -> Path:
    folder = results / "digits" / "boostresnet" / "seed0"
    write_json(folder / "metrics.json", {"test_accuracy": accuracy, "gradient_updates": 300, "method": "boostresnet"})
    return folder


def active_runs(store: Store) -> list[Any]:
    return list(store.client.search_runs([store.experiment_id("digits")]))


def snapshot(store: Store) -> str:
    """Everything that a second import must not change."""
    runs = sorted(active_runs(store), key=lambda run: str(run.info.run_id))
    histories = [[store.client.get_metric_history(r.info.run_id, key) for key in sorted(r.data.metrics)] for r in runs]
    return json.dumps([r.to_dictionary() for r in runs], sort_keys=True) + repr(
        [[[(m.step, m.value, m.timestamp) for m in curve] for curve in run] for run in histories]
    )


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
    assert run.data.metrics["time/peak_memory_bytes"] == 10**9
    assert not any("moved_on" in key or key == "test_accuracy" for key in run.data.metrics)
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("digits", ("ab" * 32)[:36])
    assert {file.path for file in store.client.list_artifacts(run_id, "run")} == {
        f"run/{name}" for name in records.PUBLISHED
    }
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


def test_analyses_follow_once(store: Store, tmp_path: Path) -> None:
    runs, results = tmp_path / "runs", tmp_path / "results"
    run_id = tracking.log_run(write_run(runs), write_metrics(results))
    folder = results / "digits/boostresnet/seed0"
    analysis = {"method": "boostresnet", "theory": None, "lesions": {"error": 0.25, "module": "stem", "by": [1.0]}}
    write_json(folder / "analysis.json", analysis)
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
    write_run(runs)
    write_run(runs, method="e2e")
    write_run(runs, method="boostresnet-refined").joinpath("model.safetensors").unlink()
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(2, 0, 0, 1)
    before = snapshot(store)
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(0, 0, 2, 1)
    assert snapshot(store) == before
    write_metrics(results)
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(0, 1, 1, 1)
    assert tracking.log_runs(runs, results) == tracking.ImportCounts(0, 0, 2, 1)


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


def test_run_of_a_killed_process_is_ended(store: Store, tmp_path: Path) -> None:
    killed = store.start(description(), live=True)
    machine = records.this_process().split(":")[0]
    store.client.set_tag(killed, "replication.process", f"{machine}:{2**22 + 1}:0")  # above Linux' highest process id
    at_work = store.start(description(seed=1), live=True)
    store.client.set_tag(at_work, "replication.process", f"{machine}:1:{process_start(1)}")
    tracker = tracking.open_tracker(description())
    wait_for(lambda: store.client.get_run(killed).info.status == "KILLED")
    tracker.finish(write_run(tmp_path / "runs"))
    tracking.log_run(write_run(tmp_path / "runs", seed=1))
    states = {run.info.run_id: run.info.status for run in active_runs(store)}
    assert killed not in states
    assert states.pop(at_work) == "RUNNING"
    assert set(states.values()) == {"FINISHED"}


def process_start(pid: int) -> str:
    import psutil

    return f"{psutil.Process(pid).create_time():.0f}"


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_training_works_without_mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    tracker = tracking.open_tracker(description())
    assert type(tracker) is tracking.Tracker
    tracker.log("history", {"gradient_updates": 1})
    tracker.finish(tmp_path)
    assert tracking.try_log_runs(tmp_path, tmp_path) is False
    with pytest.raises(ReplicationError, match="not installed"):
        tracking.log_runs(tmp_path, tmp_path)


def test_dead_server_is_mentioned_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
    run_dir = write_run(tmp_path / "runs")
    tracker = tracking.open_tracker(description())
    begin = time.monotonic()
    for row in history_rows() * 100:
        tracker.log("history", row)
    assert time.monotonic() - begin < 0.5
    begin = time.monotonic()
    tracker.finish(run_dir)
    assert time.monotonic() - begin < 15
    with pytest.raises(ReplicationError, match="does not take the run"):
        tracking.log_run(run_dir)
    output = capfd.readouterr()
    assert output.err.count("log-runs") == 1
    assert len(output.err.strip().splitlines()) == 1
    assert "secret" not in output.err
    assert output.out == ""


def test_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(live, "_FAIL_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begin = time.monotonic()
        tracking.open_tracker(description()).fail()
        assert time.monotonic() - begin < 5
    assert "no answer within 0.5 s" in capfd.readouterr().err


def follow(tracker: tracking.Tracker) -> float:
    """Give a tracker a training's rows; the seconds that took."""
    begin = time.monotonic()
    for row in history_rows()[:3]:
        tracker.log("history", row)
    return time.monotonic() - begin


def assert_mended_by_log_runs(store: Store, runs: Path, stderr: str) -> None:
    """One note was made; the import brings everything, once."""
    assert stderr.count("log-runs") == len(stderr.strip().splitlines()) == 1
    tracking.log_runs(runs, runs.parent / "results")
    finished = [run for run in active_runs(store) if run.info.status == "FINISHED"]
    assert len(active_runs(store)) == len(finished) == 1
    curve = store.client.get_metric_history(finished[0].info.run_id, "train_accuracy")
    assert sorted((m.step, m.value) for m in curve) == [(0, 0.0), (100, 0.1), (200, 0.2), (300, 0.3)]
    before = snapshot(store)
    assert tracking.log_runs(runs, runs.parent / "results") == tracking.ImportCounts(0, 0, 1, 0)
    assert snapshot(store) == before


@pytest.mark.parametrize("after", [0, 1])
def test_server_that_dies_in_the_middle(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], after: int
) -> None:
    """While points are sent, or when the run directory is."""
    real, calls = Store.log_points, 0

    def log_points(self: Store, run_id: str, points: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            monkeypatch.setattr(Store, "complete", dead)
            dead()
        real(self, run_id, points)

    def dead(*_arguments: object) -> None:
        raise ConnectionError("connection refused")

    monkeypatch.setattr(live, "_FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(Store, "log_points", log_points)
    tracker = tracking.open_tracker(description())
    assert follow(tracker) < 0.5
    wait_for(lambda: calls > 0)
    assert follow(tracker) < 0.5
    tracker.finish(write_run(tmp_path / "runs"))
    monkeypatch.undo()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    assert_mended_by_log_runs(store, tmp_path / "runs", capfd.readouterr().err)


def test_slow_server_costs_training_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = Store.log_points

    def log_points(self: Store, run_id: str, points: Any) -> None:
        time.sleep(1)
        real(self, run_id, points)

    monkeypatch.setattr(live, "_FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(live, "_FINISH_SECONDS", 0.3)
    monkeypatch.setattr(Store, "log_points", log_points)
    tracker = tracking.open_tracker(description())
    assert follow(tracker) < 0.5
    begin = time.monotonic()
    tracker.finish(write_run(tmp_path / "runs"))
    assert time.monotonic() - begin < 1
    assert tracker._closed.wait(60)  # type: ignore[attr-defined]  # in the test alone: a training's process ends now
    monkeypatch.setattr(Store, "log_points", real)
    assert_mended_by_log_runs(store, tmp_path / "runs", capfd.readouterr().err)


def test_locked_database(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "_FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(live, "_FINISH_SECONDS", 0.3)
    tracker = tracking.open_tracker(description())
    wait_for(lambda: [run.info.status for run in active_runs(store)] == ["RUNNING"])
    other = sqlite3.connect(store.uri.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert follow(tracker) < 0.5
    begin = time.monotonic()
    tracker.finish(write_run(tmp_path / "runs"))
    assert time.monotonic() - begin < 1
    other.execute("ROLLBACK")
    other.close()
    assert tracker._closed.wait(60)  # type: ignore[attr-defined]
    assert_mended_by_log_runs(store, tmp_path / "runs", capfd.readouterr().err)


def test_environment_is_not_recorded(
    store: Store, experiment: Any, digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hunter2-correct-horse"
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "DATABASE_URL", "LC_ALL_KEYS"):
        monkeypatch.setenv(name, f"https://user:{secret}@host/")
    monkeypatch.chdir(tmp_path)
    length = attrs.evolve(experiment.end_to_end, updates=3)
    short = attrs.evolve(experiment, end_to_end=length, checkpoint=attrs.evolve(experiment.checkpoint, updates=1))
    with tracking.open_tracker(describe_start(short, digits, "e2e", 0)) as tracker:
        folder = train(short, digits, "e2e", 0, tmp_path / "runs", (tracker.log,))
        tracker.finish(folder)
    evaluate(short, digits, "e2e", 0, tmp_path / "runs", tmp_path / "results")
    assert tracking.log_runs(tmp_path / "runs", tmp_path / "results") == tracking.ImportCounts(0, 1, 0, 0)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"mlflow.db", "run.json", "MLmodel", "metrics.json"} <= {path.name for path in kept}
    assert not [path for path in kept if secret.encode() in path.read_bytes()]


def test_failing_import_leaves_no_running_run(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = write_run(tmp_path / "runs")
    (run_dir / "history.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ReplicationError):
        tracking.log_run(run_dir)
    assert [run.info.status for run in active_runs(store)] == ["FAILED"]
    repaired = tracking.log_run(write_run(tmp_path / "runs"))
    assert [run.info.run_id for run in active_runs(store)] == [repaired]


@pytest.mark.parametrize("content", ["{", "[]", '{"dataset": "digits"}', '{"dataset": 1, "method": 2, "seed": 3}'])
def test_malformed_run_is_refused(store: Store, tmp_path: Path, content: str) -> None:
    run_dir = write_run(tmp_path / "runs")
    (run_dir / "run.json").write_text(content)
    with pytest.raises(ResultsError, match="train the run again"):
        tracking.log_run(run_dir)


def _open_store(path: str, _number: int) -> str:
    return Store(f"sqlite:///{path}").experiment_id("digits")


def test_parallel_first_starts_make_one_database(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        ids = pool.map(functools.partial(_open_store, str(tmp_path / "mlflow.db")), range(2))
    assert len(set(ids)) == 1
    assert not list(tmp_path.glob(".mlflow.db.new*"))


def test_store_is_anchored_at_the_main_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    copy = tmp_path / ".dvc/tmp/exps/tmpabc"
    (copy / "sub").mkdir(parents=True)
    for folder in (tmp_path, copy):
        (folder / "params.yaml").touch()
    for folder in (tmp_path, copy, copy / "sub"):
        monkeypatch.chdir(folder)
        assert tracking.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir("/")
    monkeypatch.setenv("DVC_ROOT", str(copy))
    assert tracking.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert location.artifact_location(tracking.tracking_uri(), "digits") == (tmp_path / "mlartifacts/digits").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert tracking.tracking_uri() == f"sqlite:///{tmp_path}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert tracking.tracking_uri() == "http://server:5000"
    assert location.artifact_location("http://server:5000", "digits") is None
