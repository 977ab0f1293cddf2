"""BoostResNet (Algorithms 3 and 4): one hypothesis module after the other, each trained on the outputs of the
frozen ones.

A round trains a block and its auxiliary classifier by the oracle, measures edge and gamma on the whole training
split, and moves on when gamma is above the threshold at a check or the round's updates are used up. What remains is a
plain ResNet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from replication.boosting.multiclass import BoostingState, RoundStatistics, oracle_loss
from replication.models.hypothesis import HypothesisFactory, HypothesisModule
from replication.training.features import BatchSource, FrozenPrefix
from replication.training.record import measure_splits, predict
from replication.training.seeds import stream_seed
from replication.training.session import Session
from replication.training.update import UpdateLoop

AuxiliaryStates = dict[str, Tensor]


class BoostResNetTrainer:
    """The state of a BoostResNet run between two rounds."""

    def __init__(self, session: Session) -> None:
        experiment, network = session.experiment, session.network
        self.session = session
        self.prefix = FrozenPrefix(network)
        self.features = session.features(session.train, self.prefix)
        self.curves = session.curve_features(self.prefix)
        self.batches = BatchSource(
            self.features, self.prefix, experiment.augmentation, experiment.optimizer.batch_size, session.seed
        )
        num_classes = network.head.linear.out_features
        self.state = BoostingState(session.train.labels, num_classes, experiment.boostresnet.initial_edge)
        self.hypotheses = HypothesisFactory(
            network, experiment.boostresnet.auxiliary, stream_seed(session.seed, "auxiliary")
        )
        self.updates = 0
        self.auxiliary_states: AuxiliaryStates = {}

    def train(self) -> None:
        """All rounds, from the first block that is not frozen yet."""
        for block in range(len(self.prefix.modules), len(self.session.network.rounds)):
            self.train_round(block)

    def train_round(self, block: int) -> None:
        """One round: the oracle, its statistics, and the block's way into the frozen prefix."""
        hypothesis = self.hypotheses.hypothesis(block)
        before = self.updates
        outputs, statistics, moved_on = self._run_oracle(hypothesis, block)
        self.state.advance(outputs, statistics)
        self._record_round(hypothesis, block, self.updates - before, statistics, moved_on)
        self._keep_auxiliary(hypothesis, block)
        self.prefix.freeze(hypothesis.block)
        for features in (self.features, *self.curves.values()):
            features.advance()

    def _run_oracle(self, hypothesis: HypothesisModule, block: int) -> tuple[Tensor, RoundStatistics, str]:
        """Algorithm 4 with the released code's schedule.

        Returns:
            o_{t+1} on the training split (N, C), the round's statistics, and what ended it: "gamma" or "limit".
        """
        experiment, params = self.session.experiment, self.session.experiment.boostresnet
        limit, check = experiment.scaled(params.updates_per_block), experiment.scaled(params.check_interval)
        interval = experiment.scaled(experiment.evaluation.interval)
        loss = oracle_loss(params.oracle_loss, self.state.alpha).to(self.session.device)
        loop = UpdateLoop(hypothesis, loss, self.batches, experiment.optimizer)
        done = 0
        while True:
            step = min(check - done % check, interval - self.updates % interval, limit - done)
            loop.run(step)
            done += step
            self.updates += step
            if done % check == 0 or done == limit:
                outputs = torch.softmax(predict(hypothesis, self.features).double(), 1)
                statistics = self.state.measure(outputs)
                if statistics.gamma > params.gamma_threshold or done == limit:
                    self._record_evaluation(hypothesis, block)
                    return outputs, statistics, "gamma" if statistics.gamma > params.gamma_threshold else "limit"
            if self.updates % interval == 0:
                self._record_evaluation(hypothesis, block)

    def _record_evaluation(self, hypothesis: HypothesisModule, block: int) -> None:
        self.session.recorder.evaluation(self.updates, block, measure_splits(hypothesis, self.curves))

    def _record_round(
        self, hypothesis: HypothesisModule, block: int, updates: int, statistics: RoundStatistics, moved_on: str
    ) -> None:
        last = self.session.recorder.rows["history"][-1]
        self.session.recorder.add(
            "rounds",
            {
                "block": block,
                "module": self.session.network.names[block],
                "gradient_updates": updates,
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
            self.auxiliary_states[f"{block}.{name}"] = value.detach().cpu().clone()


def train_boostresnet(session: Session) -> tuple[int, AuxiliaryStates]:
    """Train the session's network by BoostResNet; gives the number of gradient updates and all auxiliary
    classifiers.
    """
    trainer = BoostResNetTrainer(session)
    trainer.train()
    return trainer.updates, trainer.auxiliary_states
