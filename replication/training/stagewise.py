"""Boosting in label space: one weak learner after the other on the images themselves, F_t = F_{t-1} + a_t h_t.

As many rounds as BoostResNet has, each with the most gradient updates that a round of BoostResNet may take, through
the same update loop: equal numbers of weak modules and of updates. The curves have a point at the end of every round;
within a round nothing of the sum changes. Their loss is the cross-entropy of softmax(F).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from replication.errors import TrainingError
from replication.models.ensemble import Ensemble, build_weak_learner, contribution
from replication.models.resnet import ResNet
from replication.training.checkpoint import Snapshot, capture, join, progress_of, reinstate
from replication.training.features import BatchSource
from replication.training.outcome import Outcome, ensemble_outcome
from replication.training.record import accuracy_and_loss, predict
from replication.training.seeds import stream_seed
from replication.training.session import Session, placed
from replication.training.update import UpdateLoop


class Booster(Protocol):
    """A boosting algorithm as the rounds see it."""

    @property
    def state(self) -> object:
        """What `add` changes, by its attributes."""

    @property
    def vote(self) -> bool:
        """Whether a weak learner counts by its class or by its outputs."""

    def loss(self) -> nn.Module:
        """Of a weak learner's outputs (B, C) and its targets."""

    def targets(self) -> Tensor:
        """What the next weak learner is trained on, over the training split: (N, C), float32, or labels (N,)."""

    def image_weights(self) -> Tensor | None:
        """How often each image is drawn for it, (N,), up to a common factor; None for all alike."""

    def add(self, outputs: Tensor) -> tuple[float, Mapping[str, Any]]:
        """Take h_t in, by its outputs (N, C) on the training split.

        Returns:
            Its weight a_t, and the columns of rounds.csv that have a meaning here, "alpha" and "train_error" among
            them.
        """


