"""What cost.json says, worked out by hand, and that a measurement is complete. No test looks at a speed."""

from __future__ import annotations

import statistics

import attrs
import pytest
import torch

from replication.analysis import cost as cost_module, measure
from replication.analysis.bench import Bench, module_bytes, sampled
from replication.analysis.cost import measure_cost, peak_shares, ratios
from replication.analysis.whole_run import OVERHEAD
from replication.config import ModelParams
from replication.errors import ConfigError
from replication.files import read_json
from replication.models import build_network
from replication.models.ensemble import build_weak_learner

CPU = torch.device("cpu")


def _timing(value):
    return {"median": value, "low": value, "high": value, "turns": 7}


@pytest.fixture
def cost():
    """Two blocks of 1 and 3 ms."""
    blocks = [
        {"cached_ms": _timing(c), "augmented_ms": _timing(2 * c), "as_released_ms": _timing(10 * c),
         "end_to_end_ms": _timing(40.0), "plain_end_to_end_ms": _timing(50.0 + 10 * c),
         "cached_flops": 10**6, "cached_bytes": 10**5, "augmented_flops": 2 * 10**6, "augmented_bytes": 2 * 10**5,
         "streaming_memory": {"total": t}}
        for c, t in ((1.0, 10), (3.0, 25))
    ]  # fmt: skip
    return {
        "machine": {"matrix_gflops": 1.0, "copy_gb_per_s": 0.1},
        "end_to_end": {
            # Of other turns than those beside the blocks: only the DataLoader's loop is divided by it.
            "end_to_end_ms": _timing(60.0), "dataloader_loop_ms": _timing(90.0), "memory": {"total": 100},
            "flops": 2 * 10**7, "bytes": 10**6,
        },
        "blocks": blocks,
        "depth": [{"rounds": 9, "cached_ms": _timing(2.0)}, {"rounds": 49, "cached_ms": _timing(2.1)}],
        "paper_text": None,
        "whole_run": {"seconds": {"update": 90.0, "prefix": 1.0, "check": 3.0, "evaluation": 4.5, "checkpoint": 1.0,
                                  "logging": 0.5}},
    }  # fmt: skip


def test_ratios_by_hand(cost):
    expected = {
        "boostresnet_cached_vs_e2e": 20.0,
        "boostresnet_cached_vs_plain_e2e": 35.0,
        "boostresnet_augmented_vs_e2e": 10.0,
        "boostresnet_augmented_vs_plain_e2e": 17.5,
        "boostresnet_cached_vs_as_released": 10.0,
        "e2e_vs_dataloader_loop": 1.5,
        "peak_memory_e2e_vs_boostresnet": 4.0,
        "logging_share": 0.09,
        "update_time_T49_vs_T9_cached": 1.05,
    }
    assert ratios(cost) == expected
    part = {"end_to_end_ms": _timing(30.0), "cached_ms": _timing(1.0)}
    text = {"rounds": 3, "stem": part, "block": {"end_to_end_ms": _timing(33.0), "cached_ms": _timing(2.5)}}
    assert ratios(cost | {"paper_text": text}) == expected | {"paper_text_cached_vs_e2e": 16.0}


def test_shares_of_the_machines_peaks_by_hand(cost):
    # A million operations in 2 ms are 0.5 GFLOP/s; 100,000 bytes in 2 ms 0.05 GB/s.
    assert peak_shares(cost) == {
        "cached": {"matrix": 0.5, "copy": 0.5},
        "augmented": {"matrix": 0.5, "copy": 0.5},
        "end_to_end": {"matrix": 0.5, "copy": 0.25},
    }


def test_the_whole_network_and_the_folded_prefix_are_on_the_device(experiment, digits):
    bench = Bench(experiment, sampled(digits, 100), CPU)
    network = bench.session.network
    assert bench.weights() == module_bytes(network)
    bench.freeze(0)
    bench.freeze(1)
    # Folded, a convolution has a bias of 4 channels and no batch norm: 36 weights in the stem, 144 in a block's two.
    folded = 4 * ((36 + 4) + 2 * (144 + 4))
    assert bench.weights() == module_bytes(network) + folded
    plain = Bench(attrs.evolve(experiment, runtime=attrs.evolve(experiment.runtime, fast=False)), digits, CPU)
    plain.freeze(0)
    assert plain.weights() == module_bytes(network), "the plain path applies the modules themselves"


