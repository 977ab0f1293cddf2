"""One seed, several independent streams: initialisation, batch order and augmentation do not disturb each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

STREAMS = ("initialisation", "batches", "augmentation", "curve-samples", "auxiliary", "modules")


def stream_seed(seed: int, stream: str, phase: int = 0) -> int:
    """The seed of one named stream under the run's seed: the same on every machine and in every version."""
    sequence = np.random.SeedSequence(seed, spawn_key=(STREAMS.index(stream), phase))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, stream: str, device: torch.device | str = "cpu", phase: int = 0) -> torch.Generator:
    """A generator on `device` for one named stream."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, stream, phase))


@contextmanager
def seeding_modules(device: torch.device) -> Iterator[Callable[[int], None]]:
    """Gives what seeds PyTorch's own generators, of the CPU and of `device`, from which modules such as dropout draw;
    afterwards they are as they were.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    states = [each.get_state() for each in generators]

    def seed(value: int) -> None:
        for each in generators:
            each.manual_seed(value)

    try:
        yield seed
    finally:
        for each, state in zip(generators, states, strict=True):
            each.set_state(state)
