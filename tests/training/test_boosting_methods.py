"""The boosting methods beside BoostResNet, trained for a few updates: what they leave, and that it repeats itself."""

from __future__ import annotations

import math
from pathlib import Path

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file

from replication.analysis.checks import check_same_parameters
from replication.analysis.evaluate import evaluate
from replication.analysis.theory import lemma_3_2_difference
from replication.boosting.adaboost_mm import AdaBoostMM
from replication.boosting.binary import BinaryBoosting, module_output
from replication.boosting.gradient import GradientBoosting
from replication.datasets.loader import to_device_split
from replication.datasets.pairs import restrict_to_pair
from replication.errors import DataError, ResultsError
from replication.files import read_csv, read_json, write_json
from replication.models.build import build_network, count_parameters
from replication.models.ensemble import Ensemble, build_weak_learner
from replication.training.features import BatchSource
from replication.training.record import Recorder
from replication.training.runs import load_model, load_network
from replication.training.seeds import stream_seed
from replication.training.session import open_session
from replication.training.train import train
from tests.tampering import renew_digests

METHODS = ("boostresnet-binary", "adaboost-mm", "gradient-boosting", "hist-gradient-boosting")
DETERMINED_BY_SEED = ("history.csv", "rounds.csv", "model.safetensors", "auxiliary.safetensors")


@pytest.fixture
def short(experiment):
    """Few trees for the library, everything else as the shared fixture has it."""
    return attrs.evolve(experiment, stock_library=attrs.evolve(experiment.stock_library, iterations=2))


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_bytes_and_the_published_numbers_are_the_models(short, digits, tmp_path, method):
    first = train(short, digits, method, 0, tmp_path / "runs")
    again = train(short, digits, method, 0, tmp_path / "again")
    for name in DETERMINED_BY_SEED:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name
    metrics = evaluate(short, digits, method, 0, tmp_path / "runs", tmp_path / "results")
    last = read_csv(first / "history.csv")[-1]
    for name in ("validation_accuracy", "test_accuracy", "validation_loss", "test_loss"):
        assert metrics[name] == pytest.approx(float(last[name]), rel=1e-5), name
    assert metrics["parameters"] > 0 and metrics["official_data"] is True
    assert metrics["gradient_updates"] == int(last["gradient_updates"])
    published = read_json(tmp_path / "results/digits" / method / "seed0/metrics.json")
    assert published == metrics


@pytest.mark.parametrize("method", ["boostresnet-binary", "adaboost-mm", "gradient-boosting"])
def test_another_seed_gives_another_model(short, digits, tmp_path, method):
    weights = [(train(short, digits, method, seed, tmp_path) / "model.safetensors").read_bytes() for seed in (0, 1)]
    assert weights[0] != weights[1]


@pytest.mark.parametrize("method", ["adaboost-mm", "gradient-boosting"])
@pytest.mark.parametrize("reading", ["released", "paper-text", "mlp"])
def test_the_ensembles_rounds_are_what_the_saved_learners_give(short, digits, tmp_path, method, reading):
    """Weights, edges, bound and errors recomputed from the saved learners alone, by the pure mathematics."""
    changed = attrs.evolve(short, model=attrs.evolve(short.model, reading=reading, width=5))
    folder = train(changed, digits, method, 0, tmp_path)
    ensemble = load_model(folder)
    assert isinstance(ensemble, Ensemble) and len(ensemble.learners) == int(read_json(folder / "run.json")["learners"])
    split = to_device_split(digits, "train", "cpu")
    images = split.normalise(split.images)
    rows = read_csv(folder / "rounds.csv")
    assert len(rows) == len(build_network(changed.model, digits.image_shape, 10, 0).rounds)
    additive = GradientBoosting(split.labels, 10, changed.gradient_boosting.shrinkage)
    voting = AdaBoostMM(split.labels, 10)
    state = voting if method == "adaboost-mm" else additive
    with torch.no_grad():
        for index, (row, learner) in enumerate(zip(rows, ensemble.learners, strict=True)):
            outputs = learner(images)
            one = voting.add(outputs.argmax(1)) if method == "adaboost-mm" else additive.add(outputs)
            for name in ("edge", "alpha", "bound", "train_error"):
                value = getattr(one, "weight" if (name, method) == ("alpha", "gradient-boosting") else name, None)
                assert row[name] == "" if value is None else value == pytest.approx(float(row[name]), rel=1e-4), name
            assert float(ensemble.weights[index]) == pytest.approx(float(row["alpha"]))
            assert row["gamma"] == row["covariance"] == ""
        torch.testing.assert_close(ensemble(images), state.scores, rtol=1e-4, atol=1e-6)


