"""What each method is trained on, by which loss, for how long and under which seed: what no saved model can tell
afterwards.
"""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from torch.nn import functional

from replication.config import LengthParams
from replication.datasets.loader import DeviceSplit
from replication.training import boostresnet, end_to_end, stagewise
from replication.training.adaboost_mm import (
    AdaBoostMMBooster,
    ResampledAdaBoostMMBooster,
    adaboost_mm_booster,
    train_adaboost_mm,
)
from replication.training.boostresnet import MulticlassAlgorithm, train_boostresnet
from replication.training.boostresnet_binary import BinaryAlgorithm
from replication.training.checkpoint import Snapshot
from replication.training.features import BatchSource
from replication.training.gradient_boosting import GradientBooster, train_gradient_boosting
from replication.training.lengths import end_to_end_updates, refinement_updates
from replication.training.record import Recorder, Row, predict
from replication.training.session import Session, open_session
from replication.training.stagewise import StagewiseTrainer
from replication.training.train import train

CPU = torch.device("cpu")


@pytest.fixture
def session(experiment, digits):
    """A session of the short experiment, by its seed."""

    def opened(seed: int = 0, **augmentation: object) -> Session:
        changed = attrs.evolve(experiment, augmentation=attrs.evolve(experiment.augmentation, **augmentation))
        return open_session(changed, digits, seed, CPU, Recorder(CPU))

    return opened


def source(session: Session, seed: int = 0, phase: int = 0) -> BatchSource:
    """Batches of the session's images, which name the examples they are of."""
    prefix, augmentation = session.prefix(), session.experiment.augmentation
    batches = BatchSource(session.features(session.train, prefix), prefix, augmentation, 64, seed, phase)
    batches.targets = torch.arange(len(session.train))
    return batches


def test_what_is_done_keeps_no_gradients(session):
    opened = session()
    train_boostresnet(opened)
    frozen = [parameter for module in list(opened.network.rounds)[:-1] for parameter in module.parameters()]
    assert frozen and all(parameter.grad is None for parameter in frozen)
    opened = session()
    trainer = StagewiseTrainer(opened, AdaBoostMMBooster(opened.train.labels, 10))
    trainer.train()
    assert trainer.learners and all(one.grad is None for learner in trainer.learners for one in learner.parameters())


# Losses, on numbers that can be followed by hand.

LOGITS = torch.tensor([[math.log(2), 0.0, 0.0], [0.0, math.log(3), 0.0]])  # softmax: 1/2, 1/4, 1/4; 1/5, 3/5, 1/5
LABELS = torch.tensor([0, 2])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # a = 1, of the other classes alone: twice exp(1/4 - 1/2); exp(1/5 - 1/5) and exp(3/5 - 1/5).
        ("exponential", (2 * math.exp(-0.25) + 1.0 + math.exp(0.4)) / 2),
        # exp of the mean of log 2 and log 5.
        ("exp_cross_entropy", math.sqrt(10)),
    ],
)
def test_boostresnets_oracle_goes_by_the_loss_that_the_parameters_name(experiment, name, expected):
    params = attrs.evolve(experiment.boostresnet, oracle_loss=name)
    loss = MulticlassAlgorithm(LABELS, 3, params).oracle_loss()
    assert loss(LOGITS, LABELS).item() == pytest.approx(expected, rel=1e-6)


def test_the_binary_oracle_goes_by_algorithm_2():
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])  # o = 3/4 - 1/4
    loss = BinaryAlgorithm(torch.tensor([1, 0]), 0.0).oracle_loss()
    assert loss(logits, torch.tensor([1, 0])).item() == pytest.approx((math.exp(-0.5) + math.exp(0.5)) / 2, rel=1e-6)


def test_adaboost_mms_learners_go_by_the_surrogate_of_the_cost():
    costs = torch.tensor([[-3.0, 1.0, 2.0], [0.5, 0.0, -0.5]])
    loss = AdaBoostMMBooster(LABELS, 3).loss()
    # Beside the correct class: 1 and 2 times exp(0 - log 2); 1/2 times exp(0 - 0), and nothing.
    assert loss(LOGITS, costs).item() == pytest.approx((1.5 + 0.5) / 2, rel=1e-6)


def test_gradient_boostings_learners_go_by_least_squares():
    outputs, residuals = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    assert GradientBooster(LABELS, 2, 0.1).loss()(outputs, residuals).item() == 5.0  # (1 + 9) / 2


