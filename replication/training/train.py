"""One run: a method on a dataset under a seed, from prepared data to its run directory."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from replication.config import Experiment
from replication.datasets import PreparedDataset
from replication.errors import TrainingError
from replication.models.build import count_parameters
from replication.training.boostresnet import train_boostresnet
from replication.training.device import choose_device, describe_git, describe_hardware, describe_versions
from replication.training.end_to_end import train_end_to_end
from replication.training.lengths import end_to_end_updates, refinement_updates
from replication.training.record import Observer, Recorder
from replication.training.runs import SCHEMA, load_model, model_description, read_description, run_folder, write_run
from replication.training.session import Session, open_session

# Parts of a run's configuration that do not change what the network learns.
_IRRELEVANT_TO_START = ("runtime", "evaluation", "refinement", "end_to_end")


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
        method: "boostresnet", "e2e", or "boostresnet-refined", which starts from the BoostResNet run under `runs_root`.
        observers: called with every row of the curves as it arises.

    Returns:
        The run directory.

    Raises:
        TrainingError: no such device, a loss that is no number, too little memory, or a start that does not fit.
        ResultsError: the run to start from is missing or damaged.
        ReplicationError: the run directory cannot be written.
    """
    device = choose_device(experiment.runtime)
    started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    recorder = Recorder(device, observers)
    try:
        session = open_session(experiment, data, seed, device, recorder)
        updates, auxiliary = _run_method(session, data, method, runs_root)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(
            f"out of memory ({str(error).splitlines()[0] if str(error) else 'host'}); lower runtime.memory_limit_gib,"
            " evaluation.batch_size or optimizer.batch_size"
        ) from error
    description = describe_run(experiment, data, method, seed, device)
    description |= {
        "gradient_updates": updates,
        "blocks": session.network.residual_blocks,
        "parameters": count_parameters(session.network),
        "started": started,
        "wall_seconds": round(recorder.seconds, 3),
    }
    folder = run_folder(runs_root, experiment.dataset, method, seed)
    write_run(folder, description, recorder, session.network, auxiliary)
    return folder


def describe_start(experiment: Experiment, data: PreparedDataset, method: str, seed: int) -> dict[str, Any]:
    """What is known of a run before it starts; the same checks of the device as in `train`."""
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
        "hardware": describe_hardware(device),
    }


def _run_method(session: Session, data: PreparedDataset, method: str, runs_root: Path) -> tuple[int, dict[str, Tensor]]:
    """Gradient updates in total, and the auxiliary classifiers where the method has any."""
    rounds = len(session.network.rounds)
    if method == "boostresnet":
        return train_boostresnet(session)
    if method == "e2e":
        return train_end_to_end(session, end_to_end_updates(session.experiment, rounds)), {}
    if method == "boostresnet-refined":
        done = _start_from_boostresnet(session, data, runs_root)
        return train_end_to_end(session, refinement_updates(session.experiment, rounds), done=done), {}
    raise TrainingError(f"unknown method '{method}'; choose boostresnet, e2e or boostresnet-refined")


def _start_from_boostresnet(session: Session, data: PreparedDataset, runs_root: Path) -> int:
    """Load BoostResNet's weights under the same seed into the session's network; gives the updates they took."""
    folder = run_folder(runs_root, session.experiment.dataset, "boostresnet", session.seed)
    description = read_description(folder)
    wanted, found = session.experiment.as_dict(), description["config"]
    for section in wanted:
        if section not in _IRRELEVANT_TO_START and wanted[section] != found.get(section):
            raise TrainingError(
                f"{folder} was trained with other parameters in '{section}'; train boostresnet again first"
            )
    if description["data"]["content_hash"] != data.content_hash:
        raise TrainingError(f"{folder} was trained on other data; train boostresnet again first")
    session.network.load_state_dict(load_model(folder).state_dict())
    return int(description["gradient_updates"])