def test_equal_updates_and_equal_numbers_of_modules(short, digits, tmp_path):
    """Every boosting method makes as many rounds and updates as BoostResNet's most, and says what it is made of."""
    described = {
        method: read_json(train(short, digits, method, 0, tmp_path) / "run.json")
        for method in ("boostresnet", "adaboost-mm", "gradient-boosting")
    }
    assert {run["gradient_updates"] for run in described.values()} == {30}
    learner = build_weak_learner(short.model, digits.image_shape, 10, 0)
    for method in ("adaboost-mm", "gradient-boosting"):
        assert described[method]["learners"] == 5
        assert described[method]["parameters"] == 5 * count_parameters(learner)


@pytest.mark.parametrize("method", ["adaboost-mm", "gradient-boosting"])
@pytest.mark.parametrize(("modules", "training"), [("stages", "surrogate"), ("stages", "resampled")])
def test_what_other_weak_learners_leave_is_what_comes_back(short, digits, tmp_path, method, modules, training):
    weak = attrs.evolve(short.weak_learners, modules=modules, adaboost_training=training)
    changed = attrs.evolve(short, weak_learners=weak)
    folder = train(changed, digits, method, 0, tmp_path / "runs")
    metrics = evaluate(changed, digits, method, 0, tmp_path / "runs", tmp_path / "results")
    last = read_csv(folder / "history.csv")[-1]
    assert metrics["test_loss"] == pytest.approx(float(last["test_loss"]), rel=1e-5)
    learner = build_weak_learner(short.model, digits.image_shape, 10, 0, modules)
    assert metrics["parameters"] == 5 * count_parameters(learner)
    ensemble = load_model(folder)
    assert isinstance(ensemble, Ensemble) and ensemble.learners[0].state_dict().keys() == learner.state_dict().keys()


def test_a_run_from_before_there_were_other_weak_learners_is_one_of_the_defaults(short, digits, tmp_path):
    """Its description has no such section: it counts as what was done then, and as nothing else."""
    folder = train(short, digits, "adaboost-mm", 0, tmp_path)
    description = read_json(folder / "run.json")
    del description["config"]["weak_learners"], description["model"]["modules"]
    write_json(folder / "run.json", description)
    assert isinstance(load_model(folder), Ensemble)
    check_same_parameters(folder, description, short)
    resampled = attrs.evolve(short, weak_learners=attrs.evolve(short.weak_learners, adaboost_training="resampled"))
    with pytest.raises(ResultsError, match=r"weak_learners\.adaboost_training = surrogate, and params\.yaml has res"):
        check_same_parameters(folder, description, resampled)
    description["model"]["modules"] = "forest"
    write_json(folder / "run.json", description)
    with pytest.raises(ResultsError, match="its model is malformed"):
        load_model(folder)


def test_the_first_weak_learner_starts_from_the_networks_first_modules(short, digits):
    seed = stream_seed(0, "initialisation")
    network = build_network(short.model, digits.image_shape, 10, seed).state_dict()
    learner = build_weak_learner(short.model, digits.image_shape, 10, seed).state_dict()
    for name, value in learner.items():
        if name.startswith("rounds."):
            torch.testing.assert_close(value, network[name], rtol=0, atol=0)


@pytest.mark.parametrize("flip", [False, True])
def test_a_batch_brings_the_targets_of_its_own_examples(short, digits, flip):
    """With each example's index for a target, the images of a batch are those that the targets name, or mirrored."""
    device = torch.device("cpu")
    session = open_session(short, digits, 0, device, Recorder(device))
    prefix = session.prefix()
    augmentation = attrs.evolve(short.augmentation, flip=flip)
    batches = BatchSource(session.features(session.train, prefix), prefix, augmentation, 64, seed=0)
    batches.targets = torch.arange(len(session.train))
    inputs, index = batches()
    images = session.train.normalise(session.train.images[index])
    same = (inputs == images).flatten(1).all(1)
    mirrored = (inputs == images.flip(3)).flatten(1).all(1)
    assert bool((same | mirrored).all()) and bool(same.all()) != flip


