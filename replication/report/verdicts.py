"""The judged claims (claims.json) as LaTeX, Markdown and numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import attrs

from replication.errors import ResultsError
from replication.files import sha256
from replication.report.claims import CRITERIA, NOT_RUN, SCHEMA, VERDICTS
from replication.report.fields import Fields, read_object
from replication.report.formats import latex_escape, quantity, significant
from replication.report.labels import DATASET_LABELS, UNOFFICIAL

_NONE = "\N{EN DASH}"


@attrs.frozen
class Judged:
    """One claim as it was judged on one dataset; see `claims.Verdict`."""

    id: str
    claim: str
    source: str
    verdict: str
    applies: bool
    reason: str
    criterion: str
    statistic: float | None
    interval: tuple[float, float] | None
    interval_method: str | None
    n: int
    data: str | None
    budget: float | None

    @property
    def relation(self) -> bool:
        """Whether it is part of our own question rather than a claim of the paper."""
        return self.id.startswith("relation-")

    @property
    def measured(self) -> str:
        """'0.031 [0.012, 0.05]', or '0 of 3 seeds', for a table's cell."""
        if self.statistic is None:
            return _NONE
        if self.interval_method == "Wilson":
            return f"{round(self.statistic * self.n)} of {quantity(self.n, 'seed')}"
        if self.interval is None:
            return significant(self.statistic, _NONE)
        low, high = (significant(end, _NONE) for end in self.interval)
        return f"{significant(self.statistic, _NONE)} [{low}, {high}]"


def load_verdicts(dataset: str, results_root: Path = Path("results"), criteria: Path = CRITERIA) -> tuple[Judged, ...]:
    """The verdicts of one dataset, in the order of the criteria; empty where nothing was judged.

    Raises:
        ResultsError: claims.json is damaged, or was judged by other criteria than are here now.
    """
    path = results_root / dataset / "claims.json"
    if not path.is_file():
        return ()
    try:
        document = read_object(path)
        document.expect("schema", SCHEMA)
        document.expect("dataset", dataset)
        if document.text("criteria_sha256") != sha256(criteria):
            raise ResultsError(f"{path} was judged by other criteria than {criteria.name} has now")
        entries = document.values.get("claims")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ResultsError(f"{path}: claims must be a list of sections")
        return tuple(_judged(Fields(f"{path}: claim {n}", entry)) for n, entry in enumerate(entries, start=1))
    except ResultsError as error:
        raise ResultsError(f"{error}; judge again: python -m replication claims {dataset}") from None


def _judged(fields: Fields) -> Judged:
    verdict = fields.text("verdict")
    if verdict not in VERDICTS:
        raise ResultsError(f"{fields.where}: verdict must be one of {', '.join(VERDICTS)}, got '{verdict:.40}'")
    ends = fields.values.get("interval")
    interval = None
    if ends is not None:
        pair = Fields(fields.where, dict(zip(("low", "high"), ends, strict=False)) if isinstance(ends, list) else {})
        interval = (pair.number("low"), pair.number("high"))
    return Judged(
        id=fields.text("id"),
        claim=" ".join(fields.text("claim").split()),
        source=fields.text("source"),
        verdict=verdict,
        applies=fields.boolean("applies"),
        reason=str(fields.values.get("reason") or ""),
        criterion=fields.text("criterion"),
        statistic=fields.optional(fields.number, "statistic"),
        interval=interval,
        interval_method=fields.optional(fields.text, "interval_method"),
        n=fields.integer("n"),
        data=fields.optional(fields.text, "data"),
        budget=fields.optional(fields.number, "budget"),
    )


def applying(verdicts: Sequence[Judged]) -> list[Judged]:
    """The claims about this dataset, or about any."""
    return [judged for judged in verdicts if judged.applies]


def counted(verdicts: Sequence[Judged]) -> str:
    """'8 hold, 2 fail, 1 inconclusive, 3 not run', without what there is none of."""
    found = Counter(judged.verdict for judged in verdicts)
    words = {"holds": ("holds", "hold"), "fails": ("fails", "fail")}
    return ", ".join(
        f"{found[name]} {words.get(name, (name, name))[found[name] != 1]}" for name in VERDICTS if found[name]
    )


def _elsewhere(verdicts: Sequence[Judged]) -> str:
    others = [judged.id for judged in verdicts if not judged.applies]
    return f"Claims about other data, not judged here: {', '.join(others)}." if others else ""


