"""The tables as LaTeX (booktabs), as Markdown and on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from replication.report.comparisons import SAME_UPDATES
from replication.report.costs import Cost, load_cost, targets
from replication.report.formats import Estimate, counts, duration, fixed, latex_escape, latex_note, percent, significant
from replication.report.labels import (
    BINARY,
    DATASET_LABELS,
    E2E_AT_EQUAL_OPERATIONS,
    E2E_AT_EQUAL_UPDATES,
    NOT_MEASURED,
    NOT_RUN,
    STOCK_LIBRARY,
    UNOFFICIAL,
)
from replication.report.records import ROUNDING
from replication.report.reported import NOT_AVAILABLE, SOURCES, Reported
from replication.report.results import load_results
from replication.report.tables import ResultRow, ResultsTable, RoundRow, results_table
from replication.report.verdicts import applying, counted, load_verdicts

NO_VALUE = "\N{EN DASH}"
_UNAVAILABLE_MARK = "n/a"
#: Stand behind the name of a line that does not compare with the others as it is.
_MARK = {STOCK_LIBRARY: " [s]", BINARY: " [b]"}

HEADINGS = (
    "Method", "Seeds", "Updates", "Train", "Validation", "Test", "Paper", "Learners", "Blocks", "Parameters", "Time",
)  # fmt: skip
#: Where there is no room for more: a terminal of 80 columns, the README.
ESSENTIAL = ("Method", "Seeds", "Updates", "Train", "Test", "Paper")
_WIDE_TERMINAL = 135


def cells(row: ResultRow, shown: Sequence[str]) -> list[str]:
    """The texts of a line in the columns `shown`; a line that was not run keeps the paper's values."""
    texts = dict(zip(HEADINGS, _all_cells(row), strict=True))
    return [texts[heading] for heading in shown]


def _all_cells(row: ResultRow) -> tuple[str, ...]:
    if not row.seeds:
        return (row.label, NOT_RUN, *[NO_VALUE] * 4, paper_cell(row.reported), *[NO_VALUE] * 4)
    updates = counts(row.gradient_updates, NO_VALUE)
    return (
        row.label + (_MARK.get(row.key, "") if row.remark else ""),
        str(len(row.seeds)),
        NO_VALUE if updates == "0" else updates,
        percent(row.train, NO_VALUE),
        percent(row.validation, NO_VALUE),
        percent(row.test, NO_VALUE),
        paper_cell(row.reported),
        counts(row.learners, NO_VALUE),
        counts([number for number in row.blocks if number], NO_VALUE),
        counts(row.parameters, NO_VALUE),
        duration(row.seconds, NO_VALUE),
    )


def paper_cell(value: Reported | None) -> str:
    """The paper's train and test accuracy with the letter of their source: '92.1 / 82.1 [Q]'."""
    if value is None:
        return NO_VALUE
    if value.train is None and value.test is None:
        return _UNAVAILABLE_MARK
    train, test = (_UNAVAILABLE_MARK if number is None else f"{number:.1f}" for number in (value.train, value.test))
    return f"{train} / {test} [{value.source}]"


def notes(tables: Sequence[ResultsTable], shown: Sequence[str] = HEADINGS) -> list[str]:
    """What a reader of the lines needs to know, as sentences, if they have the columns `shown`."""
    rows = [row for table in tables for row in table.rows]
    sentences = []
    if any(row.seeds for row in rows):
        sentences.append("Accuracy in per cent at the end of training, mean ± sample standard deviation over seeds.")
    if any(len(row.seeds) == 1 for row in rows):
        sentences.append("No deviation is given for 1 seed.")
    sentences.append("Paper: train / test accuracy as the paper reports it.")
    letters = sorted({row.reported.source for row in rows if row.reported and row.reported.source})
    sentences += [f"[{letter}]: {SOURCES[letter]}." for letter in letters]
    if any(paper_cell(row.reported) == _UNAVAILABLE_MARK for row in rows):
        sentences.append(f"{_UNAVAILABLE_MARK}: {NOT_AVAILABLE}.")
    if "Learners" in shown and any(row.learners for row in rows):
        sentences.append(
            "Learners: weak learners in the sum. BoostResNet's first is the network's stem, where it has one; the stem "
            "is no block."
        )
    if "Parameters" in shown and any(row.key == STOCK_LIBRARY and row.parameters for row in rows):
        sentences.append("Parameters: of the stock library's row, thresholds and leaf values.")
    if any(row.key == E2E_AT_EQUAL_UPDATES for row in rows):
        sentences.append(
            "At BoostResNet's updates: end to end's last evaluation at or before that number of updates"
            f"{_early(tables)}{_on_curve_images(tables)}."
        )
        if any(row.key == E2E_AT_EQUAL_OPERATIONS for row in rows):
            sentences.append(
                "At BoostResNet's operations: likewise, at the same number of floating-point operations, interpolated "
                "linearly between two evaluations. Operations are counted by the cost measurement; BoostResNet's "
                "include its forward passes over the training images, at every check and once for every finished block."
            )
    if "Time" in shown and any(row.seconds is not None for row in rows):
        sentences.append(
            "Time: mean over seeds of a run with its checks and curves, of a refined one with the run it starts from."
        )
    sentences += filter(None, map(_exact_text, tables))
    sentences += [sentence for key in _MARK for sentence in _marked(tables, key)]
    return sentences + [text for table in tables for text in _remarks(table)]


