"""The judged claims (claims.json), read, counted, and as numbers for prose; `verdict_pages` has them as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from replication.errors import ResultsError
from replication.files import sha256
from replication.report.claims import CRITERIA, NOT_RUN, SCHEMA, UNJUDGED, VERDICTS
from replication.report.fields import Fields, read_object
from replication.report.formats import all_equal, quantity, significant

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
    lacks: str = ""
    qualification: str = ""
    added: str = ""
    unit: str = ""
    values: tuple[float, ...] = ()

    @property
    def words(self) -> str:
        """The verdict with what qualifies it or is missing: 'holds (vacuous)', 'not run: depths'."""
        if not self.applies:
            return _NONE
        if self.qualification:
            return f"{self.verdict} ({self.qualification})"
        # Where there are runs, it is always their budget that is too small.
        return f"{self.verdict}: {self.lacks}" if self.lacks and self.verdict == NOT_RUN else self.verdict

    @property
    def relation(self) -> bool:
        """Whether it is part of our own question rather than a claim of the paper."""
        return self.id.startswith("relation-")

    @property
    def measured(self) -> str:
        """'0.031 [0.012, 0.05]', or '0 of 3 seeds'."""
        if self.statistic is None:
            return _NONE
        if self.interval_method == "Wilson":
            return f"{round(self.statistic * self.n)} of {quantity(self.n, 'seed')}"
        if self.interval is None:
            return significant(self.statistic, _NONE)
        if all_equal(self.interval):
            return f"{significant(self.statistic, _NONE)} (all seeds equal)"
        low, high = (significant(end, _NONE) for end in self.interval)
        return f"{significant(self.statistic, _NONE)} [{low}, {high}]"

    @property
    def cell(self) -> str:
        """The same with what it is, for a table: 'cosine 0.031 [0.012, 0.05]', '0 of 3 seeds; smallest gamma −0.3 to
        −0.1'.
        """
        if not self.unit or self.statistic is None:
            return self.measured
        if self.interval_method != "Wilson" or not self.values:
            return f"{self.unit} {self.measured}"
        ends = dict.fromkeys(significant(end, _NONE) for end in (min(self.values), max(self.values)))
        return f"{self.measured}; {self.unit} {' to '.join(ends)}"


def load_verdicts(dataset: str, results_root: Path = Path("results")) -> tuple[Judged, ...]:
    """The verdicts of one dataset, in the order of the criteria; empty where nothing was judged.

    Raises:
        ResultsError: claims.json is damaged, or was judged by other criteria than are here now.
    """
    return _load(dataset, results_root).get("", ())


def load_budget_verdicts(dataset: str, results_root: Path = Path("results")) -> dict[str, tuple[Judged, ...]]:
    """The verdicts that runs under other budgets allow, by the name of the budget; errors as in `load_verdicts`."""
    return {budget: judged for budget, judged in _load(dataset, results_root).items() if budget}


def _load(dataset: str, results_root: Path) -> dict[str, tuple[Judged, ...]]:
    """All that claims.json has, by budget; the experiment's own has no name."""
    path = results_root / dataset / "claims.json"
    if not path.is_file():
        return {}
    try:
        document = read_object(path)
        document.expect("schema", SCHEMA)
        document.expect("dataset", dataset)
        if document.text("criteria_sha256") != sha256(CRITERIA):
            raise ResultsError(f"{path} was judged by other criteria than {CRITERIA.name} has now")
        others = document.section("other_budgets").values
        return {
            name: _all_judged(f"{path}: {what}", entries)
            for name, what, entries in (
                ("", "claim", document.values.get("claims")),
                *((budget, f"budget {budget}, claim", entries) for budget, entries in others.items()),
            )
        }
    except ResultsError as error:
        raise ResultsError(f"{error}; judge again: python -m replication claims {dataset}") from None


def _all_judged(where: str, entries: Any) -> tuple[Judged, ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ResultsError(f"{where}s must be a list of sections")
    return tuple(_judged(Fields(f"{where} {n}", entry)) for n, entry in enumerate(entries, start=1))


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
        lacks=str(fields.values.get("lacks") or ""),
        qualification=str(fields.values.get("qualification") or ""),
        added=str(fields.values.get("added") or ""),
        unit=str(fields.values.get("unit") or ""),
        values=tuple(map(fields.section("values").number, fields.section("values").values)),
    )


def applying(verdicts: Sequence[Judged]) -> list[Judged]:
    """The claims about this dataset, or about any."""
    return [judged for judged in verdicts if judged.applies]


def counted(verdicts: Sequence[Judged]) -> str:
    """'8 hold (1 vacuous), 2 fail, 1 inconclusive, 3 not judged', without what there is none of."""
    found = Counter(judged.verdict for judged in verdicts)
    qualified = Counter(judged.qualification for judged in verdicts if judged.qualification)
    words = {"holds": ("holds", "hold"), "fails": ("fails", "fail")}
    behind = {"holds": "".join(f" ({number} {text})" for text, number in qualified.items())}
    return ", ".join(
        f"{found[name]} {words.get(name, (name, name))[found[name] != 1]}{behind.get(name, '')}"
        for name in VERDICTS
        if found[name]
    )


def unjudged_text(verdicts: Sequence[Judged]) -> str:
    """The claims without a line, by the reason: 'Not judged, for want of budget: 6a, 6b. Not run, for want of …'."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for judged in applying(verdicts):
        if judged.verdict in UNJUDGED:
            by_reason.setdefault((judged.verdict, judged.lacks), []).append(judged.id)
    return " ".join(
        f"{verdict.capitalize()}{f', for want of {lacks}' if lacks else ''}: {', '.join(ids)}."
        for (verdict, lacks), ids in by_reason.items()
    )


def is_unofficial(verdicts: Sequence[Judged]) -> bool:
    """Whether any of them rests on an unofficial copy of the data."""
    return any(one.data == "unofficial" for one in verdicts)


def budgets_text(verdicts: Sequence[Judged]) -> str:
    """'0.005', or all the different ones."""
    budgets = {one.budget for one in verdicts if one.verdict not in UNJUDGED and one.budget is not None}
    return ", ".join(f"{budget:g}" for budget in sorted(budgets)) or _NONE


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
        values[f"claim/{judged.id}/words"] = judged.words
        values[f"claim/{judged.id}/measured"] = judged.measured
    return values
