"""BoostResNet under several budgets (results/DATASET/budgets/), beside end to end at as many operations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import attrs

from replication.errors import ResultsError
from replication.report.ablations import difference_text
from replication.report.comparisons import behind, equal_operations_points, operations
from replication.report.costs import Cost
from replication.report.formats import Estimate, count, counts, fixed, latex_escape, percent, significant
from replication.report.labels import DATASET_LABELS, UNOFFICIAL
from replication.report.results import DatasetResults, Run, load_results

_NONE, _SPACE = "\N{EN DASH}", "\N{NO-BREAK SPACE}"
HEADINGS = (
    "Budget", "Updates a block", "Updates", "Seeds", "Train", "Test", "Worth, end to end",
    "Less end to end, test", "Less end to end, validation", "gamma > 0", "Cov. ≤ 0", "Bound",
)  # fmt: skip


@attrs.frozen
class Budgeted:
    """BoostResNet's runs under one budget, and with them the end-to-end runs of the dataset, whatever their budget."""

    budget: float
    results: DatasetResults

    @property
    def runs(self) -> tuple[Run, ...]:
        """BoostResNet's runs, sorted by seed."""
        return self.results.of("boostresnet")


def load_budgets(results: DatasetResults, results_root: Path = Path("results")) -> tuple[Budgeted, ...]:
    """What was run under other budgets, and the dataset's own BoostResNet runs among it, ascending; none where nothing
    was run under other budgets.

    Raises:
        ResultsError: a run is damaged, was published under another budget's name, or was made from other data.
    """
    folder = results_root / results.dataset / "budgets"
    found = [load_results(results.dataset, path) for path in sorted(folder.glob("*")) if path.is_dir()]
    runs_by_budget: dict[float, tuple[Run, ...]] = {}
    for runs in (one.of("boostresnet") for one in found):
        for run in runs:
            _check(run, results)
        if runs:
            runs_by_budget[runs[0].metrics.budget] = runs
    if not runs_by_budget:
        return ()
    if own := results.of("boostresnet"):
        runs_by_budget[own[0].metrics.budget] = own
    return tuple(
        Budgeted(budget, DatasetResults(results.dataset, {"boostresnet": runs, "e2e": results.of("e2e")}))
        for budget, runs in sorted(runs_by_budget.items())
    )


def _check(run: Run, results: DatasetResults) -> None:
    name = run.path.parents[2].name
    again = f"python -m replication budgets {run.dataset}"
    if f"{run.metrics.budget:g}" != name:
        raise ResultsError(f"{run.path} was trained under budget {run.metrics.budget:g}, not {name}; {again}")
    other = next((one for one in results.all if one.info.content_hash != run.info.content_hash), None)
    if other is not None:
        raise ResultsError(f"{run.path} was trained on other data than {other.path}; {again}")


def updates_worth(budgeted: Budgeted, cost: Cost | None) -> list[int]:
    """How many end-to-end updates make as many operations as each run under a budget; empty where not counted."""
    made = [operations(run, cost) for run in budgeted.runs] if cost else []
    return [int(rounds[-1]) for rounds in made if rounds]


def differences(budgeted: Budgeted, cost: Cost | None, split: str = "test") -> list[float]:
    """Accuracy of BoostResNet less that of end to end at as many operations, both on the images of `split` behind the
    curves; for the seeds whose end-to-end run lasted as long.
    """
    points = equal_operations_points(budgeted.results, cost)
    return [ours - theirs for ours, theirs in behind(budgeted.results, points, split)]


