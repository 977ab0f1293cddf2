"""Multiclass BoostResNet (Algorithms 3 and 4, appendix F): costs, edge, gamma, alpha, scores, bound, oracle losses.

Everything is computed in float64 from the outputs o_t (N, C) of the hypothesis modules. Only differences of scores
matter and only ratios of costs, so costs are kept normalised (their off-diagonal entries sum to one) and are computed
as a softmax: nothing overflows, however large alpha grows.
"""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor, nn

# Edges beyond it count as it: a perfect hypothesis module has edge 1, and its alpha = artanh(1) would be infinite.
EDGE_LIMIT = 1.0 - 1e-12
# Exponents not far beyond it would leave float32: from here on, losses follow exp's tangent.
_EXPONENT_LIMIT = 60.0


def cost_matrix(scores: Tensor, labels: Tensor) -> Tensor:
    """C_t(i, l) = exp(s(i, l) - s(i, y_i)) for l != y_i and minus the row's sum for l = y_i, divided by one total.

    Args:
        scores: s_t, (N, C).
        labels: y, (N,), int64.

    Returns:
        (N, C), float64; off-diagonal entries are the distribution that the edge is an expectation under. Scores of
        zero give
        C_0: ones off the diagonal and 1 - C on it, up to the common factor.
    """
    correct = labels[:, None]
    margins = scores.double() - scores.double().gather(1, correct)
    margins.scatter_(1, correct, -math.inf)
    costs = torch.softmax(margins.flatten(), 0).view_as(margins)
    return costs.scatter(1, correct, -costs.sum(1, keepdim=True))


def edge(costs: Tensor, outputs: Tensor) -> float:
    """Edge of a hypothesis module: - <C_t, o_{t+1}> / sum_i sum_{l != y_i} C_t(i, l), in [-1, 1].

    Args:
        costs: from `cost_matrix`, (N, C).
        outputs: o_{t+1}, class probabilities (N, C).
    """
    return -float((costs * outputs).sum())


def cut(module_edge: float) -> float:
    """The edge, within +-EDGE_LIMIT."""
    return max(-EDGE_LIMIT, min(EDGE_LIMIT, module_edge))


def weak_learning_gain(next_edge: float, previous_edge: float) -> float:
    """(edge_{t+1}^2 - edge_t^2) / (1 - edge_t^2) of edges cut at +-EDGE_LIMIT; the first half of Definition 4.1 asks
    for gamma^2 > 0 at least. Zero after a perfect module, if the next is perfect, too: there is nothing left to gain.
    """
    following, previous = cut(next_edge), cut(previous_edge)
    return (following**2 - previous**2) / (1.0 - previous**2)


def gamma(gain: float) -> float:
    """Square root of the gain, with the gain's sign where it is negative (as the authors' code has it)."""
    return math.copysign(math.sqrt(abs(gain)), gain)


def alpha(module_edge: float) -> float:
    """alpha_{t+1} = 1/2 ln((1 + edge_{t+1}) / (1 - edge_{t+1})), finite: edges are cut at +-EDGE_LIMIT."""
    return math.atanh(cut(module_edge))


def covariance(costs: Tensor, previous: Tensor, following: Tensor, labels: Tensor) -> float:
    """Second half of Definition 4.1, which asks that it be non-positive, for several classes.

    The binary condition is on the covariance of exp(-y o_{t+1}(x)) and exp(y o_t(x)). Our stated analogue over the
    pairs (i, l), l != y_i, puts o(i, y_i) - o(i, l) in the place of y o(x), under the distribution that the edge is
    measured under.

    Args:
        costs: from `cost_matrix` at the scores s_t, (N, C).
        previous, following: o_t and o_{t+1}, (N, C).
        labels: y, (N,).
    """
    weights = costs.scatter(1, labels[:, None], 0.0)
    now = torch.exp(-_margins(following, labels))
    before = torch.exp(_margins(previous, labels))
    now, before = now - (weights * now).sum(), before - (weights * before).sum()
    return float((weights * now * before).sum())


def _margins(outputs: Tensor, labels: Tensor) -> Tensor:
    """o(i, y_i) - o(i, l), (N, C), float64."""
    outputs = outputs.double()
    return outputs.gather(1, labels[:, None]) - outputs


def error_bound(gains: list[float], num_classes: int) -> float:
    """Theorem 4.2, multiclass: training error <= (C - 1) * prod_t sqrt(1 - gamma_t^2).

    It is a theorem only while both halves of Definition 4.1 hold; a negative gain enters as it is and raises the bound.
    It holds for edges cut at EDGE_LIMIT, too: with the alpha of a smaller edge, the loss is below that edge's bound.
    """
    return (num_classes - 1) * math.sqrt(math.prod(max(0.0, 1.0 - gain) for gain in gains))


