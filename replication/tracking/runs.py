"""Import finished run directories into MLflow, where a second import changes nothing; and where to see them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs

from replication.errors import ReplicationError, ResultsError
from replication.run_directory import is_published_from, kept_run
from replication.tracking import records
from replication.tracking.location import tracking_uri
from replication.tracking.store import Store, installed, readable_errors

logger = logging.getLogger(__name__)


@attrs.frozen
class ImportCounts:
    """What `log_runs` did with the run directories it found."""

    imported: int
    updated: int
    unchanged: int
    skipped: int

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in attrs.asdict(self).items())


def log_run(run_dir: Path, results_dir: Path | None = None) -> str:
    """Import one finished run directory and give the id of the MLflow run that stands for it.

    Args:
        run_dir: `runs/DATASET/METHOD/seedN`.
        results_dir: `results/DATASET/METHOD/seedN`, whose metrics.json and analysis.json, where there are any, give the
            metrics `final/…` and `analysis/…`.

    Raises:
        ResultsError: the run directory is incomplete.
        ReplicationError: MLflow is not installed or does not take the run.
    """
    return _import(_open_store(), run_dir, results_dir)[0]


def try_log_runs(runs_root: Path, results_root: Path, datasets: Sequence[str] = ("*",)) -> bool:
    """`log_runs` for a stage that must not fail for MLflow's sake: a note on stderr instead of an error."""
    if not installed():
        return False
    try:
        log_runs(runs_root, results_root, datasets)
    except ReplicationError as error:
        print(f"note: {error}", file=sys.stderr)
        return False
    return True


def log_runs(
    runs_root: Path,
    results_root: Path,
    datasets: Sequence[str] = ("*",),
    scratch: Path = Path("scratch/budgets"),
) -> ImportCounts:
    """Bring MLflow up to date with every run directory DATASET/METHOD/seedN under `runs_root`, and with those under
    other budgets that were published and still lie in `scratch`.

    One process at a time may do so for a dataset: two would both import what neither finds. Incomplete directories (a
    training under way) are counted and left alone.

    Args:
        datasets: their names, or patterns for them.

    Raises:
        ReplicationError: MLflow is not installed or does not take the runs.
    """
    store = _open_store()
    counts = {field.name: 0 for field in attrs.fields(ImportCounts)}
    found = {path for dataset in datasets for path in runs_root.glob(f"{dataset}/*/seed*") if path.is_dir()}
    runs: list[tuple[Path, Path | None, str]] = []
    for path in sorted(found):
        published = results_root / path.relative_to(runs_root)
        # A run that was trained anew and not yet evaluated must not get the numbers of the one before.
        runs.append((path, published if is_published_from(published, path) else None, ""))
    runs += [run for dataset in datasets for run in _under_other_budgets(dataset, results_root, scratch)]
    for run_dir, results_dir, other_budget in runs:
        try:
            outcome = _import(store, run_dir, results_dir, other_budget)[1]
        except ResultsError as error:
            logger.warning("%s", error)
            outcome = "skipped"
        counts[outcome] += 1
    return ImportCounts(**counts)


def pages(address: str) -> dict[str, str]:
    """The page of each dataset's runs in MLflow's user interface, by the name of the experiment.

    Args:
        address: of the interface: "http://127.0.0.1:5000".

    Raises:
        ReplicationError: MLflow is not installed or cannot be reached.
    """
    store = _open_store()
    with readable_errors(store.uri):
        # Without being asked, MLflow 3 shows what traces of language models an experiment has, and none of its runs.
        return {
            name: f"{address.rstrip('/')}/#/experiments/{number}?workflowType=machine_learning"
            for name, number in store.experiments().items()
        }


def _open_store() -> Store:
    if not installed():
        raise ReplicationError("MLflow is not installed here; pip install -r requirements.lock and run this again")
    uri = tracking_uri()
    with readable_errors(uri):
        return Store(uri)


def _under_other_budgets(dataset: str, results_root: Path, scratch: Path) -> list[tuple[Path, Path, str]]:
    """Run directory, published folder and name of the budget of each such run of a dataset, or a pattern for several,
    that is still in `scratch`.
    """
    published = sorted(results_root.glob(f"{dataset}/budgets/*/*/*/seed*"))
    return [(run, path, path.parents[2].name) for path in published if (run := kept_run(path, scratch)) is not None]


def _import(store: Store, run_dir: Path, results_dir: Path | None, other_budget: str = "") -> tuple[str, str]:
    """The run's id, and "imported", "updated" or "unchanged"."""
    run = records.read_run(run_dir, other_budget)
    content = records.content_hash(run_dir)
    with readable_errors(store.uri):
        known = store.find(store.experiment_id(run["dataset"]), records.run_key(run))
        store.end_stale_runs(known, run)
        for candidate in known:
            run_id, tags = str(candidate.info.run_id), candidate.data.tags
            if tags.get("replication.content_sha256") != content or candidate.info.status != "FINISHED":
                continue
            changed = store.log_results(run_id, results_dir, tags)
            if "replication.superseded_by" in tags:  # an earlier configuration is back
                store.client.delete_tag(run_id, "replication.superseded_by")
                store.retire_others(candidate)
                changed = True
            return run_id, "updated" if changed else "unchanged"
        run_id = store.start(run, live=False)
        store.complete(run_id, run_dir, results_dir, set(), other_budget)
    return run_id, "imported"
