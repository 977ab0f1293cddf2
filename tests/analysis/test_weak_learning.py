"""Bounds by hand, and the bootstrap against distributions that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from replication.analysis import weak_learning
from replication.analysis.sampling import draws
from replication.boosting.binary import BinaryBoosting
from replication.boosting.multiclass import EDGE_LIMIT, BoostingState, alpha, cost_matrix, covariance, edge


def outputs_of(seed: int, examples: int, classes: int, rounds: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Class probabilities that improve from round to round."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (examples,), generator=generator)
    noise = torch.randn(rounds, examples, classes, generator=generator, dtype=torch.float64)
    target = torch.nn.functional.one_hot(labels, classes).double()
    return [torch.softmax(noise[t] + (t + 1) * target, 1) for t in range(rounds)], labels


def table_of(outputs, alphas, labels, resamples=50, initial_edge=0.0):
    names = [f"block{index}" for index in range(len(outputs))]
    return weak_learning.weak_learning_rows(
        outputs, alphas, names, labels, initial_edge=initial_edge, resamples=resamples, rng=draws(0, "bootstrap")
    )


def rows_of(outputs, labels, resamples=50, initial_edge=0.0):
    state = BoostingState(labels, outputs[0].shape[1], initial_edge)
    expected = []
    for output in outputs:
        statistics = state.measure(output)
        state.advance(output, statistics)
        expected.append(statistics)
    alphas = [statistics.alpha for statistics in expected]
    return table_of(outputs, alphas, labels, resamples, initial_edge), expected


def two_classes(margins, labels):
    """Class probabilities (N, 2) with p(y) - p(other) = y o(x) = `margins`."""
    correct = (1.0 + torch.tensor(margins, dtype=torch.float64)) / 2.0
    positive = torch.where(labels == 1, correct, 1.0 - correct)
    return torch.stack([1.0 - positive, positive], dim=1)


def test_the_bounds_by_hand():
    assert weak_learning.telescoped_bound(0.8, math.atanh(0.8), 10) == pytest.approx(9 * 0.6)
    # Another alpha than the best one: cosh(1) - 0.5 sinh(1).
    assert weak_learning.telescoped_bound(0.5, 1.0, 2) == pytest.approx(math.cosh(1) - 0.5 * math.sinh(1))
    assert weak_learning.telescoped_bound(-0.5, math.atanh(-0.5), 2) == pytest.approx(math.sqrt(0.75))
    # A perfect module: alpha is cut, and the loss of margins of one at that alpha is left.
    cut = alpha(1.0)
    assert weak_learning.telescoped_bound(1.0, cut, 2) == pytest.approx(math.exp(-cut), rel=1e-15)
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
        # No step of the proof uses the initial edge; the product has it as a factor.
        factor = math.sqrt(1 - initial_edge**2)
        assert row["bound_telescoped"] == pytest.approx(factor * row["bound_product"])
        if all(earlier.gamma > 0 for earlier in expected):
            assert row["bound_exponential"] >= row["bound_product"] - 1e-12
        for name in ("gamma", "covariance", "proof_covariance"):
            assert row[f"{name}_low"] - 1e-12 <= row[name] <= row[f"{name}_high"] + 1e-12, name
    assert tuple(rows[0]) and set(rows[0]) == set(weak_learning.COLUMNS)


def test_for_two_classes_it_is_the_binary_condition():
    """The margin m is y o, not 2 y o: o is the difference of the two probabilities."""
    outputs, labels = outputs_of(1, 150, 2, 3)
    rows, _ = rows_of(outputs, labels)
    state, loss = BinaryBoosting(labels), 1.0
    for row, output in zip(rows, outputs, strict=True):
        o = output[:, 1] - output[:, 0]
        statistics = state.measure(o)
        assert row["gamma"] == pytest.approx(statistics.gamma, rel=1e-9)
        assert row["covariance"] == pytest.approx(statistics.covariance, rel=1e-6, abs=1e-15)
        # The covariance of the proof under the weights that binary boosting keeps.
        now, before = torch.exp(-state.y * statistics.alpha * o), torch.exp(state.y * state.alpha * state.outputs)
        d = state.weights
        expected = float((d * now * before).sum() - (d * now).sum() * (d * before).sum())
        assert row["proof_covariance"] == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert float((d * before).sum()) == pytest.approx(1 / loss)
        loss = float(now.mean())
        assert row["exponential_loss"] == pytest.approx(loss)
        state.advance(o, statistics)


def test_the_loss_can_exceed_the_bound_where_only_the_covariance_without_alphas_is_negative():
    labels = torch.tensor([1, 0, 0, 1])
    first, second = (0.5759, 0.3286, -0.7379, 0.8592), (0.9872, -0.9848, 0.9467, 0.9664)
    rows, _ = rows_of([two_classes(first, labels), two_classes(second, labels)], labels)
    # The same by hand, in plain numbers.
    alpha_1 = math.atanh(sum(first) / 4)
    weights = [math.exp(-alpha_1 * m) for m in first]
    edge_2 = sum(w * m for w, m in zip(weights, second, strict=True)) / sum(weights)
    alpha_2 = math.atanh(edge_2)
    row = rows[1]
    assert row["edge"] == pytest.approx(edge_2)
    assert row["exponential_loss"] == pytest.approx(sum(math.exp(-alpha_2 * m) for m in second) / 4)
    assert row["bound_telescoped"] == pytest.approx(math.sqrt(1 - edge_2**2))
    assert (row["train_error"], row["bound_holds"]) == (0.25, True), "the bound is of the error"
    assert row["exponential_loss"] == pytest.approx(0.870497, abs=1e-6)
    assert row["bound_telescoped"] == pytest.approx(0.870385, abs=1e-6)
    assert (row["covariance"], row["covariance_nonpositive"]) == (pytest.approx(-0.003739, abs=1e-6), True)
    assert (row["proof_covariance"], row["proof_covariance_nonpositive"]) == (pytest.approx(0.008566, abs=1e-6), False)


@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 5),
    examples=st.integers(1, 30),
    alphas=st.lists(st.floats(-3, 3), min_size=1, max_size=4),
)
def test_the_step_of_the_proof_is_an_identity_whatever_the_outputs_and_alphas(seed, classes, examples, alphas):
    """L_{t+1} = (C - 1) E[A] + L_t Cov(A, B), and so the loss is below the bound plus L_t Cov."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (examples,), generator=generator)
    logits = 3 * torch.randn(len(alphas), examples, classes, generator=generator, dtype=torch.float64)
    outputs = list(torch.softmax(logits, 2))
    loss, scores = classes - 1.0, torch.zeros(examples, classes, dtype=torch.float64)
    for row, output, weight in zip(table_of(outputs, alphas, labels, resamples=1), outputs, alphas, strict=True):
        others = torch.nn.functional.one_hot(labels, classes) == 0
        pairs = torch.exp(scores - scores.gather(1, labels[:, None]))[others]  # N (C - 1) weights
        a = torch.exp(weight * (output - output.gather(1, labels[:, None])))[others]
        mean_a = float((pairs * a).sum() / pairs.sum())
        remainder = loss * row["proof_covariance"]
        scale = 1e-12 * max(1.0, (classes - 1) * mean_a, abs(remainder))
        assert row["exponential_loss"] == pytest.approx((classes - 1) * mean_a + remainder, rel=0, abs=scale)
        assert row["exponential_loss"] <= row["bound_telescoped"] + remainder + scale
        loss, scores = row["exponential_loss"], weight * output


