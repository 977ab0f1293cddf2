"""The judged claims in the README and docs/RESULTS.md: Markdown tables over all datasets and budgets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from replication.config import DATASETS
from replication.report.labels import DATASET_LABELS, UNOFFICIAL
from replication.report.verdicts import (
    Judged,
    applying,
    budgets_text,
    counted,
    is_unofficial,
    load_budget_verdicts,
    load_verdicts,
    unjudged_text,
)

_NONE = "\N{EN DASH}"
_DAGGER = "† added after the first results had been seen."


@attrs.frozen
class Sheet:
    """Verdicts on one dataset: all of them from the experiment's own runs, or those that the runs under another budget
    allow; `budget` is the name of that, empty for the experiment's own.
    """

    dataset: str
    verdicts: tuple[Judged, ...]
    budget: str = ""

    @property
    def name(self) -> str:
        """'CIFAR-10', or 'CIFAR-10 at budget 0.064'."""
        return DATASET_LABELS[self.dataset] + (f" at budget {self.budget}" if self.budget else "")


def load_sheets(results_root: Path = Path("results")) -> list[Sheet]:
    """Those of all datasets, also where nothing was judged; errors as in `load_verdicts`."""
    sheets = []
    for dataset in DATASETS:
        sheets.append(Sheet(dataset, load_verdicts(dataset, results_root)))
        others = load_budget_verdicts(dataset, results_root).items()
        sheets += [Sheet(dataset, verdicts, budget) for budget, verdicts in others]
    return sheets


def markdown_overview(sheets: Sequence[Sheet]) -> str:
    """One Markdown table: a line per claim about any dataset with runs, a column per dataset and budget, linked to
    claims.json, which names the runs. To stand in the root of the checkout.
    """
    shown = [sheet for sheet in sheets if sheet.verdicts]
    ids = dict.fromkeys(one.id for sheet in shown for one in sheet.verdicts)
    heads = [
        f"[{DATASET_LABELS[sheet.dataset]}](results/{sheet.dataset}/claims.json)"
        + (f" ({UNOFFICIAL})" if is_unofficial(sheet.verdicts) else "")
        for sheet in shown
    ]
    lines = ["| Claim | Source | " + " | ".join(heads) + " |", "|---|---|" + "---|" * len(heads)]
    lines.append(_row(["*Budget*", "", *(budgets_text(sheet.verdicts) for sheet in shown)]))
    for identifier in ids:
        found = [next((one for one in sheet.verdicts if one.id == identifier), None) for sheet in shown]
        known = [one for one in found if one is not None]
        if any(one.applies for one in known):
            lines.append(_row([_named(known[0]), known[0].source, *(one.words if one else _NONE for one in found)]))
    counts = [f"{sheet.name}: {counted(applying(sheet.verdicts))}." for sheet in shown]
    return "\n".join([*lines, "", " ".join([*counts, *[_DAGGER] * _any_added(sheets)])])


def markdown_claims(sheets: Sequence[Sheet], root: str = "") -> str:
    """One Markdown table: a line per claim about a dataset, with what was measured and its verdict or why there is
    none, linked to claims.json, which names the runs, by way of `root`; sentences below.
    """
    names = ("Dataset", "Budget", "Claim", "Source", "Criterion", "Measured", "n", "Verdict")
    lines = ["| " + " | ".join(names) + " |", "|---|---:|---|---|---|---|---:|---|"]
    for sheet in sheets:
        lines += [_line(sheet.dataset, one, root) for one in applying(sheet.verdicts)]
    remarks = [
        *_counts(sheets),
        "Behind a mean, in brackets, Student's 95 % interval, which must lie inside the range for the claim to hold and"
        " outside it to fail; a claim about every seed holds if all meet it and fails if at least two do not; what is"
        " measured without seeds lies in its range or not.",
        "A verdict leads to the runs it rests on.",
        *[_DAGGER] * _any_added(sheets),
        "All other criteria were fixed before the results, but for a preliminary digits run; what was reworded since is"
        " in the head of `replication/report/criteria.yaml`.",
        *["That BoostResNet's runs under other budgets are judged, too, was decided after they had been seen."]
        * any(sheet.budget for sheet in sheets),
    ]
    return "\n".join([*lines, "", " ".join(remarks)])


def _any_added(sheets: Sequence[Sheet]) -> bool:
    return any(one.added for sheet in sheets for one in sheet.verdicts)


def _counts(sheets: Sequence[Sheet]) -> list[str]:
    """A sentence per sheet: 'digits: 8 hold, 1 not judged. Not judged, for want of budget: 6a.'."""
    return [
        f"{sheet.name}: {counted(applying(sheet.verdicts))}. {unjudged_text(sheet.verdicts)}".rstrip()
        if sheet.verdicts
        else f"{sheet.name}: no claim judged yet."
        for sheet in sheets
    ]


def _named(judged: Judged) -> str:
    return f"{judged.id}{'†' if judged.added else ''}: {judged.claim}"


def _row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", r"\|") for text in texts) + " |"


def _line(dataset: str, judged: Judged, root: str) -> str:
    data = f" ({UNOFFICIAL})" if judged.data == "unofficial" else ""
    budget = _NONE if judged.budget is None else f"{judged.budget:g}"
    verdict = f"[**{judged.verdict}**]({root}results/{dataset}/claims.json)"
    verdict += f" ({judged.qualification})" if judged.qualification else ""
    verdict += f": {judged.reason}" if judged.reason else ""
    name, n = DATASET_LABELS[dataset] + data, str(judged.n)
    return _row((name, budget, _named(judged), judged.source, judged.criterion, judged.cell, n, verdict))