def latex_budgets(budgets: Sequence[Budgeted], cost: Cost | None) -> str:
    """A tabular with a line per budget, and its note below."""
    names = [
        "Budget", r"Updates\newline a block", "Updates", "Seeds", "Train", "Test", r"Worth,\newline end to end",
        "Less end to end, test", "Less end to end, validation", r"$\gamma_t>0$", r"Cov.${}\le0$", "Bound",
    ]  # fmt: skip
    right, wrapped = r">{\raggedleft\arraybackslash}p{%s}", r">{\raggedright\arraybackslash}p{%s}"
    columns = "r" + right % "13mm" + "rrrr" + right % "14mm" + 2 * (wrapped % "17mm") + "rrr"
    lines = [rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule", " & ".join(names) + r" \\", r"\midrule"]
    lines += [" & ".join(map(latex_escape, _cells(budgeted, cost))) + r" \\" for budgeted in budgets]
    data = "official copy" if _official(budgets) else UNOFFICIAL
    note = latex_escape(" ".join([*_notes(budgets, cost), f"Data: {data}."]))
    below = rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize {note}\end{{minipage}}"
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", below, ""])


def markdown_budgets(tables: Sequence[tuple[Sequence[Budgeted], Cost | None]]) -> str:
    """The same for several datasets as one Markdown table."""
    tables = [table for table in tables if table[0]]
    if not tables:
        return "Nothing was run under other budgets."
    lines = [f"| Dataset | {' | '.join(HEADINGS)} |", f"|---|{'---:|' * len(HEADINGS)}"]
    notes: dict[str, None] = {}
    for budgets, cost in tables:
        name = DATASET_LABELS[budgets[0].results.dataset] + ("" if _official(budgets) else f" ({UNOFFICIAL})")
        lines += [f"| {' | '.join([name, *_cells(budgeted, cost)])} |" for budgeted in budgets]
        notes |= dict.fromkeys(_notes(budgets, cost))
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


def _cells(budgeted: Budgeted, cost: Cost | None) -> tuple[str, ...]:
    runs, last = budgeted.runs, [run.rounds[-1] for run in budgeted.runs]
    worth = updates_worth(budgeted, cost)
    return (
        f"{budgeted.budget:g}",
        counts([entry.gradient_updates for run in runs for entry in run.rounds], _NONE),
        counts([run.metrics.gradient_updates for run in runs], _NONE),
        str(len(runs)),
        percent(Estimate.of([run.metrics.train_accuracy for run in runs]), _NONE),
        percent(Estimate.of([run.metrics.test_accuracy for run in runs]), _NONE),
        counts(worth, _NONE),
        *(difference_text(differences(budgeted, cost, split)) for split in ("test", "validation")),
        counts([_positive(run) for run in runs], _NONE),
        counts([_nonpositive(run) for run in runs], _NONE),
        significant(sum(entry.bound for entry in last) / len(last), _NONE),
    )


def _notes(budgets: Sequence[Budgeted], cost: Cost | None) -> list[str]:
    rounds = [len(run.rounds) for budgeted in budgets for run in budgeted.runs]
    sentences = [
        "BoostResNet, all else as in the experiment. Accuracy in per cent, mean ± standard deviation over seeds.",
        "gamma > 0: rounds with a positive gamma, and Cov. ≤ 0: with a covariance that is not positive, of "
        f"{counts(rounds, _NONE)} in each seed's run. Bound: after the last round, mean.",
    ]
    if any(updates_worth(budgeted, cost) for budgeted in budgets):
        sentences.append(
            "Worth, end to end: so many end-to-end updates make as many floating-point operations, BoostResNet's "
            "passes between its blocks counted in. Less end to end: accuracy minus that of end to end after as many "
            "operations, on the images behind the curves, in percentage points, paired by seed, with Student's 95 % "
            "interval; a dash where no end-to-end run was that long, or not evaluated that early."
        )
    if len(tuple(filter(None, map(_exact, budgets)))) == len(budgets):
        texts = [f"{budgeted.budget:g}: {percent(_exact(budgeted), _NONE)}" for budgeted in budgets]
        name = DATASET_LABELS[budgets[0].results.dataset]
        sentences.append(
            f"{name}, test accuracy on the images known to be the official ones, by budget: {'; '.join(texts)}."
        )
    return sentences


def _exact(budgeted: Budgeted) -> Estimate | None:
    values = [run.metrics.exact_test_accuracy for run in budgeted.runs]
    return Estimate.of([value for value in values if value is not None])


def _official(budgets: Sequence[Budgeted]) -> bool:
    return all(run.metrics.official_data for budgeted in budgets for run in budgeted.runs)


def _positive(run: Run) -> int:
    return sum(entry.gamma > 0 for entry in run.rounds)


def _nonpositive(run: Run) -> int:
    return sum(not entry.positive_covariance for entry in run.rounds if entry.covariance is not None)


def budget_numbers(budgets: Sequence[Budgeted], cost: Cost | None) -> dict[str, str]:
    """`budgets/first/…` and so on for the article's prose: the shortest, the longest, and the longest that end to end
    can be held against (`compared`).
    """
    if not budgets:
        return {}
    values = {"budgets/list": ", ".join(f"{budgeted.budget:g}" for budgeted in budgets)}
    compared = [budgeted for budgeted in budgets if differences(budgeted, cost)]
    for name, chosen in (("first", budgets[:1]), ("last", budgets[-1:]), ("compared", compared[-1:])):
        for budgeted in chosen:
            values |= {f"budgets/{name}/{key}": text for key, text in _numbers(budgeted, cost).items()}
    gains = [f"{100 * (_mean_test(later) - _mean_test(earlier)):.1f}" for earlier, later in pairwise(budgets)]
    return values | {"budgets/gains": " and ".join(gains)}


def _numbers(budgeted: Budgeted, cost: Cost | None) -> dict[str, str]:
    runs = budgeted.runs
    bounds = [run.rounds[-1].bound for run in runs]
    values = {
        "budget": f"{budgeted.budget:g}",
        "updates_per_block": counts([entry.gradient_updates for run in runs for entry in run.rounds], ""),
        "updates": counts([run.metrics.gradient_updates for run in runs], ""),
        "train": f"{percent(Estimate.of([run.metrics.train_accuracy for run in runs]), '')}{_SPACE}%",
        "test": f"{percent(Estimate.of([run.metrics.test_accuracy for run in runs]), '')}{_SPACE}%",
        "positive_gamma": counts([_positive(run) for run in runs], ""),
        "nonpositive_covariance": counts([_nonpositive(run) for run in runs], ""),
        "rounds": counts([len(run.rounds) for run in runs], ""),
        "final_edge": fixed(sum(run.rounds[-1].edge for run in runs) / len(runs), "", 3),
        "bound": significant(sum(bounds) / len(bounds), ""),
        "informative_bounds": count(sum(entry.bound < 1 for run in runs for entry in run.rounds)),
    }
    worth = updates_worth(budgeted, cost)
    if worth:
        values["worth"] = counts(worth, "")
    for name, split in (("gap", "test"), ("gap/validation", "validation")):
        found = differences(budgeted, cost, split)
        if found:
            values[name] = difference_text(found, f"{_SPACE}points")
    return values


def _mean_test(budgeted: Budgeted) -> float:
    return sum(run.metrics.test_accuracy for run in budgeted.runs) / len(budgeted.runs)