def test_another_oracle_loss_trains_other_weights(experiment, digits, tmp_path):
    weights = []
    for name in ("exponential", "exp_cross_entropy"):
        changed = attrs.evolve(experiment, boostresnet=attrs.evolve(experiment.boostresnet, oracle_loss=name))
        weights.append((train(changed, digits, "boostresnet", 0, tmp_path / name) / "model.safetensors").read_bytes())
    assert weights[0] != weights[1]


# Boosting: what a round is trained on follows from the rounds before.


def test_adaboost_mms_second_learner_is_trained_on_what_the_first_got_wrong(session):
    opened = session()
    labels = opened.train.labels
    trainer = StagewiseTrainer(opened, AdaBoostMMBooster(labels, 10))
    trainer.train_round(0)
    trainer.train_round(1)
    votes = trainer.weights[0] * functional.one_hot(predict(trainer.learners[0], trainer.inputs).argmax(1), 10).double()
    costs = torch.exp(votes - votes.gather(1, labels[:, None]))
    costs[torch.arange(len(labels)), labels] = 0.0
    costs *= len(labels) / costs.sum()
    costs[torch.arange(len(labels)), labels] = -costs.sum(1)
    torch.testing.assert_close(trainer.batches.targets, costs.float())
    assert costs.clamp(min=0.0).unique().numel() > 2  # not all alike, as before the first round


def test_by_resampling_learners_go_by_boostresnets_loss_on_images_drawn_by_their_cost(session):
    opened = session(crop_padding=0, flip=False)
    labels = opened.train.labels
    booster = ResampledAdaBoostMMBooster(labels, 10, "exp_cross_entropy")
    assert booster.loss()(LOGITS, LABELS).item() == pytest.approx(math.sqrt(10))  # as BoostResNet's, above
    assert booster.targets() is labels and booster.image_weights().unique().numel() == 1
    # A vote that is wrong on every image of the classes 0 to 4 and right on the others.
    wrong = labels < 5
    share = float(wrong.double().mean())
    edge = (1 - share) - share / 9  # a right class earns what the nine wrong ones cost together
    weight = math.atanh(edge)
    booster.add(functional.one_hot(torch.where(wrong, labels + 1, labels), 10).double())
    # Costs: exp(alpha) for the class voted for and 1 for eight others; nine times exp(-alpha).
    costs = torch.where(wrong, 8 + math.exp(weight), 9 * math.exp(-weight)).double()
    torch.testing.assert_close(booster.image_weights(), costs * len(labels) / costs.sum(), rtol=1e-6, atol=0)
    trainer = StagewiseTrainer(opened, booster)
    trainer.train_round(0)
    trainer.batches.targets = torch.arange(len(labels))
    drawn = torch.cat([trainer.batches()[1] for _ in range(400)])
    share = float(costs[wrong].sum() / costs.sum())
    assert abs(float(wrong[drawn].double().mean()) - share) < 6 * (share * (1 - share) / len(drawn)) ** 0.5
    assert share > float(wrong.double().mean()) + 0.1  # which uniform draws would give


def test_how_adaboost_mms_learners_are_trained_is_what_the_parameters_say(session):
    weights = []
    for name, booster in (("surrogate", AdaBoostMMBooster), ("resampled", ResampledAdaBoostMMBooster)):
        opened = session()
        weak_learners = attrs.evolve(opened.experiment.weak_learners, adaboost_training=name)
        experiment = attrs.evolve(opened.experiment, weak_learners=weak_learners)
        assert type(adaboost_mm_booster(experiment, LABELS, 3)) is booster
        weights.append(train_adaboost_mm(attrs.evolve(opened, experiment=experiment)).weights)
    assert different(*weights)


@pytest.mark.parametrize("flip", [False, True])
def test_what_is_drawn_by_weight_comes_with_its_own_image_and_label(session, flip):
    opened = session(crop_padding=0, flip=flip)
    batches = source(opened)
    weights = torch.zeros(len(opened.train))
    weights[3], weights[7] = 1.0, 3.0
    batches.draw_by(weights)
    inputs, index = batches()
    assert set(index.tolist()) == {3, 7}
    images = opened.train.normalise(opened.train.images[index])
    same, mirrored = ((inputs == wanted).flatten(1).all(1) for wanted in (images, images.flip(3)))
    assert bool((same | mirrored).all()) and bool(same.all()) != flip
    batches.draw_by(None)
    assert torch.equal(batches()[1], _after_one_draw(opened, flip))


