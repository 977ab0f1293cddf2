"""Checkpoints: a run that was stopped goes on where it was, to the same bits.

They live in a scratch folder named by the hash of everything that determines the run, so one of other parameters, other
data or other code is never picked up. Each is written under a temporary name, flushed and renamed; two are kept; a
damaged one is recognised by its digest and the older one used. No pickle: tensors and JSON in one safetensors file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from replication.config import CheckpointParams, Experiment
from replication.datasets import PreparedDataset
from replication.errors import TrainingError
from replication.files import atomic_path, hash_of_code
from replication.training import interruption
from replication.training.device import describe_versions
from replication.training.distributed import agree, rank

_KEPT = 2
_METADATA = "state"
_DIGEST = 64  # hexadecimal digits of SHA-256, before the safetensors bytes
#: What trains, beside the parameters and the data: the code that the train stage of dvc.yaml depends on.
CODE = ("boosting", "datasets/loader.py", "datasets/pairs.py", "models", "training")
# As it was imported: by the time that the next of several runs starts, the files may have been edited.
_CODE = hash_of_code(Path(__file__).resolve().parents[1], CODE)
# Updates made without a look at the clock and at signals that came in.
_CHUNK = 100


@attrs.frozen
class Snapshot:
    """State: tensors by name, and what JSON holds exactly (Python writes floats so that they read back bit by bit)."""

    tensors: dict[str, Tensor] = attrs.field(factory=dict)
    values: dict[str, Any] = attrs.field(factory=dict)

    def part(self, name: str) -> Snapshot:
        """What `join` put under `name`."""
        start = f"{name}/"
        tensors = {key.removeprefix(start): tensor for key, tensor in self.tensors.items() if key.startswith(start)}
        return Snapshot(tensors, self.values.get(name, {}))


def join(**parts: Snapshot) -> Snapshot:
    """One snapshot out of named ones."""
    tensors = {f"{name}/{key}": tensor for name, part in parts.items() for key, tensor in part.tensors.items()}
    return Snapshot(tensors, {name: part.values for name, part in parts.items()})


def progress_of(saved: Snapshot, method: str) -> dict[str, Any]:
    """The values of the part "progress", whose "method" is what wrote it.

    Raises:
        TrainingError: another method wrote it; of the pipeline's runs each has a folder of its own.
    """
    progress = saved.part("progress").values
    if progress.get("method") != method:
        raise TrainingError("the checkpoints are those of another method; give every training a folder of its own")
    return progress


def capture(thing: object) -> Snapshot:
    """The tensors, numbers and lists among an object's attributes."""
    attributes = vars(thing)
    tensors = {name: value for name, value in attributes.items() if isinstance(value, Tensor)}
    return Snapshot(
        tensors, {name: value for name, value in attributes.items() if isinstance(value, int | float | list)}
    )


def reinstate(thing: object, snapshot: Snapshot) -> None:
    """Give an object the attributes that `capture` took, tensors on the devices where its own are."""
    for name, tensor in snapshot.tensors.items():
        setattr(thing, name, tensor.to(getattr(thing, name).device))
    for name, value in snapshot.values.items():
        setattr(thing, name, value)


class Checkpoints:
    """The checkpoints of one run, and when the next is due.

    Args:
        folder: scratch folder of this run alone; None keeps no checkpoints.
        params: how often, in gradient updates and in minutes.
    """

    def __init__(self, folder: Path | None, params: CheckpointParams) -> None:
        self._folder, self._params = folder, params
        self._last_updates, self._last_time = 0, time.monotonic()

    def chunk(self, updates: int) -> int:
        """How many updates to make before the next `visit`, at most."""
        return min(_CHUNK, max(1, self._params.updates - (updates - self._last_updates)))

    def visit(self, updates: int, take: Callable[[], Snapshot], *, end_of_block: bool = False) -> None:
        """Save if it is time to, at the end of a block, or because a signal asked to stop.

        Raises:
            Interrupted: a signal came in; everything is saved.
            ReplicationError: the file system refused; the older checkpoints are as they were.
        """
        minutes = (time.monotonic() - self._last_time) / 60
        due = updates - self._last_updates >= self._params.updates or minutes >= self._params.minutes
        asked = agree(interruption.asked_to_stop() or 0)
        if end_of_block or asked or agree(int(due)):
            if self._folder is not None and rank() == 0:
                self._save(self._folder, updates, take())
            self._last_updates, self._last_time = updates, time.monotonic()
        if asked:
            raise interruption.Interrupted(asked, updates, saved=self._folder is not None)

    def load(self) -> Snapshot | None:
        """The newest whole checkpoint, or None where there is none; damaged ones are passed over with a note."""
        for path in reversed(_files(self._folder)):
            try:
                content = path.read_bytes()
            except OSError as error:
                print(f"note: cannot read {path} ({error.strerror}); looking for an older checkpoint", file=sys.stderr)
                continue
            if hashlib.sha256(content[_DIGEST:]).hexdigest().encode() != content[:_DIGEST]:
                self._discard(path, "is damaged")
                continue
            try:
                tensors, (updates, values) = load(content[_DIGEST:]), _metadata(content[_DIGEST:])
            except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
                self._discard(path, "is no checkpoint")
                continue
            self._last_updates = updates
            if rank() == 0:
                print(f"note: going on after update {updates}, from {path}", file=sys.stderr)
            return Snapshot(tensors, values)
        return None

    def _discard(self, path: Path, why: str) -> None:
        """Remove it: two are kept by their numbers, and its number may be higher than those that are written next."""
        if rank() == 0:
            print(f"note: {path} {why}; looking for an older checkpoint", file=sys.stderr)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """The run is finished: nothing of it stays in scratch."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _save(self, folder: Path, updates: int, snapshot: Snapshot) -> None:
        tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in snapshot.tensors.items()}
        content = save(tensors, {_METADATA: json.dumps({"updates": updates, "values": snapshot.values})})
        with atomic_path(folder / f"{updates:012d}.checkpoint") as temporary, temporary.open("wb") as stream:
            stream.write(hashlib.sha256(content).hexdigest().encode())
            stream.write(content)
        for old in _files(folder)[:-_KEPT]:
            with contextlib.suppress(OSError):  # the new one is written; an old one too many is no harm
                old.unlink(missing_ok=True)


def _files(folder: Path | None) -> list[Path]:
    return [] if folder is None else sorted(folder.glob("*.checkpoint"))


def _metadata(content: bytes) -> tuple[int, dict[str, Any]]:
    """Updates made and values; a ValueError, KeyError or TypeError where there are none."""
    size = int.from_bytes(content[:8], "little")
    state = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][_METADATA])
    if type(state["updates"]) is not int or not isinstance(state["values"], dict):
        raise TypeError("its state has values of the wrong type")
    return state["updates"], state["values"]


def what_determines(experiment: Experiment, data: PreparedDataset, device: torch.device) -> dict[str, Any]:
    """What `run_key` takes, but for what tells apart the runs of one experiment on one machine."""
    return {
        "config": experiment.determining(),
        "data": data.content_hash,
        "versions": describe_versions(),
        "device": device.type,
    }


def run_key(determines: dict[str, Any]) -> str:
    """Hash of everything that determines a run: what is named, and the code that trains.

    Args:
        determines: configuration, method, seed, data hash, versions, start; as JSON can say it.
    """
    return hashlib.sha256(json.dumps([determines, _CODE], sort_keys=True).encode()).hexdigest()[:32]
