"""Deleting and reordering the blocks of a trained network (Veit, Wilber & Belongie, NIPS 2016, sections 4.1 and 4.2).

If a residual network is a collection of 2^n paths, then deleting one block halves the paths and hurts little, and
deleting or reordering several hurts smoothly. Nothing is retrained; batch norms stay in evaluation mode.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import Any

import attrs
import numpy as np
import torch

from replication.analysis.sampling import batches, spread_counts, subsets
from replication.analysis.unravelled import changes_shape, interchangeable, residual_blocks, without_branch
from replication.datasets.loader import DeviceSplit
from replication.models.resnet import ResNet
from replication.ranks import rank_correlation


class Lesions:
    """The error of one network under deletions and reorderings, each measured once.

    Args:
        network: in evaluation mode, on the split's device.
        split: the images that the error is measured on.
        batch_size: images at a time.
    """

    def __init__(self, network: ResNet, split: DeviceSplit, batch_size: int) -> None:
        self.network, self.blocks = network, residual_blocks(network)
        first = self.blocks[0]
        with torch.no_grad():
            self._inputs = []
            for images, labels in batches(split, batch_size):
                g = network.stem_input(images)
                for module in network.rounds[:first]:
                    g = module(g)
                self._inputs.append((g, labels))
        self._size = len(split)
        self._known: dict[tuple[tuple[int, ...], frozenset[int]], float] = {}

    @torch.no_grad()
    def error(self, deleted: Collection[int] = (), order: Sequence[int] | None = None) -> float:
        """Fraction of wrong labels.

        Args:
            deleted: indices into `network.rounds` of the blocks whose branch is left out.
            order: the residual blocks in the order they are applied in; None for their own.
        """
        key = (tuple(self.blocks if order is None else order), frozenset(deleted))
        if key not in self._known:
            wrong = 0
            for g, labels in self._inputs:
                for index in key[0]:
                    block = self.network.rounds[index]
                    g = without_branch(block, g) if index in key[1] else block(g)
                wrong += int((self.network.head(g).argmax(1) != labels).sum())
            self._known[key] = wrong / self._size
        return self._known[key]


@attrs.frozen
class SingleDeletion:
    """The error without one block; `transition` where the block starts a stage."""

    block: int
    module: str
    transition: bool
    error: float


def delete_each(lesions: Lesions) -> list[SingleDeletion]:
    """The error without each residual block in turn."""
    network = lesions.network
    return [
        SingleDeletion(index, network.names[index], changes_shape(network.rounds[index]), lesions.error([index]))
        for index in lesions.blocks
    ]


def delete_several(lesions: Lesions, number: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Rows {deleted, draw, error}: k blocks at random, `number` draws each (every subset if fewer)."""
    rows = []
    for count in spread_counts(len(lesions.blocks)):
        chosen = subsets(len(lesions.blocks), count, number, rng)
        for draw, positions in enumerate(chosen):
            error = lesions.error([lesions.blocks[position] for position in positions])
            rows.append({"deleted": count, "draw": draw, "error": error})
    return rows


def swap_several(lesions: Lesions, number: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Rows {swaps, draw, kendall_tau, error}: k random pairs of blocks change places, `number` draws for each k.

    Only blocks of one shape change places. kendall_tau is the rank correlation of the new order with the old one.
    Empty where no two blocks have the same shape.
    """
    groups = interchangeable(lesions.network)
    pairs = [pair for group in groups for pair in itertools.combinations(group, 2)]
    rows = []
    for count in spread_counts(len(lesions.blocks)) if pairs else []:
        for draw in range(number):
            order = swapped(lesions.blocks, [pairs[choice] for choice in rng.integers(len(pairs), size=count)])
            tau = rank_correlation(range(len(order)), order)
            rows.append({"swaps": count, "draw": draw, "kendall_tau": tau, "error": lesions.error(order=order)})
    return rows


def swapped(blocks: Sequence[int], pairs: Sequence[tuple[int, int]]) -> list[int]:
    """`blocks` after the blocks of each pair, wherever they are by then, changed places, one pair after the other."""
    order = list(blocks)
    for first, second in pairs:
        i, j = order.index(first), order.index(second)
        order[i], order[j] = order[j], order[i]
    return order
