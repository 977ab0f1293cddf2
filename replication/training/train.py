"""One run: a method on a dataset under a seed, from prepared data to its run directory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from replication import memory
from replication.config import METHODS, PRECISIONS, Experiment
from replication.datasets import PreparedDataset
from replication.datasets.pairs import data_of_method
from replication.errors import TrainingError
from replication.files import check_writable, remove_leftovers, sha256
from replication.lock import exclusive
from replication.training import distributed
from replication.training.adaboost_mm import train_adaboost_mm
from replication.training.boostresnet import train_boostresnet
from replication.training.boostresnet_binary import train_boostresnet_binary
from replication.training.checkpoint import Checkpoints, run_key, what_determines
from replication.training.device import choose_device, describe_git, describe_hardware, describe_versions
from replication.training.end_to_end import train_end_to_end
from replication.training.features import SCRATCH
from replication.training.gradient_boosting import train_gradient_boosting
from replication.training.lengths import end_to_end_updates, refinement_updates
from replication.training.outcome import Outcome, network_outcome
from replication.training.record import Observer, Recorder
from replication.training.runs import SCHEMA, load_model, model_description, read_description, run_folder, write_run
from replication.training.session import Session, open_session
from replication.training.stock_library import train_hist_gradient_boosting

_BOOSTING: dict[str, Callable[[Session], Outcome]] = {
    "boostresnet": train_boostresnet,
    "boostresnet-binary": train_boostresnet_binary,
    "adaboost-mm": train_adaboost_mm,
    "gradient-boosting": train_gradient_boosting,
}

# The parts of a configuration that determine what BoostResNet learns, beside PRECISIONS.
_DETERMINES_START = ("budget", "data", "augmentation", "model", "optimizer", "boostresnet")


def train(
    experiment: Experiment,
    data: PreparedDataset,
    method: str,
    seed: int,
    runs_root: Path = Path("runs"),
    observers: tuple[Observer, ...] = (),
) -> Path:
    """Train and write the run directory.

    Args:
        method: one of config.METHODS; "boostresnet-refined" starts from the BoostResNet run under `runs_root`.
        observers: called with every row of the curves as it arises.

    Returns:
        The run directory.

    Raises:
        TrainingError: no such device, a loss that is no number, too little memory, a start that does not fit, or
            another process that trains the same run.
        Interrupted: a signal asked to stop; the same call goes on from there.
        ResultsError: the run to start from is missing or damaged.
        ReplicationError: the run directory cannot be written.
    """
    device = choose_device(experiment.runtime)
    data = data_of_method(data, method, experiment.binary)
    folder = run_folder(runs_root, experiment.dataset, method, seed)
    distributed.join_group(device.type)
    try:
        checkpoints = SCRATCH / run_key(_determines(experiment, data, method, seed, device, runs_root))
        if distributed.rank() > 0:
            _train(experiment, data, method, seed, device, runs_root, checkpoints, ())
        else:
            # Two runs that are equal but for their place have one folder for checkpoints.
            with exclusive(_lock_file(folder), str(folder)), exclusive(_lock_file(checkpoints), str(checkpoints)):
                remove_leftovers(folder)
                for place in (folder.parent, folder):  # now, and not after a night of training
                    check_writable(place)
                _train(experiment, data, method, seed, device, runs_root, checkpoints, observers)
    except (RuntimeError, MemoryError, OSError) as error:
        if not memory.ran_out(error):
            raise
        raise TrainingError(memory.explain(error)) from error
    finally:
        distributed.leave_group()
    return folder


def _train(
    experiment: Experiment,
    data: PreparedDataset,
    method: str,
    seed: int,
    device: torch.device,
    runs_root: Path,
    checkpoint_folder: Path,
    observers: tuple[Observer, ...],
) -> None:
    if experiment.runtime.compile == "always":
        torch._dynamo.reset()  # it keeps so many compiled forms and no more: an earlier run here would change this one
    recorder = Recorder(device, observers)
    checkpoints = Checkpoints(checkpoint_folder, experiment.checkpoint)
    description = describe_run(experiment, data, method, seed, device)  # of the code as it is now, not hours later
    session = open_session(experiment, data, seed, device, recorder, checkpoints)
    outcome = _run_method(session, data, method, runs_root)
    if distributed.rank() > 0:
        return
    description |= outcome.description | {
        "model": description["model"] | outcome.description.get("model", {}),
        "gradient_updates": outcome.updates,
        "started": recorder.started,
        "resumed": recorder.resumed,
        "wall_seconds": round(recorder.seconds, 3),
        "seconds_by_phase": {phase: round(seconds, 3) for phase, seconds in recorder.spent.items()},
    }
    folder = run_folder(runs_root, experiment.dataset, method, seed)
    write_run(folder, description, recorder, outcome.weights, outcome.auxiliary)
    checkpoints.clear()


def _lock_file(folder: Path) -> Path:
    """One for every run directory, whatever trains there, and for every folder of checkpoints."""
    return SCRATCH / "locks" / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]


def _determines(
    experiment: Experiment, data: PreparedDataset, method: str, seed: int, device: torch.device, runs_root: Path
) -> dict[str, Any]:
    """Everything beside the code that determines a run's numbers."""
    start = run_folder(runs_root, experiment.dataset, "boostresnet", seed) / "model.safetensors"
    return what_determines(experiment, data, device) | {
        "method": method,
        "seed": seed,
        "processes": distributed.world(),
        "start": sha256(start) if method == "boostresnet-refined" and start.is_file() else None,
    }