def test_stored_outputs_are_counted_in_the_precision_they_have(experiment, digits):
    sizes = {}
    for precision in ("float32", "float16"):
        runtime = attrs.evolve(experiment.runtime, feature_precision=precision)
        bench = Bench(attrs.evolve(experiment, runtime=runtime), sampled(digits, 100), CPU)
        assert bench.stored_bytes(1293) is None, "the images themselves are not stored again"
        bench.freeze(0)
        sizes[precision] = bench.stored_bytes(1293)
    assert sizes == {"float32": 1293 * 4 * 8 * 8 * 4, "float16": 1293 * 4 * 8 * 8 * 2}


def test_an_update_of_adaboost_mm_trains_a_weak_learner_and_not_the_network(experiment, digits):
    bench = Bench(experiment, sampled(digits, 100), CPU)
    action, learner = bench.adaboost_mm()
    network = {name: value.clone() for name, value in bench.session.network.state_dict().items()}
    before = [parameter.detach().clone() for parameter in learner.parameters()]
    action.repeat(1)
    assert not any(torch.equal(old, new) for old, new in zip(before, learner.parameters(), strict=True))
    assert all(torch.equal(network[name], value) for name, value in bench.session.network.state_dict().items())
    memory = bench.memory(action, learner, weights=0)
    parameters = sum(parameter.numel() for parameter in learner.parameters())
    assert memory["optimiser"] == 8 * parameters
    assert memory["activations_and_gradients"] > 4 * parameters


def _shrunk(experiment, **changes):
    return attrs.evolve(
        experiment, cost=attrs.evolve(experiment.cost, repetitions=1, samples=100, depths=(4, 6)), **changes
    )


@pytest.fixture
def benches(monkeypatch):
    """Every bench there was, in order: (bench, blocks that it went on from), half a second each."""
    made = []

    class Watched(Bench):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append((self, []))

        def freeze(self, block):
            super().freeze(block)
            next(blocks for bench, blocks in made if bench is self).append(block)
            return 0.5

    monkeypatch.setattr(cost_module, "Bench", Watched)
    return made


@pytest.fixture
def checks(monkeypatch):
    """Median milliseconds of every block's check, in order."""
    medians = []

    def watched(actions, repetitions, device):
        taken = measure.interleaved(actions, repetitions, device)
        medians.extend(statistics.median(taken[name]) for name in actions if name == "check")
        return taken

    monkeypatch.setattr(cost_module, "interleaved", watched)
    return medians


def _assert_weights_and_stored_outputs(cost, small, data):
    network = build_network(small.model, data.image_shape, data.num_classes, seed=0)
    learner = build_weak_learner(small.model, data.image_shape, data.num_classes, seed=0)
    learners = len(network.rounds) * module_bytes(learner)
    assert cost["adaboost_mm"]["memory"]["weights"] == module_bytes(network) + learners
    # No folded copies of the prefix: the released code has none.
    assert {block["as_released_memory"]["weights"] for block in cost["blocks"]} == {module_bytes(network)}
    stored = [block["stored_features"]["bytes"] for block in cost["blocks"]]
    # Of all training images, in float32. Pixels are not stored again; three stages of 8x8, 4x4 and 2x2 pixels.
    sizes = [64] * 3 if small.model.reading == "mlp" else [4 * 64, 4 * 64, 4 * 64, 8 * 16]
    assert stored == [None, *(len(data.labels["train"]) * size * 4 for size in sizes)]


def _assert_arithmetic(cost, small):
    """What an augmented batch costs beyond a stored one is the way through the blocks before."""
    batch = small.optimizer.batch_size
    beyond = [block["augmented_flops"] - block["cached_flops"] for block in cost["blocks"]]
    ways = [block["advance_flops_per_image"] for block in cost["blocks"]]
    assert beyond == [batch * sum(ways[:block]) for block in range(len(ways))]
    if small.model.reading == "mlp":
        assert beyond == [batch * block * 2 * 2 * 64 * small.model.width for block in range(4)]


