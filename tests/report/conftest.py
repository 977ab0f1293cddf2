"""Published results to build reports from, made up by `synthetic`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report.synthetic import Plant, plant_run


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """`plant(dataset, method, seed, …)` writes one synthetic run under `tmp_path / "results"`."""

    def write(*arguments: Any, **options: Any) -> Path:
        return plant_run(tmp_path / "results", *arguments, **options)

    return write


@pytest.fixture
def tree(plant: Plant, tmp_path: Path) -> Path:
    """Digits with every method and three seeds, CIFAR-10 from an unofficial copy with one seed; the rest not run."""
    for method in ("boostresnet", "e2e", "boostresnet-refined"):
        for seed in range(3):
            plant("digits", method, seed, early=True)
        plant("cifar10", method, 0, blocks=24, per_block=20, budget=0.002, official=False)
    return tmp_path / "results"
