"""Deviations, measured (results/DATASET/ablations.csv): what a variant differs by from the default, paired by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from replication.config import UNCHANGED
from replication.errors import ResultsError
from replication.report.fields import Fields, read_rows
from replication.report.formats import (
    Estimate,
    all_equal,
    counts,
    fixed,
    latex_escape,
    latex_note,
    latex_stacked,
    percent,
    points_text,
    quantity,
    signed,
)
from replication.report.intervals import student_interval
from replication.report.labels import DATASET_LABELS, UNOFFICIAL
from replication.report.results import Run

Value = Callable[["AblationRun"], float]
_AGAIN = "get it back from git, or measure again: python -m replication ablate DATASET"
_NONE, _SPACE = "\N{EN DASH}", "\N{NO-BREAK SPACE}"
HEADINGS = (
    "What is changed", "Updates", "Test", "Official test", "Test less default", "Validation less default",
    "Train less default", "Edge", "gamma > 0",
)  # fmt: skip


@attrs.frozen
class AblationRun:
    """The end of one run; accuracies are fractions, and edges and gammas are BoostResNet's.

    `exact_test_accuracy` is the test accuracy on the images of an unofficial copy that are known to be the official
    ones; rows that were written before it was have none.
    """

    variant: str
    changes: str
    method: str
    seed: int
    gradient_updates: int
    train_accuracy: float
    validation_accuracy: float
    test_accuracy: float
    exact_test_accuracy: float | None
    final_edge: float | None
    positive_gammas: int | None
    rounds: int | None
    budget: float
    official: bool


@attrs.frozen
class Ablated:
    """All seeds of one variant and method, and of the default of that method."""

    runs: tuple[AblationRun, ...]
    defaults: tuple[AblationRun, ...]

    @property
    def is_default(self) -> bool:
        """Whether it is what the others are held against."""
        return self.runs == self.defaults

    def differences(self, value: Value) -> list[float]:
        """The variant's value less the default's, for every seed that both have."""
        of_default = {run.seed: value(run) for run in self.defaults}
        return [value(run) - of_default[run.seed] for run in self.runs if run.seed in of_default]


def load_ablations(dataset: str, results_root: Path = Path("results")) -> tuple[Ablated, ...]:
    """The variants of ablations.csv in their order, the default among them; none where it does not exist, or has but
    its header, as for a dataset of which params.yaml has no variants.

    Raises:
        ResultsError: it is damaged.
    """
    path = results_root / dataset / "ablations.csv"
    try:
        runs = tuple(map(_run, read_rows(path))) if path.is_file() else ()
    except ResultsError as error:
        raise ResultsError(f"{error}; {_AGAIN}") from None
    if path.is_file() and not path.stat().st_size:
        raise ResultsError(f"{path} is empty; {_AGAIN}")
    groups: dict[tuple[str, str, float], list[AblationRun]] = {}
    for run in runs:
        groups.setdefault((run.variant, run.method, run.budget), []).append(run)
    return tuple(
        Ablated(tuple(group), tuple(groups.get((UNCHANGED, method, budget), ())))
        for (_, method, budget), group in groups.items()
    )


def _run(row: Fields) -> AblationRun:
    return AblationRun(
        variant=row.text("variant"),
        changes=row.cell(row.text, "changes") or "",
        method=row.text("method"),
        seed=row.integer("seed"),
        gradient_updates=row.integer("gradient_updates"),
        train_accuracy=row.fraction("train_accuracy"),
        validation_accuracy=row.fraction("validation_accuracy"),
        test_accuracy=row.fraction("test_accuracy"),
        exact_test_accuracy=row.cell(row.fraction, "exact_test_accuracy"),
        final_edge=row.cell(row.number, "final_edge"),
        positive_gammas=row.cell(row.integer, "positive_gamma_blocks"),
        rounds=row.cell(row.integer, "rounds"),
        budget=row.number("budget"),
        official=row.flag("official_data"),
    )


def difference_text(differences: Sequence[float], unit: str = "") -> str:
    """Percentage points with Student's 95 % interval of the mean: '−0.28 [−1.47, 0.92]'; without one for one seed."""
    if not differences:
        return _NONE
    mean, interval = signed(100 * sum(differences) / len(differences)), student_interval(differences)
    if interval is None:
        return mean + unit
    if all_equal(differences):
        return f"{mean}{unit} (all seeds equal)"
    low, high = (fixed(100 * end, _NONE, 2) for end in interval)
    return f"{mean} [{low}, {high}]{unit}"