def describe_start(experiment: Experiment, data: PreparedDataset, method: str, seed: int) -> dict[str, Any]:
    """What is known of a run before it starts; the same checks of the device as in `train`."""
    data = data_of_method(data, method, experiment.binary)
    return describe_run(experiment, data, method, seed, choose_device(experiment.runtime))


def describe_run(
    experiment: Experiment, data: PreparedDataset, method: str, seed: int, device: torch.device
) -> dict[str, Any]:
    """The part of run.json that is known before training."""
    return {
        "schema": SCHEMA,
        "dataset": experiment.dataset,
        "method": method,
        "seed": seed,
        "budget": experiment.budget,
        "reading": experiment.model.reading,
        "config": experiment.as_dict(),
        "model": model_description(experiment.model, data.image_shape, data.num_classes),
        "data": data.describe(),
        "git": describe_git(),
        "versions": describe_versions(),
        "hardware": describe_hardware(device) | {"processes": distributed.world()},
    }


def _run_method(session: Session, data: PreparedDataset, method: str, runs_root: Path) -> Outcome:
    network, rounds = session.network, len(session.network.rounds)
    if method in _BOOSTING:
        return _BOOSTING[method](session)
    if method == "e2e":
        return network_outcome(network, train_end_to_end(session, end_to_end_updates(session.experiment, rounds)))
    if method == "boostresnet-refined":
        done = _start_from_boostresnet(session, data, runs_root)
        updates = refinement_updates(session.experiment, rounds)
        return network_outcome(network, train_end_to_end(session, updates, done=done))
    if method == "hist-gradient-boosting":
        return train_hist_gradient_boosting(session, data)
    raise TrainingError(f"unknown method '{method}'; choose {', '.join(METHODS)}")


def _start_from_boostresnet(session: Session, data: PreparedDataset, runs_root: Path) -> int:
    """Load BoostResNet's weights under the same seed into the session's network; gives the updates they took."""
    folder = run_folder(runs_root, session.experiment.dataset, "boostresnet", session.seed)
    description = read_description(folder)
    wanted, found = session.experiment.as_dict(), description["config"]
    different = [section for section in _DETERMINES_START if wanted[section] != found.get(section)]
    runtime = found["runtime"] if isinstance(found.get("runtime"), dict) else {}
    different += [f"runtime.{key}" for key in PRECISIONS if wanted["runtime"][key] != runtime.get(key)]
    if different:
        raise TrainingError(
            f"{folder} was trained with other parameters in '{different[0]}'; train boostresnet again first"
        )
    if description["data"]["content_hash"] != data.content_hash:
        raise TrainingError(f"{folder} was trained on other data; train boostresnet again first")
    session.network.load_state_dict(load_model(folder).state_dict())
    return int(description["gradient_updates"])