def _marked(tables: Sequence[ResultsTable], key: str) -> list[str]:
    """The remarks behind a mark, each with what differs: '[b]: two of the classes (digits: 3 against 8; MNIST: …).'."""
    details: dict[str, list[str]] = {}
    for table in tables:
        for row in table.rows:
            if row.key == key and row.remark:
                name = f"{table.name}: " if len(tables) > 1 else ""
                details.setdefault(row.remark, []).extend([name + row.detail] if row.detail else [])
    mark = _MARK[key].strip()
    return [f"{mark}: {remark}" + (f" ({'; '.join(texts)})." if texts else ".") for remark, texts in details.items()]


def _remarks(table: ResultsTable) -> list[str]:
    """The remarks on its lines, each with the lines that it holds for: 'MNIST, BoostResNet; End to end: budget 1.'."""
    lines: dict[str, list[str]] = {}
    own = [row for row in table.rows if row.seeds and row.key not in _MARK]
    for row in own:
        if row.remark:
            lines.setdefault(row.remark, []).append(row.label)
    everywhere = "all lines without a mark"
    return [
        f"{table.name}, {everywhere if 1 < len(labels) == len(own) else '; '.join(labels)}: {remark}."
        for remark, labels in lines.items()
    ]


def _early(tables: Sequence[ResultsTable]) -> str:
    """Where that point comes before BoostResNet's end: ' (MNIST: after 160 of BoostResNet's 200 updates)'."""
    early = [table for table in tables if table.compared not in ("", SAME_UPDATES)]
    texts = [f"{table.name}: {table.compared}" for table in early]
    return f" ({'; '.join(texts)})" if texts else ""


def _on_curve_images(tables: Sequence[ResultsTable]) -> str:
    """What such a point was measured on, where that is not all: ', on a sample (MNIST: 2,000 training images)'."""
    own = [table for table in tables if table.curve_images and not table.other_budget]  # other budgets have the same
    texts = [f"{table.name}: {table.curve_images}" for table in own]
    return f", on the sample of images behind the curves ({'; '.join(texts)})" if texts else ""


def _exact_text(table: ResultsTable) -> str:
    """Test accuracy on the part of an unofficial copy that is the official one. Of how many images nothing published
    says: `data.exact_test_images` is how many were asked for, and fewer may be known.
    """
    rows = [row for row in table.rows if row.exact_test is not None and row.key != BINARY]  # two classes have fewer
    values = [f"{row.label} {percent(row.exact_test, NO_VALUE)}" for row in rows]
    if not values or table.official:
        return ""
    which = "those test images alone that are known to be the official ones"
    return f"{table.name}, test accuracy on {which}: {', '.join(values)}."


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
    shown: tuple[str, ...] = ("Method", "Seeds", "Updates", "Learners", "Parameters", "Train", "Test", "Paper", "Time")
    parts = [(table, table.rows), *((other, other.rows) for other in others)]
    if table.not_run:  # the paper's values alone, if there are any
        others = ()
        shown, parts = ("Method", "Seeds", "Paper"), [(table, tuple(row for row in table.rows if row.reported))]
        if not parts[0][1]:
            return r"\notrun" + "\n"
    wrapped, right = r">{\raggedright\arraybackslash}p{33mm}", r">{\raggedleft\arraybackslash}p{14mm}"
    columns = "lll" if table.not_run else f"{wrapped}r{right}rrrrrr"
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
        "0" if abs(_mean(row.covariance) or 1) <= ROUNDING else significant(_mean(row.covariance), NO_VALUE, 2),
        fixed(_mean(row.alpha), NO_VALUE, 2),
        significant(_mean(row.bound), NO_VALUE),
        _percent_mean(row.train_error),
        _percent_mean(row.test_accuracy),
    )


def _mean(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.mean


def _percent_mean(estimate: Estimate | None) -> str:
    return NO_VALUE if estimate is None else f"{100 * estimate.mean:.2f} %"


def markdown_results(tables: Sequence[ResultsTable], shown: Sequence[str] = HEADINGS) -> str:
    """One Markdown table over all datasets, with its notes; a dataset that was not run shows the paper's values."""
    lines = ["| Dataset | Budget | " + " | ".join(shown) + " |", "|---|---:|---|" + "---:|" * (len(shown) - 1)]
    for table in tables:
        name = DATASET_LABELS[table.dataset] + ("" if table.official else f" ({UNOFFICIAL})")
        for row in table.rows:
            if table.not_run and row.reported is None and row.key != "boostresnet":
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
    judged = applying(load_verdicts(dataset, results_root))
    if judged:
        console.print(f"Claims judged on {DATASET_LABELS[dataset]}: {counted(judged)}.", markup=False, highlight=False)
