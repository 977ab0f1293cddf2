"""The multiclass mathematics against values computed by hand, exact fractions, and invariants."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from replication.boosting import multiclass as boosting


def test_the_first_cost_matrix_is_ones_and_one_minus_c_up_to_a_factor():
    costs = boosting.cost_matrix(torch.zeros(2, 3), torch.tensor([0, 2]))
    expected = torch.tensor([[-2.0, 1.0, 1.0], [1.0, 1.0, -2.0]], dtype=torch.float64) / 4
    torch.testing.assert_close(costs, expected)


def test_edge_of_the_first_round_by_hand():
    # Two examples, three classes, uniform costs: the edge is the mean of o(y) - o(l) over the four pairs.
    outputs = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], dtype=torch.float64)
    costs = boosting.cost_matrix(torch.zeros(2, 3), torch.tensor([0, 1]))
    by_hand = ((0.6 - 0.3) + (0.6 - 0.1) + (0.2 - 0.2) + (0.2 - 0.6)) / 4
    assert boosting.edge(costs, outputs) == pytest.approx(by_hand, abs=1e-15)


def test_two_rounds_by_hand():
    """Both rounds of two examples and two classes, replayed with plain float arithmetic from the algorithm's text."""
    labels = torch.tensor([0, 1])
    first = torch.tensor([[0.8, 0.2], [0.5, 0.5]], dtype=torch.float64)
    second = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    state = boosting.BoostingState(labels, num_classes=2)

    one = state.measure(first)
    # C_0: each row (wrong 1, right -1); edge = ((0.8 - 0.2) + (0.5 - 0.5)) / 2.
    assert one.edge == pytest.approx(0.3, abs=1e-15)
    assert one.weak_learning_gain == pytest.approx(0.09, abs=1e-15)
    assert one.gamma == pytest.approx(0.3, abs=1e-15)
    alpha_one = 0.5 * math.log(1.3 / 0.7)
    assert one.alpha == pytest.approx(alpha_one, abs=1e-15)
    assert one.bound == pytest.approx(math.sqrt(0.91), abs=1e-15)
    assert one.train_error == 0.5  # the tie of the second example goes to the first class, which is wrong
    state.advance(first, one)

    two = state.measure(second)
    wrong_one = math.exp(alpha_one * (0.2 - 0.8))  # C_1(1, 2) = exp(s(1, 2) - s(1, 1))
    wrong_two = math.exp(alpha_one * (0.5 - 0.5))
    edge = (wrong_one * (0.9 - 0.1) + wrong_two * (0.8 - 0.2)) / (wrong_one + wrong_two)
    gain = (edge**2 - 0.09) / (1 - 0.09)
    assert two.edge == pytest.approx(edge, abs=1e-15)
    assert two.gamma == pytest.approx(math.sqrt(gain), abs=1e-15)
    assert two.alpha == pytest.approx(0.5 * math.log((1 + edge) / (1 - edge)), abs=1e-14)
    assert two.bound == pytest.approx(math.sqrt(0.91 * (1 - gain)), abs=1e-15)
    assert two.train_error == 0.0
    # Covariance of exp(o_2(l) - o_2(y)) and exp(o_1(y) - o_1(l)) over the two pairs, under C_1.
    p, q = wrong_one / (wrong_one + wrong_two), wrong_two / (wrong_one + wrong_two)
    now, before = (math.exp(-0.8), math.exp(-0.6)), (math.exp(0.6), math.exp(0.0))
    mean_product = p * now[0] * before[0] + q * now[1] * before[1]
    product_of_means = (p * now[0] + q * now[1]) * (p * before[0] + q * before[1])
    assert two.covariance == pytest.approx(mean_product - product_of_means, abs=1e-15)
    state.advance(second, two)
    torch.testing.assert_close(state.scores, two.alpha * second, rtol=1e-14, atol=1e-14)


