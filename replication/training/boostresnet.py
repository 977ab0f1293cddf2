"""BoostResNet (Algorithms 3 and 4, and the rounds of 1 and 2): one hypothesis module after the other, each trained on
the outputs of the frozen ones.

A round trains a block and its auxiliary classifier by the oracle, measures edge and gamma on the whole training
split, and moves on when gamma is above the threshold at a check or the round's updates are used up. What remains is a
plain ResNet.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from replication.boosting.multiclass import BoostingState, RoundStatistics, oracle_loss
from replication.config import BoostResNetParams
from replication.errors import TrainingError
from replication.models.hypothesis import HypothesisFactory, HypothesisModule
from replication.training.checkpoint import Snapshot, capture, join, progress_of, reinstate
from replication.training.features import BatchSource
from replication.training.outcome import Outcome, network_outcome
from replication.training.record import measure_splits, predict
from replication.training.seeds import stream_seed
from replication.training.session import Session
from replication.training.update import UpdateLoop

AuxiliaryStates = dict[str, Tensor]


class BoostingMathematics(Protocol):
    """o_t, alpha_t, edge_t and the weights of the examples on the training set: `boosting.multiclass` or `.binary`."""

    alpha: float

    def measure(self, outputs: Tensor) -> RoundStatistics: ...

    def advance(self, outputs: Tensor, statistics: RoundStatistics) -> None: ...


class Algorithm(Protocol):
    """What tells the multiclass algorithm from the binary one."""

    @property
    def state(self) -> BoostingMathematics: ...

    def outputs(self, logits: Tensor) -> Tensor:
        """Logits (N, C) -> o (N, ...)."""

    def oracle_loss(self) -> nn.Module:
        """Of the next round's oracle, on logits and labels."""


class MulticlassAlgorithm:
    """Algorithms 3 and 4."""

    def __init__(self, labels: Tensor, num_classes: int, params: BoostResNetParams) -> None:
        self.state = BoostingState(labels, num_classes, params.initial_edge)
        self._loss = params.oracle_loss

    def outputs(self, logits: Tensor) -> Tensor:
        """o(x) = softmax of the logits, (N, C)."""
        return torch.softmax(logits.double(), 1)

    def oracle_loss(self) -> nn.Module:
        return oracle_loss(self._loss)


