"""AdaBoost.MM over the network's own kind of module: the paper's boosting baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from replication.boosting.adaboost_mm import AdaBoostMM, CostLoss
from replication.boosting.multiclass import oracle_loss
from replication.config import Experiment
from replication.training.outcome import Outcome
from replication.training.session import Session
from replication.training.stagewise import StagewiseTrainer


class AdaBoostMMBooster:
    """Weak learners on the cost matrix, which count by their class.

    How the paper trained them is not stated [?]: ours minimise the exponential surrogate of the cost. In digits
    runs that are not published it gave larger edges at equal updates than the expected cost under the softmax (0.39
    against 0.16 on average), whose gradients are small where the learner knows nothing yet. With thousands of updates
    it is the weaker choice: when the cost has gathered on a few images, most batches have none of those, and clamping
    cuts down the gradient of the others.
    """

    vote = True

    def __init__(self, labels: Tensor, num_classes: int) -> None:
        self.state = AdaBoostMM(labels, num_classes)

    def loss(self) -> nn.Module:
        return CostLoss()

    def targets(self) -> Tensor:
        """C_t, scaled so that its off-diagonal entries sum to the number of examples: losses of the order of one."""
        return (self.state.costs * len(self.state.labels)).float()

    def image_weights(self) -> Tensor | None:
        """All images alike: the costs are in the loss."""
        return None

    def add(self, outputs: Tensor) -> tuple[float, Mapping[str, Any]]:
        """Edge, alpha and bound of the vote argmax h_t."""
        round_ = self.state.add(outputs.argmax(1))
        columns = {
            "edge": round_.edge,
            "alpha": round_.alpha,
            "bound": round_.bound,
            "train_error": round_.train_error,
        }
        return round_.alpha, columns


class ResampledAdaBoostMMBooster(AdaBoostMMBooster):
    """AdaBoost.MM by resampling: a weak learner goes by BoostResNet's oracle loss, the one of the name `oracle`, on
    images drawn in proportion to their cost. Of the cost it sees how it is spread over the images and not, of one
    image, over the wrong classes; votes, edges, alphas and costs stay as they are.
    """

    def __init__(self, labels: Tensor, num_classes: int, oracle: str) -> None:
        super().__init__(labels, num_classes)
        self._oracle = oracle

    def loss(self) -> nn.Module:
        return oracle_loss(self._oracle)

    def targets(self) -> Tensor:
        """The labels."""
        return self.state.labels

    def image_weights(self) -> Tensor | None:
        """An image's costs together, sum_{l != y_i} C_t(i, l), scaled as above."""
        return super().targets().double().clamp(min=0.0).sum(1)


def adaboost_mm_booster(experiment: Experiment, labels: Tensor, num_classes: int) -> AdaBoostMMBooster:
    """The one that `weak_learners.adaboost_training` names, for labels (N,) of `num_classes`."""
    if experiment.weak_learners.adaboost_training == "resampled":
        return ResampledAdaBoostMMBooster(labels, num_classes, experiment.boostresnet.oracle_loss)
    return AdaBoostMMBooster(labels, num_classes)


def train_adaboost_mm(session: Session) -> Outcome:
    """Train as many weak learners as the session's network has rounds."""
    classes = session.network.head.linear.out_features
    return StagewiseTrainer(session, adaboost_mm_booster(session.experiment, session.train.labels, classes)).train()