def test_the_bound_telescopes_to_the_last_edge():
    """Prod (1 - gain_t) = (1 - edge_T^2) / (1 - edge_0^2): exact in fractions, and so must ours be to rounding."""
    edges = [Fraction(0), Fraction(1, 5), Fraction(1, 3), Fraction(1, 4), Fraction(4, 5)]
    gains = [(b**2 - a**2) / (1 - a**2) for a, b in itertools.pairwise(edges)]
    product = math.prod(1 - gain for gain in gains)
    assert product == 1 - edges[-1] ** 2
    ours = boosting.error_bound([float(gain) for gain in gains], num_classes=4)
    assert ours == pytest.approx(3 * math.sqrt(1 - 0.8**2), abs=1e-15)


def test_gamma_keeps_the_sign_of_a_negative_gain():
    assert boosting.gamma(boosting.weak_learning_gain(0.3, 0.5)) == pytest.approx(-math.sqrt(0.16 / 0.75))


def test_gains_of_nearly_perfect_modules_still_telescope_and_none_are_invented():
    edges = [0.0, 0.9, 1 - 3e-7, 1 - 7e-8, 1 - 1e-9]
    gains = [boosting.weak_learning_gain(after, before) for before, after in itertools.pairwise(edges)]
    assert all(gain > 0 for gain in gains)
    assert boosting.error_bound(gains, num_classes=3) == pytest.approx(2 * math.sqrt(1 - edges[-1] ** 2), rel=1e-6)
    assert boosting.weak_learning_gain(1.0, 1.0) == 0.0


@pytest.mark.parametrize("edges", [(1.0, 0.0), (0.3, 1.0, 0.2), (1.0, 1.0, -0.1), (1.0,)])
def test_after_a_perfect_module_a_worse_one_loses_all_that_was_gained(edges):
    gains = [boosting.weak_learning_gain(after, before) for before, after in itertools.pairwise((0.0, *edges))]
    assert all(math.isfinite(gain) for gain in gains)
    assert boosting.error_bound(gains, num_classes=3) == pytest.approx(
        2 * math.sqrt(1 - edges[-1] ** 2), rel=1e-3, abs=1e-5
    )


def test_alpha_is_finite_for_a_perfect_module_and_odd():
    assert 14 < boosting.alpha(1.0) < 15
    assert boosting.alpha(-0.4) == -boosting.alpha(0.4)


@st.composite
def scores_and_labels(draw: st.DrawFn, magnitude: float = 50.0):
    examples, classes = draw(st.integers(1, 8)), draw(st.integers(2, 6))
    finite = st.floats(-magnitude, magnitude, allow_nan=False, width=32)
    scores = draw(arrays.arrays(np.float64, (examples, classes), elements=finite))
    labels = draw(arrays.arrays(np.int64, examples, elements=st.integers(0, classes - 1)))
    return torch.from_numpy(scores), torch.from_numpy(labels)


@given(scores_and_labels())
def test_costs_are_the_definition_up_to_one_factor(case):
    scores, labels = case
    exact = torch.exp(scores - scores.gather(1, labels[:, None]))
    exact.scatter_(1, labels[:, None], 0.0)
    total = exact.sum()
    exact.scatter_(1, labels[:, None], -exact.sum(1, keepdim=True))
    torch.testing.assert_close(boosting.cost_matrix(scores, labels), exact / total, rtol=1e-9, atol=1e-12)


@given(scores_and_labels(magnitude=1e6))
def test_nothing_overflows_and_edges_stay_within_one(case):
    scores, labels = case
    costs = boosting.cost_matrix(scores, labels)
    assert bool(costs.isfinite().all())
    torch.testing.assert_close(costs.sum(1), torch.zeros(len(labels)).double(), rtol=0, atol=1e-12)
    perfect = torch.nn.functional.one_hot(labels, scores.shape[1]).double()
    assert boosting.edge(costs, perfect) == pytest.approx(1.0)
    uniform = torch.full_like(scores, 1 / scores.shape[1])
    assert boosting.edge(costs, uniform) == pytest.approx(0.0, abs=1e-12)
    assert -1 - 1e-9 <= boosting.edge(costs, torch.softmax(scores, 1)) <= 1 + 1e-9


