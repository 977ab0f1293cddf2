"""The tables as LaTeX (booktabs), as Markdown and on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from replication.report.costs import Cost, load_cost, targets
from replication.report.formats import Estimate, counts, fixed, latex_escape, latex_note, significant
from replication.report.labels import (
    DATASET_LABELS,
    NOT_MEASURED,
    NOT_RUN,
    UNOFFICIAL,
)
from replication.report.lines import ESSENTIAL, HEADINGS, NO_VALUE, cells, filled, notes
from replication.report.results import load_results
from replication.report.tables import ResultsTable, RoundRow, results_table
from replication.report.verdicts import applying, counted, load_verdicts
from replication.rounding import ROUNDING

_IN_THE_ARTICLE = ("Method", "Seeds", "Updates", "Parameters", "Train", "Test", "Official test", "Paper", "Time")
_WIDE_TERMINAL = 135


def budget_text(budgets: Sequence[float], without: str = NOT_RUN) -> str:
    """'0.02', or all the different ones where runs were not given the same; `without` where there is none."""
    return ", ".join(f"{budget:g}" for budget in budgets) if budgets else without


def data_mark(table: ResultsTable) -> str:
    """Whether the data is the official copy."""
    if table.not_run:
        return NOT_RUN
    return "official copy" if table.official else UNOFFICIAL


def latex_results(table: ResultsTable, others: Sequence[ResultsTable] = ()) -> str:
    """A tabular with its notes below, to stand in a table environment of the article.

    Args:
        others: the same under other budgets, for a part of its own each below.
    """
    shown = filled(_IN_THE_ARTICLE, [table, *others])
    parts = [(table, table.rows), *((other, other.rows) for other in others)]
    if table.not_run:  # the paper's values alone, if there are any
        others = ()
        shown, parts = ("Method", "Seeds", "Paper"), [(table, tuple(row for row in table.rows if row.reported))]
        if not parts[0][1]:
            return r"\notrun" + "\n"
    wrapped, right = r">{\raggedright\arraybackslash}p{31mm}", r">{\raggedleft\arraybackslash}p{14mm}"
    columns = "lll" if table.not_run else f"{wrapped}r{right}" + "r" * (len(shown) - 3)
    # With deviations and the paper's values a line is full; the length is back where the table ends.
    lines = [r"\setlength{\tabcolsep}{3pt}", rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule"]
    lines += [" & ".join(shown) + r" \\"]
    for part, rows in parts:
        lines.append(r"\midrule")
        if part.other_budget:
            lines.append(
                rf"\multicolumn{{{len(shown)}}}{{@{{}}l}}{{\emph{{At budget {budget_text(part.budgets)}}}}} \\"
            )
        lines += [" & ".join(map(latex_escape, cells(row, shown))) + r" \\" for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    below = [*notes([table, *others], shown), state_text(table), *["Lines at another budget say so."] * bool(others)]
    return "\n".join([*lines, latex_note(" ".join(below)), ""])


def state_text(table: ResultsTable) -> str:
    """Data and budget, which stand wherever results do."""
    if table.not_run:
        return f"This part was {NOT_RUN}."
    return f"Data: {data_mark(table)}. Budget: {budget_text(table.budgets)}."


def latex_rounds(rows: Iterable[RoundRow], remark: str = "") -> str:
    """One line per round of BoostResNet, means over seeds, and a remark below; without rounds, that it was not run."""
    lines = [
        r"\begin{tabular}{@{}rlrrrrrrrr@{}}",
        r"\toprule",
        r"$t$ & Module & Updates & $\edge_{t+1}$ & $\gamma_t$ & Cov. & $\alpha_{t+1}$ & Bound & Train err. & Test acc.",
        r"\\",
        r"\midrule",
    ]
    body = [" & ".join(map(latex_escape, _round_cells(row))) + r" \\" for row in rows]
    if not body:
        return r"\notrun" + "\n"
    below = [latex_note(remark)] if remark else []
    return "\n".join([*lines, *body, r"\bottomrule", r"\end{tabular}", *below, ""])


def latex_targets(cost: Cost) -> str:
    """What the implementation was to reach beside what it reached here; a tabular with its note below."""
    lines = [r"\begin{tabular}{@{}llll@{}}", r"\toprule", r"Quantity & Target & Reached & \\", r"\midrule"]
    lines += [" & ".join(map(latex_escape, texts)) + r" \\" for texts in _target_cells(cost)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", latex_note(_targets_remark(cost)), ""])


def markdown_targets(cost: Cost | None) -> str:
    """The same as a Markdown table; without a measurement the targets alone."""
    lines = ["| Quantity | Target | Reached | |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(texts)} |" for texts in _target_cells(cost)]
    return "\n".join([*lines, "", NOT_MEASURED if cost is None else _targets_remark(cost)])


def _target_cells(cost: Cost | None) -> list[tuple[str, str, str, str]]:
    states = {None: NO_VALUE, True: "met", False: "missed"}
    return [(row.quantity, row.target, row.reached, states[row.met]) for row in targets(cost)]


def _targets_remark(cost: Cost) -> str:
    name = DATASET_LABELS[cost.dataset] + ("" if cost.official else f" ({UNOFFICIAL})")
    state = f"{name}, {len(cost.blocks)} rounds ({cost.reading}), batch {cost.batch_size}"
    return (
        f"Measured on {state}, {cost.machine}. The targets were set for the released network of 25 rounds on images of "
        "32 by 32 pixels and 2 CPU cores (the last three: one H200-class GPU); elsewhere they are no more than a scale."
    )


def _round_cells(row: RoundRow) -> tuple[str, ...]:
    return (
        str(row.block),
        row.module,
        counts(row.gradient_updates, NO_VALUE),
        fixed(_mean(row.edge), NO_VALUE, 6),
        fixed(_mean(row.gamma), NO_VALUE),
        _covariance(_mean(row.covariance)),
        fixed(_mean(row.alpha), NO_VALUE, 2),
        significant(_mean(row.bound), NO_VALUE),
        _percent_mean(row.train_error),
        _percent_mean(row.test_accuracy),
    )


def _covariance(mean: float | None) -> str:
    return "0" if mean is not None and abs(mean) <= ROUNDING else significant(mean, NO_VALUE, 2)


def _mean(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.mean


def _percent_mean(estimate: Estimate | None) -> str:
    return NO_VALUE if estimate is None else f"{100 * estimate.mean:.2f} %"


def markdown_results(tables: Sequence[ResultsTable], shown: Sequence[str] = HEADINGS) -> str:
    """One Markdown table over all datasets, with its notes; a dataset that was not run shows the paper's values."""
    shown = filled(shown, tables)
    lines = ["| Dataset | Budget | " + " | ".join(shown) + " |", "|---|---:|---|" + "---:|" * (len(shown) - 1)]
    for table in tables:
        name = DATASET_LABELS[table.dataset] + ("" if table.official else f" ({UNOFFICIAL})")
        for row in table.rows:
            if table.not_run and row.key != "boostresnet" and not (row.reported and row.reported.source):
                continue  # nothing of ours and nothing of the paper's to show
            budget = NOT_RUN if table.not_run else budget_text(row.budgets, NO_VALUE)
            lines.append(" | ".join(["| " + name, budget, *cells(row, shown)]) + " |")
    again = (
        "The runs of a line again, from the same copy of the data: `dvc repro --glob 'evaluate@DATASET-METHOD-*'`, "
        "with the names that `results/` has"
    )
    other = "; those at another budget than the dataset's first: `dvc repro --force 'budgets@DATASET'`"
    again += f"{other if any(table.other_budget for table in tables) else ''}."
    meaning = "Budget: factor on every length in gradient updates; 1 is the full length."
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in [*notes(tables, shown), meaning, again])])


def print_summary(dataset: str, results_root: Path = Path("results"), console: Console | None = None) -> None:
    """The results of one dataset on the terminal.

    Raises:
        ResultsError: a published result is malformed.
    """
    table = results_table(load_results(dataset, results_root), load_cost(dataset, results_root))
    judged = applying(load_verdicts(dataset, results_root))  # everything is read before a line is printed
    console = console or Console()
    title = f"{DATASET_LABELS[dataset]} · budget {budget_text(table.budgets)} · data: {data_mark(table)}"
    view = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown = HEADINGS if console.width >= _WIDE_TERMINAL else ESSENTIAL
    for heading in shown:
        wraps = heading in ("Method", "Updates")
        view.add_column(heading, justify="left" if heading == "Method" else "right", no_wrap=not wraps)
    for row in table.rows:
        view.add_row(*map(Text, cells(row, shown)), style=None if row.seeds else "dim")
    console.print(view)
    for sentence in notes([table], shown):
        console.print(sentence, style="dim", markup=False, highlight=False)
    if judged:
        console.print(f"Claims judged on {DATASET_LABELS[dataset]}: {counted(judged)}.", markup=False, highlight=False)
