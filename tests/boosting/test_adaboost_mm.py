"""AdaBoost.MM: two rounds by hand, its bound, and scikit-learn's AdaBoostClassifier for two classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import AdaBoostClassifier
from sklearn.tree import DecisionTreeClassifier

from replication.boosting.adaboost_mm import AdaBoostMM, CostLoss, votes
from replication.boosting.multiclass import cut


def test_two_rounds_by_hand():
    """Four examples, three classes, each number from the algorithm's text with plain float arithmetic."""
    labels = torch.tensor([0, 1, 2, 0])
    state = AdaBoostMM(labels, 3)
    # C_0: 1 for each of the two wrong classes of a row, -2 for the right one; 8 in total off the diagonal.
    expected = torch.tensor([[-2.0, 1, 1], [1, -2, 1], [1, 1, -2], [-2, 1, 1]], dtype=torch.float64) / 8
    torch.testing.assert_close(state.costs, expected, rtol=0, atol=1e-15)

    one = state.add(torch.tensor([0, 1, 1, 2]))  # right, right, wrong, wrong
    edge_one = -(-2 - 2 + 1 + 1) / 8
    alpha_one = 0.5 * math.log((1 + edge_one) / (1 - edge_one))
    assert one.edge == pytest.approx(edge_one, abs=1e-15)
    assert one.alpha == pytest.approx(alpha_one, abs=1e-15)
    assert one.bound == pytest.approx(2 * math.sqrt(1 - edge_one**2), abs=1e-15)
    assert one.train_error == 0.5
    a = alpha_one
    torch.testing.assert_close(
        state.scores, torch.tensor([[a, 0, 0], [0, a, 0], [0, a, 0], [0, 0, a]], dtype=torch.float64)
    )

    # C_1(i, l) = exp(f(i, l) - f(i, y_i)): rows of a right vote fall to e^-a, the class voted for wrongly rises to e^a.
    down, up = math.exp(-a), math.exp(a)
    costs = [[-2 * down, down, down], [down, -2 * down, down], [1, up, -1 - up], [-1 - up, 1, up]]
    total = 4 * down + 2 * (1 + up)
    torch.testing.assert_close(state.costs, torch.tensor(costs, dtype=torch.float64) / total, rtol=1e-14, atol=1e-15)
    two = state.add(torch.tensor([0, 2, 2, 0]))  # right, wrong, right, right
    edge_two = -(-2 * down + down - (1 + up) - (1 + up)) / total
    alpha_two = 0.5 * math.log((1 + edge_two) / (1 - edge_two))
    assert two.edge == pytest.approx(edge_two, abs=1e-14)
    assert two.alpha == pytest.approx(alpha_two, abs=1e-14)
    assert two.bound == pytest.approx(2 * math.sqrt((1 - edge_one**2) * (1 - edge_two**2)), abs=1e-14)
    assert alpha_two > alpha_one  # so the second vote decides wherever the two disagree
    assert two.train_error == 0.25


def test_two_classes_are_scikit_learns_adaboost_round_by_round():
    """SAMME of two classes has w = ln((1 - e) / e) = 2 alpha, for edge = 1 - 2e, and the same distribution D_t.

    The stumps are fitted here, to our D_t: that they come out as scikit-learn's, round by round, holds the weights.
    """
    x, y = load_breast_cancer(return_X_y=True)
    x, y = x[:200], y[:200]
    rounds = 8
    library = AdaBoostClassifier(DecisionTreeClassifier(max_depth=1), n_estimators=rounds, random_state=0).fit(x, y)
    labels = torch.from_numpy(y.astype(np.int64))
    state, total = AdaBoostMM(labels, 2), 0.0
    decisions = library.staged_decision_function(x)
    votes_counted = np.abs(next(library.staged_decision_function(x))).max()
    assert votes_counted in (1.0, 2.0)
    for index in range(rounds):
        distribution = -state.costs.gather(1, labels[:, None]).squeeze(1)  # the row's only wrong class
        stump = DecisionTreeClassifier(max_depth=1, random_state=library.estimators_[index].random_state)
        predictions = stump.fit(x, y, sample_weight=distribution.numpy()).predict(x)
        assert (predictions == library.estimators_[index].predict(x)).all()
        assert library.estimator_errors_[index] == pytest.approx(float(distribution[predictions != y].sum()), abs=1e-10)
        statistics = state.add(torch.from_numpy(predictions.astype(np.int64)))
        assert library.estimator_weights_[index] == pytest.approx(2 * statistics.alpha, rel=1e-8)
        # scikit-learn divides by the sum of the weights and, depending on its version, counts each vote once or twice.
        total += statistics.alpha
        ours = ((state.scores[:, 1] - state.scores[:, 0]) / total).numpy()
        np.testing.assert_allclose(next(decisions), votes_counted * ours, rtol=1e-8, atol=1e-10)
    assert statistics.train_error == pytest.approx(1 - library.score(x, y), abs=1e-12)


@settings(max_examples=100)
@given(seed=st.integers(0, 2**20), examples=st.integers(1, 12), classes=st.integers(2, 5), rounds=st.integers(1, 6))
def test_the_training_error_is_under_the_bound_for_any_votes(seed, examples, classes, rounds):
    """The bound is a theorem without conditions: right, wrong and useless classifiers alike."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (examples,), generator=generator)
    state, loss = AdaBoostMM(labels, classes), examples * (classes - 1.0)
    wrong = torch.arange(classes) != labels[:, None]
    for _ in range(rounds):
        statistics = state.add(torch.randint(classes, (examples,), generator=generator))
        margins = state.scores - state.scores.gather(1, labels[:, None])
        following = float(margins.exp()[wrong].sum())  # of l != y_i alone: beside N ones, 1e-12 would be rounded off
        assert following <= loss * math.sqrt(1 - cut(statistics.edge) ** 2) * (1 + 1e-9)
        assert statistics.train_error <= statistics.bound * (1 + 1e-9)
        assert abs(statistics.edge) <= 1 + 1e-12
        loss = following


def test_the_surrogate_is_the_ensembles_loss_with_the_learner_added():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (20,), generator=generator)
    state = AdaBoostMM(labels, 4)
    for _ in range(2):
        state.add(torch.where(torch.rand(20, generator=generator) < 0.6, labels, (labels + 1) % 4))
    logits = torch.randn(20, 4, generator=generator, dtype=torch.float64)

    def loss_of(scores: torch.Tensor) -> float:
        return float((scores - scores.gather(1, labels[:, None])).exp().sum()) - 20.0

    ours = CostLoss()(logits, state.costs * 20)
    assert float(ours) == pytest.approx(loss_of(state.scores + logits) / loss_of(state.scores), rel=1e-12)
    assert float(CostLoss()(torch.zeros(20, 4).double(), state.costs * 20)) == pytest.approx(1.0)
    # It bounds what the learner's class costs beyond the right one's.
    vote = votes(logits.argmax(1), 4)
    wrong = float((state.costs.clamp(min=0) * vote).sum())
    assert float(ours) >= wrong


def test_the_surrogate_still_pulls_at_an_image_that_is_hopelessly_wrong():
    logits = torch.tensor([[1e4, 0.0]], requires_grad=True)
    loss = CostLoss()(logits, torch.tensor([[1.0, -1.0]]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None and logits.grad[0, 0] > 1.0 and logits.grad[0, 1] < -1.0
    assert logits.grad.isfinite().all()