def latex_claims(dataset: str, verdicts: Sequence[Judged]) -> str:
    """A longtable of the claims that apply, and a sentence that names the others; a sentence alone if nothing ran."""
    label, chosen = DATASET_LABELS[dataset], applying(verdicts)
    if all(judged.statistic is None for judged in chosen):
        return latex_escape(f"{label}: none of {len(chosen)} claims was run. {_elsewhere(verdicts)}") + "\n\n"
    widths = ("18mm", "52mm", "30mm", "30mm", "20mm")
    columns = "".join(rf">{{\raggedright\arraybackslash}}p{{{width}}}" for width in widths)
    names = ("Id", "Claim and source", "Criterion", "Measured", "Verdict")
    heading = " & ".join(rf"\textbf{{{name}}}" for name in names)
    lines = [
        rf"\begin{{longtable}}{{@{{}}{columns}@{{}}}}",
        rf"\caption{{Verdicts on {latex_escape(label)}: {latex_escape(counted(chosen))}. {_evidence_text(chosen)}}}"
        rf"\label{{tab:{dataset}-claims}}\\",
        rf"\toprule {heading} \\ \midrule \endfirsthead",
        rf"\toprule {heading} \\ \midrule \endhead",
        r"\bottomrule \endfoot",
    ]
    for judged in chosen:
        identifier = latex_escape(judged.id).replace("-", r"-\allowbreak{}")
        measured = "; ".join(filter(None, (judged.measured if judged.statistic is not None else "", judged.reason)))
        texts = (f"{judged.claim} {judged.source}", judged.criterion, measured)
        verdict = rf"\verdict{{{latex_escape(judged.verdict)}}}"
        lines.append(" & ".join([identifier, *map(latex_escape, texts), verdict]) + r" \\[1pt]")
    return "\n".join([*lines, r"\end{longtable}", latex_escape(_elsewhere(verdicts)), ""])


def _evidence_text(chosen: Sequence[Judged]) -> str:
    """Seeds, budget and data behind the verdicts, for a caption."""
    seeds = sorted({judged.n for judged in chosen if judged.n and judged.interval_method})
    budgets = sorted({judged.budget for judged in chosen if judged.budget is not None})
    parts = []
    if seeds:
        parts.append(("" if seeds[0] == seeds[-1] else f"{seeds[0]} to ") + quantity(seeds[-1], "seed"))
    if budgets:
        parts.append("budget " + ", ".join(f"{budget:g}" for budget in budgets))
    if any(judged.data == "unofficial" for judged in chosen):
        parts.append(UNOFFICIAL)
    return latex_escape(", ".join(parts) + ".") if parts else ""


def markdown_claims(by_dataset: dict[str, tuple[Judged, ...]]) -> str:
    """One Markdown table: a line per claim that was judged on a dataset; sentences for the rest, which claims.json has
    with their reasons.
    """
    lines = ["| Dataset | Claim | Source | Criterion | Measured | n | Verdict |", "|---|---|---|---|---|---:|---|"]
    remarks = []
    for dataset, verdicts in by_dataset.items():
        name = DATASET_LABELS[dataset]
        if not verdicts:
            remarks.append(f"{name}: no claim judged yet.")
            continue
        for judged in applying(verdicts):
            if judged.verdict == NOT_RUN:
                continue
            data = " (unofficial copy)" if judged.data == "unofficial" else ""
            verdict = f"**{judged.verdict}**" + (f": {judged.reason}" if judged.reason else "")
            texts = (name + data, f"{judged.id}: {judged.claim}", judged.source, judged.criterion, judged.measured)
            lines.append("| " + " | ".join([*map(_cell, texts), str(judged.n), verdict.replace("|", r"\|")]) + " |")
        missing = ", ".join(judged.id for judged in applying(verdicts) if judged.verdict == NOT_RUN)
        remarks.append(f"{name}: {counted(applying(verdicts))}{f' ({missing})' if missing else ''}.")
    remarks.append("Why something was not run, and what each line rests on: `results/DATASET/claims.json`.")
    remarks.append("Criteria were fixed before the results: `replication/report/criteria.yaml`.")
    return "\n".join([*lines, "", " ".join(remarks)])


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def verdict_numbers(verdicts: Sequence[Judged]) -> dict[str, str]:
    """Names and texts for the article's prose: counts, ids by verdict, and each claim's verdict and value."""
    if not verdicts:
        return {}
    paper = [judged for judged in applying(verdicts) if not judged.relation]
    own = [judged for judged in applying(verdicts) if judged.relation]
    values = {
        "claims/counts": counted(applying(verdicts)),
        "claims/paper/number": str(len(paper)),
        "claims/paper/counts": counted(paper),
        "claims/relation/number": str(len(own)),
        "claims/relation/counts": counted(own),
    }
    if any(judged.statistic is not None for judged in applying(verdicts)):
        values["claims/judged"] = counted(applying(verdicts))
    for verdict in VERDICTS:
        ids = [judged.id for judged in paper if judged.verdict == verdict]
        values[f"claims/paper/{verdict.replace(' ', '_')}"] = ", ".join(ids) or "none"
    for judged in verdicts:
        values[f"claim/{judged.id}/verdict"] = judged.verdict if judged.applies else _NONE
        values[f"claim/{judged.id}/measured"] = judged.measured
    return values
