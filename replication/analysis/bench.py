"""What is timed and counted: a session's network at one block after the other, and every kind of update there."""

from __future__ import annotations

import time
from typing import Any

import attrs
import torch
from torch import nn

from replication.analysis.measure import Action, peak_allocation
from replication.analysis.rivals import as_released_update
from replication.boosting.multiclass import oracle_loss
from replication.config import Experiment
from replication.datasets import PreparedDataset
from replication.models.build import count_parameters
from replication.models.ensemble import build_weak_learner
from replication.models.hypothesis import HypothesisFactory, HypothesisModule
from replication.training.adaboost_mm import adaboost_mm_booster
from replication.training.features import BatchSource, FrozenPrefix, SplitFeatures
from replication.training.record import Recorder
from replication.training.session import Session, open_session, placed
from replication.training.update import UpdateLoop

_ADAM_STATE = 2  # first and second moment, beside the weight itself
_FLOAT = 4
_COMPILING = 4  # updates: the first compiles, and on CUDA the graph of its kernels is recorded in a later one


class Bench:
    """A session's network at one block after the other, and the updates to be measured there.

    Args:
        experiment: what everything is made of. On a CPU, where compiling takes a minute a block, an update is compiled
            only where that is asked for.
        data: few images of every split.
        features: stored outputs to draw from instead of the network's own.
    """

    def __init__(
        self,
        experiment: Experiment,
        data: PreparedDataset,
        device: torch.device,
        features: SplitFeatures | None = None,
    ) -> None:
        self.experiment, self.data, self.device = experiment, data, device
        self.session = self._session()
        self.prefix = self.session.prefix()
        self.features = features or self.session.features(self.session.train, self.prefix)
        self.hypotheses = HypothesisFactory(self.session.network, experiment.boostresnet.auxiliary, 0, data.image_shape)

    @property
    def tries_compiling(self) -> bool:
        """Whether to measure what torch.compile gains beside what is measured without."""
        return self.device.type == "cpu" and self.experiment.runtime.compile == "always"

    def opens_a_stage(self, block: int) -> bool:
        """Whether `block` is the first residual block of its stage: one of each kind."""
        return self.session.network.names[block].endswith("block1")

    def _session(self) -> Session:
        return open_session(self.experiment, self.data, 0, self.device, Recorder(self.device))

    def batches(self, prefix: FrozenPrefix, features: SplitFeatures, augmented: bool | None = None) -> BatchSource:
        """Batches of outputs of `prefix`: of augmented images, or stored ones; None leaves it to the experiment."""
        augmentation = self.experiment.augmentation
        if augmented is False:
            augmentation = attrs.evolve(augmentation, crop_padding=0, flip=False)
        elif augmented and not augmentation.active:  # not augmented in the paper: what it would cost if it were
            augmentation = attrs.evolve(augmentation, crop_padding=1, flip=True)
        return BatchSource(features, prefix, augmentation, self.experiment.optimizer.batch_size, seed=0)

    def update(self, model: nn.Module, loss: nn.Module, batches: BatchSource, compiled: bool = False) -> Action:
        """An update of `model` as training makes it."""
        runtime = self.experiment.runtime
        if self.device.type == "cpu":
            runtime = attrs.evolve(runtime, compile="always" if compiled else "never")
        parameters = (*model.parameters(), *loss.parameters())
        loop = UpdateLoop(model, loss.to(self.device), batches, self.experiment.optimizer, runtime, seed=0)
        if runtime.compile != "always":
            return Action(loop.run, parameters=parameters)
        loop.run(_COMPILING)
        # A recorded graph of kernels neither allocates nor calls anything that could be counted.
        eager = attrs.evolve(runtime, compile="never")
        counted = UpdateLoop(model, loss, batches, self.experiment.optimizer, eager, seed=0)
        counted.run(1)  # makes Adam's moments
        return Action(loop.run, parameters=parameters, counted=Action(counted.run, parameters=parameters))

    def block_update(self, block: int, *, augmented: bool, compiled: bool = False) -> Action:
        """An update of BoostResNet at `block`; the prefix must hold the blocks before it."""
        loss = oracle_loss(self.experiment.boostresnet.oracle_loss)
        batches = self.batches(self.prefix, self.features, augmented)
        return self.update(self.hypotheses.hypothesis(block), loss, batches, compiled)

    def end_to_end(self, compiled: bool = False) -> Action:
        """An end-to-end update, of a network of its own."""
        session = self._session()
        images = session.prefix()
        batches = self.batches(images, session.features(session.train, images))
        return self.update(session.network, nn.CrossEntropyLoss(), batches, compiled)

    def adaboost_mm(self) -> tuple[Action, nn.Module]:
        """An update of a fresh weak learner of AdaBoost.MM on the first round's costs, and the learner."""
        train, nothing_frozen = self.session.train, self.session.prefix()
        booster = adaboost_mm_booster(self.experiment, train.labels, self.data.num_classes)
        batches = self.batches(nothing_frozen, self.session.features(train, nothing_frozen))
        batches.targets = booster.targets()
        batches.draw_by(booster.image_weights())
        model, modules = self.experiment.model, self.experiment.weak_learners.modules
        learner = build_weak_learner(model, self.data.image_shape, self.data.num_classes, 0, modules)
        learner = placed(learner, self.experiment, self.device)
        return self.update(learner, booster.loss(), batches), learner

    def as_released(self, block: int) -> Action:
        """An update of `block` the way the released code does it."""
        return as_released_update(self.experiment, self.data, block, self.device)

    def hypothesis(self, block: int) -> HypothesisModule:
        """What is trained at `block`."""
        return self.hypotheses.hypothesis(block)

    def freeze(self, block: int) -> float:
        """Go on to the next block.

        Returns:
            Seconds that it took to store its outputs.
        """
        start = time.perf_counter()
        self.prefix.freeze(self.session.network.rounds[block])
        self.features.advance()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def weights(self) -> int:
        """Bytes of what lies on the device while a block is trained: the whole network, a stage's own classifiers, and
        the frozen blocks' copies with folded batch norms.
        """
        own = {id(module) for module in self.session.network.rounds}
        copies = [module for module in self.prefix.modules if id(module) not in own]
        heads = sum(tensor.nbytes for tensor in self.hypotheses.state_dict().values())
        return module_bytes(self.session.network) + sum(map(module_bytes, copies)) + heads

    def memory(self, action: Action, trained: nn.Module, weights: int | None = None) -> dict[str, int]:
        """Bytes of an update: what it allocates on the way (activations, gradients), and what lies there all the time.
        Images and stored prefix outputs are not among them.
        """
        traced = peak_allocation(action, self.device)
        state = count_parameters(trained) * _FLOAT * _ADAM_STATE
        weights = self.weights() if weights is None else weights
        total = traced + state + weights
        return {"activations_and_gradients": traced, "optimiser": state, "weights": weights, "total": total}

    def stored_bytes(self, examples: int) -> int | None:
        """What the stored outputs of so many examples take; None where none are stored."""
        store = self.features.store
        return None if store is None else store.nbytes * examples // len(self.features)


def module_bytes(module: nn.Module) -> int:
    """Bytes of weights, running statistics and whatever else a module has."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def sampled(data: PreparedDataset, size: int) -> PreparedDataset:
    """The first `size` images of every split: all that updates are measured on."""
    kept: dict[str, Any] = {
        field: {split: values[:size] for split, values in getattr(data, field).items()}
        for field in ("images", "labels")
    }
    return attrs.evolve(data, **kept)
