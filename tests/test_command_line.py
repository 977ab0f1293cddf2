"""The command line as a user meets it: real processes; one clear line and an exit code for every mistake."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from replication.errors import TrainingError
from replication.terminal import errors_named, progress_of

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "replication", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with the committed parameters and nothing else."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def assert_one_clear_line(answer: subprocess.CompletedProcess[str], *words: str, code: int | None = None) -> None:
    lines = [line for line in answer.stderr.splitlines() if line.strip()]
    assert answer.returncode == code if code else answer.returncode != 0
    assert len(lines) == 1 and lines[0].startswith("error: "), answer.stderr
    for word in words:
        assert word in lines[0]


def test_help_names_every_stage():
    answer = run("--help")
    assert answer.returncode == 0
    for stage in ("prepare", "train", "evaluate", "report", "summary", "log-runs", "layers"):
        assert stage in answer.stdout


def test_unknown_names(workspace):
    assert_one_clear_line(run("prepare", "imagenet", cwd=workspace), "imagenet", "digits, cifar10, svhn, mnist", code=2)
    run("prepare", "digits", cwd=workspace)
    # Before anything is asked of MLflow, which is not there.
    answer = run("train", "digits", "adagrad", cwd=workspace, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert_one_clear_line(answer, "adagrad", "boostresnet, e2e", code=2)
    for stage in ("summary", "claims"):
        assert_one_clear_line(run(stage, "imagenet", cwd=workspace), "imagenet", "digits, cifar10", code=2)


def test_stages_out_of_order_say_what_to_run_first(workspace):
    assert_one_clear_line(run("train", "digits", "e2e", "--no-track", cwd=workspace), "prepare digits")
    run("prepare", "digits", cwd=workspace)
    assert_one_clear_line(run("evaluate", "digits", "e2e", cwd=workspace), "runs/digits/e2e/seed0", "train it first")
    # Before a run is announced to MLflow, which is not there.
    answer = run("train", "digits", "boostresnet-refined", cwd=workspace, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert_one_clear_line(answer, "runs/digits/boostresnet/seed0", "train it first")


def test_data_of_another_name_or_of_other_parameters(workspace):
    run("prepare", "digits", cwd=workspace)
    prepared = workspace / "data/prepared"
    shutil.copy(prepared / "digits.safetensors", prepared / "mnist.safetensors")
    answer = run("train", "mnist", "e2e", "--no-track", cwd=workspace)
    assert_one_clear_line(answer, "mnist.safetensors holds the data set 'digits'", "prepare mnist")
    parameters = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(parameters.replace("validation_fraction: 0.1", "validation_fraction: 0.2"))
    answer = run("train", "digits", "e2e", "--no-track", cwd=workspace)
    assert_one_clear_line(answer, "data.validation_fraction", "prepare digits")


def test_missing_parameters_and_wrong_device(workspace):
    assert_one_clear_line(run("prepare", "digits", "--params", "none.yaml", cwd=workspace), "none.yaml", code=2)
    run("prepare", "digits", cwd=workspace)
    answer = run("train", "digits", "e2e", "--device", "tpu", "--no-track", cwd=workspace)
    assert_one_clear_line(answer, "runtime.device", "cuda:N", code=2)


def test_a_results_folder_that_cannot_be_written(workspace):
    parameters = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(parameters.replace("budget: 0.005", "budget: 0.0001"))
    run("prepare", "digits", cwd=workspace)
    assert run("train", "digits", "e2e", "--no-track", cwd=workspace).returncode == 0
    (workspace / "results").write_text("a file where the folder should be")
    answer = run("evaluate", "digits", "e2e", cwd=workspace)
    assert_one_clear_line(answer, "results/digits/e2e/seed0")


def test_a_training_that_cannot_be_says_which_it_was(workspace):
    parameters = (workspace / "params.yaml").read_text().replace("budget: 0.005", "budget: 0.0001")
    (workspace / "params.yaml").write_text(parameters)
    run("prepare", "digits", cwd=workspace)
    first = run("train", "digits", "boostresnet", "--no-track", cwd=workspace)
    assert first.returncode == 0 and "replaces" not in first.stdout
    # Of torchrun's variables one alone, which some schedulers set: it is no second process.
    again = run("train", "digits", "boostresnet", "--no-track", cwd=workspace, RANK="a")
    assert "runs/digits/boostresnet/seed0 holds a finished run, which this one replaces" in again.stdout
    assert again.returncode == 0 and "wrote runs/digits/boostresnet/seed0" in again.stdout, again.stderr
    for processes in ("a", "0", "-1"):
        none = run("train", "digits", "boostresnet", "--no-track", cwd=workspace, WORLD_SIZE=processes)
        assert_one_clear_line(none, f"WORLD_SIZE={processes} is no number of processes; unset it, or start them with")
    (workspace / "params.yaml").write_text(parameters.replace("budget: 0.0001", "budget: 0.0002"))
    answer = run("train", "digits", "boostresnet-refined", "--no-track", cwd=workspace)
    assert_one_clear_line(answer, "error: digits boostresnet-refined seed 0: runs/digits/boostresnet/seed0 was trained")


def test_a_run_is_named_once():
    for message, expected in (
        ("no room", "digits e2e seed 1: no room"),
        ("runs/digits/e2e/seed1 is being trained", "runs/digits/e2e/seed1 is being trained"),
    ):
        with (
            pytest.raises(TrainingError, match=rf"^{expected}$"),
            errors_named("digits e2e seed 1", Path("runs/digits/e2e/seed1")),
        ):
            raise TrainingError(message)


def test_an_archive_that_is_nowhere(workspace):
    (workspace / "mirror").mkdir()
    dead = "http://127.0.0.1:9/"
    answer = run(
        "prepare", "mnist", cwd=workspace, REPLICATION_DATA_MIRROR=str(workspace / "mirror"),
        http_proxy=dead, https_proxy=dead, HTTP_PROXY=dead, HTTPS_PROXY=dead, no_proxy="",
    )  # fmt: skip
    assert_one_clear_line(answer, "train-images-idx3-ubyte.gz", "REPLICATION_DATA_MIRROR")
    assert not list(workspace.rglob("*.safetensors"))


# A stage that has begun, and then takes its time: said so on standard output, before the wait.
SLOW = """
import sys, time
import {module}
def slow(*arguments, **options):
    print("begun", flush=True)
    while True:
        time.sleep(0.01)
{module}.{name} = slow
sys.argv[1:] = {arguments}
from replication.__main__ import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("replication.datasets.prepare", "prepare", ["prepare", "digits"]),
        ("sklearn.ensemble", "HistGradientBoostingClassifier",
         ["train", "digits", "hist-gradient-boosting", "--no-track"]),
    ],
)  # fmt: skip
def test_a_signal_ends_it_in_one_line_with_the_usual_code(workspace, number, module, name, arguments):
    """Also in a library's fit, which knows nothing of checkpoints."""
    if arguments[0] == "train":
        run("prepare", "digits", cwd=workspace)
    code = SLOW.format(module=module, name=name, arguments=arguments)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=workspace, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=_heed_interrupts,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.05)
        process.send_signal(number)
        _, message = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert message.splitlines() == [
        f"error: stopped by {number.name}; nothing half-written is left, run the same command again"
    ]


