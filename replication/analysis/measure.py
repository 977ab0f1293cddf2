"""Stop-watches and scales: interleaved turns, peak memory, arithmetic and traffic of an update, machine peaks."""

from __future__ import annotations

import math
import statistics
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

Milliseconds = list[float]

_TURN = 0.05  # seconds that a turn lasts at least, so that what a turn costs on top does not count
_SHORT = 0.12  # seconds of a turn up to which it costs little to take more of them
_SHORT_TURNS = 3
_MOST = 10_000


def _nothing() -> None:
    pass


@attrs.define(eq=False)
class Action:
    """Something that is timed over and over.

    Attributes:
        repeat: does it so many times in a row.
        prepare: comes before every turn, untimed.
        finish: comes after every turn, untimed.
        least: how often it is done in a turn at least.
        turn_seconds: how long a turn lasts at least, about.
        parameters: what it gives gradients to.
        counted: what memory and operations are counted on in its place.
    """

    repeat: Callable[[int], object]
    prepare: Callable[[], object] = _nothing
    finish: Callable[[], object] = _nothing
    least: int = 1
    turn_seconds: float = _TURN
    parameters: tuple[nn.Parameter, ...] = ()
    counted: Action | None = None
    _times: int | None = attrs.field(default=None, init=False)
    _seconds: float = attrs.field(default=0.0, init=False)  # of a turn, about

    @classmethod
    def of(cls, once: Callable[[], object], parameters: Iterable[nn.Parameter] = ()) -> Action:
        """Do `once` so many times in a row."""

        def repeat(times: int) -> None:
            for _ in range(times):
                once()

        return cls(repeat, parameters=tuple(parameters))

    @property
    def short(self) -> bool:
        """Whether its turn is over in no time; known once it is warm."""
        return self._seconds < _SHORT

    def warm_up(self, device: torch.device) -> None:
        """Do it once or twice, if never done before, and see how often it has to be done to fill a turn."""
        if self._times is not None:
            return
        seconds = self._clock(1, device)
        if seconds < 2 * self.turn_seconds:  # the first time is slow and tells little of the others
            seconds = self._clock(1, device)
        self._times = min(_MOST, max(self.least, math.ceil(self.turn_seconds / seconds)))
        self._seconds = self._times * seconds

    def turn(self, device: torch.device) -> float:
        """Milliseconds of doing it once, on average over a turn."""
        self.warm_up(device)
        assert self._times is not None
        return 1e3 * self._clock(self._times, device) / self._times

    def _clock(self, times: int, device: torch.device) -> float:
        self.prepare()
        _wait(device)
        start = time.perf_counter()
        self.repeat(times)
        _wait(device)
        seconds = time.perf_counter() - start
        self.finish()
        return seconds


def interleaved(actions: Mapping[str, Action], repetitions: int, device: torch.device) -> dict[str, Milliseconds]:
    """Time several actions in turns, so that a slow spell of the machine falls on all of them alike.

    Args:
        actions: by name.
        repetitions: turns of each; short ones take three times as many, between the others'.
        device: waited for before and after every turn.

    Returns:
        Milliseconds by name, one number per turn.
    """
    for action in actions.values():
        action.warm_up(device)
    short = [name for name, action in actions.items() if action.short]
    others = [name for name in actions if name not in short]
    taken: dict[str, Milliseconds] = {name: [] for name in actions}
    for _ in range(repetitions):
        for part in range(_SHORT_TURNS):
            for name in (*short, *others[part::_SHORT_TURNS]):
                taken[name].append(actions[name].turn(device))
    return taken


def summary(taken: Milliseconds) -> dict[str, float]:
    """Median, range and number of turns."""
    median, low, high = (round(value, 4) for value in (statistics.median(taken), min(taken), max(taken)))
    return {"median": median, "low": low, "high": high, "turns": len(taken)}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class AllocationTracer(TorchDispatchMode):
    """Bytes of tensor storage allocated while active and not yet freed: `live` now, `peak` at most.

    For the CPU, whose allocator keeps no count. Scratch space inside a kernel is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and id(leaf.untyped_storage()) not in before:
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return

        def freed(_reference: object) -> None:
            del self._known[key]
            self.live -= size

        self._known[key] = weakref.ref(storage, freed)
        self.live += size
        self.peak = max(self.peak, self.live)


def peak_allocation(action: Action, device: torch.device) -> int:
    """Most bytes that two rounds of `action` hold at a time beyond what was held before; gradients, which are there
    from one update to the next, count. The action must have been done before, for Adam's moments not to.
    """
    action = action.counted or action
    for parameter in action.parameters:
        parameter.grad = None
    action.prepare()
    if device.type == "cuda":
        _wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action.repeat(2)
        _wait(device)
        peak = torch.cuda.max_memory_allocated(device) - before
    else:
        with AllocationTracer() as tracer:
            action.repeat(2)
        peak = tracer.peak
    action.finish()
    return peak


# They read those rows of their first argument that they give, and not the whole table.
_LOOKUPS = {
    torch.ops.aten.index_select.default,
    torch.ops.aten.index.Tensor,
    torch.ops.aten.gather.default,
    torch.ops.aten.embedding.default,
}


class _Traffic(TorchDispatchMode):
    """Bytes of all tensors that go into and come out of every kernel: what moves if nothing stays in cache."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:  # type: ignore[attr-defined]
            read = (result, *args[1:]) if func in _LOOKUPS else args
            leaves = tree_leaves((read, kwargs, result))
            self.total += sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))
        return result


def arithmetic_and_traffic(action: Action) -> tuple[int, int]:
    """Floating-point operations (products and convolutions, two per multiply-add) and bytes moved by `action`, which
    must have been done before.
    """
    action = action.counted or action
    action.prepare()
    with FlopCounterMode(display=False) as counter:
        action.repeat(1)
    with _Traffic() as traffic:
        action.repeat(1)
    action.finish()
    return counter.get_total_flops(), traffic.total


def machine_peaks(device: torch.device) -> dict[str, float]:
    """What the machine can do here and now, in float32: GFLOP/s of a large matrix product, GB/s of a large copy."""
    size = 8192 if device.type == "cuda" else 2048
    matrix = torch.randn(size, size, device=device)
    values = torch.randn(64 * 2**20, device=device)  # 256 MiB
    target = torch.empty_like(values)
    actions = {"product": Action.of(lambda: matrix @ matrix), "copy": Action.of(lambda: target.copy_(values))}
    best = {name: min(taken) for name, taken in interleaved(actions, 5, device).items()}
    return {
        "matrix_gflops": round(2 * size**3 / best["product"] / 1e6, 1),
        "copy_gb_per_s": round(2 * values.numel() * 4 / best["copy"] / 1e6, 2),
    }
