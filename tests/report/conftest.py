"""Published results to build reports from, made up by `synthetic`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from replication.config import DATASETS, METHODS
from replication.report.build import build_report
from replication.report.claims import write_claims
from tests.report.synthetic import Plant, plant_run
from tests.report.synthetic_more import (
    give_ablations_their_methods,
    plant_ablations,
    plant_budgets,
    plant_cost,
    plant_depth,
    plant_full_analysis,
    plant_label_boosting,
    plant_other_methods,
)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """`plant(dataset, method, seed, …)` writes one synthetic run under `tmp_path / "results"`."""

    def write(*arguments: Any, **options: Any) -> Path:
        return plant_run(tmp_path / "results", *arguments, **options)

    return write


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of one's own, to be changed."""
    return _plant_everything(tmp_path / "results")


@pytest.fixture(scope="session")
def shared_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tree for all tests that only read it."""
    return _plant_everything(tmp_path_factory.mktemp("shared") / "results")


@pytest.fixture(scope="session")
def generated(shared_tree: Path) -> Path:
    """What the report makes of `shared_tree`."""
    folder = shared_tree.parent / "generated"
    for dataset in DATASETS:
        build_report(dataset, shared_tree, folder)
    return folder


def _plant_everything(root: Path) -> Path:
    """Digits with everything and three seeds, CIFAR-10 from an unofficial copy with one seed, MNIST against depth."""
    for method in METHODS:
        for seed in range(3):
            folder = plant_run(root, "digits", method, seed, early=True)
            if method != "hist-gradient-boosting":
                plant_full_analysis(folder)
        if method in ("boostresnet", "e2e", "boostresnet-refined"):
            plant_run(root, "cifar10", method, 0, blocks=24, per_block=20, budget=0.002, official=False)
    for dataset in ("digits", "cifar10"):
        plant_cost(root, dataset)
    plant_depth(root)
    give_ablations_their_methods(plant_ablations(root), budget=0.02)
    plant_budgets(root)
    plant_other_methods(root)
    plant_label_boosting(root)
    for dataset in ("digits", "cifar10"):
        write_claims(dataset, root, root / dataset / "claims.json")
    return root
