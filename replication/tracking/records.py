"""A run directory as MLflow shall see it: points, parameters, tags and identity. No MLflow in here.

Runs are told apart by three tags:
    replication.key             dataset/method/seed
    replication.config_sha256   all else that was asked for (config and data); same key with another one: a variation
    replication.content_sha256  what came out (run.json, history.csv, rounds.csv): a run directory is imported once
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import psutil

from replication.errors import ReplicationError, ResultsError
from replication.files import read_csv, read_json, sha256
from replication.run_directory import PUBLISHED, check_digests, is_analysed

# Per file of a run directory: the column that MLflow takes for the step, and the prefix of the metrics' names.
KINDS = {"history": ("gradient_updates", ""), "rounds": ("block", "block/"), "timing": ("gradient_updates", "time/")}
OTHER_BUDGET = "other_budget"  # under what key `read_run` notes it
_NAME = re.compile("[a-z0-9-]+")
_NO_METRIC = {"gradient_updates", "block", "module", "moved_on"}


@attrs.frozen
class Point:
    """One value of one curve."""

    key: str
    value: float
    step: int
    milliseconds: int  # since the epoch


def row_points(kind: str, row: Mapping[str, Any], milliseconds: int) -> list[Point]:
    """The points of one row of history.csv, rounds.csv or timing.csv; empty, textual and non-finite cells give none."""
    step_column, prefix = KINDS[kind]
    step = number(row.get(step_column))
    if step is None:
        return []
    skipped = _NO_METRIC - ({"gradient_updates"} if kind == "rounds" else set())
    values = {key: number(value) for key, value in row.items() if key not in skipped}
    return [Point(prefix + key, value, int(step), milliseconds) for key, value in values.items() if value is not None]


def all_points(run_dir: Path, run: Mapping[str, Any]) -> Iterator[Point]:
    """Every point of a run directory, each at the time that timing.csv gives for its gradient update."""
    start = started(run)
    rows = {kind: read_csv(run_dir / f"{kind}.csv") for kind in KINDS}
    seconds = {row.get("gradient_updates"): number(row.get("seconds")) or 0.0 for row in rows["timing"]}
    for kind in KINDS:
        for row in rows[kind]:
            update = row.get("cumulative_updates" if kind == "rounds" else "gradient_updates")
            yield from row_points(kind, row, start + round(1000 * seconds.get(update, 0.0)))


def results_files(results_dir: Path | None) -> dict[str, list[Path]]:
    """What is published of a run, under the name of its metrics: the file that holds them, then those beside it;
    without an analysis of an earlier training.
    """
    if results_dir is None:
        return {}
    files = {}
    if (results_dir / "metrics.json").is_file():
        files["final"] = [results_dir / "metrics.json"]
    if is_analysed(results_dir):
        files["analysis"] = [results_dir / "analysis.json", *sorted((results_dir / "analysis").glob("*.csv"))]
    return files


def results_points(name: str, values: Mapping[str, Any]) -> list[Point]:
    """The numbers of a published JSON file as `NAME/…`; text, lists and what is not finite give none."""
    step, at = int(number(values.get("gradient_updates")) or 0), now()
    numbers = {key: number(value) for key, value in _leaves(values, f"{name}/") if not isinstance(value, str)}
    return [Point(key, value, step, at) for key, value in numbers.items() if value is not None]


def _reason(error: Exception) -> str:
    """Ours are sentences; of others the type says more than the text, as of a KeyError."""
    return str(error).partition("; ")[0] if isinstance(error, ReplicationError) else f"{error!r:.80}"


def read_run(run_dir: Path, other_budget: str = "") -> dict[str, Any]:
    """run.json of a complete run directory.

    Args:
        other_budget: the name of the run's budget, if it is another one than the experiment's own; it is noted beside
            what run.json holds.

    Raises:
        ResultsError: a file is missing (training has not ended), run.json is malformed, or a file is not what training
            wrote.
    """
    for name in (*PUBLISHED, "model.safetensors"):
        if not (run_dir / name).is_file():
            raise ResultsError(f"{run_dir} is no complete run, {name} is missing; train it or remove the folder")
    try:
        run = dict(read_json(run_dir / "run.json"))
        _check(run)
    except (ReplicationError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ResultsError(f"{run_dir}/run.json is malformed ({_reason(error)}); train the run again") from error
    check_digests(run_dir, run)
    return run | ({OTHER_BUDGET: other_budget} if other_budget else {})


def _check(run: Mapping[str, Any]) -> None:
    """Raise whatever a malformed description provokes; names go into paths and queries and keep to an alphabet."""
    if not (_NAME.fullmatch(run["dataset"]) and _NAME.fullmatch(run["method"]) and type(run["seed"]) is int):
        raise ValueError("dataset, method or seed")
    run_tags(run), run_params(run), started(run), lasted(run)
    (*shape,) = map(int, run["model"]["image_shape"])
    if min(*shape, int(run["model"]["num_classes"])) < 1:
        raise ValueError("model")


def keeps_model(run: Mapping[str, Any]) -> bool:
    """Whether model.safetensors holds a model to load; a stock library's run keeps its scores alone."""
    return run["model"].get("kind") != "scores"


