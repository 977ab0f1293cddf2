r"""Every number of the article's prose: `\setresult{digits/e2e/test}{…}`, looked up by `\result{digits/e2e/test}`.

A key that no file sets prints "not run", so the article compiles whatever has been run, and nothing is typed by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from replication.config import BOOSTED
from replication.report.ablations import Ablated, ablation_numbers, difference_text
from replication.report.analyses import Analysis
from replication.report.budgets import Budgeted
from replication.report.comparisons import (
    compared_at,
    differences_at_end,
    equal_operations_points,
    equal_updates_points,
    paired_accuracies,
)
from replication.report.costs import Cost
from replication.report.depth import DepthRun
from replication.report.formats import (
    Estimate,
    count,
    counts,
    duration,
    latex_escape,
    points_text,
    quantity,
    signed,
    significant,
)
from replication.report.labels import (
    BINARY,
    E2E_AT_EQUAL_UPDATES,
    LABEL_BOOSTING,
    METHOD_STYLES,
    NETWORKS,
    STOCK_LIBRARY,
)
from replication.report.measured import analysis_numbers, cost_numbers, depth_numbers, rounds_numbers
from replication.report.render import budget_text, data_mark
from replication.report.reported import reported
from replication.report.results import DatasetResults, Run, budgets_of
from replication.report.tables import ResultRow, ResultsTable, results_table
from replication.report.theory_numbers import budget_numbers, lead_text, theory_numbers
from replication.report.verdicts import Judged, verdict_numbers

Numbers = dict[str, str]
#: What params.yaml calls by a name that is no word.
_IN_WORDS = {
    "exp_cross_entropy": "exponential of the cross-entropy",
    "transition-blocks": "later stages' first blocks",
    "mlp": "MLP",
}


def numbers(results: DatasetResults, cost: Cost | None = None) -> Numbers:
    """Names (without the dataset) and plain texts, ready to be escaped; only what is known is in it."""
    table = results_table(results, cost)
    values: Numbers = {}
    for method in METHOD_STYLES:
        figures = reported(results.dataset, method)
        for name in ("train", "test"):
            figure = getattr(figures, name, None)
            if figure is not None:
                values[f"paper/{method}/{name}"] = f"{figure:.1f}\N{NO-BREAK SPACE}%"
    if table.not_run:
        return values
    values |= _setting(results, table)
    for row in table.rows:
        if row.seeds:
            values |= {f"{row.key}/{name}": text for name, text in _row_numbers(row).items()}
    for method in results.runs:
        values[f"{method}/peak_memory"] = _peak_memory(results.of(method))
    for method in BOOSTED:
        values |= {f"{method}/{name}": text for name, text in theory_numbers(results.of(method)).items()}
    pairs = {" and ".join(run.info.class_names) for run in results.of(BINARY)}
    values |= {f"{BINARY}/classes": pair for pair in pairs if pair}
    return values | _gaps(results, cost)


def latex_numbers(
    results: DatasetResults,
    analyses: dict[str, tuple[Analysis, ...]] | None = None,
    cost: Cost | None = None,
    verdicts: Sequence[Judged] = (),
    depth: Sequence[DepthRun] = (),
    ablations: Sequence[Ablated] = (),
    budgets: Sequence[Budgeted] = (),
) -> str:
    r"""The file of `\setresult` lines of one dataset, sorted by name."""
    values = numbers(results, cost) | rounds_numbers(results) | analysis_numbers(analyses or {})
    values |= cost_numbers(cost) | verdict_numbers(verdicts) | depth_numbers(depth) | budget_numbers(budgets, cost)
    boosted = [*results.of("boostresnet"), *(run for budgeted in budgets for run in budgeted.runs)]
    values |= ablation_numbers(ablations, boosted)
    lines = ["% Made by `python -m replication report`; do not edit."]
    for name, text in sorted(values.items()):
        lines.append(rf"\setresult{{{results.dataset}/{name}}}{{{_escape(text)}}}%")
    return "\n".join([*lines, ""])


def _escape(text: str) -> str:
    """Escape, with no-break spaces as thin unbreakable ones."""
    return r"\,".join(latex_escape(part) for part in text.split("\N{NO-BREAK SPACE}"))


def _row_numbers(row: ResultRow) -> Numbers:
    values = {
        "train": points_text(row.train),
        "validation": points_text(row.validation),
        "test": points_text(row.test),
        "train_accuracy": _mean_percent(row.train),
        "validation_accuracy": _mean_percent(row.validation),
        "test_accuracy": _mean_percent(row.test),
        "seeds": quantity(len(row.seeds), "seed"),
        "gradient_updates": counts(row.gradient_updates, ""),
        "blocks": counts(row.blocks, ""),
        "parameters": counts(row.parameters, ""),
        "learners": counts(row.learners, ""),
        "wall": None if row.seconds is None else duration(row.seconds, "").replace(" ", "\N{NO-BREAK SPACE}"),
    }
    return {name: text for name, text in values.items() if text}


def _setting(results: DatasetResults, table: ResultsTable) -> Numbers:
    """What holds for the dataset: data, budget, seeds, time, machine, versions, parameters."""
    runs = results.all
    first = runs[0]
    hours = sum(run.info.wall_seconds for run in runs) / 3600
    values = {
        "budget": budget_text(results.budgets),
        "budget/networks": budget_text(budgets_of([run for name in NETWORKS for run in results.of(name)]), ""),
        "data": data_mark(table),
        "train_size": count(first.info.train_size),
        "validation_size": count(first.info.validation_size),
        "test_size": count(first.info.test_size),
        "classes": count(first.info.classes),
        "reading": _different(_setting_text(run.metrics.reading) for run in runs),
        "seeds": quantity(len({run.seed for run in runs}), "seed"),
        "runs": count(len(runs)),
        "hours": significant(hours, "", 2),
        "hardware": _different(map(_hardware, runs)),
        "commit": _different(map(_commit, runs)),
    }
    for name in sorted({name for run in runs for name in run.info.versions}):
        values[f"version/{name}"] = _different(run.info.versions[name] for run in runs if name in run.info.versions)
    # A stock library's run takes none of what most settings set, and need not be made anew after a change to one.
    settings = [run.info.settings for run in runs if run.method != STOCK_LIBRARY] or [first.info.settings]
    for name in sorted({name for setting in settings for name in setting}):
        values[f"config/{name}"] = _different(_setting_text(setting[name]) for setting in settings if name in setting)
    return values


def _gaps(results: DatasetResults, cost: Cost | None) -> Numbers:
    """Differences in test accuracy, in points, paired by seed."""
    on_curves = {
        "equal_updates": paired_accuracies(results, equal_updates_points(results)),
        "equal_operations": paired_accuracies(results, equal_operations_points(results, cost)),
    }
    at_the_end = {}
    for method in ("boostresnet", "boostresnet-refined"):
        at_the_end[method] = differences_at_end(results, method, "e2e")
        at_the_end[f"{method}/exact"] = differences_at_end(results, method, "e2e", "exact_test_accuracy")
    for method in LABEL_BOOSTING:
        at_the_end[f"boostresnet/{method}"] = differences_at_end(results, "boostresnet", method)
    texts = {f"gap/{name}": _signed_points(Estimate.of(values)) for name, values in at_the_end.items() if values}
    for name, pairs in on_curves.items():
        differences = [ours - theirs for ours, theirs in pairs]
        if differences:
            texts[f"gap/{name}"] = _signed_points(Estimate.of(differences))
            texts[f"gap/{name}/words"] = lead_text(differences)
            texts["gap/boostresnet_on_curve"] = points_text(Estimate.of([ours for ours, _ in pairs])) or ""
    if on_curves["equal_updates"]:
        texts[f"{E2E_AT_EQUAL_UPDATES}/after"] = compared_at(results)
    return texts | _refined_gaps(results, cost)


def _refined_gaps(results: DatasetResults, cost: Cost | None) -> Numbers:
    """Accuracy of refined networks less that of end to end at as many operations, BoostResNet's among them."""
    texts: Numbers = {}
    if results.incomparable("boostresnet-refined", "e2e"):
        return texts
    points = equal_operations_points(results, cost, refined=True)
    for split in ("test", "validation"):
        found = [ours - theirs for ours, theirs in paired_accuracies(results, points, split, "boostresnet-refined")]
        if found:
            texts["gap/refined_operations/after"] = counts([point.gradient_updates for _, point in points], "")
            texts[f"gap/refined_operations/{split}"] = difference_text(found, "\N{NO-BREAK SPACE}points")
    return texts


