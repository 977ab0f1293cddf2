"""Compare published results with those of another checkout: exactly on the same CPU type, within rounding elsewhere.

    python scripts/compare_results.py EXPECTED/results/digits results/digits
    python scripts/compare_results.py results/digits          # against what the checkout's last commit has there

The same device, CPU type, CPU instructions, thread count and versions of torch, numpy and scikit-learn (run.json) must
give the same metrics.json, number for number, the same curves and rounds, the same analyses, and the same tables beside
the runs.
Otherwise every method's accuracies, averaged over its seeds as in the tables, must agree within 0.005 or, where that is
more, half a standard error of the published mean: training magnifies rounding, but another machine must come closer
than other seeds would.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

TOLERANCE = 0.005
_ANALYSIS, _TIMES = "analysis.json", "timing.csv"
_ACCURACIES = ("train_accuracy", "validation_accuracy", "test_accuracy")


def compare(expected: Path, actual: Path) -> tuple[list[str], str]:
    """Differences, one line each, and a word on how the comparison was made."""
    names = {path.parent.relative_to(expected) for path in expected.glob("**/seed*/metrics.json")}
    found = {path.parent.relative_to(actual) for path in actual.glob("**/seed*/metrics.json")}
    if not names:
        return [f"no results in {expected}"], ""
    differences = [f"{name} is missing" for name in sorted(names - found)]
    differences += [f"{name} was not expected" for name in sorted(found - names)]
    if differences:
        return differences, ""
    runs = f"{len(names)} runs{_kept(expected, actual, names)}"
    pairs = {name: (_read(expected / name / "metrics.json"), _read(actual / name / "metrics.json")) for name in names}
    if all(_machine(expected / name) == _machine(actual / name) for name in names):
        for name, (old, new) in sorted(pairs.items()):
            for key in sorted(old.keys() | new.keys()):
                if old.get(key) != new.get(key):
                    differences.append(f"{name}: {key} was {old.get(key)} and is {new.get(key)}")
        differences += [
            f"{table} is not the same"
            for table in sorted(_determined(expected) | _determined(actual))
            if _content(expected / table) != _content(actual / table)
        ]
        return differences, f"{runs}, same kind of machine: all metrics, curves, analyses and tables exactly equal"
    largest = 0.0
    for method in sorted({name.parent.as_posix() for name in names}):
        seeds = [pair for name, pair in pairs.items() if name.parent.as_posix() == method]
        for key in _ACCURACIES:
            published = [old[key] for old, _ in seeds]
            old_mean, new_mean = fmean(published), fmean(new[key] for _, new in seeds)
            allowed = max(TOLERANCE, stdev(published) / len(seeds) ** 0.5 / 2) if len(seeds) > 1 else TOLERANCE
            largest = max(largest, abs(old_mean - new_mean))
            if abs(old_mean - new_mean) > allowed:
                differences.append(
                    f"{method}: mean {key} was {old_mean:.4f}, is {new_mean:.4f}; rounding is allowed {allowed:.4f}"
                )
    manner = (
        f"{runs}, another kind of machine: all means agree within what rounding may do "
        f"({100 * TOLERANCE:.1f} points, more where the seeds differ more); the largest is {100 * largest:.2f}"
    )
    return differences, manner


def _kept(expected: Path, actual: Path, names: set[Path]) -> str:
    """How many runs are the expected ones themselves, as those are that a stage left alone: a run made anew has other
    times in run.json.
    """
    same = sum(_content(expected / name / "run.json") == _content(actual / name / "run.json") for name in names)
    return f" ({same} of them not made anew)" if same else ""


def _determined(folder: Path) -> set[Path]:
    """What the seeds determine beside the metrics: analyses, and all tables but those of the machine's times."""
    found = [path for path in folder.glob("**/*.csv") if path.name != _TIMES]
    return {path.relative_to(folder) for path in (*found, *folder.glob(f"**/{_ANALYSIS}"))}


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _machine(folder: Path) -> list[Any]:
    """What decides how a run rounds; the name of a CPU may stand for several generations ("AMD EPYC")."""
    run = _read(folder / "run.json")
    hardware = [run["hardware"].get(key) for key in ("device", "gpu", "cpu", "cpu_model", "cpu_capability", "threads")]
    return hardware + [run["versions"].get(key) for key in ("torch", "numpy", "scikit-learn")]


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def compare_with_commit(actual: Path) -> tuple[list[str], str]:
    """`compare` with what git has committed under the same path."""
    names = _git("ls-tree", "-r", "--name-only", "HEAD", "--", actual.as_posix())
    if not names:
        return [f"git has no committed {actual}"], ""
    with tempfile.TemporaryDirectory() as folder:
        for path in map(Path, names.decode().splitlines()):
            if path.name in ("metrics.json", "run.json", _ANALYSIS) or path.suffix == ".csv":
                copy = Path(folder) / path
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(_git("show", f"HEAD:./{path.as_posix()}"))
        return compare(Path(folder) / actual, actual)


def _git(*arguments: str) -> bytes:
    """What git prints; nothing where it fails."""
    return subprocess.run(["git", *arguments], capture_output=True, check=False).stdout


def main(arguments: list[str]) -> int:
    if len(arguments) not in (1, 2):
        print("usage: python scripts/compare_results.py [EXPECTED/results/DATASET] results/DATASET", file=sys.stderr)
        return 2
    *expected, actual = map(Path, arguments)
    try:
        differences, manner = compare(expected[0], actual) if expected else compare_with_commit(actual)
    except (OSError, ValueError, KeyError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else error
        print(f"error: results cannot be compared ({what}); publish the runs again by `dvc repro`", file=sys.stderr)
        return 1
    for difference in differences:
        print(f"error: {difference}", file=sys.stderr)
    if not differences:
        print(manner if expected else f"against the committed results: {manner}")
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
