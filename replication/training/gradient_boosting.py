"""Gradient boosting in label space over the network's own kind of module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from replication.boosting.gradient import GradientBoosting, SquaredLoss
from replication.training.outcome import Outcome
from replication.training.session import Session
from replication.training.stagewise import StagewiseTrainer


class GradientBooster:
    """Weak learners with C linear outputs, regressed on the negative gradient, which count by their outputs."""

    vote = False

    def __init__(self, labels: Tensor, num_classes: int, shrinkage: float) -> None:
        self.state = GradientBoosting(labels, num_classes, shrinkage)

    def loss(self) -> nn.Module:
        return SquaredLoss()

    def targets(self) -> Tensor:
        return self.state.residuals.float()

    def image_weights(self) -> None:
        """All images alike."""

    def add(self, outputs: Tensor) -> tuple[float, Mapping[str, Any]]:
        """The weight in the sum, shrinkage times step, as "alpha"; edge and bound are AdaBoost's and stay empty."""
        round_ = self.state.add(outputs)
        return round_.weight, {"alpha": round_.weight, "train_error": round_.train_error}


def train_gradient_boosting(session: Session) -> Outcome:
    """Train as many weak learners as the session's network has rounds."""
    classes = session.network.head.linear.out_features
    shrinkage = session.experiment.gradient_boosting.shrinkage
    return StagewiseTrainer(session, GradientBooster(session.train.labels, classes, shrinkage)).train()
