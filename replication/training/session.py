"""What every method needs to train: data on the device, the network, the curves' splits and the recorder."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors.torch import save
from torch import nn

from replication.config import Experiment, load_defaults
from replication.datasets import PreparedDataset
from replication.datasets.loader import DeviceSplit, to_device_split
from replication.errors import TrainingError
from replication.fitting import check_fits, check_placeable
from replication.models import ResNet, build_network
from replication.training.checkpoint import Checkpoints, run_key, what_determines
from replication.training.device import choose_device
from replication.training.distributed import synchronise_batch_norms
from replication.training.features import FrozenPrefix, SplitFeatures
from replication.training.lengths import check_length
from replication.training.outcome import weights_of
from replication.training.record import Observer, Recorder
from replication.training.seeds import generator, stream_seed


@attrs.frozen
class Session:
    """One run in the making.

    Attributes:
        network: to be trained; initialised from the seed.
        train: the training split on the device.
        curves: what is behind each point of the curves (fixed samples of train, validation, and test if asked for).
        own_network: whether `network` is one of the user's own, and not what the experiment's `model` describes.
    """

    experiment: Experiment
    seed: int
    device: torch.device
    network: ResNet
    train: DeviceSplit
    curves: dict[str, DeviceSplit]
    recorder: Recorder
    checkpoints: Checkpoints
    own_network: bool = False

    def with_network(self, network: ResNet) -> Session:
        """The same session with a network of one's own, which is moved to the device; all of it will be trained, also
        what an earlier training froze.

        Raises:
            TrainingError: it does not fit the data, or its modules do not fit together; the line names the module.
        """
        check_placeable(network, channels_last=self.experiment.runtime.fast)
        network = placed(network.requires_grad_(True), self.experiment, self.device)
        check_fits(network, self.train.normalise(self.train.images[:1]), self.network.head.linear.out_features)
        return attrs.evolve(self, network=network, own_network=True)

    def check_unused(self) -> None:
        """TrainingError where a training has begun in it: the recorder has the rows of one, the network its weights."""
        if any(self.recorder.rows.values()):
            raise TrainingError("this session has been trained in already; open another one for every training")

    def prefix(self) -> FrozenPrefix:
        """An empty prefix of the session's network."""
        runtime, training = self.experiment.runtime, self.experiment.boostresnet.prefix_mode == "training"
        bfloat16 = runtime.precision == "bfloat16"
        return FrozenPrefix(self.network, fast=runtime.fast, training=training, bfloat16=bfloat16)

    def features(self, data: DeviceSplit, prefix: FrozenPrefix) -> SplitFeatures:
        """The outputs of `prefix` on `data`, stored within the run's limits."""
        return SplitFeatures(data, prefix, self.experiment.evaluation.batch_size, self.experiment.runtime)

    def curve_features(self, prefix: FrozenPrefix) -> dict[str, SplitFeatures]:
        """The outputs of `prefix` on the curves' splits."""
        return {name: self.features(data, prefix) for name, data in self.curves.items()}


def open_session(
    experiment: Experiment,
    data: PreparedDataset,
    seed: int,
    device: torch.device,
    recorder: Recorder,
    checkpoints: Checkpoints | None = None,
) -> Session:
    """Put the data on `device` and initialise the network from `seed`, on the CPU first, so that every device
    starts alike.
    """
    network = build_network(experiment.model, data.image_shape, data.num_classes, stream_seed(seed, "initialisation"))
    train = to_device_split(data, "train", device)
    evaluation = experiment.evaluation
    curves = {"train": _sample(train, evaluation.train_samples, seed)}
    for name in ("validation", "test") if evaluation.test_curve else ("validation",):
        curves[name] = _sample(to_device_split(data, name, device), evaluation.held_out_samples, seed)
    return Session(
        experiment=experiment,
        seed=seed,
        device=device,
        network=placed(network, experiment, device),
        train=train,
        curves=curves,
        recorder=recorder,
        checkpoints=checkpoints or Checkpoints(None, experiment.checkpoint),
    )


