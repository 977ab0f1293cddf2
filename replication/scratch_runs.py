"""Runs that are no stage's output: experiments other than params.yaml's, trained in scratch to be measured."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from replication.analysis.evaluate import evaluate
from replication.config import Experiment
from replication.datasets import PreparedDataset
from replication.errors import ReplicationError, TrainingError
from replication.files import hash_of_code, read_json, sha256
from replication.training.checkpoint import run_key, what_determines
from replication.training.device import choose_device
from replication.training.interruption import asked_to_stop
from replication.training.record import Observer
from replication.training.runs import run_folder
from replication.training.train import train

BUDGETS = Path("scratch/budgets")

#: Gives what is told of every row of the curves of a run, by the run's name.
Progress = Callable[[str], Observer]


def under_budget(budget: float, folder: Path = BUDGETS) -> Path:
    """Where in `folder` the experiment's runs under another budget than its own are, for whichever stage needs them."""
    return folder / f"{budget:g}"


def silent(_run: str) -> Observer:
    """Tell nobody."""
    return lambda _kind, _row: None


def scratch_metrics(
    experiment: Experiment, data: PreparedDataset, method: str, seed: int, scratch: Path, progress: Progress = silent
) -> dict[str, Any]:
    """What `evaluate` says of a run of `experiment`, trained and evaluated under `scratch` unless it is there already.

    Raises:
        TrainingError: the training failed.
        ResultsError: the run that is there is damaged.
    """
    return read_json(measured_run(experiment, data, method, seed, scratch, progress=progress) / "metrics.json")


def measured_run(
    experiment: Experiment,
    data: PreparedDataset,
    method: str,
    seed: int,
    scratch: Path,
    analyse: Callable[..., object] | None = None,
    progress: Progress = silent,
) -> Path:
    """The folder with what `evaluate` publishes of a run of `experiment`, and `analyse` if it is given; trained and
    measured under `scratch` unless that was done already, of this run and by the code that is here.

    Raises:
        TrainingError: the training failed.
        ResultsError: the run that is there is damaged.
        Stopped: a signal asked to stop; what was trained and measured is kept.
    """
    root = scratch_run(experiment, data, method, seed, scratch, progress)
    run = run_folder(root, data.name, method, seed)
    by = run_key({"run": sha256(run / "run.json"), "config": experiment.as_dict(), "code": _MEASURING_CODE})
    measured = root / "measured" / by
    folder = run_folder(measured, data.name, method, seed)
    # Both write these files last.
    if not (folder / "metrics.json").is_file():
        _stop_if_asked()
        evaluate(experiment, data, method, seed, root, measured)
    if analyse and not (folder / "analysis.json").is_file():
        _stop_if_asked()
        analyse(experiment, data, method, seed, root, measured)
    return folder


class Stopped(ReplicationError):
    """A signal asked to stop between two measurements; the exit code is 128 plus its number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; run the same command again to go on")
        self.exit_code = 128 + number


def _stop_if_asked() -> None:
    number = asked_to_stop()
    if number is not None:
        raise Stopped(number)


# As it was imported: hours later, when a training has ended, the files may have been edited.
_MEASURING_CODE = hash_of_code(Path(__file__).resolve().parent, ("analysis", "ranks.py", "rounding.py"))


def scratch_run(
    experiment: Experiment, data: PreparedDataset, method: str, seed: int, scratch: Path, progress: Progress = silent
) -> Path:
    """The root of the run directories that has a run of `experiment`, trained unless it is there already. One stage
    trains many, so the name of a run has the last two folders of `scratch`: "ablations/no-clamp digits e2e seed 0".

    Raises:
        TrainingError: the training failed; the message names the run.
    """
    root = scratch_root(experiment, data, scratch)
    if not (run_folder(root, data.name, method, seed) / "run.json").is_file():
        name = f"{scratch.parent.name}/{scratch.name} {data.name} {method} seed {seed}"
        try:
            train(experiment, data, method, seed, root, (progress(name),))
        except TrainingError as error:
            if str(root) in str(error):  # it says which
                raise
            raise TrainingError(f"{name}: {error}") from error
    return root


def scratch_root(experiment: Experiment, data: PreparedDataset, scratch: Path) -> Path:
    """Where the runs of `experiment` lie: what was made of other parameters, data, code or versions is not taken for
    them, since each has a folder named by their hash.
    """
    return scratch / run_key(what_determines(experiment, data, choose_device(experiment.runtime)))
