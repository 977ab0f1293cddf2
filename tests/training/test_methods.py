"""Every method, trained for real for a few updates: what it leaves, that it repeats itself, and that the theory
holds on it.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file

from replication.analysis.evaluate import KNOWN_COPIES, evaluate
from replication.analysis.theory import load_hypotheses
from replication.boosting.multiclass import BoostingState
from replication.config import changed
from replication.datasets.loader import to_device_split
from replication.datasets.sources import Source
from replication.errors import ResultsError, TrainingError
from replication.files import read_csv, read_json, write_json
from replication.models import build_network
from replication.training.device import choose_device
from replication.training.record import PHASES
from replication.training.runs import load_model, read_description
from replication.training.seeds import stream_seed
from replication.training.train import train
from tests.tampering import renew_digests

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("boostresnet", "e2e", "boostresnet-refined")
DETERMINED_BY_SEED = ("history.csv", "rounds.csv", "model.safetensors", "auxiliary.safetensors")


@pytest.fixture(scope="module")
def _trained_once(experiment, digits, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for method in METHODS:
            train(experiment, digits, method, 0, folder / "runs")
    return folder / "runs"


@pytest.fixture
def trained(_trained_once, tmp_path) -> Path:
    """All three methods under seed 0, to do with as one likes; the folder that holds runs/."""
    shutil.copytree(_trained_once, tmp_path / "runs")
    return tmp_path


def test_every_method_leaves_a_complete_run_with_equal_total_updates(trained, experiment):
    updates = {}
    for method in METHODS:
        folder = trained / "runs/digits" / method / "seed0"
        description = read_json(folder / "run.json")
        updates[method] = description["gradient_updates"]
        history = read_csv(folder / "history.csv")
        assert int(history[-1]["gradient_updates"]) == updates[method]
        assert len(read_csv(folder / "timing.csv")) == len(history)
        spent = description["seconds_by_phase"]
        assert set(spent) == set(PHASES) and spent["update"] > 0 and spent["evaluation"] > 0
        assert sum(spent.values()) <= description["wall_seconds"] + 0.01
        assert description["config"] == experiment.as_dict()
        assert description["data"]["official"] is True
        assert load_model(folder)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert updates == {"boostresnet": 30, "boostresnet-refined": 60, "e2e": 60}


def test_history_has_a_row_at_every_interval_and_every_block_end(trained):
    rows = read_csv(trained / "runs/digits/boostresnet/seed0/history.csv")
    assert [int(row["gradient_updates"]) for row in rows] == [5, 6, 10, 12, 15, 18, 20, 24, 25, 30]
    assert [int(row["block"]) for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_end_to_end_has_a_point_where_boostresnet_ends_whatever_the_interval(experiment, digits, tmp_path):
    odd = attrs.evolve(experiment, evaluation=attrs.evolve(experiment.evaluation, interval=7))
    rows = read_csv(train(odd, digits, "e2e", 0, tmp_path) / "history.csv")
    assert [int(row["gradient_updates"]) for row in rows] == [7, 14, 21, 28, 30, 35, 42, 49, 56, 60]


def test_same_seed_same_bytes_and_another_seed_other_bytes(experiment, digits, tmp_path):
    for method in METHODS:
        first = train(experiment, digits, method, 0, tmp_path / "a")
        again = train(experiment, digits, method, 0, tmp_path / "b")
        other = train(experiment, digits, method, 1, tmp_path / "a") if method != "boostresnet-refined" else None
        for name in DETERMINED_BY_SEED:
            assert (first / name).read_bytes() == (again / name).read_bytes(), f"{method}: {name}"
        if other is not None:
            assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def assert_rounds_are_what_the_saved_modules_give(folder, digits, *, fast=False):
    """Edges, gammas, alphas, bounds and errors recomputed from the weights alone; s_t = alpha_t o_t after every
    round.
    """
    split = to_device_split(digits, "train", "cpu")
    state = BoostingState(split.labels, 10)
    rows = read_csv(folder / "rounds.csv")
    outputs = load_hypotheses(folder, digits.image_shape, fast=fast).split_outputs(split, 500)
    assert len(rows) == len(outputs) == 5
    for row, output in zip(rows, outputs, strict=True):
        statistics = state.measure(output)
        for name in ("edge", "gamma", "alpha", "bound", "train_error", "weak_learning_gain"):
            assert getattr(statistics, name) == pytest.approx(float(row[name]), rel=1e-4, abs=1e-6), name
        state.advance(output, statistics)
        torch.testing.assert_close(state.scores, state.alpha * state.outputs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fast", [False, True])
def test_rounds_are_what_the_saved_modules_give(trained, digits, fast):
    assert_rounds_are_what_the_saved_modules_give(trained / "runs/digits/boostresnet/seed0", digits, fast=fast)


@pytest.mark.parametrize("auxiliary", ["transition-blocks", "linear", "linear-flattened", "linear-anew"])
@pytest.mark.parametrize("loss", ["exp_cross_entropy", "exponential"])
def test_lemma_3_2_holds_on_the_trained_network(experiment, digits, tmp_path, auxiliary, loss):
    params = attrs.evolve(experiment.boostresnet, auxiliary=auxiliary, oracle_loss=loss)
    changed = attrs.evolve(experiment, boostresnet=params)
    train(changed, digits, "boostresnet", 0, tmp_path / "runs")
    metrics = evaluate(changed, digits, "boostresnet", 0, tmp_path / "runs", tmp_path / "results")
    assert metrics["lemma_3_2_max_difference"] < 1e-6
    # It is no tautology: had the last auxiliary classifier not become the network's head, it would fail.
    states = load_file(tmp_path / "runs/digits/boostresnet/seed0/auxiliary.safetensors")
    states["4.head.linear.bias"] += torch.arange(10.0)
    save_file(states, tmp_path / "runs/digits/boostresnet/seed0/auxiliary.safetensors")
    renew_digests(tmp_path / "runs/digits/boostresnet/seed0")
    broken = evaluate(changed, digits, "boostresnet", 0, tmp_path / "runs", tmp_path / "results")
    assert broken["lemma_3_2_max_difference"] > 1e-2


def test_the_exact_images_of_an_unofficial_copy_are_measured_apart(trained, experiment, digits, tmp_path):
    md5 = next(md5 for md5, exact in KNOWN_COPIES.items() if exact >= 100)
    copy = attrs.evolve(digits, official=False, sources=(Source("copy", md5, 1, official=False),))
    known = attrs.evolve(experiment, data=attrs.evolve(experiment.data, exact_test_images=100))
    results = tmp_path / "results"
    metrics = evaluate(known, copy, "e2e", 0, trained / "runs", results)
    with torch.no_grad():
        network = load_model(trained / "runs/digits/e2e/seed0").eval()
        images = (torch.from_numpy(digits.images["test"][:100]) / digits.scale - digits.mean[0]) / digits.std[0]
        correct = network(images.float()).argmax(1) == torch.from_numpy(digits.labels["test"][:100])
    assert metrics["exact_test_accuracy"] == pytest.approx(float(correct.double().mean()))
    another = attrs.evolve(copy, sources=(Source("copy", "0" * 32, 1, official=False),))
    for data in (digits, another):
        assert not [key for key in evaluate(known, data, "e2e", 0, trained / "runs", results) if "exact" in key]


@pytest.mark.parametrize("reading", ["released", "paper-text", "mlp"])
def test_every_reading_trains_and_what_remains_is_a_plain_network(experiment, digits, tmp_path, reading):
    changed = attrs.evolve(experiment, model=attrs.evolve(experiment.model, reading=reading, width=5))
    folder = train(changed, digits, "boostresnet", 0, tmp_path)
    metrics = evaluate(changed, digits, "boostresnet", 0, tmp_path, tmp_path / "results")
    assert 0.0 <= metrics["test_accuracy"] <= 1.0
    program = (
        "import sys; sys.modules['replication.boosting'] = None\n"
        "from pathlib import Path; import torch\n"
        "from replication.training.runs import load_model\n"
        f"print(tuple(load_model(Path({str(folder)!r}))(torch.zeros(3, 1, 8, 8)).shape))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == "(3, 10)"


@pytest.mark.parametrize("method", ["boostresnet", "e2e"])
@pytest.mark.parametrize("augmented", [False, True])
def test_the_fast_path_trains_what_the_plain_path_trains(experiment, digits, tmp_path, method, augmented):
    """Channels last, folded batch norms, stored outputs and fused Adam change nothing but rounding.

    Few updates: Adam divides by the gradient's size, so rounding grows with every one of them on any path.
    """
    changed = attrs.evolve(
        experiment,
        augmentation=attrs.evolve(experiment.augmentation, crop_padding=1 if augmented else 0),
        end_to_end=attrs.evolve(experiment.end_to_end, updates=8),
    )
    plain = attrs.evolve(changed, runtime=attrs.evolve(changed.runtime, fast=False))
    fast_weights = load_model(train(changed, digits, method, 0, tmp_path / "fast")).state_dict()
    plain_weights = load_model(train(plain, digits, method, 0, tmp_path / "plain")).state_dict()
    for name, value in plain_weights.items():
        difference = (fast_weights[name] - value).float().norm() / value.float().norm().clamp(min=1e-3)
        assert difference < 1e-4, name


@pytest.mark.parametrize("augmented", [False, True])
def test_a_prefix_in_training_mode_trains_the_same_on_both_paths_and_another_network(
    experiment, digits, tmp_path, augmented
):
    training = attrs.evolve(
        experiment,
        augmentation=attrs.evolve(experiment.augmentation, crop_padding=1 if augmented else 0),
        boostresnet=attrs.evolve(experiment.boostresnet, prefix_mode="training", updates_per_block=2, check_interval=2),
    )
    variants = {
        "fast": training,
        "plain": attrs.evolve(training, runtime=attrs.evolve(training.runtime, fast=False)),
        "fixed": attrs.evolve(training, boostresnet=attrs.evolve(training.boostresnet, prefix_mode="evaluation")),
    }
    weights = {
        name: load_model(train(variant, digits, "boostresnet", 0, tmp_path / name)).state_dict()
        for name, variant in variants.items()
    }
    for name, value in weights["plain"].items():
        difference = (weights["fast"][name] - value).float().norm() / value.float().norm().clamp(min=1e-3)
        assert difference < 1e-4, name
    assert any(not torch.allclose(weights["fixed"][name], value, rtol=1e-2) for name, value in weights["fast"].items())


@pytest.mark.parametrize("limits", [{"memory_limit_gib": 0.0}, {"memory_limit_gib": 0.0, "disk_limit_gib": 1.0}])
def test_where_prefix_outputs_live_changes_nothing(experiment, digits, tmp_path, limits):
    frugal = attrs.evolve(experiment, runtime=attrs.evolve(experiment.runtime, **limits))
    stored = load_model(train(experiment, digits, "boostresnet", 0, tmp_path / "stored")).state_dict()
    elsewhere = load_model(train(frugal, digits, "boostresnet", 0, tmp_path / "frugal")).state_dict()
    for name, value in stored.items():
        torch.testing.assert_close(elsewhere[name], value, rtol=1e-4, atol=1e-6)
    assert not list(tmp_path.rglob("features.*"))  # nothing is left, even by a process that is killed


def test_augmentation_trains_on_other_images_but_measures_on_the_stored_ones(experiment, digits, tmp_path):
    augmented = attrs.evolve(experiment, augmentation=attrs.evolve(experiment.augmentation, crop_padding=1, flip=True))
    folder = train(augmented, digits, "boostresnet", 0, tmp_path / "augmented")
    plain = train(experiment, digits, "boostresnet", 0, tmp_path / "plain")
    assert (folder / "model.safetensors").read_bytes() != (plain / "model.safetensors").read_bytes()
    # The measured edges belong to un-augmented images: recomputing them from the weights reproduces them.
    assert_rounds_are_what_the_saved_modules_give(folder, digits)


def test_a_gamma_threshold_moves_on_at_the_first_check_or_waits_for_the_limit(experiment, digits, tmp_path):
    eager = attrs.evolve(experiment, boostresnet=attrs.evolve(experiment.boostresnet, gamma_threshold=-1.0))
    rows = read_csv(train(eager, digits, "boostresnet", 0, tmp_path / "eager") / "rounds.csv")
    assert [(int(row["gradient_updates"]), row["moved_on"]) for row in rows] == [(3, "gamma")] * 5
    rows = read_csv(train(experiment, digits, "boostresnet", 0, tmp_path / "patient") / "rounds.csv")
    assert [(int(row["gradient_updates"]), row["moved_on"]) for row in rows] == [(6, "limit")] * 5


def test_initial_edge_enters_the_first_gamma_only(experiment, digits, tmp_path):
    code = attrs.evolve(experiment, boostresnet=attrs.evolve(experiment.boostresnet, initial_edge=0.5))
    ours = read_csv(train(experiment, digits, "boostresnet", 0, tmp_path / "zero") / "rounds.csv")
    theirs = read_csv(train(code, digits, "boostresnet", 0, tmp_path / "half") / "rounds.csv")
    assert [row["edge"] for row in ours] == [row["edge"] for row in theirs]
    assert [row["gamma"] for row in ours[1:]] == [row["gamma"] for row in theirs[1:]]
    gain = (float(ours[0]["edge"]) ** 2 - 0.25) / 0.75
    assert float(theirs[0]["gamma"]) == pytest.approx(math.copysign(math.sqrt(abs(gain)), gain))


def test_both_methods_start_from_the_same_network(experiment, digits, tmp_path):
    still = attrs.evolve(experiment, optimizer=attrs.evolve(experiment.optimizer, learning_rate=1e-30))
    start = build_network(still.model, digits.image_shape, 10, stream_seed(0, "initialisation")).state_dict()
    for method in ("boostresnet", "e2e"):
        weights = load_model(train(still, digits, method, 0, tmp_path)).state_dict()
        for name, value in start.items():
            if "running" not in name and "num_batches" not in name:
                torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-20)


def test_refinement_starts_where_boostresnet_ended(trained):
    last = read_csv(trained / "runs/digits/boostresnet/seed0/history.csv")[-1]
    first = read_csv(trained / "runs/digits/boostresnet-refined/seed0/history.csv")[0]
    assert first["gradient_updates"] == last["gradient_updates"]
    for split in ("train", "validation", "test"):
        assert first[f"{split}_accuracy"] == last[f"{split}_accuracy"]
        # BoostResNet's curve is measured on folded batch norms, the refinement's is not: equal but for rounding.
        assert float(first[f"{split}_loss"]) == pytest.approx(float(last[f"{split}_loss"]), rel=1e-5)


def test_refinement_refuses_a_run_that_does_not_fit(experiment, digits, tmp_path):
    with pytest.raises(ResultsError, match="no finished run"):
        train(experiment, digits, "boostresnet-refined", 0, tmp_path)
    train(experiment, digits, "boostresnet", 0, tmp_path)
    other = attrs.evolve(experiment, boostresnet=attrs.evolve(experiment.boostresnet, initial_edge=0.5))
    with pytest.raises(TrainingError, match="other parameters in 'boostresnet'"):
        train(other, digits, "boostresnet-refined", 0, tmp_path)
    other = attrs.evolve(experiment, runtime=attrs.evolve(experiment.runtime, precision="bfloat16"))
    with pytest.raises(TrainingError, match=r"other parameters in 'runtime\.precision'"):
        train(other, digits, "boostresnet-refined", 0, tmp_path)
    with pytest.raises(TrainingError, match="other data"):
        train(experiment, attrs.evolve(digits, content_hash="0"), "boostresnet-refined", 0, tmp_path)


def test_a_loss_that_is_no_number_stops_with_one_line_and_leaves_nothing(experiment, digits, tmp_path):
    wild = attrs.evolve(
        experiment, optimizer=attrs.evolve(experiment.optimizer, learning_rate=1e30, gradient_clamp=None)
    )
    for method in ("boostresnet", "e2e"):
        where = r"stem, after update 0" if method == "boostresnet" else "after update 0"
        with pytest.raises(TrainingError, match=rf"not a finite number any more \({where}\).*optimizer\.learning_rate"):
            train(wild, digits, method, 0, tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_compiling_without_a_compiler_is_one_line(experiment, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("replication.training.device.shutil.which", lambda _name: None)
    wanted = attrs.evolve(experiment, runtime=attrs.evolve(experiment.runtime, compile="always"))
    with pytest.raises(TrainingError, match=r"runtime\.compile: always needs a C\+\+ compiler"):
        train(wanted, digits, "e2e", 0, tmp_path)


def test_cuda_computes_by_deterministic_kernels(experiment, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    try:
        assert choose_device(attrs.evolve(experiment.runtime, device="cuda")).type == "cuda"
        assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert current == [0] and not torch.backends.cudnn.allow_tf32
    finally:
        torch.use_deterministic_algorithms(False)


def test_cuda_asked_for_and_absent_is_one_line(experiment, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    wanted = attrs.evolve(experiment, runtime=attrs.evolve(experiment.runtime, device="cuda:1"))
    with pytest.raises(TrainingError, match=r"sees no GPU here; set it to auto or cpu"):
        train(wanted, digits, "e2e", 0, tmp_path)


def test_a_damaged_run_is_refused_with_its_path(trained, experiment, digits):
    folder = trained / "runs/digits/e2e/seed0"
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ResultsError, match=r"model\.safetensors.*train the run again"):
        evaluate(experiment, digits, "e2e", 0, trained / "runs", trained / "results")
    assert not (trained / "results").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "auxiliary.safetensors", "rounds.csv", "history.csv"])
def test_a_run_with_one_changed_bit_is_refused(trained, name):
    path = trained / "runs/digits/boostresnet/seed0" / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ResultsError, match=rf"{name} is not what training wrote"):
        read_description(path.parent)
    path.unlink()
    with pytest.raises(ResultsError, match=rf"{name} is not there; copy the run directory once more"):
        read_description(path.parent)


def test_a_description_of_no_network_is_refused(trained):
    folder = trained / "runs/digits/e2e/seed0"
    description = read_json(folder / "run.json")
    for key, value in (("blocks", None), ("width", None), ("width", 4.0), ("reading", None)):
        write_json(folder / "run.json", description | {"model": description["model"] | {key: value}})
        with pytest.raises(ResultsError, match="its model is malformed"):
            load_model(folder)


def test_published_metrics_hold_nothing_of_the_machine(trained, experiment, digits):
    for method in METHODS:
        evaluate(experiment, digits, method, 0, trained / "runs", trained / "results")
        metrics = read_json(trained / "results/digits" / method / "seed0/metrics.json")
        assert {"train_accuracy", "validation_accuracy", "test_accuracy", "gradient_updates", "blocks"} <= set(metrics)
        assert metrics["official_data"] is True
        assert not any(word in key for key in metrics for word in ("second", "memory", "commit", "cpu", "time"))
        names = sorted(path.name for path in (trained / "results/digits" / method / "seed0").iterdir())
        assert names == ["history.csv", "metrics.json", "rounds.csv", "run.json", "timing.csv"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_method_trains_on_cuda(experiment, digits, tmp_path):
    wanted = attrs.evolve(experiment, runtime=attrs.evolve(experiment.runtime, device="cuda"))
    for method in METHODS:
        description = read_json(train(wanted, digits, method, 0, tmp_path) / "run.json")
        assert description["hardware"]["gpu"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("boostresnet", {}), ("e2e", {}), ("adaboost-mm", {}),
        ("adaboost-mm", {"weak_learners": {"adaboost_training": "resampled"}}),
        ("adaboost-mm", {"weak_learners": {"adaboost_training": "resampled"},
                         "boostresnet": {"oracle_loss": "exponential"}}),
    ],
)  # fmt: skip
def test_same_seed_same_bytes_on_cuda(experiment, digits, tmp_path, method, changes):
    """With cuDNN's deterministic kernels, on one device and one version of everything."""
    wanted = changed(experiment, {"runtime": {"device": "cuda"}, **changes})
    first, again = (train(wanted, digits, method, 0, tmp_path / name) for name in ("first", "again"))
    for name in DETERMINED_BY_SEED:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name
