"""Margins and norms by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from replication.analysis import margins
from replication.models.resnet import ConvolutionalStem, Head, MLPBlock, ResNet
from tests.analysis.test_lesion import READINGS, network_of


def test_margins_by_hand():
    outputs = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)
    values = margins.margins(outputs, torch.tensor([0, 2, 1]))
    torch.testing.assert_close(values, torch.tensor([0.5, -0.1, 0.0], dtype=torch.float64))
    fractions = dict(zip(margins.GRID, margins.cumulative(values), strict=True))
    assert (fractions[-1.0], fractions[-0.15], fractions[0.45], fractions[1.0]) == (0.0, 0.0, 2 / 3, 1.0)
    assert margins.GRID[0] == -1.0 and margins.GRID[20] == 0.0 and margins.GRID[-1] == 1.0 and len(margins.GRID) == 41
    summary = margins.summarise(values)
    assert summary["nonpositive"] == pytest.approx(2 / 3)
    assert (summary["tenth_percentile"], summary["median"]) == (pytest.approx(-0.1), pytest.approx(0.0))


def test_a_margin_on_the_grid_counts_at_its_point():
    values = torch.tensor([0.0, 1.0, -1.0])
    fractions = dict(zip(margins.GRID, margins.cumulative(values), strict=True))
    assert (fractions[-1.0], fractions[-0.05], fractions[0.0], fractions[1.0]) == (1 / 3, 1 / 3, 2 / 3, 1.0)


def test_norms_of_a_perceptron_by_hand():
    network = ResNet([MLPBlock(2, 2)], ["block1"], Head(2, 2, pool=False), stage_starts=(), flatten=True)
    with torch.no_grad():
        network.rounds[0].residual[0].weight.copy_(torch.tensor([[1.0, -2.0], [0.5, 0.5]]))  # largest row: 3
        network.rounds[0].residual[2].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 4.0]]))  # largest row: 4
        network.head.linear.weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, 0.5]]))  # largest row: 2
    found = margins.l1_complexity(network, input_bound=2.0, inputs=2, examples=100)
    assert [row["l1_unit"] for row in found["modules"]] == [12.0, 2.0]
    assert [row["l1_total"] for row in found["modules"]] == [10.0, 3.5]
    assert found["l1_unit_sum"] == 14.0
    assert found["log10_complexity"] == pytest.approx(math.log10((1 + 12) * 2))
    assert 10 ** found["log10_bound"] == pytest.approx(26 * 2 * math.sqrt(math.log(4) / 100))
    assert found["vacuous"] is True
    assert margins.l1_complexity(network, 2.0, 2, 10**6)["vacuous"] is False


def test_batch_norm_is_folded_into_the_norm():
    stem = ConvolutionalStem(1, 2)
    with torch.no_grad():
        stem[0].weight.fill_(1.0)  # each unit: 9
        stem[1].weight.copy_(torch.tensor([2.0, -6.0]))
        stem[1].running_var.fill_(4.0 - stem[1].eps)
    network = ResNet([stem, MLPBlock(2, 1)], ["stem", "block1"], Head(2, 2, pool=True), stage_starts=(), flatten=False)
    assert margins.l1_complexity(network, 1.0, 64, 100)["modules"][0]["l1_unit"] == pytest.approx(27.0)


@pytest.mark.parametrize("reading", READINGS)
def test_the_complexity_bounds_how_much_the_network_amplifies(reading):
    network = network_of(reading)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.running_mean)
    found = margins.l1_complexity(network, 1.0, 64, 100)
    images = 2 * torch.rand(50, 1, 8, 8) - 1
    with torch.no_grad():
        assert float(network(images).abs().max()) <= 10 ** found["log10_complexity"] * float(images.abs().max())