def test_at_saturated_modules_the_loss_stays_below_the_bounds():
    """Edges beyond EDGE_LIMIT count as the limit, in alpha and in the bound alike."""
    labels = torch.tensor([0, 1, 1])
    nearly, wholly = two_classes((1 - 1e-13,) * 3, labels), two_classes((1.0,) * 3, labels)
    rows, expected = rows_of([nearly, wholly], labels)
    assert [statistics.alpha for statistics in expected] == [math.atanh(EDGE_LIMIT)] * 2
    for row in rows:
        assert row["exponential_loss"] <= row["bound_telescoped"] * (1 + 1e-3) <= row["bound_product"]
        assert row["bound_product"] == pytest.approx(math.sqrt(1 - EDGE_LIMIT**2))
        assert row["gamma_low"] - 1e-6 <= row["gamma"] <= row["gamma_high"] + 1e-6
        assert row["proof_covariance_nonpositive"]
        assert all(math.isfinite(row[f"proof_covariance{end}"]) for end in ("", "_low", "_high"))
    assert rows[1]["exponential_loss"] == pytest.approx(rows[1]["bound_telescoped"], rel=1e-3)  # every margin is one


def test_example_terms_add_up_to_edge_and_covariances():
    outputs, labels = outputs_of(2, 60, 5, 2)
    scores = (alpha(0.4) * outputs[0], alpha(0.7) * outputs[1])
    costs = cost_matrix(scores[0], labels)
    sums = weak_learning.example_terms(costs, tuple(outputs), scores, labels).sum(0).tolist()
    assert sums[0] == pytest.approx(1.0)
    assert sums[1] == pytest.approx(edge(costs, outputs[1]))
    for (a, b, ab), pair in ((sums[2:5], outputs), (sums[5:], scores)):
        assert ab - a * b == pytest.approx(covariance(costs, *pair, labels), abs=1e-15)


def test_bootstrap_intervals_of_a_mean_are_those_of_the_normal_approximation():
    rng = np.random.default_rng(0)
    edges = torch.from_numpy(rng.normal(0.5, 0.3, size=2000))
    one = torch.ones_like(edges)
    terms = torch.stack([one, edges, *[one] * 6], dim=1)
    (interval,) = weak_learning.bootstrap_intervals([terms], 0.0, 2000, np.random.default_rng(1))
    # From edge 0 gamma is the edge itself: its mean +- 1.96 standard errors.
    error = 1.96 * float(edges.std()) / math.sqrt(len(edges))
    assert interval["gamma_low"] == pytest.approx(float(edges.mean()) - error, abs=0.1 * error)
    assert interval["gamma_high"] == pytest.approx(float(edges.mean()) + error, abs=0.1 * error)


def test_a_round_is_compared_with_the_one_before_in_the_same_resample():
    """Of two rounds that are alike the second gains nothing over the first, in every resample."""
    terms = torch.rand(30, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    terms[:, 1] = terms[:, 0] * torch.rand(30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first, second = weak_learning.bootstrap_intervals([terms, terms], 0.0, 50, np.random.default_rng(0))
    assert first["gamma_low"] > 0
    assert second["gamma_low"] == second["gamma_high"] == 0.0


def test_bootstrap_in_chunks_and_with_weight_on_one_example(monkeypatch):
    terms = torch.rand(30, 8, dtype=torch.float64)
    whole = weak_learning.bootstrap_intervals([terms], 0.0, 20, np.random.default_rng(0))
    monkeypatch.setattr(weak_learning, "_CHUNK", 90)
    assert weak_learning.bootstrap_intervals([terms], 0.0, 20, np.random.default_rng(0)) == [
        {key: pytest.approx(value) for key, value in whole[0].items()}
    ]
    terms[1:, 0] = 0.0  # a resample without the first example has nothing to divide by
    terms[1:, 1:] = 0.0
    (interval,) = weak_learning.bootstrap_intervals([terms], 0.0, 20, np.random.default_rng(0))
    assert all(math.isfinite(value) for value in interval.values())
