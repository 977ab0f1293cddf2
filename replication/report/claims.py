"""Verdicts: every claim of criteria.yaml held against the published results of a dataset."""

from __future__ import annotations

import functools
import inspect
import math
import posixpath
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import yaml

from replication import files
from replication.errors import ResultsError
from replication.report.evidence import STATISTICS, Evidence, Values
from replication.report.intervals import student_interval, wilson_interval
from replication.report.results import load_other_budgets, load_results

CRITERIA = Path(__file__).with_name("criteria.yaml")
SCHEMA = 1
HOLDS, FAILS, INCONCLUSIVE = "holds", "fails", "inconclusive"
NOT_JUDGED, NOT_RUN = "not judged", "not run"  # there are runs, but too short ones; there are none
VERDICTS = (HOLDS, FAILS, INCONCLUSIVE, NOT_JUDGED, NOT_RUN)
UNJUDGED = (NOT_JUDGED, NOT_RUN)
_COUNTEREXAMPLES = 2  # no verdict from one seed, neither way


@attrs.frozen
class Range:
    """Where a value has to lie; an end is open or closed."""

    low: float = -math.inf
    high: float = math.inf
    low_closed: bool = False
    high_closed: bool = False

    def holds(self, value: float) -> bool:
        """Whether the value lies in the range."""
        above = value >= self.low if self.low_closed else value > self.low
        below = value <= self.high if self.high_closed else value < self.high
        return above and below

    def misses(self, low: float, high: float) -> bool:
        """Whether no value from `low` to `high` lies in the range."""
        under = high < self.low if self.low_closed else high <= self.low
        over = low > self.high if self.high_closed else low >= self.high
        return under or over

    def __str__(self) -> str:
        ends = []
        if math.isfinite(self.low):
            ends.append(f"{'at least' if self.low_closed else 'above'} {self.low:g}")
        if math.isfinite(self.high):
            ends.append(f"{'at most' if self.high_closed else 'below'} {self.high:g}")
        return " and ".join(ends)


@attrs.frozen
class Criterion:
    """One claim and what decides it; `datasets` is None for a claim about any."""

    id: str
    claim: str
    source: str
    datasets: tuple[str, ...] | None
    statistic: str
    options: dict[str, Any]
    rule: str
    range: Range
    minimum_budget: float
    minimum_seeds: int
    evidence: str
    unit: str = ""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    added: str = ""

    @property
    def description(self) -> str:
        """The rule in words; of a mean it is Student's 95 % interval that decides."""
        return {
            "mean": f"mean {self.range}",
            "every": f"every seed {self.range}",
            "range": f"measured {self.range}",
        }[self.rule]


@attrs.frozen
class Verdict:
    """A claim judged on one dataset.

    Attributes:
        applies: whether it is a claim about this dataset (or about any).
        reason: why there is no verdict; empty where there is one.
        lacks: the same in a word ("budget", "runs", "analyses"); empty where something was judged.
        qualification: what weakens a verdict "holds" ("vacuous"); empty where nothing does.
        added: when the criterion was written, if that was not before the results.
        measured: in words, where the statistic comes from.
        unit: what kind of number it is ("cosine"); empty for a count of seeds.
        evidence: the files, relative to the results folder.
        statistic, interval: mean over seeds with its interval, or the fraction of seeds with Wilson's, or the measured
            value with None; None without evidence.
        values: the value of each seed.
        n: seeds, or repetitions of what is measured without seeds.
        data: "official", "unofficial" or None without evidence.
        budget: the smallest among the runs.
    """

    id: str
    claim: str
    source: str
    verdict: str
    applies: bool
    reason: str
    criterion: str
    measured: str
    evidence: tuple[str, ...] = ()
    statistic: float | None = None
    interval: tuple[float, float] | None = None
    interval_method: str | None = None
    values: dict[str, float] = attrs.field(factory=dict)
    n: int = 0
    data: str | None = None
    budget: float | None = None
    lacks: str = ""
    qualification: str = ""
    added: str = ""
    unit: str = ""


