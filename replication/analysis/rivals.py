"""What BoostResNet is timed against: plain end-to-end loops and the released code's way of an update; all in the
experiment's precision, which is no merit of either side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from replication.analysis.measure import Action
from replication.config import Experiment
from replication.datasets import PreparedDataset
from replication.datasets.loader import to_device_split
from replication.models import ResNet, build_network
from replication.models.hypothesis import HypothesisFactory
from replication.training.update import forward_precision

Draw = Callable[[], tuple[Tensor, Tensor]]

_WORKERS, _PREFETCHED = 2, 2  # batches that each worker makes ahead
_IN_FLIGHT = _WORKERS * _PREFETCHED
_ENDLESS = 10**6


def plain_end_to_end_update(experiment: Experiment, data: PreparedDataset, device: torch.device) -> Action:
    """One end-to-end update as most would write it first: eager, contiguous, unfused, on a batch that lies ready."""
    network = _network(experiment, data, device)
    batch = _ready_batch(experiment, data, device)
    return _plain_update(network, list(network.parameters()), experiment, lambda: batch)


def dataloader_update(experiment: Experiment, data: PreparedDataset, device: torch.device) -> Action:
    """The same with batches from a DataLoader with two workers and torchvision's transforms of PIL images.

    The workers live in its own turns alone, or they would make batches at the expense of what is timed next. A turn's
    clock starts when as many updates are done as batches are made ahead: from there on the loop waits for its data, or
    does not, as in a long run.
    """
    network = _network(experiment, data, device)
    batches: list[Iterator[Any]] = []

    def draw() -> tuple[Tensor, Tensor]:
        images, labels = next(batches[0])
        return images.to(device), labels.to(device)

    def prepare() -> None:
        batches.append(iter(_loader(experiment, data)))
        update.repeat(_IN_FLIGHT)

    update = _plain_update(network, list(network.parameters()), experiment, draw)
    return attrs.evolve(update, prepare=prepare, finish=batches.clear)


def as_released_update(experiment: Experiment, data: PreparedDataset, block: int, device: torch.device) -> Action:
    """One update of `block` the released code's way.

    The prefix runs in training mode and inside autograd, its gradients are computed and thrown away, and a test batch
    goes through the network after every update.
    """
    network = _network(experiment, data, device)
    hypothesis = HypothesisFactory(network, experiment.boostresnet.auxiliary, 0, data.image_shape).hypothesis(block)
    batch, prefix = _ready_batch(experiment, data, device), list(network.rounds[:block])
    whole = nn.Sequential(*prefix, hypothesis)
    if network.flatten:
        whole.insert(0, nn.Flatten())
    update = _plain_update(whole, list(hypothesis.parameters()), experiment, lambda: batch)

    def once() -> None:
        update.repeat(1)
        for module in prefix:
            module.zero_grad(set_to_none=True)
        with torch.no_grad(), forward_precision(device.type, experiment.runtime):
            whole(batch[0])

    return Action.of(once, (*network.parameters(), *hypothesis.parameters()))


def _network(experiment: Experiment, data: PreparedDataset, device: torch.device) -> ResNet:
    return build_network(experiment.model, data.image_shape, data.num_classes, seed=0).to(device)


def _ready_batch(experiment: Experiment, data: PreparedDataset, device: torch.device) -> tuple[Tensor, Tensor]:
    split, size = to_device_split(data, "train", device), experiment.optimizer.batch_size
    return split.normalise(split.images[:size]), split.labels[:size]


def _plain_update(model: nn.Module, parameters: list[nn.Parameter], experiment: Experiment, draw: Draw) -> Action:
    params = experiment.optimizer
    optimizer = torch.optim.Adam(parameters, lr=params.learning_rate)
    autocast = forward_precision(parameters[0].device.type, experiment.runtime)

    def once() -> None:
        model.train()
        inputs, labels = draw()
        optimizer.zero_grad()
        with autocast:
            logits = model(inputs)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        if params.gradient_clamp is not None:
            nn.utils.clip_grad_value_(parameters, params.gradient_clamp)
        optimizer.step()

    return Action.of(once, parameters)


class _PILDataset(Dataset[tuple[Tensor, int]]):
    def __init__(self, experiment: Experiment, data: PreparedDataset) -> None:
        self._images, self._labels = torch.from_numpy(data.images["train"]), data.labels["train"]
        steps: list[Callable[..., object]] = [transforms.ToPILImage()]
        if experiment.augmentation.crop_padding:
            steps.append(transforms.RandomCrop(data.image_shape[1:], padding=experiment.augmentation.crop_padding))
        if experiment.augmentation.flip:
            steps.append(transforms.RandomHorizontalFlip())
        self._transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(data.mean, data.std)])

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(self._images[index]), int(self._labels[index])


def _loader(experiment: Experiment, data: PreparedDataset) -> DataLoader[tuple[Tensor, int]]:
    """Batches without end, drawn with replacement."""
    dataset, size = _PILDataset(experiment, data), experiment.optimizer.batch_size
    sampler = RandomSampler(dataset, replacement=True, num_samples=_ENDLESS * size)
    return DataLoader(dataset, size, sampler=sampler, num_workers=_WORKERS, prefetch_factor=_PREFETCHED)