def own_session(
    network: ResNet,
    data: PreparedDataset,
    *,
    updates_per_block: int,
    seed: int = 0,
    checkpoints: str | Path | None = None,
    experiment: Experiment | None = None,
    observers: tuple[Observer, ...] = (),
) -> Session:
    """Everything to train a network of one's own on data of one's own.

    Args:
        network: as `Session.with_network` takes it.
        data: as `datasets.prepared.assemble` gives it.
        updates_per_block: gradient updates of a block; gamma is checked at its end.
        seed: fixes batch order, augmentation, the linear auxiliary classifiers, and what modules draw in training from
            PyTorch's own generator, as dropout does; not the network's initialisation.
        checkpoints: a folder in which the same training goes on where it was stopped, or is found done: the same
            network as it is before, data, settings and code; any other starts anew, in a subfolder of its own. Without
            one nothing is kept.
        experiment: all other settings; by default those under `defaults` in params.yaml: no augmentation, the paper's
            learning rate, a GPU where there is one. Its budget and its sections `model`, `end_to_end` and `refinement`
            have no effect.
        observers: called with every row of the curves and rounds as it arises.

    Raises:
        ConfigError: there is no params.yaml in the working directory, and no `experiment`.
        TrainingError: the network does not fit the data, `updates_per_block` is no positive integer, another argument
            is not of its kind, or there is no such device.
    """
    check_length("updates_per_block", updates_per_block)
    experiment = experiment or load_defaults("digits")
    _check_arguments(data, seed, experiment, checkpoints, observers)
    lengths = attrs.evolve(
        experiment.boostresnet, updates_per_block=updates_per_block, check_interval=updates_per_block
    )
    experiment = attrs.evolve(experiment, budget=1.0, boostresnet=lengths)
    device = choose_device(experiment.runtime)
    session = open_session(experiment, data, seed, device, Recorder(device, observers)).with_network(network)
    if checkpoints is None:
        return session
    folder = Path(checkpoints) / run_key(_determines(session, data))
    return attrs.evolve(session, checkpoints=Checkpoints(folder, experiment.checkpoint))


def _check_arguments(data: object, seed: object, experiment: object, checkpoints: object, observers: object) -> None:
    """Of somebody's own script, which no type checker may have seen."""
    functions = isinstance(observers, tuple) and all(map(callable, observers))
    for name, found, fits, wanted in (
        ("data", data, isinstance(data, PreparedDataset), "what datasets.prepared.assemble gives"),
        ("seed", seed, type(seed) is int and seed >= 0, "a whole number from 0 on"),
        ("experiment", experiment, isinstance(experiment, Experiment), "an Experiment, as of config.load_defaults"),
        ("checkpoints", checkpoints, checkpoints is None or isinstance(checkpoints, str | Path), "a folder"),
        ("observers", observers, functions, "a tuple of functions, as in (progress_of(...),)"),
    ):
        if not fits:
            shown = " ".join(repr(found).split())
            raise TrainingError(f"{name} must be {wanted}; got {type(found).__name__} {shown:.40}")


def _determines(session: Session, data: PreparedDataset) -> dict[str, Any]:
    """Everything beside the code and the method that determines a training of one's own network."""
    network = session.network
    return what_determines(session.experiment, data, session.device) | {
        "seed": session.seed,
        "network": [repr(network), network.names, network.stage_starts, network.flatten],
        "modules": {name: _as_written(module) for name, module in network.named_modules()},
        "weights": hashlib.sha256(save(weights_of(network))).hexdigest(),
    }


def _as_written(module: nn.Module) -> list[Any]:
    """What a module computes beside its weights: the source of its classes, but PyTorch's, and its plain attributes."""
    sources = []
    for each in type(module).__mro__:
        if each.__module__.partition(".")[0] not in ("torch", "builtins"):
            with contextlib.suppress(OSError, TypeError):  # typed in, or compiled
                sources.append(inspect.getsource(each))
    attributes = {}
    for name, value in vars(module).items():
        if not name.startswith("_") and name != "training":
            with contextlib.suppress(TypeError, ValueError):
                attributes[name] = json.dumps(value)
    return [sources, attributes]


def placed(network: ResNet, experiment: Experiment, device: torch.device) -> ResNet:
    """`network` itself, on `device`, its batch norms over all processes."""
    synchronise_batch_norms(network)
    # Channels last, the convolutions of both kinds of device read memory in one run.
    layout = torch.channels_last if experiment.runtime.fast else torch.contiguous_format
    return network.to(device).to(memory_format=layout)


def _sample(split: DeviceSplit, size: int, seed: int) -> DeviceSplit:
    """A fixed random subset, the whole split where it is no larger."""
    if size >= len(split):
        return split
    chosen = torch.randperm(len(split), generator=generator(seed, "curve-samples"))[:size].sort().values
    chosen = chosen.to(split.images.device)
    return attrs.evolve(split, images=split.images[chosen], labels=split.labels[chosen])
