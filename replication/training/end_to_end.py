"""End-to-end back-propagation ("e2eBP"), from scratch or from BoostResNet's weights (the refinement)."""

from __future__ import annotations

from torch import nn

from replication.errors import TrainingError
from replication.training.checkpoint import Snapshot, join, progress_of
from replication.training.features import BatchSource
from replication.training.lengths import boostresnet_updates, check_length
from replication.training.record import measure_splits
from replication.training.seeds import stream_seed
from replication.training.session import Session
from replication.training.update import UpdateLoop

_METHOD, _REFINEMENT = "end to end", "refinement"


def train_end_to_end(session: Session, updates: int, *, done: int = 0) -> int:
    """Train the session's network as a whole by cross-entropy; curves at multiples of the evaluation interval, where
    BoostResNet's updates are used up, and at the end; from the checkpoint on if there is one.

    Args:
        updates: number of gradient updates to make.
        done: updates already behind the network; more than none makes this a refinement, with batches of its own.

    Returns:
        Gradient updates in total, those already done counted in.

    Raises:
        TrainingError: `updates` is no positive integer or `done` a negative one, the session has been trained in
            already though nothing is `done`, or the checkpoints are another method's or of more updates.
    """
    check_length("updates", updates)
    if type(done) is not int or done < 0:
        raise TrainingError(f"done must be a number of updates, a whole one from 0 on; got {done!r:.40}")
    if not done:
        session.check_unused()
    experiment, network, checkpoints = session.experiment, session.network, session.checkpoints
    network.requires_grad_(True)
    method = _REFINEMENT if done else _METHOD
    images, phase = session.prefix(), int(done > 0)
    batches = BatchSource(
        session.features(session.train, images),
        images,
        experiment.augmentation,
        experiment.optimizer.batch_size,
        session.seed,
        phase=phase,
    )
    # BoostResNet's blocks have the phases before the refinement's.
    seed = stream_seed(session.seed, "modules", phase=len(network.rounds) if done else 0)
    loop = UpdateLoop(network, nn.CrossEntropyLoss(), batches, experiment.optimizer, experiment.runtime, seed=seed)
    curves = session.curve_features(images)
    interval, end = experiment.scaled(experiment.evaluation.interval), done + updates
    # BoostResNet ends there, whatever the interval: at equal numbers of updates both have a point.
    marks = {boostresnet_updates(experiment, len(network.rounds)), end}

    def evaluate() -> None:
        with session.recorder.timed("evaluation"):
            measures = measure_splits(network, curves)
        session.recorder.evaluation(done, None, measures)

    def snapshot() -> Snapshot:
        return join(
            progress=Snapshot(values={"method": method, "done": done}),
            network=Snapshot(network.state_dict()),
            batches=batches.snapshot(),
            loop=loop.snapshot(),
            recorder=session.recorder.snapshot(),
        )

    saved = checkpoints.load()
    if saved is not None:
        done = progress_of(saved, method)["done"]
        if done > end:
            raise TrainingError(
                f"the checkpoints are of {done} updates, more than the {end} asked for; give another folder"
            )
        network.load_state_dict(saved.part("network").tensors)
        batches.restore(saved.part("batches"))
        loop.restore(saved.part("loop"))
        session.recorder.restore(saved.part("recorder"))
    elif done:
        evaluate()
    while done < end:
        with session.recorder.timed("update"):
            goal = min(interval - done % interval, *(mark - done for mark in marks if mark > done))
            made = loop.run(min(goal, checkpoints.chunk(done)), f"after update {done}")
        done += made
        if made and (done % interval == 0 or done in marks):
            evaluate()
        with session.recorder.timed("checkpoint"):
            checkpoints.visit(done, snapshot, end_of_block=done == end)
    return done
