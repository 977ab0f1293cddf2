"""Shared fixtures: the embedded digits, and experiments short enough for a test."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch
from hypothesis import settings

from replication.config import Experiment, load_experiment
from replication.datasets import PreparedDataset
from replication.datasets.prepare import prepare

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("untimed", deadline=None)  # a busy machine is no fault of what is tested
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """The prepared digits data."""
    folder = tmp_path_factory.mktemp("digits")
    params = load_experiment("digits", ROOT / "params.yaml").data
    return prepare("digits", params, folder / "raw", folder / "digits.safetensors")


@pytest.fixture(scope="session")
def experiment() -> Experiment:
    """The digits experiment, cut to 4 blocks and a few gradient updates per block, on one CPU thread."""
    whole = load_experiment("digits", ROOT / "params.yaml")
    return attrs.evolve(
        whole,
        budget=1.0,
        model=attrs.evolve(whole.model, blocks=4, width=4),
        optimizer=attrs.evolve(whole.optimizer, batch_size=32),
        boostresnet=attrs.evolve(whole.boostresnet, updates_per_block=6, check_interval=3, gamma_threshold=1.0),
        evaluation=attrs.evolve(whole.evaluation, interval=5, train_samples=200),
        runtime=attrs.evolve(whole.runtime, device="cpu", threads=1),
    )


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
