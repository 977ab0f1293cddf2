"""scripts/adaboost_resampled.py: what its batches and losses are, and a short run as a user types it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import torch

from replication.boosting.multiclass import ExpCrossEntropyLoss
from replication.config import Experiment, load_experiment
from replication.datasets import PreparedDataset
from replication.errors import ReplicationError
from replication.training.record import Recorder
from replication.training.session import Session, open_session
from scripts.adaboost_resampled import BatchesByCost, trainer_of

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts/adaboost_resampled.py"
CPU = torch.device("cpu")


@pytest.fixture
def short() -> Experiment:
    return attrs.evolve(load_experiment("digits", ROOT / "params.yaml"), budget=0.0002)


def opened(experiment: Experiment, digits: PreparedDataset) -> Session:
    return open_session(experiment, digits, 0, CPU, Recorder(CPU))


def test_images_are_drawn_in_proportion_to_their_cost(short: Experiment, digits: PreparedDataset) -> None:
    batches = trainer_of(opened(short, digits)).batches
    assert isinstance(batches, BatchesByCost)
    labels = opened(short, digits).train.labels
    costs = torch.zeros(len(labels), 10)
    costs[3, (labels[3] + 1) % 10], costs[7, (labels[7] + 2) % 10] = 1.0, 3.0  # no other image costs anything
    costs[torch.arange(len(labels)), labels] = -costs.sum(1) - 1e-9
    batches.targets = costs
    drawn = [batches() for _ in range(40)]
    images = opened(short, digits).train
    wanted = images.normalise(images.images[[3, 7]])
    seen = torch.cat([inputs for inputs, _ in drawn])
    which = torch.stack([(seen == one).flatten(1).all(1) for one in wanted])
    assert bool(which.any(0).all()) and int(which.sum()) == 4000, (
        "the two images that cost, and each with its own pixels"
    )
    assert 0.71 < which[1].float().mean() < 0.79, "three quarters: five standard deviations are 0.034"
    given = torch.cat([each for _, each in drawn])
    assert torch.equal(given, torch.where(which[1], labels[7], labels[3]))


def test_the_first_learner_goes_by_boostresnets_loss_and_the_second_sees_other_costs(
    short: Experiment, digits: PreparedDataset
) -> None:
    trainer = trainer_of(opened(short, digits))
    assert isinstance(trainer.booster.loss(), ExpCrossEntropyLoss)
    trainer.train_round(0)
    first = trainer.batches.targets
    assert first.clamp(min=0.0).sum(1).unique().numel() == 1, "all images alike"
    trainer.train_round(1)
    assert trainer.batches.targets.clamp(min=0.0).sum(1).unique().numel() > 1


def test_augmented_images_are_refused(short: Experiment, digits: PreparedDataset) -> None:
    flipped = attrs.evolve(short, augmentation=attrs.evolve(short.augmentation, flip=True))
    with pytest.raises(ReplicationError, match="augmented"):
        trainer_of(opened(flipped, digits))


def test_it_trains_as_a_user_types_it(tmp_path: Path) -> None:
    for command in (("-m", "replication", "prepare", "digits"), (str(SCRIPT), "digits", "--budget", "0.0002")):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # nothing is installed in a checkout
        done = subprocess.run(
            [sys.executable, *command], cwd=_checkout(tmp_path), env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        said = done.stdout
    last = re.fullmatch(
        r"digits seed 0 budget 0\.0002: train (0\.\d{4}), validation 0\.\d{4}, test 0\.\d{4}; after the first round "
        r"train (0\.\d{4}), test 0\.\d{4}; \d+ s; edges (.*)",
        said.splitlines()[-1],
    )
    assert last and 0 < float(last[1]) < 1 and len(last[3].split(", ")) == 7
    assert not list(tmp_path.glob("scratch/*/*.checkpoint")), "a finished run leaves none"


@pytest.mark.parametrize("wrong", [("nothing",), ("mnist", "--budget", "0")])
def test_what_cannot_be_is_one_line(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *wrong], cwd=_checkout(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")


def _checkout(folder: Path) -> Path:
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return folder
