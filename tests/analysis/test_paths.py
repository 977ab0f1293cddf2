"""Gradients by path length against explicit enumeration, and the direction of steps on networks made by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from replication.analysis import paths
from replication.analysis.sampling import draws
from replication.models.resnet import Head, ResNet
from tests.analysis.test_lesion import READINGS, network_of


class LinearBlock(nn.Module):
    """g + A g."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.residual = nn.Linear(features, features, bias=False)

    def forward(self, g: torch.Tensor) -> torch.Tensor:
        return self.residual(g) + g


def linear_network(blocks: int, features: int = 3) -> ResNet:
    torch.manual_seed(0)
    modules = [LinearBlock(features) for _ in range(blocks)]
    names = [f"block{index + 1}" for index in range(blocks)]
    network = ResNet(modules, names, Head(features, 2, pool=False), stage_starts=(), flatten=True)
    return network.double().eval().requires_grad_(False)


def test_all_paths_of_a_linear_network_by_multiplying_matrices():
    network, n = linear_network(4), 4
    images, labels = torch.randn(5, 1, 1, 3, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 1])
    gradients = paths.PathGradients(network, images, labels)
    logits = network(images)
    at_output = (torch.softmax(logits, 1) - functional.one_hot(labels, 2)) @ network.head.linear.weight
    by_length = {length: [] for length in range(n + 1)}
    total = torch.zeros(5, 3, dtype=torch.float64)
    for taken in itertools.product([False, True], repeat=n):
        expected = at_output
        for position in reversed(range(n)):
            if taken[position]:
                expected = expected @ network.rounds[position].residual.weight
        path = [position for position in range(n) if taken[position]]
        torch.testing.assert_close(gradients.along(path), expected)
        by_length[len(path)].append(float(expected.norm(dim=1).mean()))
        total += expected
    rows = paths.gradient_by_length(gradients, 100, draws(0, "paths"))
    assert [row["paths"] for row in rows] == [1, 4, 6, 4, 1] == [row["draws"] for row in rows]
    for row in rows:
        norms = by_length[row["length"]]
        assert row["gradient_norm"] == pytest.approx(sum(norms) / len(norms))
        assert row["contribution"] == pytest.approx(sum(norms))
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    # The paths together are the gradient of the network.
    images.requires_grad_()
    functional.cross_entropy(network(images), labels, reduction="sum").backward()
    torch.testing.assert_close(total, images.grad.flatten(1))


@pytest.mark.parametrize("reading", READINGS)
def test_the_paths_of_every_reading_add_up_to_the_gradient(reading):
    network = network_of(reading).double().requires_grad_(False)
    images, labels = torch.rand(3, 1, 8, 8, dtype=torch.float64), torch.tensor([1, 5, 9])
    gradients = paths.PathGradients(network, images, labels)
    total = sum(
        gradients.along(path)
        for length in range(len(gradients) + 1)
        for path in itertools.combinations(range(len(gradients)), length)
    )
    first = 0 if network.flatten else 1
    g = network.stem_input(images)
    for module in network.rounds[:first]:
        g = module(g)
    g = g.detach().requires_grad_()
    output = g
    for module in [*network.rounds[first:], network.head]:
        output = module(output)
    functional.cross_entropy(output, labels, reduction="sum").backward()
    torch.testing.assert_close(total, g.grad)


def test_sampled_paths_estimate_the_mean_over_all():
    network = linear_network(8)
    images, labels = torch.randn(4, 1, 1, 3, dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    gradients = paths.PathGradients(network, images, labels)
    every = paths.gradient_by_length(gradients, 70, draws(0, "paths"))[4]
    some = paths.gradient_by_length(gradients, 40, draws(0, "paths"))[4]
    assert (every["draws"], some["draws"]) == (70, 40)
    assert some["gradient_norm"] == pytest.approx(every["gradient_norm"], rel=0.25)


def test_without_any_gradient_shares_are_no_numbers():
    network = linear_network(2)
    network.head.linear.weight.zero_()
    gradients = paths.PathGradients(network, torch.ones(1, 1, 1, 3, dtype=torch.float64), torch.tensor([0]))
    assert all(math.isnan(row["share"]) for row in paths.gradient_by_length(gradients, 5, draws(0, "paths")))
