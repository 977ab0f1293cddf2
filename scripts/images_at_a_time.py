"""How many images should go through a network at a time where no gradient is needed? Ratios of times, measured here.

    python scripts/images_at_a_time.py

CIFAR-10's network as `evaluate` applies it, a weak learner as its round's check does, and blocks as in BoostResNet's
frozen prefix, on one thread: how many times faster they are with fewer images than with the first number, by the best
of a few turns, and whether the outputs are equal bit for bit. The images are random: no data has to be there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from replication.config import load_experiment  # noqa: E402
from replication.models.build import build_network  # noqa: E402
from replication.models.ensemble import build_weak_learner  # noqa: E402
from replication.models.folding import fold_batch_norms  # noqa: E402

SHAPE, CLASSES = (3, 32, 32), 10
AT_A_TIME, IMAGES, TURNS = (1000, 250, 100, 64, 50, 25), 2000, 3


@torch.no_grad()
def timed(network: nn.Module, images: Tensor, at_a_time: int) -> tuple[float, Tensor]:
    """Seconds that the network takes for all images (N, C, H, W), and its outputs, (N, ...)."""
    start = time.perf_counter()
    outputs = torch.cat([network(part) for part in images.split(at_a_time)])
    return time.perf_counter() - start, outputs


def main() -> None:
    """Measure and print a line for each network."""
    torch.set_num_threads(1)
    model = load_experiment("cifar10", ROOT / "params.yaml").model
    images = torch.randn(IMAGES, *SHAPE, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    whole = build_network(model, SHAPE, CLASSES, seed=0).eval()
    networks = {
        "network": whole,
        "weak learner": build_weak_learner(model, SHAPE, CLASSES, seed=0),
        "folded blocks": nn.Sequential(*(fold_batch_norms(module) for module in whole.rounds)),
    }
    for name, network in networks.items():
        network.to(memory_format=torch.channels_last).eval()
        turns = [{number: timed(network, images, number) for number in AT_A_TIME} for _ in range(TURNS)]
        best = {number: min(turn[number][0] for turn in turns) for number in AT_A_TIME}
        equal = all(torch.equal(turns[0][number][1], turns[0][AT_A_TIME[0]][1]) for number in AT_A_TIME)
        ratios = ", ".join(f"{number}: {best[AT_A_TIME[0]] / best[number]:.2f}" for number in AT_A_TIME)
        print(f"{name}, times faster by images at a time: {ratios}; outputs {'' if equal else 'not '}equal")


if __name__ == "__main__":
    main()
