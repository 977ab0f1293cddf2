"""Deletions and reorderings on networks whose answers are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from replication.analysis import lesion
from replication.analysis.sampling import draws, spread_counts, subset, subsets
from replication.analysis.unravelled import (
    after,
    branch,
    changes_shape,
    interchangeable,
    residual_blocks,
    shortcut,
    without_branch,
)
from replication.config import ModelParams
from replication.datasets.loader import DeviceSplit
from replication.models import build_network
from replication.models.resnet import Head, MLPBlock, ResNet

READINGS = {
    "released": ModelParams("released", 6, 4),
    "paper-text": ModelParams("paper-text", 3, 4),
    "mlp": ModelParams("mlp", 3, 8),
}


def network_of(reading: str) -> ResNet:
    network = build_network(READINGS[reading], (1, 8, 8), 10, seed=0).eval()
    for module in network.modules():  # batch norms that are not the identity
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network


def split_of(images: torch.Tensor, labels: list[int]) -> DeviceSplit:
    one = torch.ones(1, 1, 1, 1)
    return DeviceSplit(images.to(torch.uint8), torch.tensor(labels), 0 * one, one)


def digits_like(size: int = 40) -> DeviceSplit:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(17, (size, 1, 8, 8), generator=generator)
    return split_of(images, torch.randint(10, (size,), generator=generator).tolist())


def toy() -> tuple[ResNet, DeviceSplit]:
    """Two pixels, two classes, x = (a, 0) with label 1 if a > 0. The last of three blocks alone copies a to the second
    pixel, with factor 2; the first two add nothing.
    """
    blocks = [MLPBlock(2, 1) for _ in range(3)]
    network = ResNet(list(blocks), ["one", "two", "three"], Head(2, 2, pool=False), stage_starts=(), flatten=True)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        blocks[2].residual[0].weight[0, 0] = 2.0
        blocks[2].residual[2].weight[1, 0] = 1.0
        network.head.linear.weight.copy_(torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
        network.head.linear.bias.copy_(torch.tensor([0.5, 0.0]))
    images = torch.zeros(4, 1, 1, 2)
    images[:3, 0, 0, 0] = torch.tensor([1.0, 2.0, 3.0])
    return network.eval(), split_of(images, [1, 1, 1, 0])


@pytest.mark.parametrize("reading", READINGS)
def test_the_parts_of_a_block_make_the_block(reading):
    network = network_of(reading)
    g = network.stem_input(torch.rand(5, 1, 8, 8))
    with torch.no_grad():
        for index, block in enumerate(network.rounds):
            if index in residual_blocks(network):
                torch.testing.assert_close(after(block, branch(block, g) + shortcut(block, g)), block(g))
                # What the block itself gives once its last layer is silenced.
                last = list(block.residual.children())[-1]
                saved = [parameter.clone() for parameter in last.parameters()]
                for parameter in last.parameters():
                    parameter.zero_()
                torch.testing.assert_close(without_branch(block, g), block(g))
                if not changes_shape(block):
                    torch.testing.assert_close(without_branch(block, g), g)
                for parameter, value in zip(last.parameters(), saved, strict=True):
                    parameter.copy_(value)
            g = block(g)


def test_deleting_a_block_that_adds_nothing_changes_nothing_and_one_that_matters_costs_its_part():
    network, split = toy()
    lesions = lesion.Lesions(network, split, batch_size=3)
    assert lesions.error() == 0.0
    assert [(row.module, row.error) for row in lesion.delete_each(lesions)] == [
        ("one", 0.0), ("two", 0.0), ("three", 0.75),
    ]  # fmt: skip
    rows = lesion.delete_several(lesions, 20, draws(0, "deletions"))
    assert [(row["deleted"], row["error"]) for row in rows] == [
        (1, 0.0), (1, 0.0), (1, 0.75), (2, 0.0), (2, 0.75), (2, 0.75), (3, 0.75),
    ]  # fmt: skip


def test_behind_a_stem_it_is_still_the_residual_blocks_that_are_deleted(monkeypatch):
    lesions = lesion.Lesions(network_of("released"), digits_like(), batch_size=40)
    monkeypatch.setattr(lesions, "error", lambda deleted: float(sum(10**index for index in deleted)))
    singles = [row.error for row in lesion.delete_each(lesions)]
    assert singles == [10.0, 100.0, 1000.0, 10000.0, 100000.0, 1000000.0], "the stem, module 0, stays"
    rows = lesion.delete_several(lesions, 20, draws(0, "deletions"))
    assert [row["error"] for row in rows if row["deleted"] == 1] == singles
    assert [row["error"] for row in rows if row["deleted"] == 6] == [1111110.0]


@pytest.mark.parametrize("reading", READINGS)
def test_the_untouched_error_is_the_networks_own(reading):
    network, split = network_of(reading), digits_like()
    lesions = lesion.Lesions(network, split, batch_size=16)
    with torch.no_grad():
        wrong = network(split.normalise(split.images)).argmax(1) != split.labels
    assert lesions.error() == pytest.approx(float(wrong.double().mean()))
    assert lesions.error(order=residual_blocks(network)) == lesions.error()


def test_only_blocks_of_one_shape_change_places():
    assert interchangeable(network_of("released")) == [[1, 2], [4], [6]]
    assert interchangeable(network_of("paper-text")) == [[1, 2, 3]]
    assert interchangeable(network_of("mlp")) == [[0, 1, 2]]
    alone = build_network(ModelParams("released", 3, 4), (1, 8, 8), 10, seed=0).eval()
    assert lesion.swap_several(lesion.Lesions(alone, digits_like(), 50), 3, draws(0, "swaps")) == []


def test_swaps_are_the_order_they_say():
    assert lesion.swapped([1, 2, 3, 4], []) == [1, 2, 3, 4]
    assert lesion.swapped([1, 2, 3, 4], [(1, 4)]) == [4, 2, 3, 1]
    assert lesion.swapped([1, 2, 3, 4], [(1, 4), (1, 2)]) == [4, 1, 3, 2]
    assert lesion.swapped([1, 2, 3, 4], [(1, 2), (1, 2)]) == [1, 2, 3, 4]


def test_swapping_measures_the_reordered_network():
    network, split = network_of("mlp"), digits_like()
    lesions = lesion.Lesions(network, split, batch_size=50)
    reordered = ResNet([network.rounds[i] for i in (2, 0, 1)], list("abc"), network.head, stage_starts=(), flatten=True)
    assert lesions.error(order=[2, 0, 1]) == lesion.Lesions(reordered, split, 50).error()
    rows = lesion.swap_several(lesions, 4, draws(0, "swaps"))
    assert [row["swaps"] for row in rows] == [1] * 4 + [2] * 4 + [3] * 4
    # Of three blocks, two neighbours swapped are one pair of three out of order, the first and the last all three.
    taus = {round(3 * row["kendall_tau"], 9) for row in rows if row["swaps"] == 1}
    assert taus and taus <= {1.0, -3.0}


def test_a_row_of_swaps_has_the_error_and_the_correlation_of_one_order(monkeypatch):
    lesions, orders = lesion.Lesions(network_of("paper-text"), digits_like(), 40), []

    def error(deleted=(), order=None):
        orders.append(order)
        return float(len(orders))

    monkeypatch.setattr(lesions, "error", error)
    rows = lesion.swap_several(lesions, 4, draws(0, "swaps"))
    assert [row["error"] for row in rows] == [float(number) for number in range(1, 13)]
    for row, order in zip(rows, orders, strict=True):  # of three pairs of blocks, those out of order count twice
        reversals = sum(first > second for first, second in itertools.combinations(order, 2))
        assert row["kendall_tau"] == pytest.approx(1 - 2 * reversals / 3)
    assert len({row["kendall_tau"] for row in rows}) > 2


STREAMS = ("images", "bootstrap", "deletions", "swaps", "paths", "labels")


def test_every_stream_of_every_seed_draws_other_numbers():
    drawn = {tuple(draws(seed, stream).integers(2**32, size=4)) for seed in (0, 1) for stream in STREAMS}
    assert len(drawn) == 2 * len(STREAMS)
    assert draws(1, "paths").integers(2**32) == draws(1, "paths").integers(2**32)


def test_subsets_are_all_or_drawn():
    rng = np.random.default_rng(0)
    assert sorted(map(sorted, subsets(4, 2, 6, rng))) == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    drawn = subsets(24, 5, 20, rng)
    assert len(drawn) == 20 and {len(chosen) for chosen in drawn} == {5}
    assert set().union(*drawn) <= set(range(24)) and len(set(drawn)) > 15
    assert spread_counts(6) == [1, 2, 3, 4, 5, 6]
    assert spread_counts(24)[0] == 1 and spread_counts(24)[-1] == 24 and len(spread_counts(24)) == 10


def test_the_sampled_images_are_fixed_and_in_order():
    split = digits_like(200)
    first, again = subset(split, 50), subset(split, 50)
    assert torch.equal(first.images, again.images) and len(first) == 50
    assert subset(split, 200) is split
    torch.random.manual_seed(7)
    assert torch.equal(subset(split, 50).labels, first.labels)
