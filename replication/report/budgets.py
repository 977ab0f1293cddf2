"""Methods under several budgets (results/DATASET/budgets/), BoostResNet beside end to end at as many operations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from replication.report.ablations import difference_text
from replication.report.comparisons import (
    agree,
    equal_operations_points,
    equal_updates_points,
    joined,
    operations,
    paired_accuracies,
)
from replication.report.costs import Cost
from replication.report.formats import Estimate, counts, latex_note, latex_stacked, percent, significant
from replication.report.labels import DATASET_LABELS, LABEL_BOOSTING, UNOFFICIAL
from replication.report.results import DatasetResults, Run, check_alike, load_other_budgets
from replication.report.tables import ResultsTable, results_table

_NONE = "\N{EN DASH}"
HEADINGS = (
    "Budget", "Updates a block", "Updates", "Seeds", "Train", "Test", "In end-to-end updates", "Minus end to end, test",
    "Minus end to end, validation", "gamma > 0", "Cov. ≤ 0", "Bound",
)  # fmt: skip


@attrs.frozen
class Budgeted:
    """What was run under one budget, BoostResNet or end to end at least.

    Attributes:
        own: whether these are the runs of the other tables.
        results: all methods' runs; under another budget than the experiment's own, the curves of end to end, where
            they are the longest, have the points of shorter runs as well.
        compared: BoostResNet's runs with the end-to-end runs to hold them against, whatever the budget of those.
        compared_too: the same with further end-to-end runs, whose curves are others (trained on another machine); no
            runs of that kind where there are none.
    """

    budget: float
    own: bool
    results: DatasetResults
    compared: DatasetResults
    compared_too: DatasetResults

    @property
    def runs(self) -> tuple[Run, ...]:
        """BoostResNet's runs, sorted by seed; none where end to end is alone."""
        return self.results.of("boostresnet")


def load_budgeted(results: DatasetResults, results_root: Path = Path("results")) -> tuple[Budgeted, ...]:
    """What was run under other budgets, with the dataset's own runs among it, ascending; none where there are no two
    budgets.

    Raises:
        ResultsError: a run is damaged, is in another budget's folder, or differs in more than budget and seed.
    """
    dataset = results.dataset
    again = f"python -m replication budgets {dataset}"
    by_budget: dict[float, DatasetResults] = {}
    for found in load_other_budgets(dataset, results_root).values():
        if first := (*found.of("boostresnet"), *found.of("e2e")):
            by_budget[first[0].metrics.budget] = found
    if boosted := results.of("boostresnet"):
        by_budget[boosted[0].metrics.budget] = results
    if len(by_budget) < 2:
        return ()
    for method in {method for found in by_budget.values() for method in found.runs}:
        firsts = [found.of(method)[0] for found in by_budget.values() if found.of(method)]
        check_alike(firsts, "budget", f"run again: {again}")
    return _with_curves(results, dict(sorted(by_budget.items())))


def _with_curves(own: DatasetResults, by_budget: dict[float, DatasetResults]) -> tuple[Budgeted, ...]:
    """The runs of each budget, with curves of end to end from all of them."""
    others = [found for found in by_budget.values() if found is not own]
    budgets = []
    for budget, found in by_budget.items():
        # Where curves do not go together, the experiment's run comes first, then the budget's own.
        end_to_end = [run for one in (own, found, *others) for run in one.of("e2e")]
        curves = _curves(end_to_end)
        further = _curves([run for run in end_to_end if not agree(run, curves[run.seed])])
        runs = dict(found.runs)
        if found is not own and "e2e" in runs:
            runs["e2e"] = tuple(
                curves[run.seed] if curves[run.seed].path == run.path else run for run in found.of("e2e")
            )
        compared, compared_too = (
            DatasetResults(found.dataset, {"boostresnet": found.of("boostresnet"), "e2e": tuple(each.values())})
            for each in (curves, further)
        )
        budgets.append(Budgeted(budget, found is own, DatasetResults(found.dataset, runs), compared, compared_too))
    return tuple(budgets)


def _curves(runs: Sequence[Run]) -> dict[int, Run]:
    """By seed, ascending, the runs of that seed joined."""
    return {seed: joined([run for run in runs if run.seed == seed]) for seed in sorted({run.seed for run in runs})}


def with_boostresnet(budgets: Sequence[Budgeted]) -> tuple[Budgeted, ...]:
    """Those under which BoostResNet was run; none where those are not two."""
    boosted = tuple(budgeted for budgeted in budgets if budgeted.runs)
    return boosted if len(boosted) > 1 else ()


def longest_beside_labels(budgets: Sequence[Budgeted]) -> Budgeted | None:
    """The longest blocks of BoostResNet beside which labels were boosted, by both methods, under another budget than
    the experiment's own.
    """
    found = [one for one in with_boostresnet(budgets) if not one.own and all(map(one.results.of, LABEL_BOOSTING))]
    return found[-1] if found else None


