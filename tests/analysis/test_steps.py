"""The direction of steps, on networks and sums made by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn
from torch.nn import functional

from replication.analysis import steps
from replication.analysis.sampling import draws
from replication.models.ensemble import Ensemble
from replication.models.resnet import Head, ResNet
from tests.analysis.test_paths import LinearBlock, linear_network


def step_alignment(network, images, labels):
    return steps.step_alignment(network, images, labels, draws(0, "labels"))


def test_a_step_down_the_gradient_has_cosine_one_and_up_minus_one():
    """With logits g and two classes the negative gradient is along (1, -1) or its reverse; the block steps there."""
    for sign in (1.0, -1.0):
        network = ResNet([LinearBlock(2)], ["block1"], Head(2, 2, pool=False), stage_starts=(), flatten=True)
        with torch.no_grad():
            network.rounds[0].residual.weight.copy_(sign * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
            network.head.linear.weight.copy_(torch.eye(2))
        images = torch.tensor([[2.0, 1.0], [3.0, 1.0]]).view(2, 1, 1, 2)
        (row,) = step_alignment(network.eval().requires_grad_(False), images, torch.tensor([0, 0]))
        assert row["control_alignment"] == row["alignment"], "one class: shuffled labels are the labels"
        assert row["alignment"] == pytest.approx(sign)
        expected = (math.sqrt(2) / math.sqrt(5) + math.sqrt(8) / math.sqrt(10)) / 2
        assert row["step_ratio"] == pytest.approx(expected)


def test_a_confident_image_keeps_its_gradient():
    """The class's probability is one to rounding; without its part the gradient would point 45 degrees off."""
    network = step_to([[1.0, -1.0], [-1.0, 1.0]])
    images = torch.tensor([[40.0, 1.0], [90.0, 1.0]]).view(2, 1, 1, 2)
    (row,) = step_alignment(network, images, torch.tensor([0, 0]))
    assert row["alignment"] == pytest.approx(1.0)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.floats(0.1, 3.0))
def test_the_direction_of_the_loss_is_its_gradients(seed, classes, scale):
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(5, classes, generator=generator, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(classes, (5,), generator=generator)
    functional.cross_entropy(logits, labels, reduction="sum").backward()
    others = 1 - torch.softmax(logits, 1).gather(1, labels[:, None])
    torch.testing.assert_close(steps.loss_direction(logits, labels) * others, logits.grad)


def test_a_block_that_adds_nothing_points_nowhere():
    network = linear_network(2)
    network.rounds[1].residual.weight.zero_()
    rows = step_alignment(network, torch.randn(4, 1, 1, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0]))
    assert (rows[1]["alignment"], rows[1]["control_alignment"], rows[1]["step_ratio"]) == (0.0, 0.0, 0.0)


def step_to(weight):
    """One block g + W g in front of logits g, two classes."""
    network = ResNet([LinearBlock(2)], ["block1"], Head(2, 2, pool=False), stage_starts=(), flatten=True)
    with torch.no_grad():
        network.rounds[0].residual.weight.copy_(torch.tensor(weight))
        network.head.linear.weight.copy_(torch.eye(2))
    return network.eval().requires_grad_(False)


def test_the_control_of_steps_that_follow_the_label_counts_the_labels_that_were_kept():
    """Each step is down the gradient for the own label, so down for a kept label and up for any other: +1 or -1."""
    network = step_to([[1.0, -1.0], [-1.0, 1.0]])
    labels = torch.arange(12) % 2
    images = (functional.one_hot(labels, 2).double() + 0.5).float().view(12, 1, 1, 2)
    (row,) = step_alignment(network, images, labels)
    kept = int((labels[draws(0, "labels").permutation(12)] == labels).sum())
    assert 0 < kept < 12
    assert row["alignment"] == pytest.approx(1.0)
    assert row["control_alignment"] == pytest.approx((2 * kept - 12) / 12)


def test_steps_that_know_no_label_are_told_by_their_control():
    """All images alike, three of four of one class: the cosine's mean is not zero, and the control's is the same."""
    network, images = step_to([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([2.0, 1.0]).repeat(8, 1).view(8, 1, 1, 2)
    (row,) = step_alignment(network, images, torch.tensor([0, 0, 0, 1] * 2))
    assert row["alignment"] == pytest.approx((6 - 2) / 8 * math.sqrt(0.5))
    assert row["control_alignment"] == pytest.approx(row["alignment"])


class Constant(nn.Module):
    """A learner that gives every image the same scores."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores = torch.tensor(scores)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scores.expand(len(images), -1)


def test_learners_of_a_sum_against_the_gradient_at_the_sum_before_them():
    """Two classes: the negative gradient is (1, -1) times something for label 0, its reverse for label 1."""
    ensemble = Ensemble([], [2.0, 0.5], vote=False)
    ensemble.learners = nn.ModuleList([Constant([1.0, 0.0]), Constant([0.0, 3.0])])
    ensemble.stem_input = lambda images: images
    images, labels = torch.zeros(4, 1, 1, 1), torch.tensor([0, 0, 0, 1])
    first, second = steps.learner_alignment(ensemble, images, labels, draws(0, "labels"))
    half = math.sqrt(0.5)
    assert first["alignment"] == pytest.approx((3 - 1) / 4 * half) == first["control_alignment"]
    assert second["alignment"] == pytest.approx((1 - 3) / 4 * half)
    assert (first["block"], first["module"], first["step_ratio"]) == (0, "learner1", None), "from a sum of zero"
    assert second["step_ratio"] == pytest.approx(1.5 / 2.0)


def test_the_sum_grows_by_each_step():
    """Behind (ln 4, 0, 0) the classes have 4, 1 and 1 sixths: for label 1 the gradient is along (4, -5, 1)."""
    ensemble = Ensemble([], [1.0, 1.0], vote=False)
    ensemble.learners = nn.ModuleList([Constant([math.log(4), 0.0, 0.0]), Constant([1.0, 0.0, 0.0])])
    ensemble.stem_input = lambda images: images
    rows = steps.learner_alignment(ensemble, torch.zeros(2, 1, 1, 1), torch.tensor([1, 1]), draws(0, "labels"))
    assert rows[0]["alignment"] == pytest.approx(-1 / math.sqrt(6))
    assert rows[1]["alignment"] == pytest.approx(-4 / math.sqrt(42))


def test_learners_that_are_the_negative_gradient_have_cosine_one():
    """Softmax at zero less the label, for four classes: what gradient boosting fits its first learner to."""
    labels = torch.tensor([0, 1, 2, 3])

    class Oracle(Constant):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return functional.one_hot(labels, 4) - 0.25

    ensemble = Ensemble([], [0.1], vote=False)
    ensemble.learners = nn.ModuleList([Oracle([0.0])])
    ensemble.stem_input = lambda images: images
    (row,) = steps.learner_alignment(ensemble, torch.zeros(4, 1, 1, 1), labels, draws(0, "labels"))
    assert row["alignment"] == pytest.approx(1.0)
    assert row["control_alignment"] < 1.0
