"""Scales and stop-watches: allocations, arithmetic and ratios worked out by hand. No test looks at a speed."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import nn

from replication.analysis.cost import _ratios, _whole_run, measure_cost
from replication.analysis.measure import AllocationTracer, arithmetic_and_traffic, interleaved, peak_allocation
from replication.files import read_json

CPU = torch.device("cpu")


def test_peak_allocation_counts_what_lives_at_the_same_time():
    def action() -> None:
        first = torch.empty(1000)  # 4000 bytes
        second = first + 1  # 8000 live: the peak
        del first
        third = second * 2  # 8000 again
        third.view(10, 100).sum()  # a view allocates nothing, the sum four bytes

    assert peak_allocation(action, CPU) == 8004
    with AllocationTracer() as tracer:
        action()
    assert tracer.live == 0


def test_peak_allocation_sees_gradients_and_saved_activations():
    layer = nn.Linear(300, 200, bias=False)
    inputs = torch.randn(50, 300)

    def action() -> None:
        layer.weight.grad = None
        layer(inputs).relu().sum().backward()

    gradient, activation = 200 * 300 * 4, 50 * 200 * 4
    assert gradient + activation <= peak_allocation(action, CPU) <= gradient + 3 * activation + 64


def test_arithmetic_of_a_linear_layer_by_hand():
    layer = nn.Linear(30, 20)
    inputs = torch.randn(10, 30)
    with torch.no_grad():
        flops, traffic = arithmetic_and_traffic(lambda: layer(inputs))
    assert flops == 2 * 10 * 30 * 20
    assert traffic == 4 * (10 * 30 + 30 * 20 + 20 + 10 * 20)


def test_interleaved_takes_turns():
    calls = []
    timings = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, CPU)
    assert calls == ["a", "b"] * 4  # once untimed, three times timed
    assert timings["a"].low <= timings["a"].median <= timings["a"].high


def test_ratios_by_hand():
    def timing(value):
        return {"median": value, "low": value, "high": value}

    memory = {"total": 100}
    blocks = [
        {"cached_ms": timing(c), "augmented_ms": timing(2 * c), "as_released_ms": timing(10 * c),
         "end_to_end_ms": timing(40.0), "streaming_memory": {"total": t}}
        for c, t in ((1.0, 10), (3.0, 25))
    ]  # fmt: skip
    end_to_end = {
        "end_to_end_ms": timing(40.0), "plain_end_to_end_ms": timing(60.0), "images_per_second": 300.0,
        "dataloader_images_per_second": 200.0, "memory": memory,
    }  # fmt: skip
    depth = [{"rounds": 9, "cached_ms": timing(2.0)}, {"rounds": 49, "cached_ms": timing(2.1)}]
    run = {"seconds": {"update": 90.0, "prefix": 1.0, "check": 3.0, "evaluation": 5.0, "checkpoint": 1.0}}
    assert _ratios(end_to_end, blocks, depth, run) == {
        "boostresnet_cached_vs_e2e": 20.0,
        "boostresnet_cached_vs_plain_e2e": 30.0,
        "boostresnet_augmented_vs_e2e": 10.0,
        "boostresnet_augmented_vs_plain_e2e": 15.0,
        "boostresnet_cached_vs_as_released": 10.0,
        "e2e_vs_dataloader_loop": 1.5,
        "peak_memory_e2e_vs_boostresnet": 4.0,
        "logging_share": 0.09,
        "update_time_T49_vs_T9_cached": 1.05,
    }


def test_the_whole_run_adds_up_its_parts(experiment, digits):
    block = {
        "evaluation_ms_per_1000": 100.0,
        "advance_ms_per_1000": 50.0,
        "cached_ms": {"median": 10.0},
        "augmented_ms": {"median": 99.0},
    }
    few = attrs.evolve(experiment, evaluation=attrs.evolve(experiment.evaluation, interval=2, held_out_samples=100))
    run = _whole_run(few, digits, [block, block], checkpoint_ms=20.0)
    # Two blocks of 6 updates of 10 ms, 2 checks of 1293 images, 3 points of 200 + 100 + 100 images, a checkpoint, and
    # one pass over the training images and the curves'.
    assert (run["batches"], run["updates"]) == ("cached", 6)
    assert run["seconds"] == pytest.approx({
        "update": 0.12, "prefix": 2 * 1693 * 5e-5, "check": 2 * 2 * 1293 * 1e-4, "evaluation": 2 * 3 * 400 * 1e-4,
        "checkpoint": 0.04,
    }, abs=1e-3)  # fmt: skip


@pytest.mark.parametrize("reading", ["released", "mlp"])
def test_a_measurement_of_a_small_network_is_complete(experiment, digits, tmp_path, reading):
    small = attrs.evolve(
        experiment,
        model=attrs.evolve(experiment.model, reading=reading),
        cost=attrs.evolve(experiment.cost, repetitions=1, samples=100, depths=(4, 6)),
    )
    cost = measure_cost(small, digits, tmp_path)
    assert read_json(tmp_path / "digits/cost.json") == cost
    expected = {
        "boostresnet_cached_vs_e2e", "boostresnet_cached_vs_plain_e2e", "boostresnet_augmented_vs_e2e",
        "boostresnet_augmented_vs_plain_e2e", "boostresnet_cached_vs_as_released", "e2e_vs_dataloader_loop",
        "peak_memory_e2e_vs_boostresnet", "logging_share", "update_time_T6_vs_T4_cached",
    }  # fmt: skip
    assert set(cost["ratios"]) == expected | ({"paper_text_cached_vs_e2e"} if reading == "released" else set())
    # Memory is counted, not timed, so these must hold: depth costs end-to-end training memory, a cached update none.
    shallow, deep = cost["depth"]
    assert deep["end_to_end_memory"]["total"] > shallow["end_to_end_memory"]["total"]
    assert deep["cached_memory"] == shallow["cached_memory"]