class StagewiseTrainer:
    """The state of a run between two rounds.

    Raises:
        TrainingError: the session has a network of the user's own, which nothing tells how to make weak learners of.
    """

    def __init__(self, session: Session, booster: Booster) -> None:
        if session.own_network:
            raise TrainingError(
                "boosting in label space makes its weak learners by the experiment's model and would not look at a"
                " network of your own; leave out with_network, or train it by another method"
            )
        experiment = session.experiment
        self.session, self.booster = session, booster
        nothing_frozen = session.prefix()
        self.inputs = session.features(session.train, nothing_frozen)
        self.curves = session.curve_features(nothing_frozen)
        self.batches = BatchSource(
            self.inputs, nothing_frozen, experiment.augmentation, experiment.optimizer.batch_size, session.seed
        )
        classes = session.network.head.linear.out_features
        self.scores = {
            name: torch.zeros(len(split), classes, dtype=torch.float64, device=session.device)
            for name, split in self.curves.items()
        }
        self.learners: list[ResNet] = []
        self.weights: list[float] = []
        self.updates = 0
        self._under_way: tuple[ResNet, UpdateLoop] | None = None
        self._done = 0  # updates of the round under way

    def train(self) -> Outcome:
        """All rounds, from the checkpoint on if there is one; gives their weighted sum."""
        self.session.check_unused()
        saved = self.session.checkpoints.load()
        if saved is not None:
            self._restore(saved)
        for index in range(len(self.learners), len(self.session.network.rounds)):
            self.train_round(index)
        ensemble = Ensemble(self.learners, self.weights, vote=self.booster.vote)
        return ensemble_outcome(ensemble, self.updates, self.session.experiment.weak_learners.modules)

    def train_round(self, index: int) -> None:
        """One round: a fresh weak learner, its weight, and the sum with it."""
        experiment, checkpoints = self.session.experiment, self.session.checkpoints
        recorder = self.session.recorder
        if self._under_way is None:
            self._under_way = self._start_round(index)
        learner, loop = self._under_way
        updates = experiment.scaled(experiment.boostresnet.updates_per_block)
        while self._done < updates:
            with recorder.timed("update"):
                limit = min(updates - self._done, checkpoints.chunk(self.updates))
                made = loop.run(limit, f"weak learner {index + 1}, after update {self.updates}")
            self._done += made
            self.updates += made
            with recorder.timed("checkpoint"):
                checkpoints.visit(self.updates, self._snapshot)
        with recorder.timed("check"):
            weight, columns = self.booster.add(predict(learner, self.inputs))
        learner.zero_grad(set_to_none=True)  # done: gradients would only take room
        self.learners.append(learner)
        self.weights.append(weight)
        self._measure(learner, index, weight)
        self._record_round(index, updates, columns)
        self._under_way, self._done = None, 0
        with recorder.timed("checkpoint"):
            checkpoints.visit(self.updates, self._snapshot, end_of_block=True)

    def _start_round(self, index: int) -> tuple[ResNet, UpdateLoop]:
        optimizer, runtime = self.session.experiment.optimizer, self.session.experiment.runtime
        learner, seed = self._fresh_learner(index), stream_seed(self.session.seed, "modules", phase=index)
        self.batches.targets = self.booster.targets()
        self.batches.draw_by(self.booster.image_weights())
        loss = self.booster.loss().to(self.session.device)  # it may have a parameter of its own
        return learner, UpdateLoop(learner, loss, self.batches, optimizer, runtime, seed=seed)

    def _snapshot(self) -> Snapshot:
        """Everything that the rest of the run depends on, and what is recorded so far."""
        method = type(self.booster).__name__
        progress = {"method": method, "done": self._done, "updates": self.updates, "weights": self.weights}
        learner, loop = self._under_way or (None, None)
        return join(
            progress=Snapshot(values=progress),
            learners=join(**{str(i): Snapshot(one.state_dict()) for i, one in enumerate(self.learners)}),
            scores=Snapshot(self.scores),
            state=capture(self.booster.state),
            batches=self.batches.snapshot(),
            learner=Snapshot(learner.state_dict()) if learner else Snapshot(),
            loop=loop.snapshot() if loop else Snapshot(),
            recorder=self.session.recorder.snapshot(),
        )

    def _restore(self, saved: Snapshot) -> None:
        progress, device = progress_of(saved, type(self.booster).__name__), self.session.device
        self._done, self.updates, self.weights = progress["done"], progress["updates"], progress["weights"]
        for index in range(len(self.weights)):
            learner = self._fresh_learner(index)
            learner.load_state_dict(saved.part("learners").part(str(index)).tensors)
            self.learners.append(learner)
        self.scores = {name: tensor.to(device) for name, tensor in saved.part("scores").tensors.items()}
        reinstate(self.booster.state, saved.part("state"))
        self.batches.restore(saved.part("batches"))
        self.session.recorder.restore(saved.part("recorder"))
        if self._done:
            self._under_way = self._start_round(len(self.learners))
            self._under_way[0].load_state_dict(saved.part("learner").tensors)
            self._under_way[1].restore(saved.part("loop"))

    def _fresh_learner(self, index: int) -> ResNet:
        """The first round's stem and first block start from the same weights as the network's."""
        session = self.session
        _, channels, height, width = session.train.images.shape
        seed = stream_seed(session.seed, "initialisation", phase=index)
        classes = session.network.head.linear.out_features
        model, modules = session.experiment.model, session.experiment.weak_learners.modules
        learner = build_weak_learner(model, (channels, height, width), classes, seed, modules)
        return placed(learner, session.experiment, session.device)

    def _measure(self, learner: ResNet, index: int, weight: float) -> None:
        measures = {}
        with self.session.recorder.timed("evaluation"):
            for name, split in self.curves.items():
                self.scores[name] += weight * contribution(predict(learner, split), vote=self.booster.vote)
                measures[f"{name}_accuracy"], measures[f"{name}_loss"] = accuracy_and_loss(
                    self.scores[name], split.data.labels
                )
        self.session.recorder.evaluation(self.updates, index, measures)

    def _record_round(self, index: int, updates: int, columns: Mapping[str, Any]) -> None:
        last = self.session.recorder.rows["history"][-1]
        row = {
            "block": index,
            "module": f"learner{index + 1}",
            "gradient_updates": updates,
            "cumulative_updates": self.updates,
            "moved_on": "limit",
            "train_accuracy": 1.0 - columns["train_error"],
            "validation_accuracy": last["validation_accuracy"],
            "test_accuracy": last["test_accuracy"],
        }
        self.session.recorder.add("rounds", row | dict(columns))