class BoostResNetTrainer:
    """The state of a BoostResNet run between two rounds."""

    def __init__(self, session: Session, algorithm: Algorithm) -> None:
        experiment, network = session.experiment, session.network
        self.session = session
        self.prefix = session.prefix()
        self.features = session.features(session.train, self.prefix)
        self.curves = session.curve_features(self.prefix)
        self.batches = BatchSource(
            self.features, self.prefix, experiment.augmentation, experiment.optimizer.batch_size, session.seed
        )
        self.algorithm, self.state = algorithm, algorithm.state
        self.hypotheses = HypothesisFactory(
            network,
            experiment.boostresnet.auxiliary,
            stream_seed(session.seed, "auxiliary"),
            session.train.images.shape[1:],
        )
        self.updates = 0
        self.auxiliary_states: AuxiliaryStates = {}
        self._loop: UpdateLoop | None = None
        self._done = 0  # updates of the round under way

    def train(self) -> Outcome:
        """All rounds, from the checkpoint on if there is one; gives the network and all auxiliary classifiers.

        Nothing of the network stays frozen: whoever has it may train it further.
        """
        self.session.check_unused()
        saved = self.session.checkpoints.load()
        if saved is not None:
            self._restore(saved)
        for block in range(len(self.prefix.modules), len(self.session.network.rounds)):
            self.train_round(block)
        self.session.network.requires_grad_(True)
        return network_outcome(self.session.network, self.updates, self.auxiliary_states)

    def train_round(self, block: int) -> None:
        """One round: the oracle, its statistics, and the block's way into the frozen prefix."""
        hypothesis = self.hypotheses.hypothesis(block)
        with self.session.recorder.timed("prefix"):
            self.batches.draw_views()
        loop = self._loop or self._new_loop(hypothesis, block)
        outputs, statistics, moved_on = self._run_oracle(hypothesis, block, loop)
        with self.session.recorder.timed("check"):
            self.state.advance(outputs, statistics)
        self._record_round(block, statistics, moved_on)
        self._keep_auxiliary(hypothesis, block)
        with self.session.recorder.timed("prefix"):
            self._freeze(hypothesis.block)
        self.batches.drop_views()
        self._loop, self._done = None, 0
        with self.session.recorder.timed("checkpoint"):
            self.session.checkpoints.visit(self.updates, self.snapshot, end_of_block=True)

    def _freeze(self, block: nn.Module) -> None:
        self.prefix.freeze(block)
        for features in (self.features, *self.curves.values()):
            features.advance()

    def _new_loop(self, hypothesis: HypothesisModule, block: int) -> UpdateLoop:
        """A fresh Adam per block, as the released code has it."""
        experiment, seed = self.session.experiment, stream_seed(self.session.seed, "modules", phase=block)
        loss = self.algorithm.oracle_loss().to(self.session.device)
        return UpdateLoop(hypothesis, loss, self.batches, experiment.optimizer, experiment.runtime, seed=seed)

    def _run_oracle(
        self, hypothesis: HypothesisModule, block: int, loop: UpdateLoop
    ) -> tuple[Tensor, RoundStatistics, str]:
        """Algorithm 4 with the released code's schedule.

        Returns:
            o_{t+1} on the training split, the round's statistics, and what ended it: "gamma" or "limit".
        """
        experiment, params = self.session.experiment, self.session.experiment.boostresnet
        limit, check = experiment.scaled(params.updates_per_block), experiment.scaled(params.check_interval)
        interval, checkpoints = experiment.scaled(experiment.evaluation.interval), self.session.checkpoints
        self._loop = loop
        while True:
            goal = min(check - self._done % check, interval - self.updates % interval, limit - self._done)
            with self.session.recorder.timed("update"):
                goal = min(goal, checkpoints.chunk(self.updates))
                made = loop.run(goal, f"{self.session.network.names[block]}, after update {self.updates}")
            self._done += made
            self.updates += made
            if made and (self._done % check == 0 or self._done == limit):
                with self.session.recorder.timed("check"):
                    outputs = self.algorithm.outputs(predict(hypothesis, self.features))
                    if not bool(outputs.isfinite().all()):  # a NaN would pass for a perfect edge
                        raise TrainingError(
                            f"{self.session.network.names[block]}, after update {self.updates}: outputs on training "
                            "images are not finite numbers any more; lower optimizer.learning_rate"
                        )
                    statistics = self.state.measure(outputs)
                if statistics.gamma > params.gamma_threshold or self._done == limit:
                    self._record_evaluation(hypothesis, block)
                    return outputs, statistics, "gamma" if statistics.gamma > params.gamma_threshold else "limit"
            if made and self.updates % interval == 0:
                self._record_evaluation(hypothesis, block)
            with self.session.recorder.timed("checkpoint"):
                checkpoints.visit(self.updates, self.snapshot)

    def snapshot(self) -> Snapshot:
        """Everything that the rest of the run depends on, and what is recorded so far."""
        progress = {
            "method": type(self.algorithm).__name__,
            "frozen": len(self.prefix.modules),
            "done": self._done,
            "updates": self.updates,
        }
        return join(
            progress=Snapshot(values=progress),
            network=Snapshot(self.session.network.state_dict()),
            heads=Snapshot(self.hypotheses.state_dict()),
            state=capture(self.state),
            batches=self.batches.snapshot(),
            loop=self._loop.snapshot() if self._loop else Snapshot(),
            auxiliary=Snapshot(self.auxiliary_states),
            recorder=self.session.recorder.snapshot(),
        )

    def _restore(self, saved: Snapshot) -> None:
        progress = progress_of(saved, type(self.algorithm).__name__)
        self._done, self.updates = progress["done"], progress["updates"]
        network = self.session.network
        network.load_state_dict(saved.part("network").tensors)
        self.hypotheses.load_state_dict(saved.part("heads").tensors)
        reinstate(self.state, saved.part("state"))
        self.batches.restore(saved.part("batches"))
        self.auxiliary_states = saved.part("auxiliary").tensors
        self.session.recorder.restore(saved.part("recorder"))
        # Block by block, as they were computed: the stored outputs are the same to the bit.
        frozen = progress["frozen"]
        for block in network.rounds[:frozen]:
            self._freeze(block)
        if self._done:
            self._loop = self._new_loop(self.hypotheses.hypothesis(frozen), frozen)
            self._loop.restore(saved.part("loop"))

    def _record_evaluation(self, hypothesis: HypothesisModule, block: int) -> None:
        with self.session.recorder.timed("evaluation"):
            measures = measure_splits(hypothesis, self.curves)
        self.session.recorder.evaluation(self.updates, block, measures)

    def _record_round(self, block: int, statistics: RoundStatistics, moved_on: str) -> None:
        last = self.session.recorder.rows["history"][-1]
        self.session.recorder.add(
            "rounds",
            {
                "block": block,
                "module": self.session.network.names[block],
                "gradient_updates": self._done,
                "cumulative_updates": self.updates,
                "moved_on": moved_on,
                "edge": statistics.edge,
                "gamma": statistics.gamma,
                "weak_learning_gain": statistics.weak_learning_gain,
                "covariance": statistics.covariance,
                "alpha": statistics.alpha,
                "bound": statistics.bound,
                "train_error": statistics.train_error,
                "train_accuracy": 1.0 - statistics.train_error,
                "validation_accuracy": last["validation_accuracy"],
                "test_accuracy": last["test_accuracy"],
            },
        )

    def _keep_auxiliary(self, hypothesis: HypothesisModule, block: int) -> None:
        """The auxiliary classifier as it is now, for the analysis; the method itself throws it away."""
        for name, value in hypothesis.auxiliary.state_dict().items():
            self.auxiliary_states[f"{block}.{name}"] = value.detach().cpu().clone(memory_format=torch.contiguous_format)


def train_boostresnet(session: Session) -> Outcome:
    """Train the session's network by multiclass BoostResNet."""
    num_classes, params = session.network.head.linear.out_features, session.experiment.boostresnet
    return BoostResNetTrainer(session, MulticlassAlgorithm(session.train.labels, num_classes, params)).train()
