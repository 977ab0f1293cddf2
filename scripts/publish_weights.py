"""Put the trained networks worth sharing into weights/: of each method the seed that is best on validation.

    python scripts/publish_weights.py DATASET

A folder weights/DATASET/METHOD/seedN holds what `replication.training.runs.load_model` needs, run.json and
model.safetensors, as the run directory has them, but that run.json has the checksum of no other file. The networks of
other budgets come from scratch/, where their stage keeps its runs, and go to weights/DATASET/budgets/BUDGET/. Networks
above 5 MB stay where they are, with a line that says so.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from replication.config import DATASETS  # noqa: E402
from replication.errors import ReplicationError, ResultsError  # noqa: E402
from replication.files import atomic_folder  # noqa: E402
from replication.report.fields import read_object  # noqa: E402
from replication.run_directory import WEIGHTS, copy_model, is_published_from, kept_run  # noqa: E402
from replication.training.runs import model_kind, read_description, run_folder  # noqa: E402

MOST_BYTES = 5_000_000


def best_seed(method: Path) -> int:
    """Of results/DATASET/METHOD: the seed with the highest validation accuracy, the first of several."""
    accuracies = {
        int(path.parent.name.removeprefix("seed")): read_object(path).fraction("validation_accuracy")
        for path in method.glob("seed*/metrics.json")
    }
    return min(accuracies, key=lambda seed: (-accuracies[seed], seed))


def publish(dataset: str, results: Path, runs: Callable[[Path], Path], weights: Path) -> None:
    """Copy the best run of every method that left a network of at most 5 MB; replaces what was there.

    Args:
        runs: from a run's published folder to where its run directory is, or should be.

    Raises:
        ReplicationError: nothing is published of the dataset, a run is damaged, or the file system refused.
    """
    if not (results / dataset).is_dir():
        raise ResultsError(f"there is no {results / dataset}: no run was published; `dvc repro report@{dataset}` first")
    for method in sorted(path.name for path in (results / dataset).iterdir() if any(path.glob("seed*/metrics.json"))):
        seed = best_seed(results / dataset / method)
        published, target = (run_folder(root, dataset, method, seed) for root in (results, weights))
        source = runs(published)
        if not (source / "run.json").is_file():
            print(f"{source} is not here: what weights/ has of {method}, if anything, stays")
            continue
        if not is_published_from(published, source):
            print(f"{source} is another training than {published}: evaluate it first; what weights/ has stays")
            continue
        if model_kind(read_description(source)) == "scores":
            continue
        size = (source / WEIGHTS).stat().st_size
        if size > MOST_BYTES:
            print(f"{source}: {size:,} bytes, left where it is")
            continue
        with atomic_folder(target) as temporary:
            copy_model(source, temporary)
        for other in target.parent.iterdir():
            if other != target and other.is_dir():
                shutil.rmtree(other)
        print(f"{target}: {size:,} bytes")


def publish_budgets(dataset: str, results: Path, scratch: Path, weights: Path) -> None:
    """`publish` for the runs of every other budget: those in `scratch` that the published ones are."""
    folders = results / dataset / "budgets"
    for folder in sorted(folders.glob("*")):
        if any(kept_run(path.parent, scratch) for path in folder.glob("*/*/*/run.json")):
            target = weights / dataset / "budgets" / folder.name
            publish(
                dataset, folder, lambda path: kept_run(path, scratch) or scratch / path.relative_to(folders), target
            )
        else:
            print(f"the runs of {folder} are not under {scratch}: what weights/ has of them, if anything, stays")


def main() -> int:
    """Publish what is here of a dataset; says in one line what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset", choices=DATASETS)
    dataset, results, weights = parser.parse_args().dataset, ROOT / "results", ROOT / "weights"
    try:
        publish(dataset, results, lambda path: ROOT / "runs" / path.relative_to(results), weights)
        publish_budgets(dataset, results, ROOT / "scratch" / "budgets", weights)
    except ReplicationError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
