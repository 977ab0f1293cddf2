"""The time of a whole BoostResNet run at the default settings, put together from measured parts."""

from __future__ import annotations

import math
import queue
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from replication.config import EvaluationParams, Experiment
from replication.training.boostresnet import BoostResNetTrainer, MulticlassAlgorithm
from replication.training.checkpoint import Checkpoints
from replication.training.record import PHASES, Recorder
from replication.training.session import Session

#: The phases of a run that are no training, as `logging_share` counts them.
OVERHEAD = ("check", "evaluation", "checkpoint", "logging")
_BEST_OF = 3


def fixed_parts(session: Session, labels: torch.Tensor) -> dict[str, float]:
    """Milliseconds of what takes the same at every block.

    Args:
        session: one that has made no update.
        labels: of the whole training split, (N,), on the session's device.

    Returns:
        "checkpoint": a checkpoint at the start of a round, Adam's moments not yet among it. "statistics": edge, gamma
        and the next weights from the logits of the training split. "point": the rows of a point of the curves, given
        to an observer that puts them on a queue, as the tracker does; MLflow is told by a thread of its own.
    """
    return {
        "checkpoint": _checkpoint(session, labels),
        "statistics": _statistics(session, labels),
        "point": _point(session.device),
    }


def _checkpoint(session: Session, labels: torch.Tensor) -> float:
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), session.experiment.checkpoint)
        trainer = BoostResNetTrainer(attrs.evolve(session, checkpoints=checkpoints), _algorithm(session, labels))
        return _best(lambda: checkpoints.visit(0, trainer.snapshot, end_of_block=True), session.device)


def _statistics(session: Session, labels: torch.Tensor) -> float:
    algorithm = _algorithm(session, labels)
    logits = torch.randn(len(labels), session.network.head.linear.out_features, device=session.device)

    def check() -> None:
        outputs = algorithm.outputs(logits)
        algorithm.state.advance(outputs, algorithm.state.measure(outputs))

    return _best(check, session.device)


def _algorithm(session: Session, labels: torch.Tensor) -> MulticlassAlgorithm:
    return MulticlassAlgorithm(labels, session.network.head.linear.out_features, session.experiment.boostresnet)


def _point(device: torch.device) -> float:
    rows: queue.SimpleQueue[tuple[str, Mapping[str, Any]]] = queue.SimpleQueue()
    recorder = Recorder(device, (lambda kind, row: rows.put((kind, dict(row))),))
    measures = {f"{split}_{what}": 0.5 for split in ("train", "validation", "test") for what in ("accuracy", "loss")}
    return _best(lambda: recorder.evaluation(0, 0, measures), device)


def _best(action: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of the best of a few."""
    seconds = []
    for _ in range(_BEST_OF):
        start = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return round(1e3 * min(seconds), 4)


def whole_run(
    experiment: Experiment,
    evaluation: EvaluationParams,
    sizes: Mapping[str, int],
    blocks: list[dict[str, Any]],
    parts: Mapping[str, float],
) -> dict[str, Any]:
    """Seconds of a BoostResNet run of full length (budget 1) by `record.PHASES`.

    Args:
        evaluation: which points the curves have; those that an experiment of short runs has are too few for one of
            full length.
        sizes: images by split.
        blocks: rows of cost.json.
        parts: what `fixed_parts` gives.
    """
    params, updates = experiment.boostresnet, experiment.boostresnet.updates_per_block
    checks, points = math.ceil(updates / params.check_interval), math.ceil(updates / evaluation.interval)
    saves = 1 + updates // experiment.checkpoint.updates
    held_out = [sizes[name] for name in ("validation", "test")[: 1 + evaluation.test_curve]]
    curve = min(evaluation.train_samples, sizes["train"])
    curve += sum(min(evaluation.held_out_samples, size) for size in held_out)
    kind = "augmented" if experiment.augmentation.active else "cached"
    seconds = dict.fromkeys(PHASES, 0.0)
    for block in blocks:
        per_image = block["evaluation_ms_per_1000"] / 1e6
        seconds["update"] += updates * block[f"{kind}_ms"]["median"] / 1e3
        seconds["prefix"] += (sizes["train"] + curve) * block["advance_ms_per_1000"] / 1e6
        seconds["check"] += checks * (sizes["train"] * per_image + parts["statistics"] / 1e3)
        seconds["evaluation"] += points * curve * per_image
        seconds["checkpoint"] += saves * parts["checkpoint"] / 1e3
        seconds["logging"] += points * parts["point"] / 1e3
    return {
        "batches": kind,
        "updates": updates,
        "evaluation": attrs.asdict(evaluation),
        "parts_ms": dict(parts),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "overhead": list(OVERHEAD),
    }


def overhead_share(run: Mapping[str, Any]) -> float:
    """The fraction of a run that `OVERHEAD` takes."""
    seconds = run["seconds"]
    return math.fsum(seconds[part] for part in OVERHEAD) / math.fsum(seconds.values())
