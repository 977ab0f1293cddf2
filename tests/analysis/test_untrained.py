"""The network before training: the one that training starts from, its batch norms in the statistics of the data."""

from __future__ import annotations

import attrs
import pytest
import torch

from replication.analysis.sampling import batches, draws, subset
from replication.analysis.untrained import initial_network, untrained_section
from replication.datasets.loader import to_device_split
from replication.training.record import Recorder
from replication.training.session import open_session

CPU = torch.device("cpu")


def test_it_is_the_network_from_which_training_starts(experiment, digits):
    train = to_device_split(digits, "train", CPU)
    start = open_session(experiment, digits, 1, CPU, Recorder(CPU)).network
    for seed in (1, 2):
        network = initial_network(experiment.model, digits.image_shape, 10, seed, train, 500)
        assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
        same = [torch.equal(one, other) for one, other in zip(network.parameters(), start.parameters(), strict=True)]
        assert all(same) == (seed == 1)


def test_its_batch_norms_have_the_mean_over_batches_of_what_passes_through(experiment, digits):
    train = to_device_split(digits, "train", CPU)
    train = attrs.evolve(train, images=train.images[:90], labels=train.labels[:90])
    network = initial_network(experiment.model, digits.image_shape, 10, 0, train, 30)
    stem, norm = network.rounds[0], next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        for images, _ in batches(train, 30):
            stem(images)
    handle.remove()
    assert len(seen) == 3
    mean = torch.stack([each.mean((0, 2, 3)) for each in seen]).mean(0)
    variance = torch.stack([each.var((0, 2, 3)) for each in seen]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)


def test_random_features_are_worth_something_and_random_steps_go_nowhere(experiment, digits):
    sample = {name: subset(to_device_split(digits, name, CPU), 100) for name in ("train", "validation", "test")}
    network = initial_network(experiment.model, digits.image_shape, 10, 0, sample["train"], 50)
    images, labels = next(batches(sample["test"], 100))
    section = untrained_section(network, sample, images, labels, draws(0, "labels"), 50)
    assert min(section["modules"][f"probe_test_{end}"] for end in ("first", "last")) > 0.2, "guessing has a tenth"
    assert section["alignment"]["blocks"] == experiment.model.blocks
    assert section["alignment"]["mean"] == pytest.approx(0, abs=0.05)
