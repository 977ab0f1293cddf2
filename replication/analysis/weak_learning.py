"""The weak learning condition (Definition 4.1), both halves per block with bootstrap intervals, and Theorem 4.2's bound
in its three forms beside the training error.

The condition's second half is on a covariance without alphas; the proof of Theorem 4.2 needs it with them. Write
m_t(i, l) = o_t(i, y_i) - o_t(i, l), which is y_i o_t(x_i) for two classes, L_t for the exponential loss of
s_t = alpha_t o_t, and D_t for the normalised costs at s_t: weights exp(-alpha_t m_t) over all pairs l != y_i. With
A = exp(-alpha_{t+1} m_{t+1}) and B = exp(alpha_t m_t), E_{D_t}[B] = (C - 1) / L_t and L_{t+1} = L_t E_{D_t}[A B]:

    L_{t+1} = (C - 1) E_{D_t}[A] + L_t Cov_{D_t}(A, B)
           <= (C - 1) (cosh alpha_{t+1} - edge_{t+1} sinh alpha_{t+1}) + L_t Cov_{D_t}(A, B),

because exp is convex and |m| <= 1. The step is covered where Cov_{D_t}(A, B), the `proof_covariance`, is not positive;
Definition 4.1's covariance has ones for both alphas, and may have the other sign. Nothing overflows in float64: alpha
is cut near 14.2, so that A B stays below e^29 for probabilities (e^57 were margins up to 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from replication.boosting.multiclass import (
    EDGE_LIMIT,
    cost_matrix,
    covariance,
    edge,
    error_bound,
    gamma,
    weak_learning_gain,
)
from replication.rounding import ROUNDING

_CHUNK = 1 << 24  # resampling weights held at a time
_LEVELS = (0.025, 0.975)

COLUMNS = (
    "block", "module", "train_error", "exponential_loss", "bound_product", "bound_telescoped", "bound_exponential",
    "edge", "gamma", "gamma_low", "gamma_high", "covariance", "covariance_low", "covariance_high",
    "proof_covariance", "proof_covariance_low", "proof_covariance_high",
    "gain_positive", "covariance_nonpositive", "proof_covariance_nonpositive", "bound_holds",
)  # fmt: skip


def telescoped_bound(last_edge: float, last_alpha: float, num_classes: int) -> float:
    """(C - 1) (cosh alpha_T - edge_T sinh alpha_T): what the product of sqrt(1 - gamma_t^2) telescopes to.

    At alpha = artanh(edge) it is (C - 1) sqrt(1 - edge^2); beyond EDGE_LIMIT, where the product has the limit in the
    edge's place, it lies between half of the product and all of it. The
    initial edge does not enter: no step of the proof uses it, and in the product it is a factor
    1 / sqrt(1 - edge_0^2) >= 1.
    """
    # Without the difference of two large numbers that cosh and sinh are.
    return (
        (num_classes - 1) * ((1.0 - last_edge) * math.exp(last_alpha) + (1.0 + last_edge) * math.exp(-last_alpha)) / 2.0
    )


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
    previous, previous_alpha, previous_edge = None, 0.0, initial_edge
    for block, (output, alpha, name) in enumerate(zip(outputs, alphas, names, strict=True)):
        output = output.double()
        if previous is None:
            previous = torch.zeros_like(output)
        # s_t = alpha_t o_t, by telescoping.
        before, scores = previous_alpha * previous, alpha * output
        costs = cost_matrix(before, labels)
        module_edge = edge(costs, output)
        gains.append(weak_learning_gain(module_edge, previous_edge))
        gammas.append(gamma(gains[-1]))
        module_covariance = covariance(costs, previous, output, labels)
        proof_covariance = covariance(costs, before, scores, labels)
        terms.append(example_terms(costs, (previous, output), (before, scores), labels))
        classes = output.shape[1]
        error = float((output.argmax(1) != labels).double().mean())
        bound = error_bound(gains, classes)
        rows.append({
            "block": block, "module": name, "train_error": error, "exponential_loss": exponential_loss(scores, labels),
            "bound_product": bound, "bound_telescoped": telescoped_bound(module_edge, alpha, classes),
            "bound_exponential": exponential_bound(gammas, classes), "edge": module_edge, "gamma": gammas[-1],
            "covariance": module_covariance, "proof_covariance": proof_covariance, "gain_positive": gains[-1] > 0,
            "covariance_nonpositive": module_covariance <= ROUNDING,
            "proof_covariance_nonpositive": proof_covariance <= ROUNDING, "bound_holds": error <= bound,
        })  # fmt: skip
        previous, previous_alpha, previous_edge = output, alpha, module_edge
    for row, interval in zip(rows, bootstrap_intervals(terms, initial_edge, resamples, rng), strict=True):
        row.update(interval)
    return rows


def example_terms(
    costs: Tensor, outputs: tuple[Tensor, Tensor], scores: tuple[Tensor, Tensor], labels: Tensor
) -> Tensor:
    """What each example adds to the sums that edge and covariances are made of, (N, 8), float64.

    Columns: its total cost; its part of the edge's numerator; and, with a = exp(-(o_{t+1}(y) - o_{t+1}(l))) and
    b = exp(o_t(y) - o_t(l)) under the costs of its pairs (i, l != y_i), the sums of a, b and a b; the same three with
    scores s = alpha o in the place of outputs o.

    Args:
        costs: from `cost_matrix` at s_t, (N, C).
        outputs: o_t and o_{t+1}, (N, C) each.
        scores: s_t and s_{t+1}, (N, C) each.
        labels: y, (N,).
    """
    correct = labels[:, None]
    weights = costs.scatter(1, correct, 0.0)
    columns = [weights, -costs * outputs[1]]
    for previous, following in (outputs, scores):
        a = torch.exp(following - following.gather(1, correct))
        b = torch.exp(previous.gather(1, correct) - previous)
        columns += [weights * a, weights * b, weights * a * b]
    return torch.stack([column.sum(1) for column in columns], dim=1)


def bootstrap_intervals(
    terms: Sequence[Tensor], initial_edge: float, resamples: int, rng: np.random.Generator
) -> list[dict[str, float]]:
    """Per round NAME_low and NAME_high of gamma, covariance and proof_covariance from each round's `example_terms`."""
    table = torch.cat(list(terms), dim=1)  # (N, 8 T)
    size = len(table)
    sums = []
    for start in range(0, resamples, max(1, _CHUNK // size)):
        number = min(max(1, _CHUNK // size), resamples - start)
        # How often each example is drawn: a resampled sum is then a product of matrices.
        counts = np.stack([np.bincount(rng.integers(size, size=size), minlength=size) for _ in range(number)])
        sums.append((torch.from_numpy(counts).to(table) @ table).cpu())
    total = torch.cat(sums).view(resamples, len(terms), 8).numpy()
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may miss every example that has weight
        share = total[:, :, 1:] / total[:, :, :1]
    edges = share[:, :, 0]
    before = np.concatenate([np.full((resamples, 1), initial_edge), edges[:, :-1]], axis=1)
    with np.errstate(invalid="ignore"):
        before, after = (np.clip(each, -EDGE_LIMIT, EDGE_LIMIT) for each in (before, edges))
        gains = (after**2 - before**2) / (1.0 - before**2)
    quantities = {
        "gamma": np.sign(gains) * np.sqrt(np.abs(gains)),
        "covariance": share[:, :, 3] - share[:, :, 1] * share[:, :, 2],
        "proof_covariance": share[:, :, 6] - share[:, :, 4] * share[:, :, 5],
    }
    intervals: list[dict[str, float]] = [{} for _ in terms]
    for name, values in quantities.items():
        for end, of_rounds in zip(("low", "high"), np.nanquantile(values, _LEVELS, axis=0).tolist(), strict=True):
            for interval, value in zip(intervals, of_rounds, strict=True):
                interval[f"{name}_{end}"] = value
    return intervals
