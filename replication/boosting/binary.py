"""Binary BoostResNet (Algorithms 1 and 2): weights, edge, gamma, alpha, covariance, bound and oracle loss, in float64.

Labels are y = -1 and +1. A hypothesis module is a number o_t(x) in [-1, 1], as the analysis asks; the paper's
o_t(x) = w_t^T g_t(x) is not bounded by itself. Ours is p_+(x) - p_-(x) of a classifier with two logits, the hyperbolic
tangent of half their difference: so the networks are the same as for more classes, and this file is the multiclass
mathematics at C = 2, written down independently from Definition 4.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from replication.boosting import multiclass
from replication.boosting.multiclass import RoundStatistics, alpha, gamma, weak_learning_gain


def signs(labels: Tensor) -> Tensor:
    """Classes 0 and 1, (N,), int64 -> y = -1 and +1, float64."""
    return 2.0 * labels.double() - 1.0


def module_output(logits: Tensor) -> Tensor:
    """o(x) = p_+(x) - p_-(x) = tanh((z_+ - z_-) / 2), (N, 2) -> (N,), in [-1, 1]."""
    return torch.tanh((logits[:, 1] - logits[:, 0]) / 2.0)


def next_weights(weights: Tensor, y: Tensor, classifier: Tensor) -> Tensor:
    """D_{t+1}(i), proportional to D_t(i) exp(-y_i h_t(x_i)) and summing to one, (N,)."""
    exponents = -y * classifier
    grown = weights * torch.exp(exponents - exponents.max())
    return grown / grown.sum()


def edge(weights: Tensor, y: Tensor, outputs: Tensor) -> float:
    """E_{i ~ D_t}[y_i o_{t+1}(x_i)], in [-1, 1]."""
    return float((weights * y * outputs).sum())


def covariance(weights: Tensor, y: Tensor, previous: Tensor, following: Tensor) -> float:
    """Covariance of exp(-y o_{t+1}(x)) and exp(y o_t(x)) under D_t; Definition 4.1 asks that it be non-positive."""
    now, before = torch.exp(-y * following), torch.exp(y * previous)
    now, before = now - (weights * now).sum(), before - (weights * before).sum()
    return float((weights * now * before).sum())


def error_bound(gains: list[float]) -> float:
    """Theorem 4.2: training error <= prod_t sqrt(1 - gamma_t^2), while both halves of Definition 4.1 hold."""
    return math.prod(math.sqrt(max(0.0, 1.0 - gain)) for gain in gains)


class BinaryBoosting:
    """o_t, alpha_t, edge_t and D_t on the training set, from o_0 = 0, alpha_0 = 0, D_0 = 1/m (Algorithm 1).

    Args:
        labels: (N,), int64, 0 for y = -1 and 1 for y = +1.
        initial_edge: edge_0; 0 in Algorithm 1.
    """

    def __init__(self, labels: Tensor, initial_edge: float = 0.0) -> None:
        self.y = signs(labels)
        self.weights = torch.full_like(self.y, 1.0 / len(self.y))
        self.outputs = torch.zeros_like(self.y)
        self.edge, self.alpha = initial_edge, 0.0
        self.gains: list[float] = []

    def measure(self, outputs: Tensor) -> RoundStatistics:
        """What the round would be with `outputs` = o_{t+1} (N,); changes nothing."""
        outputs = outputs.double()
        module_edge = edge(self.weights, self.y, outputs)
        gain = weak_learning_gain(module_edge, self.edge)
        return RoundStatistics(
            edge=module_edge,
            gamma=gamma(gain),
            weak_learning_gain=gain,
            covariance=covariance(self.weights, self.y, self.outputs, outputs),
            alpha=alpha(module_edge),
            bound=error_bound([*self.gains, gain]),
            # As argmax has it: where both classes are equally likely the first, y = -1, is the prediction.
            train_error=float(((outputs > 0) != (self.y > 0)).double().mean()),
        )

    def advance(self, outputs: Tensor, statistics: RoundStatistics) -> None:
        """End the round: D_{t+1} from h_t = alpha_{t+1} o_{t+1} - alpha_t o_t (eq. 4)."""
        outputs = outputs.double()
        classifier = multiclass.module_classifier(outputs, statistics.alpha, self.outputs, self.alpha)
        self.weights = next_weights(self.weights, self.y, classifier)
        self.outputs, self.alpha, self.edge = outputs, statistics.alpha, statistics.edge
        self.gains.append(statistics.weak_learning_gain)


class ExponentialLoss(multiclass.ExponentialLoss):
    """Oracle of Algorithm 2 in the form of eq. 6: mean_i exp(-y_i a o(x_i)), minimised over f, w and a > 0."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, 2) and labels 0 or 1 (B,) -> scalar."""
        y = 2.0 * labels.to(logits.dtype) - 1.0
        return torch.exp(-self.alpha * y * module_output(logits)).mean()