@given(st.lists(scores_and_labels(magnitude=5), min_size=1, max_size=1), st.integers(1, 5), st.integers(0, 2**16))
def test_scores_telescope_to_alpha_times_output(case, rounds, seed):
    """s_t = alpha_t o_t after any rounds, whatever the outputs: the h_t telescope (the released code's do not)."""
    (scores, labels) = case[0]
    generator = torch.Generator().manual_seed(seed)
    state = boosting.BoostingState(labels, scores.shape[1])
    for _ in range(rounds):
        outputs = torch.softmax(torch.randn(scores.shape, generator=generator).double() * 3, 1)
        state.advance(outputs, state.measure(outputs))
        torch.testing.assert_close(state.scores, state.alpha * state.outputs, rtol=1e-12, atol=1e-12)


@given(scores_and_labels(magnitude=8))
def test_exponential_loss_is_the_sum_over_wrong_labels(case):
    logits, labels = case
    loss = boosting.ExponentialLoss().double()
    nn.init.constant_(loss.log_alpha, math.log(1.7))
    outputs = torch.softmax(logits, 1)
    by_definition = sum(
        math.exp(1.7 * float(outputs[i, label] - outputs[i, labels[i]]))
        for i in range(len(labels))
        for label in range(logits.shape[1])
        if label != labels[i]
    ) / len(labels)
    assert loss(logits, labels).item() == pytest.approx(by_definition, rel=1e-6)


def test_exp_goes_on_as_its_tangent_where_float32_ends():
    exponents = torch.tensor([-3.0, 59.9, 60.0, 61.5, 1e4], requires_grad=True)
    values = boosting.finite_exp(exponents)
    values.sum().backward()
    exact = exponents.detach().clamp(max=60.0).exp()
    torch.testing.assert_close(values.detach(), exact * torch.tensor([1.0, 1.0, 1.0, 2.5, 9941.0]), rtol=1e-5, atol=0.0)
    torch.testing.assert_close(exponents.grad, exact, rtol=1e-5, atol=0.0)


def test_a_batch_that_is_wholly_wrong_has_the_gradient_of_exact_arithmetic_once_it_is_clamped():
    """The exponential of a mean cross-entropy of 1,000 is no float; its gradient's signs are what the clamp leaves."""
    logits = torch.tensor([[-1000.0, 0.0, -1.0], [0.0, -1000.0, -1.0]], requires_grad=True)
    loss = boosting.ExpCrossEntropyLoss()(logits, torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert torch.equal(logits.grad.clamp(-0.1, 0.1), 0.1 * torch.tensor([[-1.0, 1.0, 1.0], [1.0, -1.0, 1.0]]))


def test_exp_cross_entropy_is_the_geometric_mean_of_inverse_probabilities():
    probabilities = torch.tensor([[0.5, 0.5], [0.2, 0.8]], dtype=torch.float64)
    loss = boosting.ExpCrossEntropyLoss()(probabilities.log(), torch.tensor([0, 1]))
    assert float(loss) == pytest.approx(1 / math.sqrt(0.5 * 0.8))


def test_the_exponential_oracle_trains_its_own_alpha():
    loss = boosting.oracle_loss("exponential")
    assert loss.alpha.item() == 1.0
    loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0])).backward()
    gradient = next(iter(loss.parameters())).grad
    assert gradient is not None and float(gradient) < 0  # a larger alpha suits a correct module


@pytest.mark.parametrize(("log_alpha", "expected"), [(2.0, math.exp(2)), (5.0, 0.5 * math.log((2 - 1e-12) / 1e-12))])
def test_the_oracles_alpha_ends_at_that_of_a_perfect_module(log_alpha, expected):
    loss = boosting.ExponentialLoss()
    nn.init.constant_(loss.log_alpha, log_alpha)
    assert loss.alpha.item() == pytest.approx(expected, rel=1e-5)


def test_the_training_error_is_under_the_bound_where_the_covariance_half_holds():
    """Theorem 4.2 on a learner that truly boosts: outputs move towards the labels, equally fast for every example."""
    labels = torch.arange(40) % 4
    target = torch.nn.functional.one_hot(labels, 4).double()
    state = boosting.BoostingState(labels, 4)
    for strength in (0.1, 0.3, 0.6, 0.9, 0.99):
        outputs = strength * target + (1 - strength) / 4
        statistics = state.measure(outputs)
        assert statistics.covariance <= 1e-12
        assert statistics.gamma > 0
        assert statistics.train_error <= statistics.bound
        state.advance(outputs, statistics)
    assert state.measure(target).bound < 0.01