def run_key(run: Mapping[str, Any]) -> str:
    """dataset/method/seed, with the budget behind an @ if it is another one than the experiment's own: one does not
    supersede the other.
    """
    other = f"@{run[OTHER_BUDGET]}" if run.get(OTHER_BUDGET) else ""
    return f"{run['dataset']}/{run['method']}/{run['seed']}{other}"


def run_name(run: Mapping[str, Any]) -> str:
    """How MLflow's pages call it."""
    other = f", budget {run[OTHER_BUDGET]}" if run.get(OTHER_BUDGET) else ""
    return f"{run['method']} seed {run['seed']}{other}"


def config_hash(run: Mapping[str, Any]) -> str:
    """SHA-256 of what a run was asked for: known before training, equal for every repetition."""
    asked = {key: run.get(key) for key in ("dataset", "method", "seed", "config")}
    asked["data"] = (run.get("data") or {}).get("content_hash")
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def content_hash(run_dir: Path) -> str:
    """SHA-256 of what a run left behind, its times included: another training has another one."""
    return hash_of([run_dir / name for name in ("run.json", "history.csv", "rounds.csv")])


def hash_of(files: Sequence[Path]) -> str:
    """SHA-256 of the contents of files."""
    digests = [sha256(file) for file in files]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def run_tags(run: Mapping[str, Any]) -> dict[str, str]:
    """Tags that tie the MLflow run to configuration, data, git commit and DVC stage."""
    data, key = run.get("data") or {}, run_key(run)
    command = f"python -m replication train {run['dataset']} {run['method']} --seed {run['seed']}"
    stage = f"{'refine' if run['method'].endswith('-refined') else 'train'}@{key.replace('/', '-')}"
    if run.get(OTHER_BUDGET):
        command = f"python -m replication budgets {run['dataset']} --only {run['method']} --seed {run['seed']}"
        stage = f"budgets@{run['dataset']}"
    values = {
        "replication.key": key,
        "replication.config_sha256": config_hash(run),
        "replication.data_sha256": data.get("content_hash"),
        "replication.official": data.get("official"),
        "replication.budget": run.get("budget", run["config"].get("budget")),
        "replication.git_dirty": (run.get("git") or {}).get("dirty"),
        "replication.dvc_stage": stage,
        "mlflow.source.name": command,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": (run.get("git") or {}).get("commit"),
    }
    return {name: _text(value) for name, value in values.items() if value is not None}


def run_params(run: Mapping[str, Any]) -> dict[str, str]:
    """The whole configuration flattened to dotted names, with method and seed."""
    params = {key: _text(value) for key, value in _leaves(run["config"], "")}
    return {**params, "dataset": run["dataset"], "method": run["method"], "seed": str(run["seed"])}


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Everything in a nested mapping that is none itself, by dotted name."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def number(value: Any) -> float | None:
    """A finite number from a CSV cell or a JSON value, else None."""
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def started(run: Mapping[str, Any]) -> int:
    """When a run began, in milliseconds since the epoch; now, where it does not say."""
    text = run.get("started")
    return round(1000 * datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()) if text else now()


def lasted(run: Mapping[str, Any]) -> int:
    """How long a run took, in milliseconds."""
    return round(1000 * (number(run.get("wall_seconds")) or 0.0))


def now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def this_process() -> str:
    """machine:process:start, recognisable after a crash; the machine's name is hashed, as trackers may be public."""
    machine = hashlib.sha256(platform.node().encode()).hexdigest()[:12]
    return f"{machine}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def works_elsewhere(process: str) -> bool:
    """Whether what `this_process` gave once is another process of this machine that is still alive."""
    machine, _, rest = process.partition(":")
    pid, _, start = rest.partition(":")
    if process == this_process() or machine != this_process().partition(":")[0] or not pid.isdecimal():
        return False
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(start)) <= 2  # a number may be given out again
    except (psutil.Error, ValueError):
        return False


def same_machine(process: str) -> bool:
    """Whether what `this_process` gave once was on this machine."""
    return process.partition(":")[0] == this_process().partition(":")[0]
