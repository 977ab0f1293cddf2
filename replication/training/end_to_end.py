"""End-to-end back-propagation ("e2eBP"), from scratch or from BoostResNet's weights (the refinement)."""

from __future__ import annotations

from torch import nn

from replication.training.features import BatchSource, FrozenPrefix
from replication.training.record import measure_splits
from replication.training.session import Session
from replication.training.update import UpdateLoop


def train_end_to_end(session: Session, updates: int, *, done: int = 0) -> int:
    """Train the session's network as a whole by cross-entropy; curves at multiples of the evaluation interval and
    at the end.

    Args:
        updates: number of gradient updates to make.
        done: updates already behind the network; more than none makes this a refinement, with batches of its own.

    Returns:
        Gradient updates in total, those already done counted in.
    """
    experiment, network = session.experiment, session.network
    network.requires_grad_(True)
    nothing_frozen = FrozenPrefix(network)
    batches = BatchSource(
        session.features(session.train, nothing_frozen),
        nothing_frozen,
        experiment.augmentation,
        experiment.optimizer.batch_size,
        session.seed,
        phase=int(done > 0),
    )
    loop = UpdateLoop(network, nn.CrossEntropyLoss(), batches, experiment.optimizer)
    curves = session.curve_features(nothing_frozen)
    interval, end = experiment.scaled(experiment.evaluation.interval), done + updates
    if done:
        session.recorder.evaluation(done, None, measure_splits(network, curves))
    while done < end:
        step = min(interval - done % interval, end - done)
        loop.run(step)
        done += step
        session.recorder.evaluation(done, None, measure_splits(network, curves))
    return done
