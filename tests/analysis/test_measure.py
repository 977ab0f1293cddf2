"""Stop-watches and scales: turns, allocations and bytes worked out by hand. No test looks at a speed."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import nn

from replication.analysis import measure
from replication.analysis.measure import (
    Action,
    AllocationTracer,
    arithmetic_and_traffic,
    interleaved,
    peak_allocation,
    summary,
)

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still; `advance` moves it."""

    class Clock:
        now = 0.0

        def advance(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock.now)
    return clock


def test_peak_allocation_counts_what_lives_at_the_same_time():
    def once() -> None:
        first = torch.empty(1000)  # 4000 bytes
        second = first + 1  # 8000 live: the peak
        del first
        third = second * 2  # 8000 again
        third.view(10, 100).sum()  # a view allocates nothing, the sum four bytes

    assert peak_allocation(Action.of(once), CPU) == 8004
    with AllocationTracer() as tracer:
        once()
    assert tracer.live == 0


def test_peak_allocation_sees_gradients_and_saved_activations():
    layer = nn.Linear(300, 200, bias=False)
    inputs = torch.randn(50, 300)

    def once() -> None:
        layer.weight.grad = None
        layer(inputs).relu().sum().backward()

    gradient, activation = 200 * 300 * 4, 50 * 200 * 4
    once()
    peak = peak_allocation(Action.of(once, layer.parameters()), CPU)
    assert gradient + activation <= peak <= gradient + 3 * activation + 64


def test_gradients_of_the_update_before_are_held_while_the_next_runs_forward():
    layer, inputs = nn.Linear(10, 1000, bias=False), torch.randn(2000, 10)

    def once() -> None:
        loss = layer(inputs).sum()  # 8,000,000 bytes, freed before the gradient is made
        layer.weight.grad = None
        loss.backward()

    gradient, activation = 10 * 1000 * 4, 2000 * 1000 * 4
    once()  # leaves a gradient behind
    assert peak_allocation(Action.of(once, layer.parameters()), CPU) >= activation + gradient


def test_arithmetic_and_bytes_of_a_linear_layer_by_hand():
    layer = nn.Linear(30, 20)
    inputs = torch.randn(10, 30)
    with torch.no_grad():
        flops, traffic = arithmetic_and_traffic(Action.of(lambda: layer(inputs)))
    assert flops == 2 * 10 * 30 * 20
    assert traffic == 4 * (10 * 30 + 30 * 20 + 20 + 10 * 20)


@pytest.mark.parametrize(
    "look_up",
    [
        lambda table, index: table.index_select(0, index),
        lambda table, index: table[index],
        lambda table, index: nn.functional.embedding(index, table),
    ],
)
def test_a_look_up_moves_the_rows_that_it_takes_and_not_the_table(look_up):
    table, index = torch.randn(1000, 8), torch.tensor([5, 0, 999])
    _, traffic = arithmetic_and_traffic(Action.of(lambda: look_up(table, index)))
    assert traffic == 3 * 8 + 2 * (3 * 8 * 4)  # the index read, the rows read and written


def test_gathering_moves_what_it_gathers():
    table, index = torch.randn(100, 50), torch.zeros(100, 2, dtype=torch.int64)
    _, traffic = arithmetic_and_traffic(Action.of(lambda: table.gather(1, index)))
    assert traffic == 200 * 8 + 2 * 200 * 4


def test_short_actions_take_more_turns_between_those_of_the_long(clock):
    calls: list[str] = []

    def action(name: str, seconds: float) -> Action:
        def once() -> None:
            calls.append(name)
            clock.advance(seconds)

        return Action.of(once)

    taken = interleaved({"a": action("a", 0.06), "b": action("b", 0.2), "c": action("c", 0.3)}, 2, CPU)
    assert calls == ["a", "a", "b", "c", *(["a", "b", "a", "c", "a"] * 2)]  # warmed up first, the short one twice
    assert {name: summary(one) for name, one in taken.items()} == {
        "a": {"median": 60.0, "low": 60.0, "high": 60.0, "turns": 6},
        "b": {"median": 200.0, "low": 200.0, "high": 200.0, "turns": 2},
        "c": {"median": 300.0, "low": 300.0, "high": 300.0, "turns": 2},
    }


def test_a_turn_is_filled_and_its_time_divided(clock):
    times: list[int] = []

    def repeat(count: int) -> None:
        times.append(count)
        clock.advance(0.001 + 0.01 * count)  # a millisecond that every call costs, however much it does

    action = Action(repeat, turn_seconds=0.05)
    assert action.turn(CPU) == pytest.approx(10.2)  # 5 in a row; one at a time it would be 11
    assert times == [1, 1, 5]
    assert attrs.evolve(action, least=8).turn(CPU) == pytest.approx(1e3 * 0.081 / 8)


def test_what_comes_before_and_after_a_turn_is_not_timed(clock):
    log: list[str] = []

    def named(name: str, seconds: float):
        def do(*_count: int) -> None:
            log.append(name)
            clock.advance(seconds)

        return do

    action = Action(named("run", 0.2), prepare=named("prepare", 7.0), finish=named("finish", 9.0))
    assert action.turn(CPU) == pytest.approx(200.0)
    assert log == ["prepare", "run", "finish"] * 2


def test_a_summary_by_hand():
    assert summary([3.0, 1.0, 2.0]) == {"median": 2.0, "low": 1.0, "high": 3.0, "turns": 3}
