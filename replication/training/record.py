"""What a run measures while it trains: rows of history.csv, rounds.csv and timing.csv, passed on as they arise."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from replication.training.checkpoint import Snapshot
from replication.training.device import forget_peak_memory, peak_memory
from replication.training.distributed import rank, world
from replication.training.features import SplitFeatures

Row = dict[str, Any]
Observer = Callable[[str, Row], None]  # kind of row ("history", "rounds", "timing") and the row

#: What a run spends its time on: gradient updates (the augmented batch's way through the frozen prefix among them),
#: stored prefix outputs, edges on the training split, points of the curves, checkpoints, and telling observers.
PHASES = ("update", "prefix", "check", "evaluation", "checkpoint", "logging")

COLUMNS: dict[str, tuple[str, ...]] = {
    "history": (
        "gradient_updates",
        "block",
        "train_accuracy",
        "train_loss",
        "validation_accuracy",
        "validation_loss",
        "test_accuracy",
        "test_loss",
    ),
    "rounds": (
        "block",
        "module",
        "gradient_updates",
        "cumulative_updates",
        "moved_on",
        "edge",
        "gamma",
        "weak_learning_gain",
        "covariance",
        "alpha",
        "bound",
        "train_error",
        "train_accuracy",
        "validation_accuracy",
        "test_accuracy",
    ),
    "timing": ("gradient_updates", "block", "seconds", "peak_memory_bytes"),
}


class Recorder:
    """Collects a run's rows by kind and hands each to the observers at once."""

    def __init__(self, device: torch.device, observers: tuple[Observer, ...] = ()) -> None:
        self.rows: dict[str, list[Row]] = {kind: [] for kind in COLUMNS}
        self._device, self._observers = device, observers
        forget_peak_memory(device)
        self._start = time.perf_counter()
        self.started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self.resumed = 0  # times that the run went on from a checkpoint
        self.spent = dict.fromkeys(PHASES, 0.0)  # seconds

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Count the time inside towards one of PHASES."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if self._device.type == "cuda":  # or the next phase would wait for what this one only launched
                torch.cuda.synchronize(self._device)
            self.spent[phase] += time.perf_counter() - start

    def snapshot(self) -> Snapshot:
        """All rows, when they began and the time so far."""
        values = {
            "rows": self.rows,
            "started": self.started,
            "resumed": self.resumed,
            "seconds": self.seconds,
            "spent": list(self.spent.values()),
        }
        return Snapshot(values=values)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot; the observers have seen its rows already."""
        self.rows, self.started = snapshot.values["rows"], snapshot.values["started"]
        self.resumed = snapshot.values["resumed"] + 1
        self._start = time.perf_counter() - snapshot.values["seconds"]
        self.spent = dict(zip(PHASES, snapshot.values["spent"], strict=True))

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since the recorder was made."""
        return time.perf_counter() - self._start

    def add(self, kind: str, row: Mapping[str, Any]) -> None:
        """Append a row; KeyError if it names a column that its file does not have."""
        unknown = set(row) - set(COLUMNS[kind])
        if unknown:
            raise KeyError(f"{kind}.csv has no column {sorted(unknown)}")
        complete = {column: row.get(column) for column in COLUMNS[kind]}
        self.rows[kind].append(complete)
        with self.timed("logging"):
            for observe in self._observers:
                observe(kind, complete)

    def evaluation(self, updates: int, block: int | None, measures: Mapping[str, float]) -> None:
        """One point of the curves, with the time and memory it took to get there."""
        self.add("history", {"gradient_updates": updates, "block": block, **measures})
        memory = peak_memory(self._device)
        seconds = round(self.seconds, 3)
        self.add(
            "timing", {"gradient_updates": updates, "block": block, "seconds": seconds, "peak_memory_bytes": memory}
        )


@torch.no_grad()
def predict(model: nn.Module, features: SplitFeatures) -> Tensor:
    """Logits (N, C) of a whole split in evaluation mode; the model's mode is restored."""
    training = model.training
    model.eval()
    if world() == 1:
        logits = torch.cat([model(chunk) for chunk in features.chunks()])
    else:
        logits = _predict_together(model, features)
    model.train(training)
    return logits


def _predict_together(model: nn.Module, features: SplitFeatures) -> Tensor:
    """Every process takes its share of the chunks; all get all logits."""
    example = model(features[slice(0, 1)])
    logits = example.new_zeros(len(features), *example.shape[1:])
    for number, part in enumerate(features.parts()):
        if number % world() == rank():
            logits[part] = model(features[part])
    dist.all_reduce(logits)
    return logits


def accuracy_and_loss(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Fraction of correct labels (0..1) and mean cross-entropy (nats) of logits (N, C)."""
    accuracy = (logits.argmax(1) == labels).double().mean()
    return float(accuracy), float(nn.functional.cross_entropy(logits.double(), labels))


def measure_splits(model: nn.Module, splits: Mapping[str, SplitFeatures]) -> dict[str, float]:
    """`NAME_accuracy` and `NAME_loss` of `model` on every split."""
    measures = {}
    for name, features in splits.items():
        measures[f"{name}_accuracy"], measures[f"{name}_loss"] = accuracy_and_loss(
            predict(model, features), features.data.labels
        )
    return measures
