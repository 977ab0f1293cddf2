"""The judged claims as tables: Markdown over all datasets and budgets for docs/RESULTS.md, LaTeX for the article."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from replication.config import DATASETS
from replication.report.claims import UNJUDGED
from replication.report.formats import latex_escape, quantity
from replication.report.labels import DATASET_LABELS, UNOFFICIAL
from replication.report.multiplicity import corrected_text
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


def markdown_overview(sheets: Sequence[Sheet], root: str = "") -> str:
    """One Markdown table: a line per claim about any dataset with runs, a column per dataset and budget, linked to
    claims.json, which names the runs, by way of `root`.
    """
    shown = [sheet for sheet in sheets if sheet.verdicts]
    ids = dict.fromkeys(one.id for sheet in shown for one in sheet.verdicts)
    heads = [
        f"[{sheet.name}]({root}results/{sheet.dataset}/claims.json)"
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
    return "\n".join([*lines, *["", _DAGGER] * _any_added(sheets)])


def markdown_counts(sheets: Sequence[Sheet]) -> str:
    """A line per dataset and budget with verdicts: how many claims hold, how many fail."""
    return "\n".join(f"- {sheet.name}: {counted(applying(sheet.verdicts))}." for sheet in sheets if sheet.verdicts)


def markdown_claims(sheets: Sequence[Sheet], root: str = "") -> str:
    """One Markdown table: a line per claim about a dataset, with what was measured and its verdict or why there is
    none, linked to claims.json, which names the runs, by way of `root`; remarks below.
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
        *_corrected(sheets),
        "A verdict leads to the runs it rests on.",
        *[_DAGGER] * _any_added(sheets),
        "All other criteria were fixed before the results, but for a preliminary digits run; what was reworded since is"
        " in the head of `replication/report/criteria.yaml`.",
        *["That BoostResNet's runs under other budgets are judged, too, was decided after they had been seen."]
        * any(sheet.budget for sheet in sheets),
    ]
    return "\n".join([*lines, "", *(f"- {text}" for text in remarks)])


def latex_claims(dataset: str, verdicts: Sequence[Judged], budget: str = "") -> str:
    """A longtable of the claims that were judged, and sentences on the others; sentences alone if nothing ran.

    Args:
        budget: of what runs, if not of the experiment's own.
    """
    label, chosen = DATASET_LABELS[dataset] + (f" at budget {budget}" if budget else ""), applying(verdicts)
    judged = [one for one in chosen if one.verdict not in UNJUDGED]
    if not judged:
        return latex_escape(f"{label}: none of {len(chosen)} claims was judged. {_unjudged(verdicts)}") + "\n\n"
    columns = "".join(rf">{{\raggedright\arraybackslash}}p{{{width}}}" for width in ("19mm", "60mm", "24mm", "29mm"))
    names = ("Id", "Claim and source", "Criterion", "Measured", "Verdict")
    heading = " & ".join(rf"\textbf{{{name}}}" for name in names)
    lines = [
        rf"\begin{{longtable}}{{@{{}}{columns}l@{{}}}}",
        rf"\caption{{Verdicts on {latex_escape(label)}: {latex_escape(counted(chosen))}. {_evidence_text(chosen)}}}"
        rf"\label{{tab:{dataset}-claims{f'-{budget}' if budget else ''}}}\\",
        rf"\toprule {heading} \\ \midrule \endfirsthead",
        rf"\toprule {heading} \\ \midrule \endhead",
        r"\bottomrule \endfoot",
    ]
    for one in judged:
        identifier = latex_escape(one.id).replace("-", r"-\allowbreak{}") + (r"$^\dagger$" if one.added else "")
        measured = "; ".join(filter(None, (one.cell, one.qualification, one.reason)))
        texts = (f"{one.claim} {one.source}", one.criterion, measured)
        verdict = rf"\verdict{{{latex_escape(one.verdict)}}}"
        lines.append(" & ".join([identifier, *map(latex_escape, texts), verdict]) + r" \\[1pt]")
    corrected = corrected_text(verdicts)
    remarks = [f"{label}: {corrected}."] if corrected else []
    return "\n".join([*lines, r"\end{longtable}", latex_escape(" ".join([*remarks, _unjudged(verdicts)])), ""])


def _any_added(sheets: Sequence[Sheet]) -> bool:
    return any(one.added for sheet in sheets for one in sheet.verdicts)


def _counts(sheets: Sequence[Sheet]) -> list[str]:
    """A line per sheet: 'digits: 8 hold, 1 not judged. Not judged, for want of budget: 6a.'."""
    return [
        f"{sheet.name}: {counted(applying(sheet.verdicts))}. {unjudged_text(sheet.verdicts)}".rstrip()
        if sheet.verdicts
        else f"{sheet.name}: no claim judged yet."
        for sheet in sheets
    ]


def _corrected(sheets: Sequence[Sheet]) -> list[str]:
    """What remains when it counts that several questions were asked of the same runs."""
    texts = [f"{sheet.name}: {text}" for sheet in sheets if (text := corrected_text(sheet.verdicts))]
    few = "Several means are judged on the same few runs; those marked † were added later and are counted apart."
    return [f"{few} {'; '.join(texts)}."] if texts else []


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


def _unjudged(verdicts: Sequence[Judged]) -> str:
    """`unjudged_text`, and the claims about other data."""
    others = ", ".join(judged.id for judged in verdicts if not judged.applies)
    return " ".join(filter(None, (unjudged_text(verdicts), f"About other data: {others}." if others else "")))


def _evidence_text(chosen: Sequence[Judged]) -> str:
    """Seeds, budget and data behind the verdicts, for a caption."""
    seeds = sorted({judged.n for judged in chosen if judged.n and judged.interval_method})
    parts = []
    if seeds:
        parts.append(("" if seeds[0] == seeds[-1] else f"{seeds[0]} to ") + quantity(seeds[-1], "seed"))
    if (budgets := budgets_text(chosen)) != _NONE:
        parts.append(f"budget {budgets}")
    if is_unofficial(chosen):
        parts.append(UNOFFICIAL)
    return latex_escape(", ".join(parts) + ".") if parts else ""