def _signed_points(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    mean = signed(100 * estimate.mean)
    return f"{mean} points (1 seed)" if estimate.std is None else f"{mean} ± {100 * estimate.std:.2f} points"


def _mean_percent(estimate: Estimate | None) -> str | None:
    return None if estimate is None else f"{100 * estimate.mean:.2f}\N{NO-BREAK SPACE}%"


def _peak_memory(runs: Sequence[Run]) -> str:
    peaks = [point.peak_memory_bytes for run in runs for point in run.timing if point.peak_memory_bytes is not None]
    return f"{max(peaks) / 2**20:,.0f}\N{NO-BREAK SPACE}MiB" if peaks else "not measured"


def _hardware(run: Run) -> str:
    hardware = run.info.hardware
    name = hardware.get("gpu") or hardware.get("cpu") or "unknown processor"
    threads = hardware.get("threads")
    return f"{name}, {quantity(threads, 'thread')}" if threads and not hardware.get("gpu") else name


def _commit(run: Run) -> str:
    if not run.info.commit:
        return "not recorded"
    return run.info.commit[:10] + (" with changes" if run.info.dirty else "")


def _different(texts: Iterable[str]) -> str:
    """The different texts, each once, in order."""
    return "; ".join(dict.fromkeys(texts))


def _setting_text(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:g}".replace("-", "\N{MINUS SIGN}")
    return _IN_WORDS.get(str(value), str(value))
