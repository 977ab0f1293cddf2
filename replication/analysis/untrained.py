"""What a network shows before any training: what probes and steps of a trained one have to be held against.

Random features are worth something to a linear classifier, and more or less of it with depth; and steps of random
blocks need not be at right angles to the gradient. Neither is what training has done.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from replication.analysis import probes, steps
from replication.analysis.sampling import batches
from replication.config import ModelParams
from replication.datasets.loader import DeviceSplit
from replication.models.build import build_network
from replication.models.resnet import ResNet
from replication.training.seeds import stream_seed


def initial_network(
    model: ModelParams, image_shape: tuple[int, int, int], num_classes: int, seed: int, train: DeviceSplit, size: int
) -> ResNet:
    """The network from which every training under `seed` starts, in evaluation mode and with parameters that need no
    gradient. Its batch norms have the statistics of `train`, in batches of `size`: with those that they are built with
    they would normalise nothing, as they do in no update.
    """
    network = build_network(model, image_shape, num_classes, stream_seed(seed, "initialisation"))
    network = network.to(train.images.device).requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches, each with the same weight
    with torch.no_grad():
        for images, _ in batches(train, size):
            network.train()(images)
    return network.eval()


def untrained_section(
    network: ResNet,
    sample: dict[str, DeviceSplit],
    images: Tensor,
    labels: Tensor,
    rng: np.random.Generator,
    batch_size: int,
) -> dict[str, Any]:
    """What `network` shows to a probe behind every module, and how its steps lie to the negative gradient.

    Args:
        sample: the splits that probes are fitted to and read on.
        images, labels: (B, C, H, W), normalised, and (B,), behind which gradients are taken.
        rng: permutes the labels of the control.
    """
    rows = probes.probe_modules(network, sample, network.head.linear.out_features, batch_size)
    return {
        "modules": probes.trend(rows),
        "alignment": steps.summarise(steps.step_alignment(network, images, labels, rng)),
    }
