"""One seed, several independent streams: initialisation, batch order and augmentation do not disturb each other."""

from __future__ import annotations

import numpy as np
import torch

STREAMS = ("initialisation", "batches", "augmentation", "curve-samples", "auxiliary")


def stream_seed(seed: int, stream: str, phase: int = 0) -> int:
    """The seed of one named stream under the run's seed: the same on every machine and in every version."""
    sequence = np.random.SeedSequence(seed, spawn_key=(STREAMS.index(stream), phase))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, stream: str, device: torch.device | str = "cpu", phase: int = 0) -> torch.Generator:
    """A generator on `device` for one named stream."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, stream, phase))