def test_a_reader_that_goes_away_does_not_end_a_training(workspace):
    params = workspace / "params.yaml"
    params.write_text(params.read_text().replace("budget: 0.005 ", "budget: 0.0005 "))
    run("prepare", "digits", cwd=workspace)
    command = [sys.executable, "-m", "replication", "train", "digits", "gradient-boosting", "--no-track"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=workspace, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        message = process.stderr.read()
        assert process.wait(120) == 0, message
    assert message.count("progress can no longer be shown") == 1
    assert (workspace / "runs/digits/gradient-boosting/seed0/run.json").is_file()


def test_progress_has_a_line_per_point_and_per_round(capsys):
    point = {"gradient_updates": 120, "block": 2, "train_accuracy": 0.91234, "validation_accuracy": 0.9}
    whole = {"cumulative_updates": 120, "block": 2, "module": "stage1.block2", "edge": 0.3, "gamma": -0.01}
    for show in (progress_of("a run"), progress_of("a run", accuracies=False)):
        show("history", point)
        show("timing", {"seconds": 1.0})
    show("history", point | {"block": None})
    show("rounds", whole | {"train_error": 0.08766})
    show("rounds", whole | {"module": "learner3", "gamma": None, "train_error": 0.08766})
    assert capsys.readouterr().out.splitlines() == [
        "a run: update     120 round 3: train 0.9123 validation 0.9000",
        "a run: update     120 round 3",
        "a run: update     120",
        "a run: update     120 round 3 ends (stage1.block2): edge 0.3000 gamma -0.0100 train_error 0.0877",
        "a run: update     120 round 3 ends (learner3): edge 0.3000 train_error 0.0877",
    ]


def test_a_terminal_that_lacks_a_sign_shows_another(workspace):
    answer = run("summary", "digits", PYTHONIOENCODING="ascii")
    assert answer.returncode == 0 and "BoostResNet" in answer.stdout, answer.stderr


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores them