def _assert_times(cost, small, checks):
    batch, whole = small.optimizer.batch_size, cost["end_to_end"]
    for rate, time in (("images", "end_to_end"), ("dataloader_images", "dataloader_loop")):
        assert whole[f"{rate}_per_second"] == round(1e3 * batch / whole[f"{time}_ms"]["median"], 1)
    for block, median in zip(cost["blocks"], checks, strict=True):
        saved = block["augmented_ms"]["median"] - block["cached_ms"]["median"]
        assert block["stored_features"]["saved_ms"] == pytest.approx(saved, abs=1e-4)
        assert block["evaluation_ms_per_1000"] == pytest.approx(10 * median, abs=1e-4), "of 100 images"
        assert block["advance_ms_per_1000"] == 5000.0, "half a second for 100 images"


@pytest.mark.parametrize("reading", ["released", "mlp"])
def test_a_measurement_of_a_small_network_is_complete(
    experiment, digits, tmp_path, monkeypatch, benches, checks, reading
):
    monkeypatch.setattr(measure, "_MOST", 1)  # a turn is one update
    small = _shrunk(experiment, model=attrs.evolve(experiment.model, reading=reading))
    cost = measure_cost(small, experiment.evaluation, digits, tmp_path)
    _assert_weights_and_stored_outputs(cost, small, digits)
    _assert_arithmetic(cost, small)
    _assert_times(cost, small, checks)
    assert benches[0][1] == list(range(len(cost["blocks"]))), "every block was gone on from once"
    texts = [bench for bench, _ in benches if bench.experiment.model.reading == "paper-text"]
    if reading == "released":
        # As many residual blocks as the released network has modules, its stem among them; and a stem.
        (text,) = texts
        assert text.experiment.model == ModelParams("paper-text", 5, 15)
        assert text.experiment.boostresnet.auxiliary == "linear"
        assert (cost["paper_text"]["rounds"], len(cost["blocks"])) == (6, 5)
    else:
        assert not texts and cost["paper_text"] is None
    assert read_json(tmp_path / "digits/cost.json") == cost
    expected = {
        "boostresnet_cached_vs_e2e", "boostresnet_cached_vs_plain_e2e", "boostresnet_augmented_vs_e2e",
        "boostresnet_augmented_vs_plain_e2e", "boostresnet_cached_vs_as_released", "e2e_vs_dataloader_loop",
        "peak_memory_e2e_vs_boostresnet", "logging_share", "update_time_T6_vs_T4_cached",
    }  # fmt: skip
    assert set(cost["ratios"]) == expected | ({"paper_text_cached_vs_e2e"} if reading == "released" else set())
    assert cost["whole_run"]["overhead"] == list(OVERHEAD) and cost["runtime"]["threads"] == 1
    assert not any("compiled_ms" in block for block in cost["blocks"])
    # Memory is counted, not timed, so these must hold: depth costs end-to-end training memory, a cached update nothing
    # but the weights that lie there.
    shallow, deep = cost["depth"]
    assert deep["end_to_end_memory"]["total"] > shallow["end_to_end_memory"]["total"]
    for part in ("activations_and_gradients", "optimiser"):
        assert deep["cached_memory"][part] == shallow["cached_memory"][part]
        assert deep["end_to_end_memory"][part] > shallow["end_to_end_memory"][part]
    assert deep["cached_memory"]["weights"] > shallow["cached_memory"]["weights"]
    last = cost["blocks"][-1]
    for block in cost["blocks"]:  # no gradients: less than an update of the batch; and logits lie behind the block
        assert 0 < block["advance_flops_per_image"] < block["check_flops_per_image"]
        assert block["check_flops_per_image"] * small.optimizer.batch_size < block["cached_flops"]
    if reading == "mlp":  # two layers of the block, from and to 64 pixels, and 10 classes; two operations a product
        width, auxiliary = small.model.width, 64 * 10
        assert last["advance_flops_per_image"] == 2 * 2 * 64 * width
        assert last["check_flops_per_image"] == 2 * (2 * 64 * width + auxiliary)
    # The released code keeps what the prefix needs for gradients that it throws away.
    assert last["as_released_memory"]["total"] > last["memory"]["total"]


def test_a_depth_that_no_network_has_is_refused_before_anything_is_measured(experiment, digits, tmp_path):
    shallow = _shrunk(experiment)
    shallow = attrs.evolve(shallow, cost=attrs.evolve(shallow.cost, depths=(9, 3)))
    with pytest.raises(ConfigError, match=r"cost\.depths must be at least 4 for released, got 3"):
        measure_cost(shallow, experiment.evaluation, digits, tmp_path)