def test_binary_boostresnet_is_algorithm_1_on_the_pair(short, digits, tmp_path):
    """Rounds recomputed from the saved modules, Lemma 3.2 on the pair, and a network of two logits."""
    folder = train(short, digits, "boostresnet-binary", 0, tmp_path)
    metrics = evaluate(short, digits, "boostresnet-binary", 0, tmp_path, tmp_path / "results")
    pair = restrict_to_pair(digits, 3, 8)
    assert read_json(folder / "run.json")["data"]["classes"] == ["3", "8"]
    assert read_json(folder / "run.json")["data"]["train_size"] == len(pair.labels["train"])
    assert metrics["lemma_3_2_max_difference"] == lemma_3_2_difference(folder, pair) < 1e-6
    split = to_device_split(pair, "train", "cpu")
    rows = read_csv(folder / "rounds.csv")
    with torch.no_grad():
        outputs = module_output(load_network(folder)(split.normalise(split.images)).double())
    # The last round's edge is under the weights of the round before, which telescope to exp(-y alpha_t o_t).
    state = BinaryBoosting(split.labels)
    assert state.measure(outputs).train_error == pytest.approx(float(rows[-1]["train_error"]))
    assert metrics["rounds"] == 5
    edges = [0.0, *(float(row["edge"]) for row in rows)]
    for row, before, after in zip(rows, edges, edges[1:], strict=False):
        gain = (after**2 - before**2) / (1 - before**2)
        assert float(row["weak_learning_gain"]) == pytest.approx(gain, abs=1e-9)
        assert float(row["alpha"]) == pytest.approx(math.atanh(after))
    assert float(rows[-1]["bound"]) == pytest.approx(math.sqrt(1 - edges[-1] ** 2), rel=1e-6)


def test_a_pair_of_classes_keeps_images_and_origin(digits):
    pair = restrict_to_pair(digits, 8, 3)
    assert pair.classes == ("8", "3") and pair.content_hash == digits.content_hash
    for split, labels in digits.labels.items():
        chosen = (labels == 3) | (labels == 8)
        assert (pair.images[split] == digits.images[split][chosen]).all()
        assert (pair.labels[split] == (labels[chosen] == 3)).all()
    for negative, positive in ((3, 3), (3, 10)):
        with pytest.raises(DataError, match=r"binary\.negative.*two different classes of digits, 0 to 9"):
            restrict_to_pair(digits, negative, positive)


def test_the_stock_library_is_marked_and_trains_on_no_more_than_it_says(short, digits, tmp_path):
    few = attrs.evolve(short, stock_library=attrs.evolve(short.stock_library, train_samples=100))
    folder = train(few, digits, "hist-gradient-boosting", 0, tmp_path)
    metrics = evaluate(few, digits, "hist-gradient-boosting", 0, tmp_path, tmp_path / "results")
    assert metrics["stock_library"].startswith("scikit-learn")
    assert metrics["train_samples"] == 100 and metrics["gradient_updates"] == 0
    with pytest.raises(ResultsError, match="kept the scores of its model"):
        load_model(folder)
    scores = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in scores.items() if name != "test"}, folder / "model.safetensors")
    renew_digests(folder)
    with pytest.raises(ResultsError, match="no scores for the test split; train the run again"):
        evaluate(few, digits, "hist-gradient-boosting", 0, tmp_path, tmp_path / "results")


def test_an_ensemble_is_no_residual_network(short, digits, tmp_path):
    folder: Path = train(short, digits, "adaboost-mm", 0, tmp_path)
    with pytest.raises(ResultsError, match="an ensemble of weak learners"):
        load_network(folder)


@pytest.mark.parametrize("method", ["boostresnet-binary", "adaboost-mm", "gradient-boosting"])
@pytest.mark.parametrize("row", [0, 2])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(short, digits, tmp_path, monkeypatch, method, row):
    """Killed at an evaluation, with the last checkpoint in the middle of a round, and started again."""
    monkeypatch.chdir(tmp_path)
    often = attrs.evolve(short, checkpoint=attrs.evolve(short.checkpoint, updates=4))
    whole = train(often, digits, method, 0, Path("whole"))
    seen = []

    def stop(kind: str, _row: dict[str, object]) -> None:
        seen.append(kind)
        if seen.count("history") > row:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(often, digits, method, 0, Path("stopped"), (stop,))
    checkpoints = list(Path("scratch").rglob("*.checkpoint"))
    assert checkpoints
    again = train(often, digits, method, 0, Path("stopped"))
    for name in DETERMINED_BY_SEED:
        assert (whole / name).read_bytes() == (again / name).read_bytes(), name
    assert not list(Path("scratch").rglob("*.checkpoint"))