def latex_ablations(ablations: Sequence[Ablated]) -> str:
    """A tabular with a line per variant, the default's first, and its note below."""
    shown = _shown(ablations)
    accuracies, right = shown.index("Test less default") - 2, r">{\raggedleft\arraybackslash}p{%s}"
    columns = r">{\raggedright\arraybackslash}p{30mm}r" + accuracies * (right % "12mm") + 3 * (right % "21.8mm") + "rr"
    names = " & ".join((*shown[:-1], r"$\gamma_t>0$"))
    lines = [r"\setlength{\tabcolsep}{2.2pt}", rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule"]
    lines += [names + r" \\", r"\midrule"]
    for name, *cells in _lines(ablations, shown):
        lines.append(" & ".join((latex_escape(name), *map(latex_stacked, cells))) + r" \\[1pt]")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", latex_note(_note(ablations)), ""])


def markdown_ablations(tables: Mapping[str, Sequence[Ablated]]) -> str:
    """The same for several datasets, by name, as one Markdown table."""
    shown = _shown([ablated for ablations in tables.values() for ablated in ablations])
    lines = [f"| Dataset | {' | '.join(shown)} |", f"|---|---|{'---:|' * (len(shown) - 1)}"]
    notes = []
    for dataset, ablations in tables.items():
        name = DATASET_LABELS[dataset]
        lines += [f"| {' | '.join([name, *cells])} |" for cells in _lines(ablations, shown)]
        notes += [f"{name}: {_note(ablations)}"] if ablations else []
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) if notes else "No deviation was measured."


def _shown(ablations: Sequence[Ablated]) -> tuple[str, ...]:
    """The columns without that for unofficial copies, where there is nothing to stand in it."""
    there = any(_official_test(ablated.runs) for ablated in ablations)
    return tuple(heading for heading in HEADINGS if there or heading != "Official test")


def _official_test(runs: Sequence[AblationRun]) -> Estimate | None:
    values = [run.exact_test_accuracy for run in runs if run.exact_test_accuracy is not None]
    return Estimate.of(values) if len(values) == len(runs) else None


def _lines(ablations: Sequence[Ablated], shown: Sequence[str]) -> list[tuple[str, ...]]:
    budgets = {run.budget for ablated in ablations for run in ablated.runs}
    lines = [dict(zip(HEADINGS, _cells(one, name_budget=len(budgets) > 1), strict=True)) for one in ablations]
    return [tuple(line[heading] for heading in shown) for line in lines]


def _cells(ablated: Ablated, *, name_budget: bool) -> tuple[str, ...]:
    runs, first = ablated.runs, ablated.runs[0]
    edges = [run.final_edge for run in runs if run.final_edge is not None]
    gammas = [run.positive_gammas for run in runs if run.positive_gammas is not None]
    of = "" if first.method == "boostresnet" else f" ({first.method})"
    of += f", budget {first.budget:g}" if name_budget else ""
    of += f", {quantity(len(runs), 'seed')}" if len(runs) < len(ablated.defaults) else ""
    differences = [_NONE] * 3
    if not ablated.is_default:
        differences = [difference_text(ablated.differences(value)) for value in (_test, _validation, _train)]
    return (
        (first.changes or first.variant) + of,
        counts([run.gradient_updates for run in runs], _NONE),
        percent(Estimate.of([run.test_accuracy for run in runs]), _NONE),
        percent(_official_test(runs), _NONE),
        *differences,
        fixed(sum(edges) / len(edges), _NONE, 6) if edges else _NONE,
        counts(gammas, _NONE),
    )


