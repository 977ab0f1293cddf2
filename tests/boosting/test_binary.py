"""Binary BoostResNet: two rounds by hand, telescoping, AdaBoost's weights, and the multiclass mathematics at C = 2."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from replication.boosting import binary, multiclass


def test_two_rounds_by_hand():
    """Three examples, replayed with plain float arithmetic from Algorithm 1 and Definition 4.1."""
    state = binary.BinaryBoosting(torch.tensor([1, 0, 1]))
    y, first, second = (1, -1, 1), (0.6, -0.4, -0.1), (0.8, -0.5, 0.3)

    one = state.measure(torch.tensor(first, dtype=torch.float64))
    edge_one = (0.6 + 0.4 - 0.1) / 3
    alpha_one = 0.5 * math.log((1 + edge_one) / (1 - edge_one))
    assert one.edge == pytest.approx(edge_one, abs=1e-15)
    assert one.gamma == pytest.approx(edge_one, abs=1e-15)  # from edge_0 = 0
    assert one.alpha == pytest.approx(alpha_one, abs=1e-15)
    assert one.covariance == pytest.approx(0.0, abs=1e-15)  # exp(y o_0) = 1 does not vary
    assert one.bound == pytest.approx(math.sqrt(1 - edge_one**2), abs=1e-15)
    assert one.train_error == pytest.approx(1 / 3)
    state.advance(torch.tensor(first, dtype=torch.float64), one)

    # h_0 = alpha_1 o_1, for alpha_0 = 0.
    grown = [math.exp(-label * alpha_one * o) for label, o in zip(y, first, strict=True)]
    weights = [g / sum(grown) for g in grown]
    torch.testing.assert_close(state.weights, torch.tensor(weights, dtype=torch.float64), rtol=1e-14, atol=0)

    two = state.measure(torch.tensor(second, dtype=torch.float64))
    edge_two = sum(d * label * o for d, label, o in zip(weights, y, second, strict=True))
    gain = (edge_two**2 - edge_one**2) / (1 - edge_one**2)
    alpha_two = 0.5 * math.log((1 + edge_two) / (1 - edge_two))
    assert two.edge == pytest.approx(edge_two, abs=1e-15)
    assert two.gamma == pytest.approx(math.sqrt(gain), abs=1e-14)
    assert two.alpha == pytest.approx(alpha_two, abs=1e-14)
    assert two.bound == pytest.approx(math.sqrt((1 - edge_one**2) * (1 - gain)), abs=1e-14)
    now = [math.exp(-label * o) for label, o in zip(y, second, strict=True)]
    before = [math.exp(label * o) for label, o in zip(y, first, strict=True)]
    product = sum(d * a * b for d, a, b in zip(weights, now, before, strict=True))
    means = sum(d * a for d, a in zip(weights, now, strict=True)) * sum(
        d * b for d, b in zip(weights, before, strict=True)
    )
    assert two.covariance == pytest.approx(product - means, abs=1e-15)
    assert two.covariance < 0
    assert two.train_error == 0.0
    state.advance(torch.tensor(second, dtype=torch.float64), two)

    classifier = [alpha_two * b - alpha_one * a for a, b in zip(first, second, strict=True)]
    grown = [d * math.exp(-label * h) for d, label, h in zip(weights, y, classifier, strict=True)]
    expected = torch.tensor([g / sum(grown) for g in grown], dtype=torch.float64)
    torch.testing.assert_close(state.weights, expected, rtol=1e-14, atol=0)


@st.composite
def rounds_of_outputs(draw: st.DrawFn):
    examples, rounds, seed = draw(st.integers(2, 10)), draw(st.integers(1, 5)), draw(st.integers(0, 2**16))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (examples,), generator=generator)
    logits = [3 * torch.randn(examples, 2, generator=generator, dtype=torch.float64) for _ in range(rounds)]
    return labels, logits


@given(rounds_of_outputs())
def test_the_weights_telescope(case):
    """D_t, multiplied up round by round, is exp(-y alpha_t o_t) normalised: nothing of earlier rounds is left."""
    labels, rounds = case
    state = binary.BinaryBoosting(labels)
    for logits in rounds:
        outputs = binary.module_output(logits)
        state.advance(outputs, state.measure(outputs))
        closed = torch.exp(-state.y * state.alpha * outputs)
        torch.testing.assert_close(state.weights, closed / closed.sum(), rtol=1e-9, atol=1e-15)


@given(rounds_of_outputs(), st.sampled_from([0.0, 0.5]))
def test_it_is_the_multiclass_mathematics_for_two_classes(case, initial_edge):
    """The two are written independently: weights and cost matrix, y o(x) and o(y) - o(l), mean and sum."""
    labels, rounds = case
    two, many = binary.BinaryBoosting(labels, initial_edge), multiclass.BoostingState(labels, 2, initial_edge)
    for logits in rounds:
        a, b = two.measure(binary.module_output(logits)), many.measure(torch.softmax(logits, 1))
        for name in ("edge", "weak_learning_gain", "covariance", "alpha", "bound", "train_error"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-7, abs=1e-9), name
        two.advance(binary.module_output(logits), a)
        many.advance(torch.softmax(logits, 1), b)


@given(rounds_of_outputs())
def test_one_round_of_a_classifier_is_adaboosts_reweighting(case):
    """With o = +-1 and alpha = 1/2 ln((1 - e) / e), the new weights give the classifier an error of one half."""
    labels, rounds = case
    state = binary.BinaryBoosting(labels)
    outputs = torch.where(rounds[0][:, 1] > rounds[0][:, 0], 1.0, -1.0).double()
    statistics = state.measure(outputs)
    error = float((outputs != state.y).double().mean())
    if error in (0.0, 1.0):
        return
    assert statistics.alpha == pytest.approx(0.5 * math.log((1 - error) / error))
    state.advance(outputs, statistics)
    assert float(state.weights[outputs != state.y].sum()) == pytest.approx(0.5)
    right = state.weights[outputs == state.y]
    torch.testing.assert_close(right, torch.full_like(right, 0.5 / len(right)))
    # The first half of Definition 4.1 therefore fails for a module that repeats the one before.
    again = state.measure(outputs)
    assert again.edge == pytest.approx(0.0, abs=1e-12)
    edge = 1 - 2 * error
    assert again.weak_learning_gain == pytest.approx(-(edge**2) / (1 - edge**2), abs=1e-12)


def test_the_module_is_bounded_and_is_the_difference_of_the_probabilities():
    logits = torch.tensor([[0.3, -1.2], [50.0, -50.0], [0.0, 0.0], [-4.0, 2.0]], dtype=torch.float64)
    probabilities = torch.softmax(logits, 1)
    torch.testing.assert_close(binary.module_output(logits), probabilities[:, 1] - probabilities[:, 0])
    assert bool((binary.module_output(logits).abs() <= 1).all())


def test_the_oracle_is_the_mean_exponential_and_trains_its_own_alpha():
    loss, two_classes = binary.ExponentialLoss().double(), multiclass.ExponentialLoss().double()
    for oracle in (loss, two_classes):
        nn.init.constant_(oracle.log_alpha, math.log(1.7))
    logits, labels = torch.tensor([[1.0, 0.5], [0.2, 0.9], [0.0, 3.0]], dtype=torch.float64), torch.tensor([0, 0, 1])
    outputs = [math.tanh(0.25), -math.tanh(0.35), math.tanh(1.5)]  # y o(x), with o = tanh of half the difference
    by_hand = sum(math.exp(-1.7 * margin) for margin in outputs) / 3
    value = loss(logits, labels)
    assert value.item() == pytest.approx(by_hand, rel=1e-6)
    assert value.item() == pytest.approx(two_classes(logits, labels).item(), rel=1e-6)
    value.backward()
    assert loss.log_alpha.grad is not None and float(loss.log_alpha.grad) != 0.0


def test_of_two_classes_equally_likely_the_first_is_the_prediction():
    state = binary.BinaryBoosting(torch.tensor([0, 0, 1]))  # right, right, wrong
    assert state.measure(torch.zeros(3)).train_error == pytest.approx(1 / 3)


def test_gains_between_nearly_perfect_modules_are_those_of_the_definition():
    """Only beyond EDGE_LIMIT are edges cut: below, gamma and bound follow them, and telescope."""
    labels = torch.tensor([0, 1, 1, 0])
    state = binary.BinaryBoosting(labels)
    nearly = binary.signs(labels) * (1 - 1e-8)
    first = state.measure(nearly)
    state.advance(nearly, first)
    assert first.bound == pytest.approx(math.sqrt(2e-8), rel=1e-6)
    second = state.measure(binary.signs(labels))
    assert second.bound == pytest.approx(math.sqrt(1 - multiclass.EDGE_LIMIT**2), rel=1e-6)
    assert second.gamma == pytest.approx(math.sqrt(1 - (second.bound / first.bound) ** 2), rel=1e-9)
    assert second.alpha == multiclass.alpha(1.0)
