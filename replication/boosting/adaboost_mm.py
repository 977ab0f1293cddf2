"""AdaBoost.MM (Mukherjee & Schapire, JMLR 14, 2013), the paper's boosting baseline, in float64.

A weak classifier h_t: X -> {1..C} votes with weight alpha_t: f_t(i, l) = sum_{s <= t} alpha_s [h_s(x_i) = l]. Costs,
edge and alpha are those of multiclass BoostResNet with f_t in the place of s_t and a vote in the place of o_t.
"""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from replication.boosting.multiclass import alpha, cost_matrix, cut, edge, finite_exp


def votes(predictions: Tensor, num_classes: int) -> Tensor:
    """[h(x_i) = l]: classes (N,), int64 -> (N, C), float64."""
    return functional.one_hot(predictions, num_classes).double()


def error_bound(edges: list[float], num_classes: int) -> float:
    """Training error <= (C - 1) * prod_t sqrt(1 - edge_t^2), for any weak classifiers.

    With s(i, l) = f(i, l) - f(i, y_i), the sum of exp(s) over all i and l != y_i starts at N (C - 1), a round
    multiplies it by at most sqrt(1 - edge^2), and every error contributes at least one.
    """
    return (num_classes - 1) * math.prod(math.sqrt(1.0 - cut(value) ** 2) for value in edges)


@attrs.frozen
class RoundStatistics:
    """A round on the training set; `train_error` is that of f_t, all votes so far."""

    edge: float
    alpha: float
    bound: float
    train_error: float


class AdaBoostMM:
    """f_t and C_t on the training set, from f_0 = 0.

    Args:
        labels: y, (N,), int64.
        num_classes: C.
    """

    def __init__(self, labels: Tensor, num_classes: int) -> None:
        self.labels, self.num_classes = labels, num_classes
        self.scores = torch.zeros(len(labels), num_classes, dtype=torch.float64, device=labels.device)
        self.costs = cost_matrix(self.scores, labels)
        self.edges: list[float] = []

    def add(self, predictions: Tensor) -> RoundStatistics:
        """Let h_t, by its classes (N,) on the training set, vote with its alpha, and make the next costs.

        A classifier with a negative edge gets a negative weight, which lowers the loss as much as its opposite would.
        """
        vote = votes(predictions, self.num_classes)
        self.edges.append(edge(self.costs, vote))
        weight = alpha(self.edges[-1])
        self.scores += weight * vote
        self.costs = cost_matrix(self.scores, self.labels)
        return RoundStatistics(
            edge=self.edges[-1],
            alpha=weight,
            bound=error_bound(self.edges, self.num_classes),
            train_error=float((self.scores.argmax(1) != self.labels).double().mean()),
        )


class CostLoss(nn.Module):
    """Exponential surrogate of the cost: mean_i sum_{l != y_i} C(i, l) exp(z(i, l) - z(i, y_i)) of logits z.

    It bounds the cost of argmax z, weighs wrong classes as the costs do, and is the loss that the whole ensemble
    lowers, sum exp(f(i, l) - f(i, y_i)), at f_t + z. With costs whose off-diagonal entries sum to the number of
    examples it starts at one in every round.
    """

    def forward(self, logits: Tensor, costs: Tensor) -> Tensor:
        """Logits (B, C) and cost rows (B, C) -> scalar."""
        correct = costs.argmin(1, keepdim=True)  # the one entry that is not positive
        exponents = logits - logits.gather(1, correct)
        return (costs.clamp(min=0.0) * finite_exp(exponents)).sum(1).mean()  # at l = y_i the cost counts as zero
