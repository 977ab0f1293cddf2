"""A whole run put together from its parts, by hand."""

from __future__ import annotations

import attrs
import pytest
import torch

from replication.analysis.whole_run import OVERHEAD, fixed_parts, overhead_share, whole_run
from replication.training.record import PHASES, Recorder
from replication.training.session import open_session

BLOCK = {
    "evaluation_ms_per_1000": 100.0,
    "advance_ms_per_1000": 50.0,
    "cached_ms": {"median": 10.0},
    "augmented_ms": {"median": 99.0},
}
PARTS = {"checkpoint": 20.0, "statistics": 3.0, "point": 1.0}
SIZES = {"train": 1293, "validation": 144, "test": 360}


def test_it_adds_up_its_parts(experiment):
    evaluation = attrs.evolve(experiment.evaluation, interval=2, held_out_samples=100)
    saving = attrs.evolve(experiment, checkpoint=attrs.evolve(experiment.checkpoint, updates=4))
    run = whole_run(saving, evaluation, SIZES, [BLOCK, BLOCK], PARTS)
    # Two blocks of 6 updates of 10 ms, 2 checks of 1293 images and 3 ms, 3 points of 200 + 100 + 100 images and 1 ms,
    # checkpoints after 4 updates and at the end, and one pass over the training images and the curves'.
    assert (run["batches"], run["updates"]) == ("cached", 6)
    assert set(run["seconds"]) == set(PHASES)
    assert run["seconds"] == pytest.approx({
        "update": 0.12, "prefix": 2 * 1693 * 5e-5, "check": 2 * 2 * (1293 * 1e-4 + 0.003),
        "evaluation": 2 * 3 * 400 * 1e-4, "checkpoint": 0.08, "logging": 0.006,
    }, abs=1e-4)  # fmt: skip


def test_the_curves_are_those_that_are_asked_for_and_not_the_experiments(experiment):
    rare = attrs.evolve(experiment, evaluation=attrs.evolve(experiment.evaluation, interval=50_000, train_samples=1))
    few, many = (
        whole_run(rare, evaluation, SIZES, [BLOCK], PARTS)["seconds"]["evaluation"]
        for evaluation in (rare.evaluation, attrs.evolve(experiment.evaluation, interval=1))
    )
    # One point of 1 + 144 + 360 images against six of 200 + 144 + 360.
    assert many / few == pytest.approx(6 * 704 / 505, rel=1e-3)


def test_an_augmented_run_streams_its_prefix(experiment):
    augmented = attrs.evolve(experiment, augmentation=attrs.evolve(experiment.augmentation, flip=True))
    run = whole_run(augmented, experiment.evaluation, SIZES, [BLOCK], PARTS)
    assert (run["batches"], run["seconds"]["update"]) == ("augmented", pytest.approx(6 * 0.099))


def test_the_share_counts_all_that_is_no_training():
    assert set(PHASES) - set(OVERHEAD) == {"update", "prefix"}
    seconds = {"update": 90.0, "prefix": 1.0, "check": 3.0, "evaluation": 4.0, "checkpoint": 1.5, "logging": 0.5}
    run = {"seconds": {**seconds, "logging": 1.0}}
    assert overhead_share(run) == pytest.approx(9.5 / 100.5)


def test_fixed_parts_are_measured_on_a_session_and_leave_it_as_it_was(experiment, digits):
    session = open_session(experiment, digits, 0, torch.device("cpu"), Recorder(torch.device("cpu")))
    before = {name: value.clone() for name, value in session.network.state_dict().items()}
    parts = fixed_parts(session, session.train.labels)
    assert set(parts) == set(PARTS) and all(value > 0 for value in parts.values())
    assert all(torch.equal(before[name], value) for name, value in session.network.state_dict().items())
    assert not session.recorder.rows["history"]
