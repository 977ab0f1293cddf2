"""The weak learning condition (Definition 4.1), both halves per block with bootstrap intervals, and Theorem 4.2's bound
in its three forms beside the training error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from replication.boosting.multiclass import (
    cost_matrix,
    covariance,
    edge,
    error_bound,
    gamma,
    weak_learning_gain,
)

#: What a covariance of order one may be off by in float64; in the first round it is zero up to that.
ROUNDING = 1e-12
_CHUNK = 1 << 24  # resampling weights held at a time
_LEVELS = (0.025, 0.975)

COLUMNS = (
    "block", "module", "train_error", "exponential_loss", "bound_product", "bound_telescoped", "bound_exponential",
    "edge", "gamma", "gamma_low", "gamma_high", "covariance", "covariance_low", "covariance_high",
    "gain_positive", "covariance_nonpositive", "bound_holds",
)  # fmt: skip


def telescoped_bound(last_edge: float, initial_edge: float, num_classes: int) -> float:
    """(C - 1) sqrt((1 - edge_T^2) / (1 - edge_0^2)): what the product of sqrt(1 - gamma_t^2) telescopes to."""
    return (num_classes - 1) * math.sqrt(max(0.0, 1.0 - last_edge**2) / (1.0 - initial_edge**2))


def exponential_bound(gammas: Sequence[float], num_classes: int) -> float:
    """(C - 1) exp(-T gamma_min^2 / 2) over the T rounds so far.

    The theorem asks for gamma_t >= gamma > 0 in every round; where the smallest is not positive only C - 1 remains.
    """
    return (num_classes - 1) * math.exp(-len(gammas) * max(0.0, min(gammas)) ** 2 / 2)


def exponential_loss(scores: Tensor, labels: Tensor) -> float:
    """Mean over i of sum_{l != y_i} exp(s(i, l) - s(i, y_i)): above the training error whatever was learned.

    The theorem bounds this quantity, and the error through it.
    """
    correct = labels[:, None]
    differences = scores.double() - scores.double().gather(1, correct)
    return float(differences.exp().sum(1).mean()) - 1.0


def weak_learning_rows(
    outputs: Iterable[Tensor],
    alphas: Sequence[float],
    names: Sequence[str],
    labels: Tensor,
    *,
    initial_edge: float,
    resamples: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """One row of COLUMNS per round.

    The intervals are percentile bootstrap intervals (95 %) over training examples: the hypothesis modules and the cost
    matrices stay as they are, and every expectation is taken over the resampled examples, the previous round's edge
    over the same ones as this round's. They speak of the sample of images, not of the randomness of training.

    Args:
        outputs: o_1, o_2, ... on the training split, (N, C) each.
        alphas: alpha_1, alpha_2, ...
        names: of the modules.
        labels: y, (N,).
        initial_edge: edge_0.
        resamples: number of bootstrap resamples.
        rng: draws them.
    """
    rows: list[dict[str, Any]] = []
    terms: list[Tensor] = []
    gains: list[float] = []
    gammas: list[float] = []
    scores, previous, previous_edge = None, None, initial_edge
    for block, (output, alpha, name) in enumerate(zip(outputs, alphas, names, strict=True)):
        output = output.double()
        if scores is None or previous is None:
            scores = previous = torch.zeros_like(output)
        costs = cost_matrix(scores, labels)
        module_edge = edge(costs, output)
        gains.append(weak_learning_gain(module_edge, previous_edge))
        gammas.append(gamma(gains[-1]))
        module_covariance = covariance(costs, previous, output, labels)
        terms.append(example_terms(costs, previous, output, labels))
        classes = output.shape[1]
        scores = alpha * output  # s_t = alpha_t o_t, by telescoping
        error = float((output.argmax(1) != labels).double().mean())
        bound = error_bound(gains, classes)
        rows.append({
            "block": block, "module": name, "train_error": error, "exponential_loss": exponential_loss(scores, labels),
            "bound_product": bound, "bound_telescoped": telescoped_bound(module_edge, initial_edge, classes),
            "bound_exponential": exponential_bound(gammas, classes), "edge": module_edge, "gamma": gammas[-1],
            "covariance": module_covariance, "gain_positive": gains[-1] > 0,
            "covariance_nonpositive": module_covariance <= ROUNDING, "bound_holds": error <= bound,
        })  # fmt: skip
        previous, previous_edge = output, module_edge
    for row, interval in zip(rows, bootstrap_intervals(terms, initial_edge, resamples, rng), strict=True):
        row.update(interval)
    return rows


def example_terms(costs: Tensor, previous: Tensor, following: Tensor, labels: Tensor) -> Tensor:
    """What each example adds to the sums that edge and covariance are made of, (N, 5), float64.

    Columns: its total cost; its part of the edge's numerator; and, with a = exp(-(o_{t+1}(y) - o_{t+1}(l))) and
    b = exp(o_t(y) - o_t(l)) under the costs of its pairs (i, l != y_i), the sums of a, b and a b.
    """
    correct = labels[:, None]
    weights = costs.scatter(1, correct, 0.0)
    a = torch.exp(following - following.gather(1, correct))
    b = torch.exp(previous.gather(1, correct) - previous)
    columns = (weights, -costs * following, weights * a, weights * b, weights * a * b)
    return torch.stack([column.sum(1) for column in columns], dim=1)


def bootstrap_intervals(
    terms: Sequence[Tensor], initial_edge: float, resamples: int, rng: np.random.Generator
) -> list[dict[str, float]]:
    """Per round gamma_low, gamma_high, covariance_low and covariance_high from each round's `example_terms`."""
    table = torch.cat(list(terms), dim=1)  # (N, 5 T)
    size = len(table)
    sums = []
    for start in range(0, resamples, max(1, _CHUNK // size)):
        number = min(max(1, _CHUNK // size), resamples - start)
        # How often each example is drawn: a resampled sum is then a product of matrices.
        counts = np.stack([np.bincount(rng.integers(size, size=size), minlength=size) for _ in range(number)])
        sums.append((torch.from_numpy(counts).to(table) @ table).cpu())
    total = torch.cat(sums).view(resamples, len(terms), 5).numpy()
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may miss every example that has weight
        share = total[:, :, 1:] / total[:, :, :1]
    edges, mean_a, mean_b, mean_ab = (share[:, :, column] for column in range(4))
    before = np.concatenate([np.full((resamples, 1), initial_edge), edges[:, :-1]], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        left = 1.0 - before**2
        gains = np.where(left > 0, (edges**2 - before**2) / left, 0.0)
    gammas, covariances = np.sign(gains) * np.sqrt(np.abs(gains)), mean_ab - mean_a * mean_b
    return [
        {
            "gamma_low": gamma_low, "gamma_high": gamma_high,
            "covariance_low": covariance_low, "covariance_high": covariance_high,
        }
        for gamma_low, gamma_high, covariance_low, covariance_high in zip(
            *np.nanquantile(gammas, _LEVELS, axis=0).tolist(),
            *np.nanquantile(covariances, _LEVELS, axis=0).tolist(),
            strict=True,
        )
    ]  # fmt: skip
