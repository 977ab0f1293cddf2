"""How many gradient updates each method makes under the budget, so that methods are compared at equal numbers."""

from __future__ import annotations

from replication.config import Experiment
from replication.errors import TrainingError


def boostresnet_updates(experiment: Experiment, rounds: int) -> int:
    """The most that BoostResNet may make: every round to its limit."""
    return rounds * experiment.scaled(experiment.boostresnet.updates_per_block)


def refinement_updates(experiment: Experiment, rounds: int) -> int:
    """Updates of the refinement after BoostResNet; as many as BoostResNet's most where the parameter is null."""
    if experiment.refinement.updates is not None:
        return experiment.scaled(experiment.refinement.updates)
    return boostresnet_updates(experiment, rounds)


def end_to_end_updates(experiment: Experiment, rounds: int) -> int:
    """Updates of end-to-end training; those of BoostResNet and its refinement together where the parameter is null."""
    if experiment.end_to_end.updates is not None:
        return experiment.scaled(experiment.end_to_end.updates)
    return boostresnet_updates(experiment, rounds) + refinement_updates(experiment, rounds)


def check_length(name: str, updates: object) -> None:
    """TrainingError unless `updates`, which the caller calls `name`, is a positive integer, of at most 10^9."""
    if type(updates) is not int or not 1 <= updates <= 10**9:
        raise TrainingError(f"{name} is {updates!r}; it counts gradient updates and must be an integer from 1 to 10**9")