def judge(dataset: str, results_root: Path = Path("results")) -> list[Verdict]:
    """Every claim's verdict on `dataset`, in the order of the criteria.

    A claim about other datasets is listed with `applies` false and "not run", so that the list is the same everywhere.

    Raises:
        ResultsError: a published result is malformed, or the criteria are.
    """
    evidence = Evidence(results_root, load_results(dataset, results_root), results_root / dataset)
    return [_judge(criterion, evidence) for criterion in load_criteria()]


def judge_budgets(dataset: str, results_root: Path = Path("results")) -> dict[str, list[Verdict]]:
    """By the name of every other budget under which something was run, ascending: the verdicts of those claims that
    can be judged by these runs alone, by the criteria of all others.

    Raises:
        ResultsError: as in `judge`.
    """
    found = {}
    for budget, results in load_other_budgets(dataset, results_root).items():
        folder = f"{dataset}/budgets/{budget}"
        evidence = Evidence(results_root / folder, results, results_root / dataset)
        found[budget] = [
            attrs.evolve(one, evidence=tuple(posixpath.normpath(f"{folder}/{name}") for name in one.evidence))
            for one in (_judge(criterion, evidence) for criterion in load_criteria())
            if one.verdict not in UNJUDGED
        ]
    return {name: verdicts for name, verdicts in found.items() if verdicts}


def write_claims(dataset: str, results_root: Path, out_path: Path) -> list[Verdict]:
    """Judge and write `out_path` (results/DATASET/claims.json) with the hash of the criteria that were applied.

    Returns:
        The verdicts of the experiment's own runs.
    """
    verdicts, elsewhere = judge(dataset, results_root), judge_budgets(dataset, results_root)
    files.write_json(
        out_path,
        {
            "schema": SCHEMA,
            "dataset": dataset,
            "criteria_sha256": files.sha256(CRITERIA),
            "claims": [attrs.asdict(verdict) for verdict in verdicts],
            "other_budgets": {name: [attrs.asdict(one) for one in judged] for name, judged in elsewhere.items()},
        },
    )
    return verdicts


