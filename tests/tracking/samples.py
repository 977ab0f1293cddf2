"""Run directories and metrics as training and evaluation leave them, and what a store says of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from replication.config import load_experiment
from replication.files import write_csv, write_json
from replication.tracking.store import Store
from tests.tampering import renew_digests

ROOT = Path(__file__).resolve().parents[2]
HISTORY = ("gradient_updates", "block", "train_accuracy", "train_loss", "test_accuracy")


def description(method: str = "boostresnet", seed: int = 0, learning_rate: float = 0.001) -> dict[str, Any]:
    """What run.json holds at the start of a run."""
    config = load_experiment("digits", ROOT / "params.yaml").as_dict()
    config["optimizer"]["learning_rate"] = learning_rate
    return {
        "schema": 1,
        "dataset": "digits",
        "method": method,
        "seed": seed,
        "budget": 0.02,
        "reading": "released",
        "config": config,
        "model": {"reading": "released", "blocks": 3, "width": 4, "image_shape": [1, 8, 8], "num_classes": 10},
        "data": {"content_hash": "ab" * 32, "official": True, "train_size": 100},
        "git": {"commit": "c" * 40, "dirty": False},
    }


def history_rows() -> list[dict[str, Any]]:
    return [dict(zip(HISTORY, (100 * i, i, i / 10, 2.0 / (i + 1), None), strict=True)) for i in range(4)]


def write_run(folder: Path, started: str = "2026-01-01T00:00:00+00:00", **changes: Any) -> Path:
    """A finished run directory as training leaves it, with the weights as an opaque file."""
    run = description(**changes) | {"gradient_updates": 300, "blocks": 3, "started": started, "wall_seconds": 9.5}
    run_dir = folder / "digits" / run["method"] / f"seed{run['seed']}"
    write_csv(run_dir / "history.csv", HISTORY, history_rows())
    rounds = [{"block": b, "cumulative_updates": 100 * b, "moved_on": "gamma", "edge": b / 4} for b in range(1, 4)]
    write_csv(run_dir / "rounds.csv", tuple(rounds[0]), rounds)
    timing = [{"gradient_updates": 100 * i, "seconds": 1.5 * i, "peak_memory_bytes": 10**9} for i in range(4)]
    write_csv(run_dir / "timing.csv", tuple(timing[0]), timing)
    write_json(run_dir / "run.json", run)
    (run_dir / "model.safetensors").write_bytes(b"weights")
    renew_digests(run_dir)
    return run_dir


def write_metrics(results: Path, accuracy: float = 0.9, run: Path | None = None) -> Path:
    """What is published of a run of BoostResNet, its run.json among it if the run directory is given."""
    folder = results / "digits" / "boostresnet" / "seed0"
    if run is not None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / "run.json", folder / "run.json")
    write_json(folder / "metrics.json", {"test_accuracy": accuracy, "gradient_updates": 300, "method": "boostresnet"})
    return folder


def active_runs(store: Store) -> list[Any]:
    return list(store.client.search_runs([store.experiment_id("digits")]))


def snapshot(store: Store) -> str:
    """Everything that a second import must not change."""
    runs = sorted(active_runs(store), key=lambda run: str(run.info.run_id))
    histories = [[store.client.get_metric_history(r.info.run_id, key) for key in sorted(r.data.metrics)] for r in runs]
    return json.dumps([r.to_dictionary() for r in runs], sort_keys=True) + repr(
        [[[(m.step, m.value, m.timestamp) for m in curve] for curve in run] for run in histories]
    )
