"""MLflow out of reach, slow, locked or killed: never in the way of training."""

from __future__ import annotations

import functools
import json
import multiprocessing
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from replication import tracking
from replication.analysis.evaluate import evaluate
from replication.errors import ReplicationError, ResultsError
from replication.tracking import live, location, records
from replication.tracking.store import Store
from replication.training.train import describe_start, train
from tests.tampering import renew_digests
from tests.tracking.samples import active_runs, description, history_rows, snapshot, write_run


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
    renew_digests(run_dir)
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


def test_runs_that_are_not_what_training_wrote_are_skipped_and_the_others_imported(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    runs = tmp_path / "runs"
    altered, without, _whole = (write_run(runs, method=name) for name in ("adaboost-mm", "boostresnet", "e2e"))
    (altered / "history.csv").write_text((altered / "history.csv").read_text().replace("0.3", "0.9"))
    run = json.loads((without / "run.json").read_text())
    del run["sha256"]
    (without / "run.json").write_text(json.dumps(run))
    assert str(tracking.log_runs(runs, tmp_path / "results")) == "1 imported, 0 updated, 0 unchanged, 2 skipped"
    assert "history.csv is not what training wrote" in caplog.text and "no valid 'sha256'" in caplog.text
    assert [run.data.params["method"] for run in active_runs(store)] == ["e2e"]


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
