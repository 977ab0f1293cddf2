"""Gradient boosting: the negative gradient, the line search, and whole models against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scipy.optimize import minimize_scalar
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.tree import DecisionTreeRegressor

from replication.boosting.gradient import STEP_LIMIT, GradientBoosting, line_search, negative_gradient


def problem(seed: int, examples: int = 30, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, a direction and labels."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(examples, classes, generator=generator, dtype=torch.float64)
    direction = torch.randn(examples, classes, generator=generator, dtype=torch.float64)
    return scores, direction, torch.randint(classes, (examples,), generator=generator)


def deviance(scores: torch.Tensor, labels: torch.Tensor) -> float:
    return float(torch.nn.functional.cross_entropy(scores, labels))


@given(seed=st.integers(0, 2**16))
def test_the_negative_gradient_is_autograds(seed):
    scores, _, labels = problem(seed)
    leaf = scores.clone().requires_grad_()
    torch.nn.functional.cross_entropy(leaf, labels, reduction="sum").backward()
    assert leaf.grad is not None
    torch.testing.assert_close(negative_gradient(scores, labels), -leaf.grad, rtol=1e-12, atol=1e-12)


@given(seed=st.integers(0, 2**16), scale=st.sampled_from([1e-3, 1.0, 30.0]))
def test_the_line_search_finds_scipys_minimum(seed, scale):
    scores, direction, labels = problem(seed)
    direction = scale * (direction + negative_gradient(scores, labels))
    step = line_search(scores, direction, labels)
    bounds = (-STEP_LIMIT, STEP_LIMIT)
    expected = minimize_scalar(lambda a: deviance(scores + a * direction, labels), bounds=bounds, method="bounded")
    assert deviance(scores + step * direction, labels) <= expected.fun + 1e-12
    if abs(step) < STEP_LIMIT:
        p = torch.softmax(scores + step * direction, 1)
        slope = ((p * direction).sum(1) - direction.gather(1, labels[:, None]).squeeze(1)).mean()
        assert float(slope) == pytest.approx(0.0, abs=1e-9 * scale)


def test_the_line_search_at_its_edges():
    scores, labels = torch.zeros(3, 2), torch.tensor([0, 1, 0])
    assert line_search(scores, torch.zeros(3, 2), labels) == 0.0
    separating = torch.tensor([[1.0, -1], [-1, 1], [1, -1]]) * 1e-4
    assert line_search(scores, separating, labels) == STEP_LIMIT == 1024
    assert line_search(scores, -separating, labels) == -STEP_LIMIT


def test_a_round_never_raises_the_training_deviance():
    _, direction, labels = problem(3)
    state, before = GradientBoosting(labels, 4, shrinkage=0.3), float(np.log(4))
    for _ in range(5):
        statistics = state.add(direction)
        after = deviance(state.scores, labels)
        assert after <= before + 1e-12
        assert statistics.weight == pytest.approx(0.3 * statistics.step)
        before, direction = after, direction.roll(1, 0)


def test_two_classes_with_one_split_are_scikit_learns_gradient_boosting():
    """Where the step per round and scikit-learn's Newton step per leaf are the same thing, the models are the same.

    On one feature with two values, balanced so that both leaves have equal shares of right labels, the two leaves
    have residuals of equal size; one step for both is then the step of each. scikit-learn takes one Newton step per
    leaf and not the whole search, so it is given to ours as the step, from the same residuals and curvatures.
    """
    x = np.repeat([0.0, 1.0], 10)[:, None]
    y = np.concatenate([np.repeat([0, 1], [8, 2]), np.repeat([0, 1], [2, 8])])
    rate, rounds = 0.3, 6
    library = GradientBoostingClassifier(n_estimators=rounds, learning_rate=rate, max_depth=1, init="zero").fit(x, y)
    labels = torch.from_numpy(y.astype(np.int64))
    state = GradientBoosting(labels, 2, shrinkage=rate)
    for expected in library.staged_decision_function(x):
        residuals = state.residuals
        fitted = np.stack([DecisionTreeRegressor(max_depth=1).fit(x, r).predict(x) for r in residuals.T.numpy()], 1)
        p = torch.softmax(state.scores, 1)[:, 1]
        newton = float(
            1.0 / (p * (1 - p)).mean()
        )  # sum of residuals / sum of p (1 - p) in a leaf, per unit of residual
        # Of two classes scikit-learn keeps the log-odds F_1 - F_0; ours moves both by the residual of each.
        state.scores += rate * (newton / 2) * torch.from_numpy(fitted)
        np.testing.assert_allclose((state.scores[:, 1] - state.scores[:, 0]).numpy(), expected[:, 0], rtol=1e-10)
    # The model of exact line searches ends where more Newton steps lead: at the log-odds of the leaves' shares.
    exact = GradientBoosting(labels, 2, shrinkage=1.0)
    exact.add(torch.from_numpy(fitted))
    log_odds = (exact.scores[:, 1] - exact.scores[:, 0]).numpy()
    np.testing.assert_allclose(log_odds, np.repeat([np.log(2 / 8), np.log(8 / 2)], 10), rtol=1e-9)
    longer = GradientBoostingClassifier(n_estimators=60, learning_rate=rate, max_depth=1, init="zero").fit(x, y)
    np.testing.assert_allclose(longer.decision_function(x), log_odds, rtol=1e-6)


def test_three_classes_against_scikit_learn_with_the_same_weak_learner():
    """scikit-learn fits regression trees to the residuals and then replaces every leaf by a Newton step of its own.

    So two comparisons: by its leaf rule, from OUR residuals, our scores are its scores at every stage; and with our
    one searched step per round, on trees fitted to our residuals, the model ends close to its deviance and decisions.
    """
    x, y = load_iris(return_X_y=True)
    rate, rounds = 0.1, 30
    library = GradientBoostingClassifier(
        n_estimators=rounds, learning_rate=rate, max_depth=2, init="zero", random_state=0
    ).fit(x, y)
    labels = torch.from_numpy(y.astype(np.int64))
    ours, leafwise = GradientBoosting(labels, 3, rate), GradientBoosting(labels, 3, rate)
    staged = library.staged_decision_function(x)
    for index in range(rounds):
        trees = [DecisionTreeRegressor(max_depth=2, random_state=0).fit(x, r) for r in ours.residuals.T.numpy()]
        statistics = ours.add(torch.from_numpy(np.stack([tree.predict(x) for tree in trees], 1)))
        leafwise.scores += rate * torch.from_numpy(newton_leaves(x, leafwise.residuals.numpy(), library, index))
        np.testing.assert_allclose(leafwise.scores.numpy(), next(staged), rtol=1e-8, atol=1e-10)
    agreement = (ours.scores.argmax(1).numpy() == library.predict(x)).mean()
    assert agreement >= 0.98
    assert deviance(ours.scores, labels) == pytest.approx(library.train_score_[-1], abs=0.1)
    assert statistics.train_error <= 0.03


def newton_leaves(x: np.ndarray, residuals: np.ndarray, library: GradientBoostingClassifier, index: int) -> np.ndarray:
    """Friedman's leaf rule, (K - 1) / K * sum r / sum |r| (1 - |r|), in scikit-learn's leaves, from our residuals."""
    outputs = np.empty_like(residuals)
    for label, tree in enumerate(library.estimators_[index]):
        leaves, r = tree.apply(x), residuals[:, label]
        for leaf in np.unique(leaves):
            inside = leaves == leaf
            size = np.abs(r[inside])
            outputs[inside, label] = 2 / 3 * r[inside].sum() / (size * (1 - size)).sum()
    return outputs