def tables_of_others(budgets: Sequence[Budgeted], cost: Cost | None) -> list[ResultsTable]:
    """The results under every other budget as the experiment's own are shown, without lines for what was not run."""
    tables = [results_table(budgeted.results, cost) for budgeted in budgets if not budgeted.own]
    return [
        attrs.evolve(table, rows=tuple(row for row in table.rows if row.seeds), other_budget=True) for table in tables
    ]


def updates_worth(budgeted: Budgeted, cost: Cost | None, *, training_alone: bool = False) -> list[int]:
    """How many end-to-end updates make as many operations as each run under a budget; empty where not counted."""
    made = [operations(run, cost, training_alone=training_alone) for run in budgeted.runs] if cost else []
    return [round(rounds[-1]) for rounds in made if rounds]


def differences(
    budgeted: Budgeted, cost: Cost | None, split: str = "test", *, too: bool = False, training_alone: bool = False
) -> list[float]:
    """Accuracy of BoostResNet less that of end to end at as many operations, both on the images of `split` behind the
    curves; for the seeds whose end-to-end run was evaluated before and after.

    Args:
        too: by the second of those end-to-end runs whose curves reach that far, if there are two; else by the first.
        training_alone: by the operations of BoostResNet's updates, without those of checks and outputs to store.
    """
    reaching = _reaching(budgeted, cost, training_alone)[int(too) :]
    if not reaching:
        return []
    points = equal_operations_points(reaching[0], cost, training_alone=training_alone)
    return [ours - theirs for ours, theirs in paired_accuracies(reaching[0], points, split)]


def _reaching(budgeted: Budgeted, cost: Cost | None, training_alone: bool = False) -> list[DatasetResults]:
    """Those of `compared` and `compared_too`, in this order, with a value of end to end at as many operations."""
    both = (budgeted.compared, budgeted.compared_too)
    return [results for results in both if equal_operations_points(results, cost, training_alone=training_alone)]


def differences_at_equal_updates(budgeted: Budgeted, budgets: Sequence[Budgeted], split: str = "test") -> list[float]:
    """Accuracy of BoostResNet less that of end to end after exactly as many updates, on the images of `split` behind
    the curves, paired by seed; end to end under the first of `budgets` that has it, its own and the experiment's first.
    """
    for one in sorted(budgets, key=lambda other: (other is not budgeted, not other.own)):
        runs = {"boostresnet": budgeted.runs, "e2e": one.results.of("e2e")}
        results = DatasetResults(budgeted.results.dataset, runs)
        taken = {run.seed: run.metrics.gradient_updates for run in budgeted.runs}
        points = [(run, at) for run, at in equal_updates_points(results) if at.gradient_updates == taken[run.seed]]
        if found := paired_accuracies(results, points, split):
            return [ours - theirs for ours, theirs in found]
    return []


