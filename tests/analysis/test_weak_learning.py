"""Bounds by hand, and the bootstrap against distributions that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from replication.analysis import weak_learning
from replication.analysis.sampling import draws
from replication.boosting.binary import BinaryBoosting
from replication.boosting.multiclass import BoostingState, alpha, cost_matrix, covariance, edge


def outputs_of(seed: int, examples: int, classes: int, rounds: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Class probabilities that improve from round to round."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (examples,), generator=generator)
    noise = torch.randn(rounds, examples, classes, generator=generator, dtype=torch.float64)
    target = torch.nn.functional.one_hot(labels, classes).double()
    return [torch.softmax(noise[t] + (t + 1) * target, 1) for t in range(rounds)], labels


def rows_of(outputs, labels, resamples=50, initial_edge=0.0):
    state, alphas = BoostingState(labels, outputs[0].shape[1], initial_edge), []
    expected = []
    for output in outputs:
        statistics = state.measure(output)
        state.advance(output, statistics)
        alphas.append(statistics.alpha)
        expected.append(statistics)
    names = [f"block{index}" for index in range(len(outputs))]
    rows = weak_learning.weak_learning_rows(
        outputs, alphas, names, labels, initial_edge=initial_edge, resamples=resamples, rng=draws(0, "bootstrap")
    )
    return rows, expected


def test_the_bounds_by_hand():
    assert weak_learning.telescoped_bound(0.8, 0.0, 10) == pytest.approx(9 * 0.6)
    assert weak_learning.telescoped_bound(0.8, 0.6, 2) == pytest.approx(0.75)
    assert weak_learning.telescoped_bound(1.0, 0.0, 10) == 0.0
    assert weak_learning.exponential_bound([0.5, 0.4], 10) == pytest.approx(9 * math.exp(-0.16))
    assert weak_learning.exponential_bound([0.5, -0.4], 3) == 2.0
    scores = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    by_hand = (math.e + math.e**2 + 2 * math.exp(-3)) / 2
    assert weak_learning.exponential_loss(scores, torch.tensor([0, 0])) == pytest.approx(by_hand)


@pytest.mark.parametrize("initial_edge", [0.0, 0.5])
def test_rows_repeat_what_boosting_measured(initial_edge):
    rows, expected = rows_of(*outputs_of(0, 200, 4, 3), initial_edge=initial_edge)
    for row, statistics in zip(rows, expected, strict=True):
        for key in ("edge", "gamma", "covariance", "train_error"):
            assert row[key] == pytest.approx(getattr(statistics, key), rel=1e-9, abs=1e-15), key
        assert row["bound_product"] == pytest.approx(statistics.bound)
        assert row["gain_positive"] == (statistics.gamma > 0)
        assert row["train_error"] <= row["exponential_loss"]
        assert row["bound_telescoped"] == pytest.approx(row["bound_product"])
        if all(earlier.gamma > 0 for earlier in expected):
            assert row["bound_exponential"] >= row["bound_product"] - 1e-12
        assert row["gamma_low"] <= row["gamma"] <= row["gamma_high"]
    assert tuple(rows[0]) and set(rows[0]) == set(weak_learning.COLUMNS)


def test_for_two_classes_it_is_the_binary_condition():
    outputs, labels = outputs_of(1, 150, 2, 3)
    rows, _ = rows_of(outputs, labels)
    state = BinaryBoosting(labels)
    for row, output in zip(rows, outputs, strict=True):
        statistics = state.measure(output[:, 1] - output[:, 0])
        state.advance(output[:, 1] - output[:, 0], statistics)
        assert row["gamma"] == pytest.approx(statistics.gamma, rel=1e-9)
        assert row["covariance"] == pytest.approx(statistics.covariance, rel=1e-6, abs=1e-15)


def test_example_terms_add_up_to_edge_and_covariance():
    (first, second), labels = outputs_of(2, 60, 5, 2)
    costs = cost_matrix(alpha(0.4) * first, labels)
    total, numerator, a, b, ab = weak_learning.example_terms(costs, first, second, labels).sum(0).tolist()
    assert total == pytest.approx(1.0)
    assert numerator == pytest.approx(edge(costs, second))
    assert ab - a * b == pytest.approx(covariance(costs, first, second, labels), abs=1e-15)


def test_bootstrap_intervals_of_a_mean_are_those_of_the_normal_approximation():
    rng = np.random.default_rng(0)
    edges = torch.from_numpy(rng.normal(0.5, 0.3, size=2000))
    one = torch.ones_like(edges)
    terms = torch.stack([one, edges, one, one, one], dim=1)
    (interval,) = weak_learning.bootstrap_intervals([terms], 0.0, 2000, np.random.default_rng(1))
    # From edge 0 gamma is the edge itself: its mean +- 1.96 standard errors.
    error = 1.96 * float(edges.std()) / math.sqrt(len(edges))
    assert interval["gamma_low"] == pytest.approx(float(edges.mean()) - error, abs=0.1 * error)
    assert interval["gamma_high"] == pytest.approx(float(edges.mean()) + error, abs=0.1 * error)


def test_bootstrap_in_chunks_and_with_weight_on_one_example(monkeypatch):
    terms = torch.rand(30, 5, dtype=torch.float64)
    whole = weak_learning.bootstrap_intervals([terms], 0.0, 20, np.random.default_rng(0))
    monkeypatch.setattr(weak_learning, "_CHUNK", 90)
    assert weak_learning.bootstrap_intervals([terms], 0.0, 20, np.random.default_rng(0)) == [
        {key: pytest.approx(value) for key, value in whole[0].items()}
    ]
    terms[1:, 0] = 0.0  # a resample without the first example has nothing to divide by
    terms[1:, 1:] = 0.0
    (interval,) = weak_learning.bootstrap_intervals([terms], 0.0, 20, np.random.default_rng(0))
    assert all(math.isfinite(value) for value in interval.values())
