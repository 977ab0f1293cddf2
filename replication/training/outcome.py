"""What a method hands back when it has trained: the weights to save and what to say of them."""

from __future__ import annotations

from typing import Any

import attrs
from torch import Tensor, nn

from replication.models import ResNet
from replication.models.build import count_parameters
from replication.models.ensemble import Ensemble


@attrs.frozen
class Outcome:
    """A trained model.

    Attributes:
        updates: gradient updates from the start of the run.
        weights: for model.safetensors.
        description: further entries of run.json; those of its `model` section say what `load_model` has to build.
        auxiliary: BoostResNet's auxiliary classifiers, "ROUND.NAME" -> tensor.
    """

    updates: int
    weights: dict[str, Tensor]
    description: dict[str, Any]
    auxiliary: dict[str, Tensor] = attrs.field(factory=dict)


def network_outcome(network: ResNet, updates: int, auxiliary: dict[str, Tensor] | None = None) -> Outcome:
    """Of a method that leaves a residual network."""
    description = {"blocks": network.residual_blocks, "parameters": count_parameters(network)}
    return Outcome(updates, weights_of(network), description, auxiliary or {})


def ensemble_outcome(ensemble: Ensemble, updates: int, modules: str) -> Outcome:
    """Of a method that leaves a weighted sum of weak learners, built of `modules`; `blocks` and `parameters` are those
    of all of them.
    """
    learners = len(ensemble.learners)
    description = {
        "blocks": sum(learner.residual_blocks for learner in ensemble.learners if isinstance(learner, ResNet)),
        "parameters": count_parameters(ensemble),
        "learners": learners,
        "model": {"kind": "ensemble", "learners": learners, "vote": ensemble.vote, "modules": modules},
    }
    return Outcome(updates, weights_of(ensemble), description)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of everything that a model has learned, on the CPU, each tensor in memory of its own."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in model.state_dict().items()}
