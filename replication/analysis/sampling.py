"""Which images and which random draws an analysis uses: the images are the same for every method and seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import attrs
import numpy as np
import torch
from torch import Tensor

from replication.datasets.loader import DeviceSplit

_STREAMS = ("images", "bootstrap", "deletions", "swaps", "paths", "labels")


def draws(seed: int, stream: str) -> np.random.Generator:
    """The generator of one named stream of an analysis, apart from every stream of training under the same seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1000 + _STREAMS.index(stream),)))


def subset(split: DeviceSplit, size: int) -> DeviceSplit:
    """A fixed random subset, in the order of the split; the whole split where it is no larger.

    It depends on the split's length alone, so that methods and seeds are compared on the same images.
    """
    if size >= len(split):
        return split
    chosen = np.sort(draws(0, "images").permutation(len(split))[:size])
    index = torch.from_numpy(chosen).to(split.images.device)
    return attrs.evolve(split, images=split.images[index], labels=split.labels[index])


def batches(split: DeviceSplit, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images (B, C, H, W) and labels (B,), in order."""
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        yield split.normalise(split.images[part]), split.labels[part]


def subsets(n: int, size: int, number: int, rng: np.random.Generator) -> list[frozenset[int]]:
    """Subsets of {0..n-1} of one size: all of them where they are no more than `number`, else so many draws."""
    if math.comb(n, size) <= number:
        return [frozenset(chosen) for chosen in itertools.combinations(range(n), size)]
    return [frozenset(rng.permutation(n)[:size].tolist()) for _ in range(number)]


def spread_counts(n: int, most: int = 10) -> list[int]:
    """Whole numbers from 1 to n, all of them or `most` evenly spread."""
    return sorted({round(value) for value in np.linspace(1, n, min(n, most))}) if n else []