def latex_budgets(budgets: Sequence[Budgeted], cost: Cost | None) -> str:
    """A tabular with a line per budget, and its note below."""
    names = [
        "Budget", r"Updates\linebreak a block", "Updates", "Seeds", "Train", "Test",
        r"In \mbox{end-to-end}\linebreak updates",
        "Minus end to end, test", "Minus end to end, validation", r"$\gamma_t>0$", r"\mbox{Cov.${}\le0$}", "Bound",
    ]  # fmt: skip
    right = r">{\raggedleft\arraybackslash}p{%s}"
    widths = ("11mm", None, None, "10mm", "10mm", "14mm", "20.3mm", "20.3mm", "9mm", "11.5mm", "10.5mm")
    columns = "r" + "".join(right % width if width else "r" for width in widths)
    lines = [rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule", " & ".join(names) + r" \\", r"\midrule"]
    lines += [" & ".join(map(latex_stacked, _cells(budgeted, cost))) + r" \\[1pt]" for budgeted in budgets]
    data = "official copy" if _official(budgets) else UNOFFICIAL
    below = latex_note(" ".join([*_notes(budgets, cost), f"Data: {data}."]))
    return "\n".join([r"\setlength{\tabcolsep}{1.8pt}", *lines, r"\bottomrule", r"\end{tabular}", below, ""])


def markdown_budgets(tables: Sequence[tuple[Sequence[Budgeted], Cost | None]]) -> str:
    """The same for several datasets as one Markdown table, which has what end to end has after as many updates, too."""
    tables = [table for table in tables if with_boostresnet(table[0])]
    if not tables:
        return "Nothing was run under other budgets."
    headings = (*HEADINGS, "At as many updates: minus end to end, test", "At as many updates: validation")
    lines = [f"| Dataset | {' | '.join(headings)} |", f"|---|{'---:|' * len(headings)}"]
    notes: dict[str, None] = {}
    for everything, cost in tables:
        budgets = with_boostresnet(everything)
        name = DATASET_LABELS[budgets[0].results.dataset] + ("" if _official(budgets) else f" ({UNOFFICIAL})")
        for budgeted in budgets:
            gaps = [differences_at_equal_updates(budgeted, everything, split) for split in ("test", "validation")]
            lines.append(f"| {' | '.join([name, *_cells(budgeted, cost), *map(difference_text, gaps)])} |")
        notes |= dict.fromkeys(_notes(budgets, cost))
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


def _cells(budgeted: Budgeted, cost: Cost | None) -> tuple[str, ...]:
    runs = budgeted.runs
    of = f" of {counts([len(run.rounds) for run in runs], _NONE)}"
    return (
        f"{budgeted.budget:g}",
        counts([entry.gradient_updates for run in runs for entry in run.rounds], _NONE),
        counts([run.metrics.gradient_updates for run in runs], _NONE),
        str(len(runs)),
        percent(Estimate.of([run.metrics.train_accuracy for run in runs]), _NONE),
        percent(Estimate.of([run.metrics.test_accuracy for run in runs]), _NONE),
        counts(updates_worth(budgeted, cost), _NONE),
        *(difference_text(differences(budgeted, cost, split)) for split in ("test", "validation")),
        counts([sum(entry.gamma > 0 for entry in run.rounds) for run in runs], _NONE) + of,
        counts([sum(not entry.positive_covariance for entry in run.rounds) for run in runs], _NONE) + of,
        bound_text(runs),
    )


def bound_text(runs: Sequence[Run]) -> str:
    """The bound after the last round: the mean, or from the least to the greatest where that is over ten times more."""
    bounds = [run.rounds[-1].bound for run in runs]
    if not bounds:
        return _NONE
    if max(bounds) > 10 * min(bounds):
        return " to ".join(significant(end, _NONE, 2) for end in (min(bounds), max(bounds)))
    return significant(sum(bounds) / len(bounds), _NONE)


def _notes(budgets: Sequence[Budgeted], cost: Cost | None) -> list[str]:
    name = DATASET_LABELS[budgets[0].results.dataset]
    sentences = [
        "BoostResNet, all but the budget alike. Accuracy in per cent, mean ± standard deviation.",
        "gamma > 0, Cov. ≤ 0: rounds with a positive gamma, and with a covariance that is not positive by more than "
        "rounding. Bound: of Theorem 4.2, after the last round, mean; its range where seeds differ over tenfold.",
    ]
    sentences += [f"{name}: budget {one.budget:g} is the experiment's own." for one in budgets if one.own]
    if any(updates_worth(budgeted, cost) for budgeted in budgets):
        sentences.append(
            "In end-to-end updates: so many of those make as many floating-point operations, BoostResNet's passes "
            "between its blocks counted in. Minus end to end: accuracy less that of end to end after as many "
            "operations, on the images behind the curves, in percentage points, paired by seed, with Student's 95 % "
            "interval of the mean; a dash where no curve of end to end reaches that far, or all begin later."
        )
    for one in budgets:
        if any(results is one.compared_too for results in _reaching(one, cost)[:1]):
            sentences.append(f"{name}: at budget {one.budget:g}, by end-to-end runs of budget {_of_further([one])}.")
    sentences += _by_further_curves(name, budgets, cost)
    exact = [_exact(budgeted) for budgeted in budgets]
    if all(exact):
        texts = [f"{one.budget:g}: {percent(value, _NONE)}" for one, value in zip(budgets, exact, strict=True)]
        sentences.append(
            f"{name}: validation images come from the training images, which are the official ones; of the test images "
            f"only some are known to be. Test accuracy on those, by budget: {'; '.join(texts)}."
        )
    return sentences


def _by_further_curves(name: str, budgets: Sequence[Budgeted], cost: Cost | None) -> list[str]:
    """The same differences by the further end-to-end runs, of which nothing says that they are the worse measure."""
    texts = []
    for one in budgets:
        test, validation = (differences(one, cost, split, too=True) for split in ("test", "validation"))
        if test or validation:
            texts.append(f"{one.budget:g}: test {difference_text(test)}, validation {difference_text(validation)}")
    if not texts:
        return []
    return [f"{name}, by further end-to-end runs, of budget {_of_further(budgets)}: {'; '.join(texts)}."]


def _of_further(budgets: Sequence[Budgeted]) -> str:
    """The budgets of the further end-to-end runs."""
    found = sorted({run.metrics.budget for one in budgets for run in one.compared_too.of("e2e")})
    return ", ".join(f"{budget:g}" for budget in found)


def _exact(budgeted: Budgeted) -> Estimate | None:
    values = [run.metrics.exact_test_accuracy for run in budgeted.runs]
    known = [value for value in values if value is not None]
    return Estimate.of(known) if len(known) == len(values) else None


def _official(budgets: Sequence[Budgeted]) -> bool:
    return all(budgeted.results.official for budgeted in budgets)
