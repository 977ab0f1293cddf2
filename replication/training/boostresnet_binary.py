"""Binary BoostResNet (Algorithms 1 and 2) on a pair of classes: the multiclass trainer on binary mathematics."""

from __future__ import annotations

from torch import Tensor, nn

from replication.boosting.binary import BinaryBoosting, ExponentialLoss, module_output
from replication.training.boostresnet import BoostResNetTrainer
from replication.training.outcome import Outcome
from replication.training.session import Session


class BinaryAlgorithm:
    """Algorithms 1 and 2, with the oracle loss that Algorithm 2 states, whatever `boostresnet.oracle_loss` says."""

    def __init__(self, labels: Tensor, initial_edge: float) -> None:
        self.state = BinaryBoosting(labels, initial_edge)

    def outputs(self, logits: Tensor) -> Tensor:
        """o(x) = p_+(x) - p_-(x), (N,)."""
        return module_output(logits.double())

    def oracle_loss(self) -> nn.Module:
        return ExponentialLoss()


def train_boostresnet_binary(session: Session) -> Outcome:
    """Train the session's network, which has two logits, by binary BoostResNet."""
    params = session.experiment.boostresnet
    return BoostResNetTrainer(session, BinaryAlgorithm(session.train.labels, params.initial_edge)).train()
