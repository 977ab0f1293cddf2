"""Stop-watches and scales: interleaved timings, peak memory, arithmetic and traffic of an update, machine peaks."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

Action = Callable[[], object]


@attrs.frozen
class Timing:
    """Milliseconds of one action over several repetitions."""

    median: float
    low: float
    high: float


def interleaved(actions: Mapping[str, Action], repetitions: int, device: torch.device) -> dict[str, Timing]:
    """Time several actions in turns, so that a slow spell of the machine falls on all of them alike.

    Args:
        actions: by name; each is run once beforehand, untimed.
        repetitions: rounds of turns.
        device: waited for before and after every action.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for action in actions.values():
        action()
    for _ in range(repetitions):
        for name, action in actions.items():
            _wait(device)
            start = time.perf_counter()
            action()
            _wait(device)
            seconds[name].append(time.perf_counter() - start)
    return {
        name: Timing(*(round(1e3 * value, 4) for value in (statistics.median(taken), min(taken), max(taken))))
        for name, taken in seconds.items()
    }


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
    """Most bytes that `action` holds at a time beyond what was held before it; the action is run once beforehand."""
    action()
    if device.type == "cuda":
        _wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        _wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    with AllocationTracer() as tracer:
        action()
    return tracer.peak


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
            leaves = tree_leaves((args, kwargs, result))
            self.total += sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))
        return result


def arithmetic_and_traffic(action: Action) -> tuple[int, int]:
    """Floating-point operations (products and convolutions, two per multiply-add) and bytes moved by `action`."""
    action()
    with FlopCounterMode(display=False) as counter:
        action()
    with _Traffic() as traffic:
        action()
    return counter.get_total_flops(), traffic.total


def machine_peaks(device: torch.device) -> dict[str, float]:
    """What the machine can do here and now, in float32: GFLOP/s of a large matrix product, GB/s of a large copy."""
    size = 8192 if device.type == "cuda" else 2048
    matrix = torch.randn(size, size, device=device)
    values = torch.randn(64 * 2**20, device=device)  # 256 MiB
    target = torch.empty_like(values)
    timings = interleaved({"product": lambda: matrix @ matrix, "copy": lambda: target.copy_(values)}, 5, device)
    return {
        "matrix_gflops": round(2 * size**3 / timings["product"].low / 1e6, 1),
        "copy_gb_per_s": round(2 * values.numel() * 4 / timings["copy"].low / 1e6, 2),
    }
