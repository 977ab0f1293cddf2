"""The step of Theorem 4.2's proof from one round's loss to the next, and which covariance it needs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from replication.boosting.binary import BinaryBoosting, covariance
from replication.boosting.multiclass import BoostingState, alpha, cost_matrix, edge


def _exponential_loss(scores: Tensor, labels: Tensor) -> float:
    """Mean of sum_{l != y} exp(s(x, l) - s(x, y)); the sum over all l has one for l = y."""
    return float(torch.exp(scores - scores.gather(1, labels[:, None])).sum(1).mean()) - 1


@pytest.mark.parametrize("classes", [2, 5])
def test_the_step_from_loss_to_loss(classes: int) -> None:
    """L_{t+1} = (C-1) E[A] + L_t Cov(A, B) under D_t, and E[A] <= sqrt(1 - edge^2), whatever the modules are."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (40,), generator=generator)
    first, second = (
        torch.softmax(torch.randn(40, classes, generator=generator).double() + torch.eye(classes).double()[labels], 1)
        for _ in range(2)
    )
    state = BoostingState(labels, classes)
    state.advance(first, state.measure(first))
    costs = cost_matrix(state.scores, labels)
    weights = costs.scatter(1, labels[:, None], 0.0)
    following = alpha(edge(costs, second))
    a = torch.exp(-following * (second.gather(1, labels[:, None]) - second))
    b = torch.exp(state.alpha * (first.gather(1, labels[:, None]) - first))
    loss = _exponential_loss(state.scores, labels)
    assert float((weights * b).sum()) == pytest.approx((classes - 1) / loss)
    mean = float((weights * a).sum())
    spread = float((weights * a * b).sum()) - mean * float((weights * b).sum())
    next_loss = _exponential_loss(following * second, labels)
    assert next_loss == pytest.approx((classes - 1) * mean + loss * spread)
    assert mean <= math.sqrt(1 - edge(costs, second) ** 2)


def test_the_definition_as_printed_does_not_give_the_bound() -> None:
    """The four examples of the article: Definition 4.1 holds in both rounds, and the loss is above the bound."""
    labels = torch.ones(4, dtype=torch.int64)  # y = +1, so that outputs are y o(x)
    first = torch.tensor([0.5759, 0.3286, -0.7379, 0.8592]).double()
    second = torch.tensor([0.9872, -0.9848, 0.9467, 0.9664]).double()
    boosting = BinaryBoosting(labels)
    opening = boosting.measure(first)
    boosting.advance(first, opening)
    closing = boosting.measure(second)
    assert opening.gamma > 0 and closing.gamma > 0
    assert opening.covariance <= 1e-12 and closing.covariance == pytest.approx(-0.0037, abs=5e-5)
    loss = float(torch.exp(-closing.alpha * second).mean())
    assert loss > closing.bound
    assert (loss, closing.bound) == (pytest.approx(0.87050, abs=5e-6), pytest.approx(0.87039, abs=5e-6))
    with_alphas = covariance(boosting.weights, boosting.y, opening.alpha * first, closing.alpha * second)
    assert with_alphas == pytest.approx(0.0086, abs=5e-5)
    assert closing.train_error == 0.25
