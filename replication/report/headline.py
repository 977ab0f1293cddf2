"""One number per method for `dvc metrics show`: results/DATASET/test_accuracy.json; all others are beside the runs."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from replication.files import write_json
from replication.report.results import load_results


def write_headline(dataset: str, results_root: Path, target: Path) -> dict[str, float]:
    """Write the mean test accuracy (0..1) over the seeds of every method that was run, and the fewest seeds behind one.

    Raises:
        ResultsError: a published run is incomplete or malformed.
    """
    runs = load_results(dataset, results_root).runs
    values: dict[str, float] = {
        method: round(fmean(run.metrics.test_accuracy for run in of_method), 6) for method, of_method in runs.items()
    }
    values["seeds"] = min(map(len, runs.values()), default=0)
    write_json(target, values)
    return values
