"""A stopped run goes on to the same bits: crashes inside, signals and kills from outside, damaged checkpoints."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import attrs
import pytest
from safetensors.torch import load_file, save_file

from replication.config import LengthParams, changed
from replication.datasets.prepared import save_prepared
from replication.errors import TrainingError
from replication.files import read_json
from replication.lock import exclusive
from replication.training.checkpoint import Checkpoints, Snapshot
from replication.training.train import train
from tests.tampering import renew_digests

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("boostresnet", "e2e", "boostresnet-refined", "boostresnet-binary", "adaboost-mm", "gradient-boosting")
DETERMINED_BY_SEED = ("history.csv", "rounds.csv", "model.safetensors", "auxiliary.safetensors")


class Crash(Exception):
    """Stands for anything that ends a process in the middle."""


def crash_at(row: int):
    """An observer that raises at its `row`-th row."""
    seen = 0

    def observe(_kind: str, _row: object) -> None:
        nonlocal seen
        seen += 1
        if seen == row:
            raise Crash

    return observe


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in DETERMINED_BY_SEED}


@pytest.fixture
def resumable(experiment):
    """Checkpoints every other update, augmentation on, so that every generator matters."""
    return attrs.evolve(
        experiment,
        checkpoint=attrs.evolve(experiment.checkpoint, updates=2),
        augmentation=attrs.evolve(experiment.augmentation, crop_padding=1),
        end_to_end=LengthParams(updates=14),
        refinement=LengthParams(updates=14),
    )


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        *((method, {}) for method in METHODS),
        ("boostresnet", {"boostresnet": {"auxiliary": "linear"}}),
        ("boostresnet", {"boostresnet": {"auxiliary": "linear-anew"}}),
        ("boostresnet", {"boostresnet": {"prefix_mode": "training"}}),
        ("boostresnet", {"augmentation": {"cached_views": 2}}),
        ("adaboost-mm", {"weak_learners": {"adaboost_training": "resampled", "modules": "stages"}}),
    ],
)
def test_a_run_that_crashes_again_and_again_ends_as_if_it_had_not(resumable, digits, tmp_path, method, changes):
    wanted = changed(resumable, changes)
    for root in ("whole", "broken"):
        if method == "boostresnet-refined":
            train(wanted, digits, "boostresnet", 0, tmp_path / root)
    whole = contents(train(wanted, digits, method, 0, tmp_path / "whole"))
    crashes, folder = 0, None
    for row in (2, 5, 3, 8, 0):
        try:
            folder = train(wanted, digits, method, 0, tmp_path / "broken", (crash_at(row),))
            break
        except Crash:
            crashes += 1
    assert crashes >= 2
    assert folder is not None and contents(folder) == whole
    assert not list((tmp_path / "scratch").rglob("*.checkpoint"))  # a finished run leaves none


def test_a_damaged_checkpoint_is_passed_over_for_the_older_one(resumable, digits, tmp_path, capsys):
    whole = contents(train(resumable, digits, "e2e", 0, tmp_path / "whole"))
    for damage in ("cut", "flip", "empty"):
        with pytest.raises(Crash):
            train(resumable, digits, "e2e", 0, tmp_path / damage, (crash_at(3),))
        older, newest = sorted((tmp_path / "scratch").rglob("*.checkpoint"))
        content = bytearray(newest.read_bytes())
        if damage == "flip":
            content[len(content) // 2] ^= 1
        newest.write_bytes(bytes(content[: {"cut": len(content) // 2, "flip": None, "empty": 0}[damage]]))
        folder = train(resumable, digits, "e2e", 0, tmp_path / damage)
        assert contents(folder) == whole
        said = capsys.readouterr().err
        assert "is damaged; looking for an older checkpoint" in said
        assert f"going on after update {int(older.stem)}, from " in said
        assert older.parent == newest.parent


def test_damaged_checkpoints_do_not_outlive_those_that_follow(tmp_path, experiment):
    """Their numbers may be higher than those of a run that has to start over."""
    params = attrs.evolve(experiment.checkpoint, updates=1)
    before = Checkpoints(tmp_path / "run", params)
    for updates in (990, 1000):
        before.visit(updates, Snapshot)
    for path in (tmp_path / "run").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    after = Checkpoints(tmp_path / "run", params)
    assert after.load() is None
    for updates in (10, 20):
        after.visit(updates, lambda updates=updates: Snapshot(values={"made": updates}))
    again = Checkpoints(tmp_path / "run", params).load()
    assert again is not None and again.values == {"made": 20}


def test_a_checkpoint_of_other_parameters_seed_or_data_is_not_picked_up(resumable, digits, tmp_path):
    with pytest.raises(Crash):
        train(resumable, digits, "e2e", 0, tmp_path, (crash_at(3),))
    crashed = list((tmp_path / "scratch").rglob("*.checkpoint"))
    assert len(crashed) == 2
    other = attrs.evolve(resumable, optimizer=attrs.evolve(resumable.optimizer, learning_rate=0.01))
    for experiment, data, seed in (
        (other, digits, 0),
        (resumable, digits, 1),
        (resumable, attrs.evolve(digits, content_hash="0"), 0),
    ):
        beside = contents(train(experiment, data, "e2e", seed, tmp_path / "beside"))
        shutil.move(tmp_path / "scratch", tmp_path / "away")
        assert contents(train(experiment, data, "e2e", seed, tmp_path / "alone")) == beside
        shutil.rmtree(tmp_path / "scratch")
        shutil.move(tmp_path / "away", tmp_path / "scratch")
    assert all(path.is_file() for path in crashed)  # kept for the run that they belong to


@pytest.mark.parametrize("changed", ["start", "versions"])
def test_a_half_done_refinement_goes_on_from_the_same_start_and_under_the_same_versions_alone(
    resumable, digits, tmp_path, monkeypatch, changed
):
    start = train(resumable, digits, "boostresnet", 0, tmp_path)
    with pytest.raises(Crash):
        train(resumable, digits, "boostresnet-refined", 0, tmp_path, (crash_at(3),))
    assert list((tmp_path / "scratch").rglob("*.checkpoint"))
    if changed == "start":
        weights = load_file(start / "model.safetensors")
        save_file({name: 2 * tensor for name, tensor in weights.items()}, start / "model.safetensors")
        renew_digests(start)
    else:
        monkeypatch.setattr("replication.training.checkpoint.describe_versions", lambda: {"torch": "0"})
    refined = read_json(train(resumable, digits, "boostresnet-refined", 0, tmp_path) / "run.json")
    assert refined["resumed"] == 0


def test_a_checkpoint_is_due_after_minutes_as_after_updates(tmp_path, experiment, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    checkpoints = Checkpoints(tmp_path, attrs.evolve(experiment.checkpoint, updates=1000, minutes=10.0))
    for minutes, updates, written in ((9.9, 1, []), (10.1, 2, [2]), (15.0, 3, [2]), (20.2, 4, [2, 4])):
        clock[0] = 60 * minutes
        checkpoints.visit(updates, Snapshot)
        assert [int(path.stem) for path in sorted(tmp_path.glob("*.checkpoint"))] == written


def test_two_trainings_of_one_run_do_not_meet(tmp_path):
    what = "runs/digits/e2e/seed0"
    with exclusive(tmp_path / "lock", what):
        holder = rf"{what} is being trained by process {os.getpid()} on "
        with pytest.raises(TrainingError, match=holder), exclusive(tmp_path / "lock", what):
            pass
    with exclusive(tmp_path / "lock", what):  # given back
        pass


def test_equal_runs_in_two_places_share_checkpoints_and_do_not_meet(tmp_path, resumable, digits):
    other = re.escape(str(Path("scratch"))) + r"/\w+ is being trained by process"

    def elsewhere(_kind: str, _row: object) -> None:
        with pytest.raises(TrainingError, match=other):
            train(resumable, digits, "e2e", 0, tmp_path / "there")
        raise Crash

    with pytest.raises(Crash):
        train(resumable, digits, "e2e", 0, tmp_path / "here", (elsewhere,))
    assert (train(resumable, digits, "e2e", 0, tmp_path / "there") / "run.json").is_file()


def test_a_run_is_of_the_code_that_began_it(tmp_path, experiment, digits, monkeypatch):
    """A commit while it is trained is none of it."""
    commits = ["first"]
    monkeypatch.setattr("replication.training.train.describe_git", lambda: {"commit": commits[-1], "dirty": False})
    folder = train(experiment, digits, "e2e", 0, tmp_path, (lambda _kind, _row: commits.append("later"),))
    assert commits[-1] == "later"
    assert read_json(folder / "run.json")["git"] == {"commit": "first", "dirty": False}


def test_a_lock_can_be_waited_for(tmp_path):
    held, refused, released, lock = threading.Event(), threading.Event(), threading.Event(), tmp_path / "lock"

    def hold():
        with exclusive(lock, "it"):
            held.set()
            refused.wait(60)
            time.sleep(0.2)  # so that the other has to look more than once
            released.set()

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(60)
    with pytest.raises(TrainingError, match=r"^it is being trained by"), exclusive(lock, "it", wait_seconds=0.01):
        pass
    refused.set()
    with exclusive(lock, "it", wait_seconds=60.0):
        assert released.is_set()
    other.join(60)


def start(workspace: Path, method: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "replication", "train", "digits", method, "--no-track"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=workspace, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=_heed_interrupts,
    )  # fmt: skip


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background ignores them, as would what it starts


@pytest.fixture
def workspace(tmp_path: Path, digits) -> Path:
    """Prepared digits and parameters for a run of a few seconds."""
    parameters = (ROOT / "params.yaml").read_text()
    parameters = parameters.replace("budget: 0.005", "budget: 0.001").replace("  updates: 1000 ", "  updates: 5 ")
    (tmp_path / "params.yaml").write_text(parameters.replace("threads: 2", "threads: 1"))
    save_prepared(digits, tmp_path / "data/prepared/digits.safetensors")
    return tmp_path


def test_killed_processes_and_politely_stopped_ones_go_on_to_the_same_bits(workspace):
    process = start(workspace, "boostresnet")
    assert process.wait() == 0, process.stderr.read()
    whole = contents(workspace / "runs/digits/boostresnet/seed0")
    shutil.rmtree(workspace / "runs")
    moments, stopped = random.Random(0), []
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process = start(workspace, "boostresnet")
        for _line in range(moments.randint(1, 4)):  # it is training
            process.stdout.readline()
        time.sleep(moments.random() / 10)
        process.send_signal(number)
        stopped.append((process.wait(), process.stderr.read()))
        assert not (workspace / "runs/digits/boostresnet/seed0").exists()
    assert stopped[0][0] == -signal.SIGKILL
    for (code, text), number in zip(stopped[1:], (signal.SIGTERM, signal.SIGINT), strict=True):
        assert code == 128 + number
        *before, last = text.splitlines()
        assert last.startswith(f"error: stopped by {signal.Signals(number).name} after update ")
        assert all(line.startswith("note: going on after update ") for line in before) and len(before) <= 1
    process = start(workspace, "boostresnet")
    assert process.wait() == 0, process.stderr.read()
    assert contents(workspace / "runs/digits/boostresnet/seed0") == whole


def test_a_second_process_says_who_holds_the_run(workspace):
    first = start(workspace, "e2e")
    first.stdout.readline()
    second = start(workspace, "e2e")
    assert second.wait() == 1
    assert f"is being trained by process {first.pid} on " in second.stderr.read()
    first.kill()
    first.wait()
    third = start(workspace, "e2e")  # the lock of a dead process is none
    assert third.wait() == 0, third.stderr.read()