def _note(ablations: Sequence[Ablated]) -> str:
    runs = [run for ablated in ablations for run in ablated.runs]
    seeds = len({run.seed for run in runs})
    budgets = ", ".join(f"{budget:g}" for budget in sorted({run.budget for run in runs}))
    data = "official copy" if all(run.official for run in runs) else UNOFFICIAL
    has_apart = "Official test" in _shown(ablations)
    apart = "Official test: on those test images that are known to be the official ones, where it was kept. "
    return (
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}. Test: accuracy in per cent, mean ± sample standard deviation. "
        "Differences in percentage points, paired by seed, with Student's 95 % interval of their mean. Edge: of the "
        f"last round, mean. Last column: rounds with a positive gamma. {apart if has_apart else ''}Data: {data}. "
        f"Budget: {budgets}."
    )


def ablation_numbers(ablations: Sequence[Ablated], boosted: Sequence[Run] = ()) -> dict[str, str]:
    """`ablation/VARIANT/test`, `/validation` and `/train`: paired differences, for the article's prose: BoostResNet's,
    or those of the only method that was trained under the variant; and `/positive_gamma`: in how many of its rounds, of
    all `/seeds`. Of another method than BoostResNet also its `/test_accuracy`, and `/gap/test` and `/gap/validation`:
    by what BoostResNet as it is, whose runs under any budget are `boosted`, is ahead at the same budget.
    """
    methods: dict[str, list[str]] = {}
    for ablated in ablations:
        methods.setdefault(ablated.runs[0].variant, []).append(ablated.runs[0].method)
    values = {}
    for ablated in ablations:
        first = ablated.runs[0]
        speaks = first.method == "boostresnet" or methods[first.variant] == [first.method]
        if speaks and not ablated.is_default and ablated.differences(_test):
            for name, value in (("test", _test), ("validation", _validation), ("train", _train)):
                text = difference_text(ablated.differences(value), f"{_SPACE}points")
                values[f"ablation/{first.variant}/{name}"] = text
            if first.method != "boostresnet":
                gaps = _gaps(ablated, boosted)
                values |= {f"ablation/{first.variant}/{name}": text for name, text in gaps.items()}
            values[f"ablation/{first.variant}/seeds"] = quantity(len(ablated.runs), "seed")
            gammas, rounds = (
                [value for value in each if value is not None]
                for each in zip(*((run.positive_gammas, run.rounds) for run in ablated.runs), strict=True)
            )
            if gammas:
                values[f"ablation/{first.variant}/positive_gamma"] = f"{counts(gammas, '')} of {counts(rounds, '')}"
    return values


def _gaps(ablated: Ablated, boosted: Sequence[Run]) -> dict[str, str]:
    accuracy = Estimate.of([run.test_accuracy for run in ablated.runs])
    texts = {"test_accuracy": points_text(accuracy) or ""}
    known = {(run.metrics.budget, run.seed): run.metrics for run in boosted}
    pairs = [(known[run.budget, run.seed], run) for run in ablated.runs if (run.budget, run.seed) in known]
    for split in ("test", "validation") if pairs else ():
        ahead = [getattr(ours, f"{split}_accuracy") - getattr(theirs, f"{split}_accuracy") for ours, theirs in pairs]
        texts[f"gap/{split}"] = difference_text(ahead, f"{_SPACE}points")
    return texts


def _test(run: AblationRun) -> float:
    return run.test_accuracy


def _validation(run: AblationRun) -> float:
    return run.validation_accuracy


def _train(run: AblationRun) -> float:
    return run.train_accuracy
