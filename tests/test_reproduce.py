"""scripts/reproduce.py against a DVC of a few lines: its targets, side by side; signals and failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Notes its targets, waits for its time or a signal, and ends as it is told to.
DVC = """
import os, pathlib, signal, sys, time
targets = " ".join(sys.argv[sys.argv.index("repro") + 1:])
log = pathlib.Path(os.environ["LOG"])
def note(text):
    with log.open("a") as file:
        file.write(f"{text} {targets}\\n")
def stop(number, frame):
    note("stopped")
    sys.exit(1)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
note("began")
time.sleep(float(os.environ["SECONDS"]))
note("ended")
sys.exit(int(os.environ["FAILS"] in targets) if os.environ["FAILS"] else 0)
"""
PREPARE, REPORT = "prepare@digits", "report@digits"
FIRST = (
    "--single-item --glob *@digits-boostresnet-[!b]* *@digits-adaboost-mm* *@digits-gradient-boosting*"
    " ablations@digits*"
)
SECOND = "--single-item --glob *@digits-boostresnet-binary* *@digits-[!abg]* budgets@digits*"


def start(folder: Path, seconds: float, fails: str = "", dataset: str = "digits") -> subprocess.Popen[str]:
    (folder / "dvc").mkdir(exist_ok=True)
    (folder / "dvc/__init__.py").touch()
    (folder / "dvc/__main__.py").write_text(DVC)
    environment = os.environ | {
        "PYTHONPATH": str(folder), "LOG": str(folder / "log"), "SECONDS": str(seconds), "FAILS": fails,
    }  # fmt: skip
    command = [sys.executable, str(ROOT / "scripts/reproduce.py"), dataset]
    # A test run that was started in the background ignores SIGINT, or by nohup SIGHUP, and so would all that it starts.
    return subprocess.Popen(
        command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts
    )


def _heed_interrupts() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def log_of(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()


def test_the_halves_run_side_by_side_between_prepare_and_report(tmp_path: Path) -> None:
    with start(tmp_path, 0.5) as process:
        assert process.wait(60) == 0
    lines = log_of(tmp_path)
    assert lines[:2] == [f"began {PREPARE}", f"ended {PREPARE}"]
    assert sorted(lines[2:4]) == sorted([f"began {FIRST}", f"began {SECOND}"])
    assert sorted(lines[4:6]) == sorted([f"ended {FIRST}", f"ended {SECOND}"])
    assert lines[6:] == [f"began {REPORT}", f"ended {REPORT}"]


def test_ablations_beside_longer_blocks_wait_for_these(tmp_path: Path) -> None:
    with start(tmp_path, 0, dataset="mnist") as process:
        assert process.wait(60) == 0
    lines = log_of(tmp_path)
    assert len(lines) == 8 and "ablations@" not in "".join(lines), "left to report@mnist, which needs them"
    assert any("budgets@mnist*" in line for line in lines[2:6]) and lines[6:] == [
        "began report@mnist",
        "ended report@mnist",
    ]


def test_a_failed_half_ends_it_in_one_line_after_the_other_is_done(tmp_path: Path) -> None:
    with start(tmp_path, 0.2, fails="[!abg]") as process:
        message = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert len(message.splitlines()) == 1 and "*@digits-[!abg]*" in message
    assert f"ended {FIRST}" in log_of(tmp_path)
    assert f"began {REPORT}" not in log_of(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_both_halves_and_ends_it_with_the_usual_code(tmp_path: Path, number: signal.Signals) -> None:
    with start(tmp_path, 1.0) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "log").exists() or len(log_of(tmp_path)) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)  # an impatient second one
        message = process.communicate(timeout=60)[1]
        assert process.returncode == 128 + number and not message
    lines = log_of(tmp_path)
    assert sorted(lines[4:]) == sorted([f"stopped {FIRST}", f"stopped {SECOND}"])


def test_a_second_one_is_told_who_is_at_work_and_disturbs_nothing(tmp_path: Path) -> None:
    with start(tmp_path, 2.0) as first:
        deadline = time.monotonic() + 60
        while not (tmp_path / "log").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with start(tmp_path, 2.0) as second:
            message = second.communicate(timeout=60)[1]
        assert second.returncode == 1
        assert message.startswith(f"error: the pipeline is being run by process {first.pid} on ")
        assert len(message.splitlines()) == 1
        assert first.wait(60) == 0
    assert len(log_of(tmp_path)) == 8, "the first one's own stages alone"
    with start(tmp_path, 0.0) as third:
        assert third.wait(60) == 0


def test_a_mistake_costs_nothing() -> None:
    answer = subprocess.run(
        [sys.executable, str(ROOT / "scripts/reproduce.py"), "imagenet"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: unknown dataset 'imagenet'") and len(answer.stderr.splitlines()) == 1
