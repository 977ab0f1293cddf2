"""Gradient boosting in label space (Friedman 2001, section 4.6) for the multinomial deviance, -log softmax(F)_y in
nats, in float64.

F_t = F_{t-1} + shrinkage * step_t * h_t from F_0 = 0, where h_t: X -> R^C is fitted by least squares to the negative
gradient at F_{t-1} and the step is found by line search on the training set. One step for all classes and examples:
Friedman's own trees have a Newton step per leaf, for which a network has no counterpart.
"""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

# A direction that separates the training set has no best step: the search ends here, or before, where rounding hides
# that the slope is not zero yet.
STEP_LIMIT = 1024.0
_ITERATIONS = 100


def negative_gradient(scores: Tensor, labels: Tensor) -> Tensor:
    """[y_i = l] - softmax(F(x_i))_l, (N, C): minus the gradient of the summed deviance in F; rows sum to zero."""
    return functional.one_hot(labels, scores.shape[1]).double() - torch.softmax(scores.double(), 1)


def line_search(scores: Tensor, direction: Tensor, labels: Tensor) -> float:
    """The step a in [-STEP_LIMIT, STEP_LIMIT] that minimises the deviance of F + a h: convex in a.

    Newton's method inside a bracket of the derivative's sign; bisection wherever Newton leaves the bracket.

    Args:
        scores: F, (N, C).
        direction: h, (N, C).
        labels: y, (N,).
    """
    scores, direction = scores.double(), direction.double()
    target = direction.gather(1, labels[:, None]).squeeze(1)

    def derivatives(step: float) -> tuple[float, float]:
        p = torch.softmax(scores + step * direction, 1)
        mean = (p * direction).sum(1)
        return float((mean - target).mean()), float((p * (direction - mean[:, None]) ** 2).sum(1).mean())

    slope, curvature = derivatives(0.0)
    if slope == 0.0:
        return 0.0
    sign, near, far = -math.copysign(1.0, slope), 0.0, 1.0
    while derivatives(sign * far)[0] * sign < 0.0:
        if far >= STEP_LIMIT:
            return sign * STEP_LIMIT
        near, far = far, 2.0 * far
    low, high = sorted((sign * near, sign * far))
    step = sign * near
    slope, curvature = derivatives(step)
    for _ in range(_ITERATIONS):
        newton = step - slope / curvature if curvature > 0.0 else math.nan
        if abs(newton - step) <= 1e-12 * max(1.0, abs(step)):
            return newton
        step = newton if low < newton < high else (low + high) / 2.0
        slope, curvature = derivatives(step)
        low, high = (step, high) if slope < 0.0 else (low, step)
    return step


@attrs.frozen
class RoundStatistics:
    """A round on the training set; `train_error` is that of F_t."""

    step: float
    weight: float
    train_error: float


class GradientBoosting:
    """F_t on the training set.

    Args:
        labels: y, (N,), int64.
        num_classes: C.
        shrinkage: what remains of every step, in (0, 1].
    """

    def __init__(self, labels: Tensor, num_classes: int, shrinkage: float) -> None:
        self.labels, self.shrinkage = labels, shrinkage
        self.scores = torch.zeros(len(labels), num_classes, dtype=torch.float64, device=labels.device)

    @property
    def residuals(self) -> Tensor:
        """What the next h_t is fitted to, (N, C)."""
        return negative_gradient(self.scores, self.labels)

    def add(self, outputs: Tensor) -> RoundStatistics:
        """Add h_t, by its outputs (N, C) on the training set, with the shrunken best step."""
        outputs = outputs.double()
        step = line_search(self.scores, outputs, self.labels)
        self.scores += self.shrinkage * step * outputs
        return RoundStatistics(
            step=step,
            weight=self.shrinkage * step,
            train_error=float((self.scores.argmax(1) != self.labels).double().mean()),
        )


class SquaredLoss(nn.Module):
    """Least squares: mean_i sum_l (h(x_i)_l - r(i, l))^2."""

    def forward(self, outputs: Tensor, residuals: Tensor) -> Tensor:
        """Outputs (B, C) and negative gradients (B, C) -> scalar."""
        return ((outputs - residuals) ** 2).sum(1).mean()