def load_criteria(path: Path = CRITERIA) -> list[Criterion]:
    """The criteria file; ResultsError that names the claim where one is malformed."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries, seeds = document["claims"], document["minimum_seeds"]
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ResultsError(f"cannot read the criteria in {path}: {' '.join(str(error).split())}") from error
    criteria = []
    for number, entry in enumerate(entries, start=1):
        try:
            criteria.append(_criterion(entry, seeds))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResultsError(f"{path}: claim {number} is malformed ({error})") from error
    if len({criterion.id for criterion in criteria}) < len(criteria):
        raise ResultsError(f"{path}: two claims have the same id")
    return criteria


def _criterion(entry: dict[str, Any], minimum_seeds: int) -> Criterion:
    statistic: dict[str, Any] = dict(entry["statistic"])
    rule: dict[str, Any] = dict(entry["rule"])
    name, kind = statistic.pop("name"), rule.pop("kind")
    if name not in STATISTICS or kind not in ("mean", "every", "range"):
        raise ValueError(f"unknown statistic '{name}' or rule '{kind}'")
    inspect.signature(STATISTICS[name]).bind(None, **statistic)  # TypeError on an option it does not have
    if not rule or not set(rule) <= {"above", "below", "at_least", "at_most"}:
        raise ValueError("the rule needs above, at_least, below or at_most")
    datasets = entry["datasets"]
    return Criterion(
        id=entry["id"],
        claim=entry["claim"],
        source=entry["source"],
        datasets=None if datasets == "any" else tuple(datasets),
        statistic=name,
        options=statistic,
        rule=kind,
        range=Range(
            low=float(rule["at_least"] if "at_least" in rule else rule.get("above", -math.inf)),
            high=float(rule["at_most"] if "at_most" in rule else rule.get("below", math.inf)),
            low_closed="at_least" in rule,
            high_closed="at_most" in rule,
        ),
        minimum_budget=float(entry["minimum_budget"]),
        minimum_seeds=int(entry.get("minimum_seeds", minimum_seeds)),
        evidence=entry["evidence"],
        unit=entry.get("unit", ""),
        bounds=_bounds(entry.get("bounds", (-math.inf, math.inf))),
        added=entry.get("added", ""),
    )


def _bounds(ends: Sequence[float]) -> tuple[float, float]:
    low, high = map(float, ends)
    if not low < high:
        raise ValueError("bounds must be the least and the greatest value")
    return low, high


def _judge(criterion: Criterion, evidence: Evidence) -> Verdict:
    blank = functools.partial(
        Verdict,
        id=criterion.id,
        claim=criterion.claim,
        source=criterion.source,
        criterion=criterion.description,
        measured=criterion.evidence,
        added=criterion.added,
        unit=criterion.unit,
    )
    if criterion.datasets is not None and evidence.dataset not in criterion.datasets:
        reason = f"a claim about {' and '.join(criterion.datasets)}"
        return blank(verdict=NOT_RUN, applies=False, reason=reason)
    values = STATISTICS[criterion.statistic](evidence, **criterion.options)
    found = functools.partial(
        blank,
        applies=True,
        evidence=tuple(dict.fromkeys(values.files)),
        values={str(seed): value for seed, value in sorted(values.by_seed.items())},
        n=values.repetitions or len(values.by_seed),
        data=None if values.official is None else ("official" if values.official else "unofficial"),
        budget=min(values.budgets) if values.budgets else None,
    )
    if not values.by_seed:
        return found(verdict=NOT_RUN, reason=values.missing, lacks=values.lacks)
    statistic, interval, method, verdict = _apply(criterion, values)
    found = functools.partial(found, statistic=statistic, interval=interval, interval_method=method)
    if values.budgets and min(values.budgets) < criterion.minimum_budget:
        reason = f"budget {min(values.budgets):g} of the full length, at least {criterion.minimum_budget:g} asked"
        return found(verdict=NOT_JUDGED, reason=reason, lacks="budget")
    if criterion.rule != "range" and len(values.by_seed) < criterion.minimum_seeds:
        reason = f"a value for {len(values.by_seed)} of at least {criterion.minimum_seeds} seeds"
        return found(verdict=INCONCLUSIVE, reason=reason)
    if values.lower_bounds and verdict == FAILS:
        reason = f"{values.lower_bounds} of {len(values.by_seed)} values are lower bounds, which show no failure"
        return found(verdict=INCONCLUSIVE, reason=reason)
    return found(verdict=verdict, reason="", qualification=values.qualification if verdict == HOLDS else "")


def _apply(criterion: Criterion, values: Values) -> tuple[float, tuple[float, float] | None, str | None, str]:
    """Statistic, interval, its method, and the verdict were there seeds and budget enough."""
    numbers, allowed = list(values.by_seed.values()), criterion.range
    if criterion.rule == "range":
        return numbers[0], None, None, HOLDS if allowed.holds(numbers[0]) else FAILS
    if criterion.rule == "every":
        met = sum(map(allowed.holds, numbers))
        missed = len(numbers) - met
        verdict = HOLDS if missed == 0 else FAILS if missed >= _COUNTEREXAMPLES else INCONCLUSIVE
        return met / len(numbers), wilson_interval(met, len(numbers)), "Wilson", verdict
    interval = student_interval(numbers)
    if interval is None:
        return statistics.fmean(numbers), None, None, INCONCLUSIVE
    low, high = (min(max(end, criterion.bounds[0]), criterion.bounds[1]) for end in interval)
    verdict = INCONCLUSIVE
    if allowed.holds(low) and allowed.holds(high):
        verdict = HOLDS
    elif allowed.misses(low, high):
        verdict = FAILS
    return statistics.fmean(numbers), (low, high), "Student", verdict