def _after_one_draw(session: Session, flip: bool) -> torch.Tensor:
    """What is drawn uniformly by a generator that has drawn a batch by weight before."""
    batches = source(session)
    batches.draw_by(torch.ones(len(session.train)))
    batches()
    batches.draw_by(None)
    return batches()[1]


def test_gradient_boostings_second_learner_is_fitted_to_the_gradient_that_is_left(session):
    opened = session()
    labels = opened.train.labels
    trainer = StagewiseTrainer(opened, GradientBooster(labels, 10, 0.1))
    trainer.train_round(0)
    trainer.train_round(1)
    scores = trainer.weights[0] * predict(trainer.learners[0], trainer.inputs).double()
    residuals = functional.one_hot(labels, 10).double() - torch.softmax(scores, 1)
    torch.testing.assert_close(trainer.batches.targets, residuals.float())
    assert trainer.weights[0] > 0  # the first learner goes down the gradient, not up


# Seeds: everything that is random differs between two of them, or standard deviations over seeds would be too small.


def different(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether the weights, all but what every initialisation has alike, differ."""
    drawn = [name for name, value in first.items() if value.is_floating_point() and value.unique().numel() > 1]
    return bool(drawn) and all(not torch.equal(first[name], second[name]) for name in drawn)


def test_networks_start_from_their_seed(session):
    assert different(session(0).network.state_dict(), session(1).network.state_dict())


def test_weak_learners_start_from_their_seed_and_round(session, digits):
    def fresh(seed: int, index: int) -> dict[str, torch.Tensor]:
        opened = session(seed)
        booster = GradientBooster(opened.train.labels, 10, 0.1)
        return StagewiseTrainer(opened, booster)._fresh_learner(index).state_dict()

    assert different(fresh(0, 0), fresh(1, 0))
    assert different(fresh(0, 0), fresh(0, 1))


@pytest.mark.parametrize(("seed", "phase"), [(1, 0), (0, 1)])
def test_batches_are_drawn_by_seed_and_phase(session, seed, phase):
    opened = session(crop_padding=0, flip=False)
    indices, others = source(opened)()[1], source(opened, seed, phase)()[1]
    assert torch.equal(indices, source(opened)()[1])
    assert not torch.equal(indices, others)


@pytest.mark.parametrize(("seed", "phase"), [(1, 0), (0, 1)])
def test_crops_are_drawn_by_seed_and_phase(session, seed, phase):
    opened = session(crop_padding=2, flip=True)
    one, other = source(opened), source(opened, seed, phase)
    other.restore(Snapshot(other.snapshot().tensors | {"order": one.snapshot().tensors["order"]}))
    (images, indices), (others, same) = one(), other()
    assert torch.equal(indices, same)
    assert not torch.equal(images, others)


@pytest.mark.parametrize(("done", "phase"), [(0, 0), (30, 1)])
def test_a_refinement_draws_batches_of_its_own(session, monkeypatch, done, phase):
    phases = []

    class Watched(BatchSource):
        def __init__(self, *arguments: object, phase: int) -> None:
            phases.append(phase)
            super().__init__(*arguments, phase=phase)

    monkeypatch.setattr(end_to_end, "BatchSource", Watched)
    end_to_end.train_end_to_end(session(), 1, done=done)
    assert phases == [phase]


@pytest.mark.parametrize(
    ("module", "train"),
    [
        (boostresnet, train_boostresnet),
        (stagewise, train_adaboost_mm),
        (end_to_end, lambda opened: end_to_end.train_end_to_end(opened, 1)),
    ],
    ids=["boostresnet", "stagewise", "end to end"],
)
def test_batches_are_drawn_by_the_runs_own_seed(session, monkeypatch, module, train):
    class Drawn(Exception):
        pass

    def watched(_features: object, _prefix: object, _augmentation: object, _size: int, seed: int, phase: int = 0):
        raise Drawn(seed, phase)

    monkeypatch.setattr(module, "BatchSource", watched)
    with pytest.raises(Drawn) as caught:
        train(session(1))
    assert caught.value.args == (1, 0)


def test_linear_auxiliary_classifiers_start_from_the_runs_seed(session):
    def fresh(seed: int) -> torch.Tensor:
        opened = session(seed)
        params = attrs.evolve(opened.experiment.boostresnet, auxiliary="linear")
        opened = attrs.evolve(opened, experiment=attrs.evolve(opened.experiment, boostresnet=params))
        trainer = boostresnet.BoostResNetTrainer(opened, MulticlassAlgorithm(opened.train.labels, 10, params))
        return trainer.hypotheses.hypothesis(0).auxiliary.head.linear.weight

    assert torch.equal(fresh(0), fresh(0))
    assert not torch.equal(fresh(0), fresh(1))


# Lengths under a budget, and what is written down of a round where it ends.


@pytest.fixture
def halved(session):
    """A session at half the budget, with sections changed; the whole training split is behind its curves."""

    def opened(**sections: dict[str, object]) -> Session:
        whole = session()
        changed = {name: attrs.evolve(getattr(whole.experiment, name), **values) for name, values in sections.items()}
        experiment = attrs.evolve(whole.experiment, budget=0.5, **changed)
        return attrs.evolve(whole, experiment=experiment, curves=whole.curves | {"train": whole.train})

    return opened


def assert_rounds_end_on_the_curves(rows: dict[str, list[Row]]) -> None:
    """The three accuracies of every round are those of the point where it ends, each of its own split."""
    names = ("train_accuracy", "validation_accuracy", "test_accuracy")
    points = {row["gradient_updates"]: [row[name] for name in names] for row in rows["history"]}
    for row in rows["rounds"]:
        assert [row[name] for name in names] == pytest.approx(points[row["cumulative_updates"]], abs=1e-12)
    assert any(len(set(point)) == 3 for point in points.values())


def test_lengths_are_scaled_by_the_budget(experiment):
    half = attrs.evolve(experiment, budget=0.5)
    assert (refinement_updates(half, 5), end_to_end_updates(half, 5)) == (5 * 3, 2 * 5 * 3)
    stated = attrs.evolve(half, refinement=LengthParams(8), end_to_end=LengthParams(12))
    assert (refinement_updates(stated, 5), end_to_end_updates(stated, 5)) == (4, 6)


@pytest.mark.parametrize(
    ("threshold", "end", "points"),
    [(-1.0, (2, "gamma"), [2, 4, 5, 6, 8, 10]), (1.0, (3, "limit"), [3, 5, 6, 9, 10, 12, 15])],
)
def test_boostresnets_rounds_checks_and_points_are_scaled_by_the_budget(halved, threshold, end, points):
    opened = halved(boostresnet={"gamma_threshold": threshold, "check_interval": 4}, evaluation={"interval": 10})
    assert train_boostresnet(opened).updates == points[-1]
    rows = opened.recorder.rows
    assert [(row["gradient_updates"], row["moved_on"]) for row in rows["rounds"]] == [end] * 5
    assert [row["gradient_updates"] for row in rows["history"]] == points
    assert_rounds_end_on_the_curves(rows)


@pytest.mark.parametrize("train", [train_adaboost_mm, train_gradient_boosting])
def test_weak_learners_rounds_are_scaled_by_the_budget(halved, train):
    opened = halved()
    assert train(opened).updates == 15
    rows = opened.recorder.rows
    assert [row["gradient_updates"] for row in rows["rounds"]] == [3] * 5
    assert [row["gradient_updates"] for row in rows["history"]] == [3, 6, 9, 12, 15]
    assert_rounds_end_on_the_curves(rows)


def test_end_to_ends_points_are_scaled_by_the_budget(halved):
    opened = halved(evaluation={"interval": 10})
    assert end_to_end.train_end_to_end(opened, 12) == 12
    assert [row["gradient_updates"] for row in opened.recorder.rows["history"]] == [5, 10, 12]


# Augmented images, and the labels that go with them.


def padded_views(split: DeviceSplit, index: int, padding: int) -> list[torch.Tensor]:
    """Every crop of the normalised image in a frame of zeros, and its mirror."""
    image = split.normalise(split.images[index : index + 1])[0]
    padded = functional.pad(image, (padding,) * 4)
    _, height, width = image.shape
    places = [(row, column) for row in range(2 * padding + 1) for column in range(2 * padding + 1)]
    crops = [padded[:, row : row + height, column : column + width] for row, column in places]
    return crops + [crop.flip(2) for crop in crops]


@pytest.mark.parametrize("views", [0, 2])
def test_an_augmented_image_is_a_crop_of_the_normalised_one_with_its_own_target(session, views, tmp_path, monkeypatch):
    monkeypatch.setattr("replication.training.features.SCRATCH", tmp_path)
    opened = session(crop_padding=1, flip=True, cached_views=views)
    batches = source(opened)
    if views:
        batches.draw_views()
    images, indices = batches()
    for image, index in zip(images, indices.tolist(), strict=True):
        assert any(torch.equal(image, view) for view in padded_views(opened.train, index, 1))