@attrs.frozen
class RoundStatistics:
    """What a round of boosting measures on the training set."""

    edge: float
    gamma: float
    weak_learning_gain: float
    covariance: float
    alpha: float
    bound: float
    train_error: float


class BoostingState:
    """o_t, alpha_t, edge_t and s_t on the training set, from s_0 = 0, o_0 = 0, alpha_0 = 0 (Algorithm 3).

    Args:
        labels: y, (N,), int64.
        num_classes: C.
        initial_edge: edge_0; 0 in Algorithm 1, 0.5 in the authors' code.
    """

    def __init__(self, labels: Tensor, num_classes: int, initial_edge: float = 0.0) -> None:
        self.labels, self.num_classes = labels, num_classes
        self.scores = torch.zeros(len(labels), num_classes, dtype=torch.float64, device=labels.device)
        self.outputs = torch.zeros_like(self.scores)
        self.edge, self.alpha = initial_edge, 0.0
        self.gains: list[float] = []
        self._costs = cost_matrix(self.scores, labels)

    def measure(self, outputs: Tensor) -> RoundStatistics:
        """What the round would be with `outputs` = o_{t+1} (N, C); changes nothing."""
        outputs = outputs.double()
        module_edge = edge(self._costs, outputs)
        gain = weak_learning_gain(module_edge, self.edge)
        return RoundStatistics(
            edge=module_edge,
            gamma=gamma(gain),
            weak_learning_gain=gain,
            covariance=covariance(self._costs, self.outputs, outputs, self.labels),
            alpha=alpha(module_edge),
            bound=error_bound([*self.gains, gain], self.num_classes),
            train_error=float((outputs.argmax(1) != self.labels).double().mean()),
        )

    def advance(self, outputs: Tensor, statistics: RoundStatistics) -> None:
        """End the round: s_{t+1} = s_t + h_t with h_t = alpha_{t+1} o_{t+1} - alpha_t o_t (eq. 4), then C_{t+1}."""
        outputs = outputs.double()
        self.scores += module_classifier(outputs, statistics.alpha, self.outputs, self.alpha)
        self.outputs, self.alpha, self.edge = outputs, statistics.alpha, statistics.edge
        self.gains.append(statistics.weak_learning_gain)
        self._costs = cost_matrix(self.scores, self.labels)


def module_classifier(following: Tensor, following_alpha: float, previous: Tensor, previous_alpha: float) -> Tensor:
    """h_t = alpha_{t+1} o_{t+1} - alpha_t o_t (eq. 4), the weak module classifier, (N, C)."""
    return following_alpha * following - previous_alpha * previous


class ExponentialLoss(nn.Module):
    """Oracle of Algorithm 4: mean_i sum_{l != y_i} exp(a [o(i, l) - o(i, y_i)]), minimised over f, W and a > 0.

    The mean stands for the paper's sum (the same minimiser). a is trained as log a and only steers the oracle: the
    alpha of the boosted sum is the closed form in the edge. With steps of 0.001 it needs hundreds of updates to get
    anywhere; in short rounds it stays near its start. Every round's search starts at a = 1, not at the previous
    round's alpha: that one is small or negative after a round with little or no edge, where the loss is nearly linear
    in o and drives every probability to 0 or 1, and short rounds never get away from there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.zeros(()))

    @property
    def alpha(self) -> Tensor:
        """The oracle's own a, never beyond that of a perfect module."""
        return self.log_alpha.clamp(max=math.log(alpha(1.0))).exp()

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (N, C) and labels (N,) -> scalar."""
        outputs = torch.softmax(logits, 1)
        margins = outputs - outputs.gather(1, labels[:, None])
        # The sum over all l counts exp(0) = 1 for l = y_i.
        return torch.exp(self.alpha * margins).sum(1).mean() - 1.0


class ExpCrossEntropyLoss(nn.Module):
    """Oracle of the released code: exp(mean cross-entropy of the batch), on logits (the code applies softmax twice)."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (N, C) and labels (N,) -> scalar."""
        return finite_exp(nn.functional.cross_entropy(logits, labels))


def finite_exp(exponents: Tensor) -> Tensor:
    """exp, and beyond _EXPONENT_LIMIT its tangent there: what is badly wrong keeps a gradient, and a finite one. Of one
    exponent per batch, with every element clamped afterwards, as in the released code, that is the gradient of exp
    itself but for rounding; of several it is theirs as far as they are below the limit.
    """
    limited = exponents.clamp(max=_EXPONENT_LIMIT)
    tangent = math.exp(_EXPONENT_LIMIT) * (1.0 + exponents - _EXPONENT_LIMIT)
    return torch.where(exponents >= _EXPONENT_LIMIT, tangent, torch.exp(limited))


def oracle_loss(name: str) -> nn.Module:
    """The oracle's loss by its name in params.yaml."""
    return ExponentialLoss() if name == "exponential" else ExpCrossEntropyLoss()
